"""mode: supervised asyncio services. It has no messages: an ``asyncio.Queue`` and futures stand in for a mailbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bench.measure import Cpu, Latencies, Pace, Tally, now, require_beats, resident_kib
from mode import Service
from mode.supervisors import OneForOneSupervisor

Handle = Callable[[Any], Awaitable[object]]


class BoomError(Exception):
    """What a service dies of."""


class Reader(Service):
    """A service that handles what is in its queue, one after the other."""

    def __init__(self, handle: Handle, capacity: int) -> None:
        super().__init__()
        self.inbox: asyncio.Queue[Any] = asyncio.Queue(capacity)
        self._handle = handle

    @Service.task
    async def _read(self) -> None:
        while not self.should_stop:
            await self._handle(await self.inbox.get())


class Idle(Service):
    """Has nothing to do, and says when it is there."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._tally = tally

    @Service.task
    async def _read(self) -> None:
        self._tally.one()
        while not self.should_stop:
            await self.inbox.get()


async def answer(message: tuple[object, asyncio.Future[object]]) -> None:
    """Answer a question into the future that came with it."""
    question, reply = message
    reply.set_result(question)


def supervise(*services: Service) -> OneForOneSupervisor:
    """Restart each of *services* whenever it crashes."""
    keeper = OneForOneSupervisor(max_restarts=1e9, over=1.0)
    # Services that are given to its constructor cannot wake it: it looks after them every five seconds only.
    keeper.add(*services)
    return keeper


class Contender:
    """``await queue.put``, and a future of the caller's own for the reply."""

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One sender, one service."""
        return self.fan_in(seconds, capacity, 1)

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several senders, each a task, one service."""

        async def main() -> dict[str, float]:
            pace, tally = Pace(seconds, 64 * producers), Tally(0, lambda: None)

            async def handle(_: object) -> None:
                tally.one()

            async def produce(count: int) -> None:
                for one in range(count):
                    await reader.inbox.put(one)

            reader = Reader(handle, capacity)
            async with supervise(reader):
                for count in pace:
                    done = asyncio.Event()
                    tally.left, tally.done = count // producers * producers, done.set
                    if producers == 1:
                        await produce(count)
                    else:
                        async with asyncio.TaskGroup() as crowd:
                            for _ in range(producers):
                                crowd.create_task(produce(count // producers))
                    await done.wait()
            return {"per_second": pace.rate}

        return asyncio.run(main())

    fan_in_blocked = fan_in

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other."""

        async def main() -> dict[str, float]:
            latencies, reader = Latencies(seconds), Reader(answer, capacity)
            loop = asyncio.get_running_loop()
            async with supervise(reader):
                while latencies:
                    began = now()
                    reply = loop.create_future()
                    await reader.inbox.put((1, reply))
                    await reply
                    latencies.add(now() - began)
            return latencies.figures()

        return asyncio.run(main())

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """Many callers, each a task that asks again as soon as it is answered."""

        async def main() -> dict[str, float]:
            reader, answered = Reader(answer, capacity), 0
            loop = asyncio.get_running_loop()

            async def ask() -> None:
                nonlocal answered
                while True:
                    reply = loop.create_future()
                    await reader.inbox.put((1, reply))
                    await reply
                    answered += 1

            async with supervise(reader):
                crowd = [asyncio.create_task(ask()) for _ in range(callers)]
                await asyncio.sleep(seconds / 4)
                began, before = now(), answered
                await asyncio.sleep(seconds)
                rate = (answered - before) / (now() - began)
                for task in crowd:
                    task.cancel()
            return {"per_second": rate}

        return asyncio.run(main())

    def ring(self, seconds: float, capacity: int, size: int) -> dict[str, float]:
        """One token goes round."""

        async def main() -> dict[str, float]:
            pace, done = Pace(seconds), asyncio.Event()
            readers: list[Reader] = []

            def member(place: int) -> Handle:
                following = (place + 1) % size

                async def handle(left: int) -> None:
                    if left:
                        await readers[following].inbox.put(left - 1)
                    else:
                        done.set()

                return handle

            readers += [Reader(member(place), capacity) for place in range(size)]
            async with supervise(*readers):
                for count in pace:
                    done = asyncio.Event()
                    await readers[0].inbox.put(count - 1)
                    await done.wait()
            return {"per_second": pace.rate}

        return asyncio.run(main())

    def crash(self, seconds: float, capacity: int) -> dict[str, float]:
        """A service raises; until the restarted service handles the next message, which waits already.

        Its supervisor does not hear of a crash while it ends the last restart, so the sender leaves it a moment.
        """

        async def main() -> dict[str, float]:
            latencies, raised = Latencies(seconds), 0.0

            async def handle(message: asyncio.Event | None) -> None:
                nonlocal raised
                if message is None:
                    raised = now()
                    raise BoomError
                latencies.add(now() - raised)
                message.set()

            reader = Reader(handle, capacity)
            async with supervise(reader):
                while latencies:
                    done = asyncio.Event()
                    await reader.inbox.put(None)
                    await reader.inbox.put(done)
                    await done.wait()
                    await asyncio.sleep(0.001)
            return latencies.figures()

        return asyncio.run(main())

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """*count* services of one supervisor, until the last one's task runs."""

        async def main() -> dict[str, float]:
            ready = asyncio.Event()
            tally = Tally(count, ready.set)
            before, began = resident_kib(), now()
            keeper = supervise(*(Idle(tally) for _ in range(count)))
            await keeper.start()
            await ready.wait()
            took = now() - began
            kib = resident_kib() - before
            began = now()
            await keeper.stop()
            stopped = now() - began
            return {"each_us": 1e6 * took / count, "each_kib": kib / count, "stop_us": 1e6 * stopped / count}

        return asyncio.run(main())

    def idle_beats(self, seconds: float, count: int) -> dict[str, float]:
        """Each service has a timer of its own."""

        async def main() -> dict[str, float]:
            beats = 0

            class Beating(Service):
                def __init__(self, phase: float) -> None:
                    super().__init__()
                    self._phase = phase

                async def on_start(self) -> None:
                    self.add_future(self._begin())

                async def _begin(self) -> None:
                    nonlocal beats
                    await self.sleep(self._phase)
                    async for _ in self.itertimer(1.0):
                        beats += 1

            async with supervise(*(Beating(place / count) for place in range(count))):
                await asyncio.sleep(min(2.0, seconds))
                cpu, before = Cpu(), beats
                await asyncio.sleep(seconds)
                percent, told = cpu.percent, beats - before
            require_beats(told, seconds, count)
            return {"cpu_percent": percent}

        return asyncio.run(main())
