"""agentrt with the whole kernel on: a supervised tree, limits, bounded mailboxes, counts. Nothing is switched off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from bench.measure import Cpu, Latencies, Pace, Tally, burn, now, require_beats, resident_kib

from agentrt.kernel import (
    Actor,
    ActorRef,
    Budget,
    ChildSpec,
    MailboxSpec,
    Runtime,
    StartChild,
    SupervisorSpec,
    handles,
    open_runtime,
)
from agentrt.ops.board import SnapshotBoard
from agentrt.ops.loopwatch import LoopWatch
from agentrt.policy.backoff import Backoff
from agentrt.policy.watchdog import Limits

#: As an agent's actors have them: watched, but never near the limit here.
LIMITS = Limits(total=3600.0, progress=60.0)
#: A crash here is what is measured, so no wait and no end of the budget comes between. The window is so short that it
#: remembers a handful of restarts, as one of 30 seconds does for an actor that does not crash all the time.
AT_ONCE = Backoff(initial=0.0, maximum=0.0)
ENDLESS = Budget(10_000, 0.001)


class BoomError(Exception):
    """What an actor dies of."""


class Crash:
    """Message: die."""


class Begin:
    """Message: beat from now on."""


class Beat:
    """Message: a second is over."""


class Counter(Actor):
    """Counts what it is told."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    @handles(int)
    async def count(self, _: int) -> None:
        """Count it."""
        self._tally.one()


class Echo(Actor):
    """Answers each question with itself."""

    @handles(int)
    async def answer(self, message: int) -> int:
        """Give it back."""
        return message


class Idle(Actor):
    """Has nothing to do."""

    @handles(int)
    async def ignore(self, _: int) -> None:
        """Do nothing."""


def child(id_: str, factory: Callable[[], Actor], capacity: int) -> ChildSpec:
    """Describe a child as all of these are."""
    return ChildSpec(
        id=id_,
        factory=factory,
        limits=LIMITS,
        mailbox=MailboxSpec(capacity=capacity),
        budget=ENDLESS,
        backoff=AT_ONCE,
    )


@asynccontextmanager
async def tree(*children: ChildSpec, **spec: Any) -> AsyncIterator[Runtime]:
    """Run a root with *children*."""
    root = SupervisorSpec(id="bench", children=children, budget=ENDLESS, **spec)
    async with open_runtime(root, seed=1) as runtime:
        yield runtime


class Contender:
    """``await cast``, ``await call``, and actors under a supervisor."""

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One sender, one actor."""
        return self.fan_in(seconds, capacity, 1)

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several senders, each a task, one actor."""

        async def main() -> dict[str, float]:
            pace, tally = Pace(seconds, 64 * producers), Tally(0, lambda: None)

            async def produce(count: int) -> None:
                for one in range(count):
                    await ref.cast(one)

            async def move(count: int) -> None:
                done = trio.Event()
                tally.left, tally.done = count // producers * producers, done.set
                if producers == 1:
                    await produce(count)
                else:
                    async with trio.open_nursery() as crowd:
                        for _ in range(producers):
                            crowd.start_soon(produce, count // producers)
                await done.wait()

            async with tree(child("sink", lambda: Counter(tally), capacity)) as runtime:
                ref = runtime.ref("bench/sink")
                for count in pace:
                    await move(count)
            return {"per_second": pace.rate}

        return trio.run(main)

    fan_in_blocked = fan_in

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other."""

        async def main() -> dict[str, float]:
            latencies = Latencies(seconds)
            async with tree(child("echo", Echo, capacity)) as runtime:
                ref = runtime.ref("bench/echo")
                while latencies:
                    began = now()
                    await ref.call(1)
                    latencies.add(now() - began)
            return latencies.figures()

        return trio.run(main)

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """Many callers, each a task that asks again as soon as it is answered."""

        async def main() -> dict[str, float]:
            answered = 0

            async def ask() -> None:
                nonlocal answered
                while True:
                    await ref.call(1)
                    answered += 1

            async with (
                tree(child("echo", Echo, capacity)) as runtime,
                trio.open_nursery() as nursery,
            ):
                ref = runtime.ref("bench/echo")
                for _ in range(callers):
                    nursery.start_soon(ask)
                await trio.sleep(seconds / 4)
                began, before = now(), answered
                await trio.sleep(seconds)
                rate = (answered - before) / (now() - began)
                nursery.cancel_scope.cancel()
            return {"per_second": rate}

        return trio.run(main)

    def ring(self, seconds: float, capacity: int, size: int) -> dict[str, float]:
        """One token goes round."""

        async def main() -> dict[str, float]:
            pace = Pace(seconds)
            done = trio.Event()
            refs: list[ActorRef] = []

            class Member(Actor):
                def __init__(self, place: int) -> None:
                    self._following = (place + 1) % size

                @handles(int)
                async def pass_on(self, left: int) -> None:
                    if left:
                        await refs[self._following].cast(left - 1)
                    else:
                        done.set()

            members = [child(f"member-{place}", lambda place=place: Member(place), capacity) for place in range(size)]
            async with tree(*members) as runtime:
                refs += [runtime.ref(f"bench/member-{place}") for place in range(size)]
                for count in pace:
                    done = trio.Event()
                    await refs[0].cast(count - 1)
                    await done.wait()
            return {"per_second": pace.rate}

        return trio.run(main)

    def crash(self, seconds: float, capacity: int) -> dict[str, float]:
        """A handler raises; until the next incarnation handles the next message, which waits already.

        The whole way: exit record with its traceback, both budgets, backoff (of no seconds), events.
        """

        async def main() -> dict[str, float]:
            latencies = Latencies(seconds)
            raised = 0.0

            class Fragile(Actor):
                @handles(Crash)
                async def crash(self, _: Crash) -> None:
                    nonlocal raised
                    raised = now()
                    raise BoomError

                @handles(trio.Event)
                async def answer(self, done: trio.Event) -> None:
                    latencies.add(now() - raised)
                    done.set()

            async with tree(child("fragile", Fragile, capacity)) as runtime:
                ref = runtime.ref("bench/fragile")
                while latencies:
                    done = trio.Event()
                    await ref.cast(Crash())
                    await ref.cast(done)
                    await done.wait()
            return latencies.figures()

        return trio.run(main)

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """*count* children of one supervisor, each with a spec of its own, until the last is started.

        The specs count as memory and not as time: they are the configuration, and are made once.
        """

        async def main() -> dict[str, float]:
            before = resident_kib()
            children = [child(f"idle-{place}", Idle, capacity) for place in range(count)]
            began = now()
            async with tree(*children, dynamic=True) as runtime:
                took = now() - began
                kib = resident_kib() - before
                began = now()
                runtime.stop("enough")
                await runtime.wait()
                stopped = now() - began
            return {"each_us": 1e6 * took / count, "each_kib": kib / count, "stop_us": 1e6 * stopped / count}

        return trio.run(main)

    def spawn_one(self, count: int, capacity: int) -> dict[str, float]:
        """One child after the other, each asked for by ``StartChild``, which is answered when it is started."""

        async def main() -> dict[str, float]:
            async with tree(dynamic=True) as runtime:
                root = runtime.ref("bench")
                began = now()
                for place in range(count):
                    await root.call(StartChild(child(f"idle-{place}", Idle, capacity)))
                return {"each_us": 1e6 * (now() - began) / count}

        return trio.run(main)

    def idle_watched(self, seconds: float, count: int) -> dict[str, float]:
        """*count* actors with nothing to do, each looked after with a progress limit of a second."""

        async def main() -> dict[str, float]:
            limits = Limits(progress=1.0)
            children = [ChildSpec(id=f"idle-{place}", factory=Idle, limits=limits) for place in range(count)]
            async with tree(*children, dynamic=True):
                await trio.sleep(min(2.0, seconds))
                cpu = Cpu()
                await trio.sleep(seconds)
                return {"cpu_percent": cpu.percent}

        return trio.run(main)

    def idle_beats(self, seconds: float, count: int) -> dict[str, float]:
        """*count* actors, each with a message to itself every second, at a moment of its own."""

        async def main() -> dict[str, float]:
            beats = 0

            class Beating(Actor):
                def __init__(self, phase: float) -> None:
                    self._phase = phase

                async def on_start(self) -> None:
                    self.send_after(self._phase, Begin())

                @handles(Begin)
                async def begin(self, _: Begin) -> None:
                    self.send_every(1.0, Beat())

                @handles(Beat)
                async def beat(self, _: Beat) -> None:
                    nonlocal beats
                    beats += 1

            children = [
                ChildSpec(id=f"beating-{place}", factory=lambda place=place: Beating(place / count), limits=LIMITS)
                for place in range(count)
            ]
            async with tree(*children, dynamic=True):
                await trio.sleep(min(2.0, seconds))
                cpu, before = Cpu(), beats
                await trio.sleep(seconds)
                percent, handled = cpu.percent, beats - before
            require_beats(handled, seconds, count)
            return {"cpu_percent": percent}

        return trio.run(main)

    def fair(self, seconds: float, capacity: int, work: float) -> dict[str, float]:
        """One actor is flooded; how long does a message to another one take, and how many does the first get to see?"""

        async def main() -> dict[str, float]:
            latencies = Latencies(seconds)
            flooded, between = 0, 0

            class Busy(Actor):
                @handles(int)
                async def work(self, _: int) -> None:
                    nonlocal flooded
                    flooded += 1
                    if work:
                        burn(work)

            class Other(Actor):
                @handles(tuple)
                async def take(self, sent: tuple[float, int]) -> None:
                    nonlocal between
                    latencies.add(now() - sent[0])
                    between = max(between, flooded - sent[1])

            async def flood() -> None:
                while True:
                    await busy.cast(1)

            async with (
                tree(child("busy", Busy, capacity), child("other", Other, capacity)) as runtime,
                trio.open_nursery() as nursery,
            ):
                busy, other = runtime.ref("bench/busy"), runtime.ref("bench/other")
                nursery.start_soon(flood)
                while latencies:
                    await trio.sleep(0.001)
                    await other.cast((now(), flooded))
                nursery.cancel_scope.cancel()
            return latencies.figures() | {"between": between}

        return trio.run(main)

    def watched_steps(self, seconds: float) -> dict[str, float]:
        """A handler gives way over and over, while a thread watches the loop and would interrupt who holds it."""

        async def main() -> dict[str, float]:
            pace = Pace(seconds)

            class Stepping(Actor):
                @handles(int)
                async def step(self, count: int) -> None:
                    for _ in range(count):
                        await trio.lowlevel.checkpoint()

            watch = LoopWatch(SnapshotBoard(), stall_limit=30.0, interrupt_after=1.0)
            watch.start()
            try:
                async with tree(child("stepping", Stepping, 1)) as runtime, trio.open_nursery() as nursery:
                    nursery.start_soon(watch.beat_forever)
                    ref = runtime.ref("bench/stepping")
                    for count in pace:
                        await ref.call(count)
                    nursery.cancel_scope.cancel()
            finally:
                watch.stop()
            return {"each_ns": 1e9 / pace.rate}

        return trio.run(main)

    def tool_calls(self, seconds: float, callers: int) -> dict[str, float]:
        """Calls of a tool of an MCP server."""
        # The SDK takes a second to import, which no other workload is to pay for.
        from contenders.tool_calls import with_the_session_actor  # noqa: PLC0415

        return with_the_session_actor(seconds, callers)

    def guard(self, **parameters: float) -> dict[str, float]:
        """The guard between a client and its MCP server."""
        from contenders.guarded import with_the_guard  # noqa: PLC0415 - as above.

        return with_the_guard(**parameters)

    def nats_publish(self, seconds: float) -> dict[str, float]:
        """Core messages to a real nats-server."""
        from contenders.nats_traffic import publish_on_the_bus  # noqa: PLC0415 - as above.

        return publish_on_the_bus(seconds)

    def nats_store(self, seconds: float, callers: int) -> dict[str, float]:
        """Messages into a stream, many on their way."""
        from contenders.nats_traffic import store_on_the_bus  # noqa: PLC0415 - as above.

        return store_on_the_bus(seconds, callers)

    def nats_consume(self, count: int) -> dict[str, float]:
        """Messages from a durable consumer, each acknowledged."""
        from contenders.nats_traffic import consume_on_the_bus  # noqa: PLC0415 - as above.

        return consume_on_the_bus(count)

    def nats_request(self, seconds: float, callers: int) -> dict[str, float]:
        """Questions to the server, many on their way."""
        from contenders.nats_traffic import request_on_the_bus  # noqa: PLC0415 - as above.

        return request_on_the_bus(seconds, callers)

    def nats_connections(self, seconds: float, count: int) -> dict[str, float]:
        """Connections that do nothing."""
        from contenders.nats_traffic import connections_on_the_bus  # noqa: PLC0415 - as above.

        return connections_on_the_bus(seconds, count)
