"""What Elixir's DynamicSupervisorTest adds: children on their way back, and how far they count."""

from __future__ import annotations

import pytest
import trio
from conformance_kit import FOREVER, PLENTY, counts, listed, told
from kernel_kit import AT_ONCE, ONE_SECOND, Plan, crash, hello, open_runtime, probe, tree

from agentrt.kernel import (
    Budget,
    ExitKind,
    NoSuchChild,
    RestartChild,
    StartChild,
    SupervisorSpec,
    TerminateChild,
    TooManyChildren,
    TreeFailed,
    WhenExhausted,
)


@pytest.mark.parametrize("on", ["init", "exit"])
async def test_children_that_wait_for_their_restart_count_towards_max_children(autojump_clock, on) -> None:
    """Case 40: DynamicSupervisorTest: "restarting on init children counted in max_children", "... on exit ...".

    After a failed start as after a crash; there is room again when it is terminated.
    """
    plan = Plan()
    child = probe("a", plan, backoff=ONE_SECOND if on == "init" else FOREVER, budget=PLENTY)
    async with open_runtime(tree(dynamic=True, max_children=1, budget=PLENTY)) as runtime:
        top = runtime.ref("top")
        ref = await top.call(StartChild(child))
        plan.start_fails = -1 if on == "init" else 0
        await crash(ref)
        await trio.sleep(2.5)
        assert await counts(top) == (1, 0, 0, 1)
        assert ref.statistics().generation == (3 if on == "init" else 1)
        with pytest.raises(TooManyChildren, match="top has its 1 children already"):
            await top.call(StartChild(probe("b")))
        await top.call(TerminateChild("a"))
        assert (await top.call(StartChild(probe("b")))).path == "top/b"


@pytest.mark.parametrize("max_restarts", [1, 10])
async def test_a_child_can_spend_the_intensity_by_trying_again(autojump_clock, max_restarts) -> None:
    """Case 41: DynamicSupervisorTest: "child triggers maximum intensity when trying again", "... maximum restarts"."""
    plan, exits = Plan(), []
    child = probe("a", plan, budget=PLENTY, on_exit=exits.append)
    with pytest.raises(TreeFailed, match=f"top: more than {max_restarts} restarts in 5 s(.|\n)*a does not start"):
        async with open_runtime(tree(dynamic=True, budget=Budget(max_restarts, 5))) as runtime:
            ref = await runtime.ref("top").call(StartChild(child))
            plan.start_fails = -1
            await crash(ref)
            await trio.sleep_forever()
    assert told(exits) == [f"a {n} crashed" for n in range(1, max_restarts + 2)]


@pytest.mark.parametrize(("when_exhausted", "left"), [(WhenExhausted.REPORT, 1), (WhenExhausted.ESCALATE, 2)])
async def test_a_child_can_spend_its_own_budget_by_trying_again(autojump_clock, when_exhausted, left) -> None:
    """Case 41: DynamicSupervisorTest: "child triggers maximum intensity when trying again".

    Before it spends its supervisor's, which in Elixir is all there is. It says itself whether that is fatal.
    """
    plan = Plan()
    needed = probe("a", plan, budget=Budget(2, 60), when_exhausted=when_exhausted)
    pool = SupervisorSpec(id="pool", dynamic=True, backoff=AT_ONCE)
    async with open_runtime(tree(pool)) as runtime:
        ref = runtime.ref("top/pool")
        await ref.call(StartChild(needed))
        await ref.call(StartChild(probe("b")))
        plan.start_fails = -1
        await crash(runtime.ref("top/pool/a"))
        assert plan.log == ["start a"] * 3
        assert ref.statistics().generation == left
        if when_exhausted is WhenExhausted.REPORT:
            assert await listed(ref) == [("b", "running", True)]
        else:
            assert await listed(ref) == []


async def test_a_child_that_tries_again_comes_back(autojump_clock) -> None:
    """Case 41: DynamicSupervisorTest: "child is restarted when trying again"."""
    plan = Plan()
    async with open_runtime(tree(dynamic=True, budget=Budget(2, 5))) as runtime:
        ref = await runtime.ref("top").call(StartChild(probe("a", plan)))
        plan.start_fails = 1
        await crash(ref)
        assert await ref.call(hello) == "a 3"
        assert await counts(runtime.ref("top")) == (1, 1, 0, 1)


@pytest.mark.parametrize("on", ["init", "exit"])
async def test_a_restarting_child_can_be_terminated(autojump_clock, on) -> None:
    """Case 42: DynamicSupervisorTest: "terminates restarting child"; it is not found any more, and never comes back."""
    plan = Plan()
    child = probe("a", plan, backoff=ONE_SECOND, budget=PLENTY)
    async with open_runtime(tree(dynamic=True, budget=PLENTY)) as runtime:
        top = runtime.ref("top")
        ref = await top.call(StartChild(child))
        plan.start_fails = -1 if on == "init" else 0
        await crash(ref)
        await trio.sleep(2.5 if on == "init" else 0)
        now, starts = trio.current_time(), len(plan.log)
        assert (await top.call(TerminateChild("a"))).kind is ExitKind.CRASHED
        assert trio.current_time() == now
        for message in (TerminateChild("a"), RestartChild("a")):
            with pytest.raises(NoSuchChild):
                await top.call(message)
        assert await counts(top) == (0, 0, 0, 0)
        await trio.sleep(100)
        assert len(plan.log) == starts
