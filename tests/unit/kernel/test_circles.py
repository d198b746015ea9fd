"""Who would wait for itself, or for somebody who waits for it, be it for an answer or for room, is told at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from kernel_kit import Plan, Probe, open_runtime, probe, quiet, tree, wait

from agentrt.kernel import Actor, ActorRef, CallCycle, ChildSpec, MailboxFull, MailboxSpec, TerminateChild

ONE = MailboxSpec(capacity=1)


async def fill(ref: ActorRef[Any]) -> None:
    """Let *ref* handle something that takes long, and fill its mailbox."""
    await ref.cast(wait(5))
    await quiet()
    await ref.cast(wait(0))


async def told(log: list[str], do: Callable[[], Awaitable[object]]) -> None:
    """Do something, and take down what was said and when."""
    try:
        await do()
    except (CallCycle, MailboxFull) as error:
        log.append(f"{trio.current_time():g} {error}")
    else:
        log.append(f"{trio.current_time():g} done")


async def test_two_that_fill_each_other_s_mailboxes_do_not_wait_for_each_other(autojump_clock) -> None:
    """One of them is told, and goes on, so that the other gets its room."""
    log: list[str] = []

    async with open_runtime(tree(probe("a", mailbox=ONE), probe("b", mailbox=ONE))) as runtime:
        refs = {name: runtime.ref(f"top/{name}") for name in "ab"}

        async def flood(other: str, actor: Actor) -> None:
            await trio.sleep(0.1 if other == "a" else 0.0)
            for _ in range(3):
                await told(log, partial(refs[other].cast, wait(0)))

        refs["a"].cast_nowait(partial(flood, "b"))
        refs["b"].cast_nowait(partial(flood, "a"))
        await trio.sleep(1)
        assert [runtime.ref(f"top/{name}").statistics().counts.answered for name in "ab"] == [2, 4]
    assert log == [
        # a fills b's mailbox and waits for room; b has room for one with a, and is told then.
        "0 done",
        "0.1 done",
        "0.1 top/a: 1 messages wait; the mailbox holds 1, and waits for its sender: top/a -> top/b -> top/a",
        "0.1 top/a: 1 messages wait; the mailbox holds 1, and waits for its sender: top/a -> top/b -> top/a",
        "0.1 done",
        "0.1 done",
    ]


async def test_whoever_waits_for_room_is_part_of_a_cycle_of_calls(autojump_clock) -> None:
    """A call to an actor whose handler waits for room with the caller would end with its deadline at best."""
    log: list[str] = []

    async with open_runtime(tree(probe("a", mailbox=ONE), probe("b"))) as runtime:
        a, b = runtime.ref("top/a"), runtime.ref("top/b")

        async def ask_b(_: Actor) -> None:
            await trio.sleep(1)
            await told(log, partial(b.call, wait(0)))

        async def push(_: Actor) -> None:
            for _number in range(2):
                await a.cast(wait(0))

        a.cast_nowait(ask_b)
        await quiet()
        b.cast_nowait(push)
        await trio.sleep(2)
        # It waited for a, and does so no more.
        await told(log, partial(b.call, wait(0)))
        a.cast_nowait(partial(_ask, log, b))
        await trio.sleep(1)
    assert log == ["1 call cycle: top/b -> top/a -> top/b", "2 done", "2 done"]


async def _ask(log: list[str], ref: ActorRef[Any], _: Actor) -> None:
    await told(log, partial(ref.call, wait(0)))


async def test_a_circle_may_have_calls_and_casts_in_it(autojump_clock) -> None:
    log: list[str] = []

    async with open_runtime(tree(*(probe(name, mailbox=ONE) for name in "abc"))) as runtime:
        refs = {name: runtime.ref(f"top/{name}") for name in "abc"}

        async def push_c(_: Actor) -> None:
            async with trio.open_nursery() as nursery:
                for _number in range(2):
                    nursery.start_soon(refs["c"].cast, wait(0))

        async def ask_b(_: Actor) -> None:
            await refs["b"].call(wait(0), timeout=30)

        async def push_a(_: Actor) -> None:
            await trio.sleep(1)
            for _number in range(2):
                await told(log, partial(refs["a"].cast, wait(0)))

        refs["c"].cast_nowait(push_a)
        refs["b"].cast_nowait(push_c)
        await quiet()
        refs["a"].cast_nowait(ask_b)
        await trio.sleep(5)
    full = "1 top/a: 1 messages wait; the mailbox holds 1, and waits for its sender: top/a -> top/b -> top/c -> top/a"
    assert log == ["1 done", full]


async def test_whoever_waits_for_room_alone_gets_it(autojump_clock) -> None:
    """From a handler, from a task, and from a start hook that sends to somebody else."""
    log: list[str] = []

    async with open_runtime(tree(probe("a", mailbox=ONE), probe("b"))) as runtime:
        a = runtime.ref("top/a")
        await fill(a)

        async def push(_: Actor) -> None:
            await told(log, partial(a.cast, wait(0)))

        runtime.ref("top/b").cast_nowait(push)
        await quiet()
        await told(log, partial(a.cast, wait(0)))
    assert log == ["5 done", "5 done"]


async def test_whoever_got_room_waits_for_nobody_any_more(autojump_clock) -> None:
    """It is at work still when it is asked, and answers when it is done."""
    log: list[str] = []

    async with open_runtime(tree(probe("a", mailbox=ONE), probe("b"))) as runtime:
        a, b = runtime.ref("top/a"), runtime.ref("top/b")

        async def push(_: Actor) -> None:
            await told(log, partial(a.cast, wait(0)))
            await trio.sleep(2)

        a.cast_nowait(wait(1))
        await quiet()
        a.cast_nowait(partial(_ask, log, b))
        b.cast_nowait(push)
        await trio.sleep(5)
    assert log == ["1 done", "3 done"]


@pytest.mark.parametrize("hook", ["start", "stop"])
async def test_an_actor_that_starts_or_stops_waits_for_no_answer_of_its_own(autojump_clock, hook) -> None:
    """It handles nothing until that is done."""
    log: list[str] = []

    class Own(Probe):
        async def on_start(self) -> None:
            if hook == "start":
                await self.ask()

        async def on_stop(self) -> None:
            if hook == "stop":
                await self.ask()

        async def ask(self) -> None:
            await told(log, partial(self.ref.call, wait(0)))
            for _ in range(2):
                await told(log, partial(self.ref.cast, wait(0)))

    child = ChildSpec(id="a", factory=lambda: Own(Plan()), mailbox=ONE)
    async with open_runtime(tree(child)) as runtime:
        await runtime.ref("top").call(TerminateChild("a"))
    full = "0 top/a: 1 messages wait; the mailbox holds 1, and waits for its sender: top/a -> top/a"
    assert log == ["0 call cycle: top/a -> top/a", "0 done", full]


async def test_others_wait_for_one_that_starts(autojump_clock) -> None:
    """Its mailbox is full, but it will make room."""
    log: list[str] = []

    class Slow(Probe):
        async def on_start(self) -> None:
            self.spawn(told, log, partial(self.ref.cast, wait(0)))
            await trio.sleep(1)
            self.spawn(told, log, partial(self.ref.cast, wait(0)))
            await trio.sleep(1)

    async with open_runtime(tree(ChildSpec(id="a", factory=lambda: Slow(Plan()), mailbox=ONE))):
        await trio.sleep(3)
    assert log == ["0 done", "2 done"]
