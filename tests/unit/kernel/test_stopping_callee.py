"""Who waits for an actor that is stopped for good: told at once, and not when it is down."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import ONE_SECOND, Plan, crash, die, hello, open_runtime, probe, quiet, tree, wait

from agentrt.kernel import Actor, ActorDied, ChildSpec, MailboxSpec, RestartChild, Strategy, TerminateChild

STOPPING = r"^top/a \(generation 1\) is being stopped$"


async def test_the_callers_of_an_actor_that_stops_are_told_at_once(autojump_clock) -> None:
    """Those that wait in its mailbox or for room in it, and those who come now; the one in hand is answered."""
    answers = []

    async def ask(ref) -> None:
        try:
            answers.append((await ref.call(wait(3)), trio.current_time()))
        except ActorDied as died:
            answers.append((died.exit, trio.current_time()))

    plan = Plan(stop_takes=1)
    async with open_runtime(tree(probe("a", plan, mailbox=MailboxSpec(capacity=1)))) as runtime:
        ref = runtime.ref("top/a")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask, ref)
                await quiet()
            nursery.start_soon(runtime.ref("top").call, TerminateChild("a"))
            await trio.sleep(1)
            with pytest.raises(ActorDied, match=STOPPING):
                await ref.call(hello)
            assert trio.current_time() == 1.0
        assert answers == [(None, 0.0), (None, 0.0), ("waited", 3.0)]
        counts = ref.statistics().counts
        assert (counts.answered, counts.undelivered) == (1, 3)


async def test_two_actors_that_stop_and_ask_each_other_do_not_wait_for_their_graces(autojump_clock) -> None:
    class Asks(Actor):
        async def on_stop(self) -> None:
            other = "b" if self.name == "a" else "a"
            with pytest.raises(ActorDied):
                await runtime.ref(f"top/{other}").call(hello)

    children = [ChildSpec(id=name, factory=Asks) for name in "ab"]
    async with open_runtime(tree(*children, dynamic=True)) as runtime:
        await quiet()
    assert trio.current_time() == 0.0


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_callers_wait_for_one_that_a_siblings_restart_takes_along(autojump_clock, strategy) -> None:
    """It comes back, and its mailbox with it."""
    plan = Plan(stop_takes=2)
    spec = tree(probe("b"), probe("a", plan), strategy=strategy)
    async with open_runtime(spec) as runtime:
        await runtime.ref("top/b").cast(die)
        await trio.sleep(1)
        assert runtime.ref("top/a").statistics().state == "stopping"
        assert await runtime.ref("top/a").call(hello) == "a 2"


async def test_callers_are_told_where_the_stop_turns_out_to_be_for_good(autojump_clock) -> None:
    """A sibling's restart was to bring it back, and then somebody terminates it."""
    plan = Plan(stop_takes=3)
    async with open_runtime(tree(probe("b"), probe("a", plan), strategy=Strategy.ONE_FOR_ALL)) as runtime:
        ref = runtime.ref("top/a")
        await runtime.ref("top/b").cast(die)
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorDied, match=STOPPING):
                    await ref.call(hello)
                assert trio.current_time() == 1.0

            nursery.start_soon(ask)
            await quiet()
            nursery.start_soon(runtime.ref("top").call, TerminateChild("a"))


async def test_callers_wait_again_where_somebody_wants_it_back(autojump_clock) -> None:
    plan = Plan(stop_takes=3)
    async with open_runtime(tree(probe("a", plan))) as runtime, trio.open_nursery() as nursery:
        ref, top = runtime.ref("top/a"), runtime.ref("top")
        nursery.start_soon(top.call, TerminateChild("a"))
        await trio.sleep(1)
        with pytest.raises(ActorDied, match=STOPPING):
            await ref.call(hello)
        nursery.start_soon(top.call, RestartChild("a"))
        await trio.sleep(1)
        assert await ref.call(hello) == "a 2"


async def test_callers_wait_while_it_is_on_its_way_back(autojump_clock) -> None:
    """A crash is no stop."""
    async with open_runtime(tree(probe("a", backoff=ONE_SECOND))) as runtime:
        ref = runtime.ref("top/a")
        await crash(ref)
        assert await ref.call(hello) == "a 2"
