"""Pykka: a thread for each actor, an unbounded queue as its inbox, no supervision."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, ClassVar

import pykka
from bench.measure import Cpu, Latencies, Pace, Tally, now, require_beats, resident_kib


class BoomError(Exception):
    """What an actor dies of."""


class Counter(pykka.ThreadingActor):
    """Counts what it is told."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def on_receive(self, _: object) -> None:
        """Count it."""
        self._tally.one()


class Echo(pykka.ThreadingActor):
    """Answers each question with itself."""

    def on_receive(self, message: object) -> object:
        """Give it back."""
        return message


class Idle(pykka.ThreadingActor):
    """Has nothing to do, and says when it is there."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def on_start(self) -> None:
        """Say that it is there; each in its own thread, so the one after the other."""
        with _one_at_a_time:
            self._tally.one()


_one_at_a_time = threading.Lock()


class Contender:
    """``tell``, ``ask`` and futures; senders are threads too."""

    cannot: ClassVar[dict[str, str]] = {"fan_in_blocked": "its inbox has no bound, so nobody is ever blocked"}

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One sender, one actor."""
        return self.fan_in(seconds, capacity, 1)

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several threads, one actor."""
        pace, tally = Pace(seconds, 64 * producers), Tally(0, lambda: None)
        ref = Counter.start(tally)

        def produce(count: int) -> None:
            for one in range(count):
                ref.tell(one)

        for count in pace:
            done = threading.Event()
            tally.left, tally.done = count // producers * producers, done.set
            if producers == 1:
                produce(count)
            else:
                crowd = [threading.Thread(target=produce, args=(count // producers,)) for _ in range(producers)]
                for thread in crowd:
                    thread.start()
                for thread in crowd:
                    thread.join()
            done.wait()
        ref.stop()
        return {"per_second": pace.rate}

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other."""
        latencies, ref = Latencies(seconds), Echo.start()
        while latencies:
            began = now()
            ref.ask(1)
            latencies.add(now() - began)
        ref.stop()
        return latencies.figures()

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """As many futures at a time, held by one thread: as many threads would only be slower."""
        pace, ref = Pace(seconds, 4 * callers), Echo.start()
        asked: deque[pykka.Future[Any]] = deque(ref.ask(1, block=False) for _ in range(callers))
        for count in pace:
            for _ in range(count):
                asked.popleft().get()
                asked.append(ref.ask(1, block=False))
        for future in asked:
            future.get()
        ref.stop()
        return {"per_second": pace.rate}

    def ring(self, seconds: float, capacity: int, size: int) -> dict[str, float]:
        """One token goes round."""
        refs: list[pykka.ActorRef[Any]] = []
        done = threading.Event()

        class Member(pykka.ThreadingActor):
            def __init__(self, place: int) -> None:
                super().__init__()
                self._following = (place + 1) % size

            def on_receive(self, left: int) -> None:
                if left:
                    refs[self._following].tell(left - 1)
                else:
                    done.set()

        refs += [Member.start(place) for place in range(size)]
        pace = Pace(seconds)
        for count in pace:
            done.clear()
            refs[0].tell(count - 1)
            done.wait()
        for ref in refs:
            ref.stop()
        return {"per_second": pace.rate}

    def crash(self, seconds: float, capacity: int) -> dict[str, float]:
        """It restarts nobody and drops the inbox, so ``on_failure`` starts a successor and tells it the next."""
        latencies = Latencies(seconds)
        handled = threading.Event()
        raised = 0.0

        class Fragile(pykka.ThreadingActor):
            def on_receive(self, message: str) -> None:
                nonlocal raised
                if message == "crash":
                    raised = now()
                    raise BoomError
                latencies.add(now() - raised)
                handled.set()

            def on_failure(self, *_: object) -> None:
                nonlocal ref
                ref = Fragile.start()
                ref.tell("next")

        ref = Fragile.start()
        while latencies:
            handled.clear()
            ref.tell("crash")
            handled.wait()
        ref.stop()
        return latencies.figures()

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """*count* threads, until each of them runs."""
        ready = threading.Event()
        tally = Tally(count, ready.set)
        before, began = resident_kib(), now()
        refs = [Idle.start(tally) for _ in range(count)]
        ready.wait()
        took = now() - began
        kib = resident_kib() - before
        began = now()
        for ref in refs:
            ref.stop(block=False)
        while pykka.ActorRegistry.get_all():
            time.sleep(0.001)
        stopped = now() - began
        return {"each_us": 1e6 * took / count, "each_kib": kib / count, "stop_us": 1e6 * stopped / count}

    def idle_beats(self, seconds: float, count: int) -> dict[str, float]:
        """It has no timers: one thread tells each actor once a second, in turn."""
        beats = 0

        class Beating(pykka.ThreadingActor):
            def on_receive(self, _: object) -> None:
                nonlocal beats
                beats += 1

        refs = [Beating.start() for _ in range(count)]
        stopping = threading.Event()

        def tick() -> None:
            due, place = now(), 0
            while not stopping.is_set():
                due += 1 / count
                time.sleep(max(0.0, due - now()))
                refs[place].tell("beat")
                place = (place + 1) % count

        ticker = threading.Thread(target=tick)
        ticker.start()
        time.sleep(min(2.0, seconds))
        cpu, before = Cpu(), beats
        time.sleep(seconds)
        percent, told = cpu.percent, beats - before
        stopping.set()
        ticker.join()
        pykka.ActorRegistry.stop_all()
        require_beats(told, seconds, count)
        return {"cpu_percent": percent}
