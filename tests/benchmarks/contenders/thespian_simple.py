"""Thespian on its simple system base: no concurrency, each handler is called in the thread of whoever tells or asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from bench.measure import Cpu, Latencies, Pace, Tally, now, require_beats, resident_kib
from thespian.actors import Actor, ActorSystem, WakeupMessage


class Counter(Actor):
    """Counts what it is told."""

    tally: ClassVar[Tally] = Tally(0, lambda: None)

    def receiveMessage(self, message: object, sender: object) -> None:  # noqa: N802 - the library's name.
        """Count it."""
        if isinstance(message, int):
            self.tally.one()


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


class Member(Actor):
    """Passes the token on."""

    members: ClassVar[list[Any]] = []

    def receiveMessage(self, message: object, sender: object) -> None:  # noqa: N802 - the library's name.
        """Learn one's place, or pass it on."""
        if isinstance(message, str):
            self._following = int(message)
        elif isinstance(message, int) and message:
            self.send(self.members[self._following], message - 1)


class Idle(Actor):
    """Has nothing to do."""

    def receiveMessage(self, message: object, sender: object) -> None:  # noqa: N802 - the library's name.
        """Do nothing."""


class Beating(Actor):
    """Wakes once a second."""

    beats: ClassVar[int] = 0

    def receiveMessage(self, message: object, sender: object) -> None:  # noqa: N802 - the library's name.
        """Begin, or count a beat and ask for the next."""
        if isinstance(message, float):
            self.wakeupAfter(timedelta(seconds=1 + message))
        elif isinstance(message, WakeupMessage):
            Beating.beats += 1
            self.wakeupAfter(timedelta(seconds=1))


class Contender:
    """``tell`` and ``ask``; both run whatever there is to run before they return."""

    cannot: ClassVar[dict[str, str]] = {
        "fan_in_blocked": "its queue has no bound, so nobody is ever blocked",
        "crash": "an actor does not die of an exception: its message is tried twice and given back",
    }

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One actor to another: from outside, each tell would run the whole system once."""
        return self.fan_in(seconds, capacity, 1)

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several actors send to one."""
        pace, system = Pace(seconds, 64 * producers), ActorSystem("simpleSystemBase")
        sink = system.createActor(Counter)
        crowd = [system.createActor(Producer) for _ in range(producers)]
        done = 0

        def finished() -> None:
            nonlocal done
            done += 1

        for moves, count in enumerate(pace, 1):
            Counter.tally = Tally(count // producers * producers, finished)
            for producer in crowd:
                system.tell(producer, (sink, count // producers))
            while done < moves:
                system.listen(timedelta(seconds=0))
        system.shutdown()
        return {"per_second": pace.rate}

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other."""
        latencies, system = Latencies(seconds), ActorSystem("simpleSystemBase")
        echo = system.createActor(Echo)
        while latencies:
            began = now()
            system.ask(echo, 1)
            latencies.add(now() - began)
        system.shutdown()
        return latencies.figures()

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """An actor keeps as many questions on the way: outside there is one at a time."""
        pace, system = Pace(seconds, 4 * callers), ActorSystem("simpleSystemBase")
        echo, caller = system.createActor(Echo), system.createActor(Caller)
        for count in pace:
            if system.ask(caller, (echo, callers, count)) != "done":
                raise RuntimeError("not all were answered")
        system.shutdown()
        return {"per_second": pace.rate}

    def ring(self, seconds: float, capacity: int, size: int) -> dict[str, float]:
        """One token goes round; it has arrived when the system has nothing left to run."""
        pace, system = Pace(seconds), ActorSystem("simpleSystemBase")
        Member.members = [system.createActor(Member) for _ in range(size)]
        for place, member in enumerate(Member.members):
            system.tell(member, str((place + 1) % size))
        for count in pace:
            system.tell(Member.members[0], count - 1)
        system.shutdown()
        return {"per_second": pace.rate}

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """*count* actors. Nobody supervises them, and none has a task."""
        system = ActorSystem("simpleSystemBase")
        before, began = resident_kib(), now()
        for _ in range(count):
            system.createActor(Idle)
        took = now() - began
        return {"each_us": 1e6 * took / count, "each_kib": (resident_kib() - before) / count}

    def idle_beats(self, seconds: float, count: int) -> dict[str, float]:
        """Each actor asks to be woken a second later, over and over."""
        system = ActorSystem("simpleSystemBase")
        for place in range(count):
            system.tell(system.createActor(Beating), place / count)
        system.listen(timedelta(seconds=min(3.0, 2 * seconds)))
        cpu, before = Cpu(), Beating.beats
        began = now()
        while (left := seconds - (now() - began)) > 0:
            system.listen(timedelta(seconds=left))
        percent, told = cpu.percent, Beating.beats - before
        require_beats(told, seconds, count)
        return {"cpu_percent": percent}
