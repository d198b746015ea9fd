"""What a supervisor says of its children: lists, counts, figures, and the picture of the tree."""

from __future__ import annotations

import attrs
import pytest
import trio
from kernel_kit import ONE_SECOND, Ends, Plan, crash, node, open_runtime, probe, quiet, tree

from agentrt.kernel import (
    AutoShutdown,
    Budget,
    ChildCounts,
    ChildInfo,
    ChildState,
    ChildStatistics,
    ChildType,
    CountChildren,
    GetChildSpec,
    NoSuchChild,
    Restart,
    RestartChild,
    StartChild,
    Strategy,
    SupervisorSpec,
    TerminateChild,
    WhenExhausted,
    WhichChildren,
)
from agentrt.policy.backoff import Backoff

LONG = Backoff(initial=100.0, maximum=100.0, jitter=(1.0, 1.0))
WORKER, SUPERVISOR = ChildType.WORKER, ChildType.SUPERVISOR


def family() -> SupervisorSpec:
    """Describe one that runs, one to crash, one to terminate, and a supervisor."""
    return tree(
        probe("runs"), probe("waits", backoff=LONG), probe("down"), SupervisorSpec(id="sub", children=(probe("leaf"),))
    )


async def test_children_are_listed_the_last_started_first(autojump_clock) -> None:
    """supervisor_SUITE: which_children; each with its ref where an incarnation lives."""
    async with open_runtime(family()) as runtime:
        top = runtime.ref("top")
        await crash(runtime.ref("top/waits"))
        await top.call(TerminateChild("down"))
        await top.call(StartChild(probe("guest")))
        assert await top.call(WhichChildren()) == (
            ChildInfo("guest", runtime.ref("top/guest"), ChildState.RUNNING, WORKER),
            ChildInfo("sub", runtime.ref("top/sub"), ChildState.RUNNING, SUPERVISOR),
            ChildInfo("down", None, ChildState.DOWN, WORKER),
            ChildInfo("waits", None, ChildState.WAITING, WORKER),
            ChildInfo("runs", runtime.ref("top/runs"), ChildState.RUNNING, WORKER),
        )


async def test_a_restart_does_not_change_the_order(autojump_clock) -> None:
    async with open_runtime(family()) as runtime:
        top = runtime.ref("top")
        for name in ("runs", "sub"):
            await top.call(RestartChild(name, stop_first=True))
        assert [one.id for one in await top.call(WhichChildren())] == ["sub", "down", "waits", "runs"]


async def test_children_are_counted(autojump_clock) -> None:
    """supervisor_SUITE: count_children, count_restarting_children; one that waits for its restart is not active."""
    async with open_runtime(family()) as runtime:
        top = runtime.ref("top")
        assert await top.call(CountChildren()) == ChildCounts(specs=4, active=4, supervisors=1, workers=3)
        await crash(runtime.ref("top/waits"))
        await top.call(TerminateChild("sub"))
        assert await top.call(CountChildren()) == ChildCounts(specs=4, active=2, supervisors=1, workers=3)


async def test_a_spec_comes_back_as_it_was_given(autojump_clock) -> None:
    """supervisor_SUITE: get_childspec, child_specs_map; it can be started elsewhere."""
    spec, guest = family(), probe("guest", budget=Budget(7, 70), restart=Restart.TRANSIENT)
    async with open_runtime(spec) as runtime:
        top = runtime.ref("top")
        await top.call(StartChild(guest))
        assert await top.call(GetChildSpec("guest")) is guest
        assert await top.call(GetChildSpec("sub")) is spec.children[3]
        assert await runtime.ref("top/sub").call(StartChild(attrs.evolve(guest, id="again"))) is runtime.ref(
            "top/sub/again"
        )
        with pytest.raises(NoSuchChild, match="top has no child 'leaf'; it has runs, waits, down, sub, guest"):
            await top.call(GetChildSpec("leaf"))


async def test_it_answers_while_all_of_them_stop(autojump_clock) -> None:
    """Whoever asks why a stop takes so long is told who holds it up."""
    specs = [probe("a"), probe("slow", Plan(stop_takes=3)), probe("c")]
    async with open_runtime(tree(*specs)) as runtime:
        runtime.stop("over")
        await trio.sleep(1)
        top = runtime.ref("top")
        listed = await top.call(WhichChildren())
        assert {one.id: one.state.value for one in listed} == {"c": "down", "slow": "stopping", "a": "running"}
        assert (await top.call(CountChildren())).active == 2
        assert (await top.call(GetChildSpec("a"))).id == "a"
        assert trio.current_time() == 1.0


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_it_answers_while_a_group_stops_for_a_restart(autojump_clock, strategy) -> None:
    specs = [probe("a"), probe("slow", Plan(stop_takes=3))]
    async with open_runtime(tree(*specs, strategy=strategy)) as runtime:
        await crash(runtime.ref("top/a"))
        listed = await runtime.ref("top").call(WhichChildren())
        assert [(one.id, one.state.value) for one in listed] == [("slow", "stopping"), ("a", "waiting")]
        assert trio.current_time() == 0.0


async def test_figures_of_a_supervisor(autojump_clock) -> None:
    """How its children are, what was spent, what is left, and when the next attempt is."""
    specs = [
        probe("a", backoff=ONE_SECOND, budget=Budget(3, 60)),
        probe("b", backoff=LONG, budget=Budget(2, 60)),
        probe("c"),
        probe("d", budget=Budget(0, 60)),
    ]
    async with open_runtime(tree(*specs, budget=Budget(5, 60))) as runtime:
        supervisor = runtime.ref("top").actor
        for path in ("top/a", "top/b", "top/d"):
            await crash(runtime.ref(path))
        await trio.sleep(2)
        assert supervisor.statistics().children == {
            "a": ChildStatistics(ChildState.RUNNING, 1, 2, None),
            "b": ChildStatistics(ChildState.WAITING, 0, 1, 100.0),
            "c": ChildStatistics(ChildState.RUNNING, 0, 3, None),
            "d": ChildStatistics(ChildState.EXHAUSTED, 0, 0, None),
        }
        figures = supervisor.statistics()
        assert figures.states == {ChildState.RUNNING: 2, ChildState.WAITING: 1, ChildState.EXHAUSTED: 1}
        assert (figures.restarts, figures.restarts_left, figures.escalations) == (2, 3, 0)
        # The restart of a ages while b is away; that of b does not.
        await trio.sleep(62)
        assert (supervisor.restarts_left, supervisor.statistics().restarts) == (4, 2)


async def test_a_restart_of_a_group_is_one_unit_and_each_childs_own(autojump_clock) -> None:
    specs = [probe(name) for name in "abc"]
    async with open_runtime(tree(*specs, strategy=Strategy.ONE_FOR_ALL)) as runtime:
        await crash(runtime.ref("top/b"))
        figures = runtime.ref("top").actor.statistics()
        assert (figures.restarts, figures.restarts_left) == (1, 9)
        assert {name: (one.restarts, one.restarts_left) for name, one in figures.children.items()} == {
            "a": (1, 3),
            "b": (1, 2),
            "c": (1, 3),
        }


async def test_a_child_whose_backoff_is_over_waits_for_nothing_that_has_a_time(autojump_clock) -> None:
    """Its earlier sibling has to be up first, however long that takes."""
    plan = Plan()
    specs = [probe("a", plan, backoff=ONE_SECOND, start_timeout=500), probe("b")]
    async with open_runtime(tree(*specs, strategy=Strategy.ONE_FOR_ALL)) as runtime:
        plan.start_takes = 100
        await crash(runtime.ref("top/a"))
        figures = runtime.ref("top").actor.statistics
        assert {one.backoff_until for one in figures().children.values()} == {1.0}
        await trio.sleep(2)
        assert {name: (one.state.value, one.backoff_until) for name, one in figures().children.items()} == {
            "a": ("starting", None),
            "b": ("waiting", None),
        }


async def test_what_supervisors_below_could_not_mend_is_counted(autojump_clock) -> None:
    """A supervisor that was stopped, or shut down as it should, did not escalate."""
    inner = SupervisorSpec(
        id="inner",
        children=(probe("a", budget=Budget(0, 60), when_exhausted=WhenExhausted.ESCALATE),),
        backoff=ONE_SECOND,
    )
    async with open_runtime(tree(inner)) as runtime:
        top = runtime.ref("top")
        await top.call(RestartChild("inner", stop_first=True))
        assert top.actor.statistics().escalations == 0
        for count in (1, 2):
            await crash(runtime.ref("top/inner/a"))
            await trio.sleep(1.5)
            assert top.actor.statistics().escalations == count


async def test_a_supervisor_that_shut_down_as_it_should_did_not_escalate(autojump_clock) -> None:
    ends = Ends()
    job = ends.child("a", restart=Restart.TEMPORARY, significant=True)
    inner = SupervisorSpec(id="inner", children=(job,), auto_shutdown=AutoShutdown.ANY_SIGNIFICANT, backoff=ONE_SECOND)
    async with open_runtime(tree(inner)) as runtime:
        ends.end("a")
        await trio.sleep(2)
        assert node(runtime, "top/inner").generation == 2
        assert runtime.ref("top").actor.statistics().escalations == 0


async def test_the_picture_says_what_is_left_and_what_comes(autojump_clock) -> None:
    inner = SupervisorSpec(id="inner", children=(probe("a", backoff=LONG),), budget=Budget(4, 60))
    async with open_runtime(tree(inner)) as runtime:
        assert node(runtime, "top/inner/a").next_attempt_in is None
        await crash(runtime.ref("top/inner/a"))
        await trio.sleep(40)
        told = {
            one.path: (one.restarts_left, one.supervisor_restarts_left, one.next_attempt_in)
            for one in runtime.tree().walk()
        }
        assert told == {"top": (None, 10, None), "top/inner": (3, 3, None), "top/inner/a": (2, None, 60.0)}
        await runtime.ref("top").call(TerminateChild("inner"))
        assert node(runtime, "top/inner").supervisor_restarts_left is None
        await quiet()
