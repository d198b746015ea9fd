"""How long an actor and a supervisor are waited for, and how long they let others wait."""

from __future__ import annotations

from itertools import pairwise

import trio
from kernel_kit import Plan, hello, open_runtime, probe, tree, wait

from agentrt.kernel import ExitKind, SupervisorSpec, TerminateChild, WhichChildren
from agentrt.policy.watchdog import Limits


async def test_children_that_stop_one_after_the_other_have_all_of_their_graces(autojump_clock) -> None:
    """None of them is killed because the others, too, took what they may."""
    children = [probe(f"c{number}", Plan(stop_takes=0.9), shutdown=1.0) for number in range(20)]
    async with open_runtime(tree(SupervisorSpec(id="sub", children=tuple(children)))) as runtime:
        refs = [runtime.ref(f"top/sub/c{number}") for number in range(20)]
        exit_ = await runtime.ref("top").call(TerminateChild("sub"))
        assert 18.0 == round(trio.current_time(), 6)
        assert ExitKind.STOPPED is exit_.kind
        assert {ExitKind.STOPPED} == {(await ref.wait_gone()).kind for ref in refs}


async def test_a_message_that_is_taken_is_progress(autojump_clock) -> None:
    """An actor that never waits is not stuck as long as none of its messages takes too long."""
    async with open_runtime(tree(probe("a", limits=Limits(progress=10.0)))) as runtime:
        ref = runtime.ref("top/a")
        for _ in range(5):
            ref.cast_nowait(wait(6))
        assert "a 1" == await ref.call(hello)
        assert 30.0 == trio.current_time()


async def test_a_supervisor_that_is_asked_a_lot_lets_others_run(autojump_clock) -> None:
    """It takes 64 requests at a time; whoever looks once in each round of the scheduler misses two times that."""
    looks: list[int] = []
    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top")
        for _ in range(250):
            ref.cast_nowait(WhichChildren())
        while not looks or looks[-1]:
            looks.append(ref.statistics().mailbox.waiting)
            await trio.lowlevel.checkpoint()
    assert 250 == looks[0]
    assert max(before - after for before, after in pairwise(looks)) <= 2 * 64
