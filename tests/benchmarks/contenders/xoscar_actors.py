"""Xoscar: asyncio actors behind a pool, here all of them in the one process of the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import xoscar
from bench.measure import Cpu, Latencies, Pace, Tally, now, require_beats, resident_kib


class Doing(xoscar.Actor):
    """Hands each message to a function."""

    def __init__(self, do: Callable[[Any], Awaitable[object]]) -> None:
        super().__init__()
        self._do = do

    async def take(self, message: object) -> object:
        """Take a message."""
        return await self._do(message)


class Idle(xoscar.Actor):
    """Has nothing to do."""

    async def take(self, _: object) -> None:
        """Do nothing."""


async def give_back(message: object) -> object:
    """Answer with the question."""
    return message


def run(main: Callable[[str], Awaitable[dict[str, float]]]) -> dict[str, float]:
    """Run *main* beside a pool with no other process, and give it the pool's address."""

    async def with_pool() -> dict[str, float]:
        pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
        async with pool:
            return await main(pool.external_address)

    return asyncio.run(with_pool())


class Contender:
    """``await ref.method.tell(message)`` and ``await ref.method(message)``."""

    cannot: ClassVar[dict[str, str]] = {
        "fan_in_blocked": "an actor's queue has no bound, so nobody is ever blocked",
        "crash": "an actor does not die of an exception: it goes to the caller",
    }

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One sender, one actor."""
        return self.fan_in(seconds, capacity, 1)

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several senders, each a task, one actor."""

        async def main(address: str) -> dict[str, float]:
            pace, tally = Pace(seconds, 64 * producers), Tally(0, lambda: None)

            async def count_one(_: object) -> None:
                tally.one()

            async def produce(count: int) -> None:
                for one in range(count):
                    await ref.take.tell(one)

            ref = await xoscar.create_actor(Doing, count_one, address=address, uid="sink")
            for count in pace:
                done = asyncio.Event()
                tally.left, tally.done = count // producers * producers, done.set
                async with asyncio.TaskGroup() as crowd:
                    for _ in range(producers):
                        crowd.create_task(produce(count // producers))
                await done.wait()
            return {"per_second": pace.rate}

        return run(main)

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other."""

        async def main(address: str) -> dict[str, float]:
            latencies = Latencies(seconds)
            ref = await xoscar.create_actor(Doing, give_back, address=address, uid="echo")
            while latencies:
                began = now()
                await ref.take(1)
                latencies.add(now() - began)
            return latencies.figures()

        return run(main)

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """Many callers, each a task that asks again as soon as it is answered."""

        async def main(address: str) -> dict[str, float]:
            answered = 0
            ref = await xoscar.create_actor(Doing, give_back, address=address, uid="echo")

            async def ask() -> None:
                nonlocal answered
                while True:
                    await ref.take(1)
                    answered += 1

            crowd = [asyncio.create_task(ask()) for _ in range(callers)]
            await asyncio.sleep(seconds / 4)
            began, before = now(), answered
            await asyncio.sleep(seconds)
            rate = (answered - before) / (now() - began)
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
            return {"per_second": rate}

        return run(main)

    def ring(self, seconds: float, capacity: int, size: int) -> dict[str, float]:
        """One token goes round."""

        async def main(address: str) -> dict[str, float]:
            pace, done = Pace(seconds), asyncio.Event()
            refs: list[Any] = []

            def member(place: int) -> Callable[[int], Awaitable[object]]:
                following = (place + 1) % size

                async def pass_on(left: int) -> None:
                    if left:
                        await refs[following].take.tell(left - 1)
                    else:
                        done.set()

                return pass_on

            refs += [
                await xoscar.create_actor(Doing, member(place), address=address, uid=f"member-{place}")
                for place in range(size)
            ]
            for count in pace:
                done = asyncio.Event()
                await refs[0].take.tell(count - 1)
                await done.wait()
            return {"per_second": pace.rate}

        return run(main)

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """*count* actors, each awaited until it is there. Nobody supervises them."""

        async def main(address: str) -> dict[str, float]:
            before, began = resident_kib(), now()
            refs = [await xoscar.create_actor(Idle, address=address, uid=f"idle-{place}") for place in range(count)]
            took = now() - began
            kib = resident_kib() - before
            began = now()
            for ref in refs:
                await ref.destroy()
            stopped = now() - began
            return {"each_us": 1e6 * took / count, "each_kib": kib / count, "stop_us": 1e6 * stopped / count}

        return run(main)

    def idle_beats(self, seconds: float, count: int) -> dict[str, float]:
        """Each actor tells itself by ``tell_delay``, which is a task that sleeps."""

        async def main(address: str) -> dict[str, float]:
            beats = 0

            class Beating(xoscar.Actor):
                async def beat(self) -> None:
                    nonlocal beats
                    beats += 1
                    self.ref().beat.tell_delay(delay=1.0)

            for place in range(count):
                ref = await xoscar.create_actor(Beating, address=address, uid=f"beating-{place}")
                ref.beat.tell_delay(delay=1.0 + place / count)
            await asyncio.sleep(min(3.0, 2 * seconds))
            cpu, before = Cpu(), beats
            await asyncio.sleep(seconds)
            percent, told = cpu.percent, beats - before
            require_beats(told, seconds, count)
            return {"cpu_percent": percent}

        return run(main)
