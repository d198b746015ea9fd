"""Thespian on its TCP system base, the one that it recommends for use: an actor is a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar

from bench.measure import Latencies, Pace, now
from thespian.actors import Actor, ActorSystem

#: Actors that a process each would have to be started for.
FEW = 8
#: How long an answer may take.
PATIENCE = timedelta(seconds=60)


class Counter(Actor):
    """Counts what it is told, and answers when it has seen as many as were announced."""

    def receiveMessage(self, message: object, sender: object) -> None:  # noqa: N802 - the library's name.
        """Count it, or learn how many there will be."""
        if isinstance(message, tuple):
            self._asked_by, self._expected = sender, message[1]
        elif isinstance(message, int):
            self._seen = getattr(self, "_seen", 0) + 1
        if getattr(self, "_expected", None) == getattr(self, "_seen", 0):
            self._expected = None
            self.send(self._asked_by, "done")


class Producer(Actor):
    """Sends as many messages as it is told."""

    def receiveMessage(self, message: object, sender: object) -> None:  # noqa: N802 - the library's name.
        """Send them."""
        if isinstance(message, tuple):
            sink, count = message
            for one in range(count):
                self.send(sink, one)


class Echo(Actor):
    """Answers each question with itself."""

    def receiveMessage(self, message: object, sender: Any) -> None:  # noqa: N802 - the library's name.
        """Give it back."""
        if isinstance(message, int):
            self.send(sender, message)


class Caller(Actor):
    """Keeps as many questions on the way as it is told, until it has all the answers."""

    def receiveMessage(self, message: object, sender: Any) -> None:  # noqa: N802 - the library's name.
        """Begin, or ask anew for each answer."""
        if isinstance(message, tuple):
            self._echo, callers, self._left = message
            self._to_ask = self._left - callers
            self._asked_by = sender
            for one in range(callers):
                self.send(self._echo, one)
        elif isinstance(message, int):
            self._left -= 1
            if self._to_ask:
                self._to_ask -= 1
                self.send(self._echo, message)
            if not self._left:
                self.send(self._asked_by, "done")


@contextmanager
def system_of_processes() -> Iterator[Any]:
    """Run a system, and end all its processes."""
    system = ActorSystem("multiprocTCPBase", logDefs={"version": 1})
    try:
        yield system
    finally:
        system.shutdown()


class Contender:
    """``tell`` and ``ask``."""

    cannot: ClassVar[dict[str, str]] = {
        "fan_in_blocked": "its queue is bounded by its sockets, not by a number of messages",
        "idle_beats": "an actor is a process, and 1,000 of them are not started here",
        "ring": "an actor is a process, and 100 of them are not started here",
        "crash": "an actor does not die of an exception: its message is tried twice and given back",
    }

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One sender, one actor."""

        def move(system: Any, sink: Any) -> Callable[[int], None]:
            def tell_all(count: int) -> None:
                for one in range(count):
                    system.tell(sink, one)

            return tell_all

        return self._measure(Pace(seconds), move)

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several actors send to one."""

        def move(system: Any, sink: Any) -> Callable[[int], None]:
            crowd = [system.createActor(Producer) for _ in range(producers)]

            def tell_all(count: int) -> None:
                for producer in crowd:
                    system.tell(producer, (sink, count // producers))

            return tell_all

        return self._measure(Pace(seconds, 64 * producers), move, producers)

    def _measure(
        self, pace: Pace, mover: Callable[[Any, Any], Callable[[int], None]], producers: int = 1
    ) -> dict[str, float]:
        with system_of_processes() as system:
            sink, total = system.createActor(Counter), 0
            move = mover(system, sink)
            for count in pace:
                total += count // producers * producers
                move(count)
                if system.ask(sink, ("until", total), PATIENCE) != "done":
                    raise RuntimeError("not all arrived")
        return {"per_second": pace.rate}

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other."""
        latencies = Latencies(seconds)
        with system_of_processes() as system:
            echo = system.createActor(Echo)
            while latencies:
                began = now()
                system.ask(echo, 1, PATIENCE)
                latencies.add(now() - began)
        return latencies.figures()

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """An actor keeps as many questions on the way: outside there is one at a time."""
        pace = Pace(seconds, 4 * callers)
        with system_of_processes() as system:
            echo, caller = system.createActor(Echo), system.createActor(Caller)
            for count in pace:
                if system.ask(caller, (echo, callers, count), PATIENCE) != "done":
                    raise RuntimeError("not all were answered")
        return {"per_second": pace.rate}

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """A few processes, the one after the other, until each of them has answered."""
        few = min(count, FEW)
        with system_of_processes() as system:
            began = now()
            for _ in range(few):
                system.ask(system.createActor(Echo), 1, PATIENCE)
            took = now() - began
        return {"each_us": 1e6 * took / few}
