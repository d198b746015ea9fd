"""What stays of an actor over its lives is bounded, and what was meant for one life is gone with it."""

from __future__ import annotations

import trio
from kernel_kit import crash, hello, open_runtime, probe, quiet, tree

from agentrt.kernel import Budget, Exit, RestartChild, SupervisorSpec, TerminateChild
from agentrt.kernel.cell import EXITS_KEPT
from agentrt.kernel.restarts import EXITS_NAMED
from agentrt.policy.backoff import Backoff

MANY = Budget(1000, 1000.0)


async def test_the_last_ten_exits_of_an_actor_are_kept(autojump_clock) -> None:
    """However often it was restarted; the last one is the one that counts."""
    async with open_runtime(tree(probe("a", budget=MANY), budget=MANY)) as runtime:
        ref = runtime.ref("top/a")
        for _ in range(25):
            await crash(ref)
        exits = ref._cell.exits
        assert EXITS_KEPT == len(exits)
        assert list(range(16, 26)) == [exit_.generation for exit_ in exits]


async def test_an_escalation_names_the_last_ten_exits(autojump_clock) -> None:
    """A supervisor that held out for long does not hand up all of it."""
    sub = SupervisorSpec(id="sub", children=(probe("a", budget=MANY),), budget=Budget(20, 1000.0), own_budget=Budget(0))
    async with open_runtime(tree(sub)) as runtime:
        for _ in range(21):
            await crash(runtime.ref("top/sub/a"))
        exits = runtime.ref("top/sub")._cell.last_exit.cause.exits
        assert EXITS_NAMED == len(exits)
        assert 21 == exits[-1].generation


async def test_an_escalation_through_many_levels_grows_by_their_number_alone(autojump_clock) -> None:
    """Each level names ten exits, and only the last of them with what led to it."""

    def level(depth: int) -> SupervisorSpec:
        child = level(depth - 1) if depth else probe("a", budget=MANY)
        bounds = {"budget": Budget(9, 1e6), "own_budget": MANY, "backoff": Backoff(initial=0.0, maximum=0.0)}
        return SupervisorSpec(id=f"s{depth}", children=(child,), **bounds)

    def count(exit_: Exit) -> int:
        return 1 + sum(count(one) for one in (exit_.cause.exits if exit_.cause is not None else ()))

    async with open_runtime(tree(level(2))) as runtime:
        for _ in range(10**3):
            await crash(runtime.ref("top/s2/s1/s0/a"))
        last = runtime.ref("top/s2")._cell.last_exit
    assert last.summary().startswith("top/s2 crashed (generation 1): RestartIntensityExceeded")
    assert count(last) == 1 + 3 * EXITS_NAMED


async def test_who_waits_for_the_end_of_one_that_came_back_waits_again(autojump_clock) -> None:
    """That it was gone before is over."""
    async with open_runtime(tree(probe("a"))) as runtime, trio.open_nursery() as nursery:
        ref = runtime.ref("top/a")
        nursery.start_soon(ref.wait_gone)
        await quiet()
        await runtime.ref("top").call(TerminateChild("a"))
        await runtime.ref("top").call(RestartChild("a"))
        with trio.move_on_after(100) as patience:
            await ref.wait_gone()
        assert patience.cancelled_caught
        assert "a 2" == await ref.call(hello)


async def test_the_timer_of_a_grace_goes_with_the_child_that_did_not_need_it(autojump_clock) -> None:
    """It has nobody to kill any more."""
    async with open_runtime(tree(probe("a", shutdown=1e6))) as runtime:
        before = runtime.timers.pending
        await runtime.ref("top").call(TerminateChild("a"))
        assert before == runtime.timers.pending


async def test_the_timer_of_a_backoff_goes_with_the_restart_that_did_not_wait_for_it(autojump_clock) -> None:
    """Or every such restart would leave one."""
    long = Backoff(initial=1e6, maximum=1e6, jitter=(1.0, 1.0))
    async with open_runtime(tree(probe("a", backoff=long))) as runtime:
        before = runtime.timers.pending
        await crash(runtime.ref("top/a"))
        assert before + 1 == runtime.timers.pending
        await runtime.ref("top").call(RestartChild("a", stop_first=True))
        assert before == runtime.timers.pending
