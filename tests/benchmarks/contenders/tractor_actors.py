"""tractor: an actor is a process with a Trio loop of its own, reached over a socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

import tractor
import trio
from bench.measure import Latencies, Pace, now

#: Actors that a process each would have to be started for.
FEW = 4


class BoomError(Exception):
    """What an actor dies of."""


async def echo(message: int) -> int:
    """Answer with the question."""
    return message


async def boom() -> None:
    """Die."""
    raise BoomError


@tractor.context
async def count(ctx: tractor.Context) -> None:
    """Count a stream, and say so after as many messages as the first of them names."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        left = 0
        async for message in stream:
            if not left:
                left = message
                continue
            left -= 1
            if not left:
                await stream.send("done")


def run(main: Callable[[tractor.ActorNursery], Awaitable[dict[str, float]]]) -> dict[str, float]:
    """Run *main* with a nursery of processes, and end them all after it."""

    async def with_nursery() -> dict[str, float]:
        async with tractor.open_nursery(loglevel="critical") as nursery:
            told = await main(nursery)
            await nursery.cancel()
        return told

    return trio.run(with_nursery)


class Contender:
    """A stream for what is only sent, and ``portal.run`` for an answer."""

    cannot: ClassVar[dict[str, str]] = {
        "fan_in_blocked": "a stream is bounded by its socket, not by a number of messages",
        "idle_beats": "an actor is a process, and 1,000 of them are not started here",
        "ring": "an actor is a process, and 100 of them are not started here",
    }

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One stream to one process."""
        return self.fan_in(seconds, capacity, 1)

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several streams into one process, each with a task of its own there."""

        async def main(nursery: tractor.ActorNursery) -> dict[str, float]:
            pace = Pace(seconds, 64 * producers)
            portal = await nursery.start_actor("sink", enable_modules=[__name__])

            async def produce(share: int) -> None:
                async with portal.open_context(count) as (ctx, _), ctx.open_stream() as stream:
                    await stream.send(share)
                    for one in range(share):
                        await stream.send(one)
                    await stream.receive()

            for number in pace:
                async with trio.open_nursery() as crowd:
                    for _ in range(producers):
                        crowd.start_soon(produce, number // producers)
            return {"per_second": pace.rate}

        return run(main)

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other."""

        async def main(nursery: tractor.ActorNursery) -> dict[str, float]:
            latencies = Latencies(seconds)
            portal = await nursery.start_actor("echo", enable_modules=[__name__])
            while latencies:
                began = now()
                await portal.run(echo, message=1)
                latencies.add(now() - began)
            return latencies.figures()

        return run(main)

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """Many callers, each a task that asks once; then all again."""

        async def main(nursery: tractor.ActorNursery) -> dict[str, float]:
            pace = Pace(seconds, callers)
            portal = await nursery.start_actor("echo", enable_modules=[__name__])

            async def ask(times: int) -> None:
                for _ in range(times):
                    await portal.run(echo, message=1)

            for number in pace:
                async with trio.open_nursery() as crowd:
                    for _ in range(callers):
                        crowd.start_soon(ask, number // callers)
            return {"per_second": pace.rate}

        return run(main)

    def crash(self, seconds: float, capacity: int) -> dict[str, float]:
        """It restarts nobody: an actor that fails is cancelled and a new one is started, until that has answered."""

        async def main(nursery: tractor.ActorNursery) -> dict[str, float]:
            latencies, generation = Latencies(4 * seconds, warm_up=1), 1
            portal = await nursery.start_actor("fragile-1", enable_modules=[__name__])
            while latencies:
                began = now()
                try:
                    await portal.run(boom)
                except tractor.RemoteActorError:
                    await portal.cancel_actor()
                    generation += 1
                    portal = await nursery.start_actor(f"fragile-{generation}", enable_modules=[__name__])
                    await portal.run(echo, message=1)
                latencies.add(now() - began)
            return latencies.figures()

        return run(main)

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """A few processes, the one after the other, until each of them has answered."""

        async def main(nursery: tractor.ActorNursery) -> dict[str, float]:
            few = min(count, FEW)
            began = now()
            for place in range(few):
                portal = await nursery.start_actor(f"idle-{place}", enable_modules=[__name__])
                await portal.run(echo, message=1)
            return {"each_us": 1e6 * (now() - began) / few}

        return run(main)
