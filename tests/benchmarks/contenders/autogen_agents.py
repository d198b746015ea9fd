"""autogen-core: agents behind one queue in one process; each message is handled in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from autogen_core import (
    AgentId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    message_handler,
)
from bench.measure import Cpu, Latencies, Pace, Tally, now, require_beats, resident_kib


@dataclass
class Note:
    """What is sent."""

    value: int


class Doing(RoutedAgent):
    """Hands each message to a function, with the agent's own key."""

    def __init__(self, do: Callable[[str, Note], Awaitable[Any]]) -> None:
        super().__init__("does what it is told")
        self._do = do

    @message_handler
    async def take(self, message: Note, ctx: MessageContext) -> Note | None:
        """Take a message."""
        return await self._do(self.id.key, message)


async def give_back(_: str, message: Note) -> Note:
    """Answer with the question."""
    return message


async def do_nothing(_: str, __: Note) -> None:
    """Have nothing to do."""


def run(
    do: Callable[[str, Note], Awaitable[Any]],
    main: Callable[[SingleThreadedAgentRuntime], Awaitable[dict[str, float]]],
) -> dict[str, float]:
    """Run *main* beside a runtime whose agents, of one type and by any key, *do* something."""

    async def with_runtime() -> dict[str, float]:
        runtime = SingleThreadedAgentRuntime()
        await Doing.register(runtime, "doing", lambda: Doing(do))
        await runtime.add_subscription(TypeSubscription(topic_type="notes", agent_type="doing"))
        runtime.start()
        try:
            return await main(runtime)
        finally:
            await runtime.stop()

    return asyncio.run(with_runtime())


class Contender:
    """``await publish_message`` to a topic that one agent reads, and ``await send_message`` for an answer."""

    cannot: ClassVar[dict[str, str]] = {
        "fan_in_blocked": "its queue has no bound, so nobody is ever blocked",
        "crash": "an agent does not die of an exception, and nobody restarts one",
    }

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One sender, one agent."""
        return self.fan_in(seconds, capacity, 1)

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several senders, each a task, one agent."""
        tally = Tally(0, lambda: None)

        async def count_one(_: str, __: Note) -> None:
            tally.one()

        async def main(runtime: SingleThreadedAgentRuntime) -> dict[str, float]:
            pace = Pace(seconds, 64 * producers)

            async def produce(count: int) -> None:
                for one in range(count):
                    await runtime.publish_message(Note(one), TopicId("notes", "sink"))

            for count in pace:
                done = asyncio.Event()
                tally.left, tally.done = count // producers * producers, done.set
                async with asyncio.TaskGroup() as crowd:
                    for _ in range(producers):
                        crowd.create_task(produce(count // producers))
                await done.wait()
            return {"per_second": pace.rate}

        return run(count_one, main)

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other."""

        async def main(runtime: SingleThreadedAgentRuntime) -> dict[str, float]:
            latencies, echo = Latencies(seconds), AgentId("doing", "echo")
            while latencies:
                began = now()
                await runtime.send_message(Note(1), echo)
                latencies.add(now() - began)
            return latencies.figures()

        return run(give_back, main)

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """Many callers, each a task that asks again as soon as it is answered."""

        async def main(runtime: SingleThreadedAgentRuntime) -> dict[str, float]:
            answered, echo = 0, AgentId("doing", "echo")

            async def ask() -> None:
                nonlocal answered
                while True:
                    await runtime.send_message(Note(1), echo)
                    answered += 1

            crowd = [asyncio.create_task(ask()) for _ in range(callers)]
            # A round of so many takes it most of a second, so that a short look would see none or all of one.
            await asyncio.sleep(seconds)
            began, before = now(), answered
            await asyncio.sleep(3 * seconds)
            rate = (answered - before) / (now() - began)
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
            return {"per_second": rate}

        return run(give_back, main)

    def ring(self, seconds: float, capacity: int, size: int) -> dict[str, float]:
        """One token goes round: each agent publishes to the topic of the next."""
        done = asyncio.Event()
        runtimes: list[SingleThreadedAgentRuntime] = []

        async def pass_on(key: str, message: Note) -> None:
            if message.value:
                following = str((int(key) + 1) % size)
                await runtimes[0].publish_message(Note(message.value - 1), TopicId("notes", following))
            else:
                done.set()

        async def main(runtime: SingleThreadedAgentRuntime) -> dict[str, float]:
            nonlocal done
            runtimes.append(runtime)
            pace = Pace(seconds)
            for count in pace:
                done = asyncio.Event()
                await runtime.publish_message(Note(count - 1), TopicId("notes", "0"))
                await done.wait()
            return {"per_second": pace.rate}

        return run(pass_on, main)

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """*count* agents, each made by asking for its instance. Nobody supervises them, and none has a task."""

        async def main(runtime: SingleThreadedAgentRuntime) -> dict[str, float]:
            before, began = resident_kib(), now()
            for place in range(count):
                await runtime.try_get_underlying_agent_instance(AgentId("doing", f"idle-{place}"), Doing)
            took = now() - began
            return {"each_us": 1e6 * took / count, "each_kib": (resident_kib() - before) / count}

        return run(do_nothing, main)

    def idle_beats(self, seconds: float, count: int) -> dict[str, float]:
        """It has no timers: a task for each agent publishes to it once a second."""
        beats = 0

        async def beat(_: str, __: Note) -> None:
            nonlocal beats
            beats += 1

        async def main(runtime: SingleThreadedAgentRuntime) -> dict[str, float]:
            async def tick(place: int) -> None:
                await asyncio.sleep(place / count)
                while True:
                    await asyncio.sleep(1)
                    await runtime.publish_message(Note(1), TopicId("notes", f"beating-{place}"))

            ticking = [asyncio.create_task(tick(place)) for place in range(count)]
            await asyncio.sleep(min(3.0, 2 * seconds))
            cpu, before = Cpu(), beats
            await asyncio.sleep(seconds)
            percent, told = cpu.percent, beats - before
            for task in ticking:
                task.cancel()
            await asyncio.gather(*ticking, return_exceptions=True)
            require_beats(told, seconds, count)
            return {"cpu_percent": percent}

        return run(beat, main)
