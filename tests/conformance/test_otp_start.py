"""Starting, as OTP's supervisor suite has it: in order, each child up before the next, or nothing at all."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import trio
import trio.lowlevel
from conformance_kit import FAMILIES, counts, listed
from kernel_kit import AT_ONCE, Boom, Plan, Probe, crash, open_runtime, probe, probes, recorder, states, tree

from agentrt.kernel import (
    Actor,
    AutoShutdown,
    Budget,
    ChildSpec,
    DeleteChild,
    ExitKind,
    GetChildSpec,
    Ignore,
    NoSuchChild,
    Restart,
    RestartChild,
    StartChild,
    StartFailed,
    Strategy,
    SupervisorSpec,
    TerminateChild,
    TreeFailed,
)


def raises() -> Actor:
    raise Boom("bad init")


def returns_nothing() -> Actor:
    return None


class NeverUp(Actor):
    async def on_start(self) -> None:
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("factory", "exit_", "says"),
    [
        (raises, "actor_crashed", "Boom: bad init"),
        (returns_nothing, "actor_crashed", "TypeError: the factory of top/bad made None"),
        (partial(Probe, Plan(start_fails=1)), "actor_crashed", "Boom: bad does not start"),
        (NeverUp, "actor_crashed", "its start took longer than 7 s"),
    ],
)
async def test_a_bad_start_raises_and_leaves_nothing_running(autojump_clock, factory, exit_, says) -> None:
    """Case 1: supervisor_SUITE: sup_start_fail, sup_start_error_return; and no stray exit is told."""
    events, seen = recorder()
    log = []
    living = trio.lowlevel.current_statistics().tasks_living
    bad = ChildSpec(id="bad", factory=factory, start_timeout=7)
    with pytest.raises(TreeFailed, match=says):
        async with open_runtime(tree(bad, probe("never", Plan(log))), events=events):
            pytest.fail("it never started")
    assert [(event.kind, event.path) for event in seen] == [(exit_, "top/bad"), ("supervisor_escalated", "top")]
    assert log == []
    assert trio.lowlevel.current_statistics().tasks_living == living


async def test_a_failed_start_carries_the_childs_id_and_its_cause(autojump_clock) -> None:
    """Case 2: supervisor_SUITE: faulty_application_shutdown; those before it are stopped in reverse, at each level."""
    log = []
    inner = SupervisorSpec(id="inner", children=(*probes("cd", log), probe("bad", Plan(log, start_fails=1))))
    with pytest.raises(TreeFailed) as failed:
        async with open_runtime(tree(*probes("ab", log), inner, probe("never", Plan(log)))):
            pytest.fail("it never started")
    (of_inner,) = failed.value.exit.cause.exits
    (of_bad,) = of_inner.cause.exits
    assert (of_inner.path, of_inner.cause.type) == ("top/inner", "StartFailed")
    assert (of_bad.path, str(of_bad.cause), of_bad.started) == ("top/inner/bad", "Boom: bad does not start", False)
    assert 'raise Boom(f"{self.name} does not start")' in of_bad.cause.traceback
    assert log == [f"start {name}" for name in ("a", "b", "c", "d", "bad")] + [f"stop {name}" for name in "dcba"]


class Needless(Actor):
    async def on_start(self) -> None:
        raise Ignore("not needed")


@pytest.mark.parametrize("by_hand", [False, True], ids=["own", "by hand"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("restart", list(Restart))
async def test_a_child_that_is_not_needed_is_no_failure(autojump_clock, restart, dynamic, by_hand) -> None:
    """Case 3: supervisor_SUITE: sup_start_ignore_child, sup_start_ignore_temporary_child, and those by start_child.

    Its spec stays without a ref, but that of a temporary child, or of one that was started in a dynamic supervisor.
    """
    needless = ChildSpec(id="child1", factory=Needless, restart=restart)
    own = () if by_hand else (needless, probe("child2"))
    async with open_runtime(tree(*own, dynamic=dynamic, budget=Budget(0, 1))) as runtime:
        top = runtime.ref("top")
        if by_hand:
            assert await top.call(StartChild(needless)) is None
            assert await top.call(StartChild(probe("child2"))) is runtime.ref("top/child2")
        if restart is Restart.TEMPORARY or (dynamic and by_hand):
            assert await listed(top) == [("child2", "running", True)]
            assert await counts(top) == (1, 1, 0, 1)
        else:
            assert await listed(top) == [("child2", "running", True), ("child1", "ignored", False)]
            assert await counts(top) == (2, 1, 0, 2)
    assert (await runtime.wait()).kind is ExitKind.STOPPED


@pytest.mark.parametrize(("dynamic", "left"), [(False, [("a", "ignored", False)]), (True, [])])
async def test_a_child_may_say_at_a_restart_that_it_is_not_needed_any_more(autojump_clock, dynamic, left) -> None:
    """Case 3: supervisor_SUITE: simple_one_for_one_restart_ignore."""
    plan, starts = Plan(), []

    class NeededTwice(Probe):
        async def on_start(self) -> None:
            starts.append(self.generation)
            if len(starts) > 2:
                raise Ignore("not any more")

    spec = ChildSpec(id="a", factory=partial(NeededTwice, plan), backoff=AT_ONCE)
    async with open_runtime(tree(dynamic=dynamic)) as runtime:
        top = runtime.ref("top")
        ref = await top.call(StartChild(spec))
        await crash(ref)
        assert await listed(top) == [("a", "running", True)]
        await crash(ref)
        assert await listed(top) == left
    assert starts == [1, 2, 3]


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
async def test_a_spec_is_permanent_with_five_seconds_of_grace_and_can_be_read(autojump_clock, dynamic) -> None:
    """Case 4: supervisor_SUITE: sup_start_map, sup_start_map_simple; the very spec comes back."""
    specs = (
        ChildSpec(id="child1", factory=partial(Probe, Plan())),
        ChildSpec(id="child2", factory=partial(Probe, Plan()), shutdown=0),
        SupervisorSpec(id="child3"),
    )
    async with open_runtime(tree(dynamic=dynamic)) as runtime:
        top = runtime.ref("top")
        for spec in specs:
            await top.call(StartChild(spec))
        read = [await top.call(GetChildSpec(spec.id)) for spec in specs]
        assert [one is other for one, other in zip(read, specs, strict=True)] == [True] * 3
        assert [spec.restart for spec in read] == [Restart.PERMANENT] * 3
        assert [spec.significant for spec in read] == [False] * 3
        assert [spec.shutdown for spec in read[:2]] == [5.0, 0.0]
        assert await counts(top) == (3, 3, 1, 2)
        with pytest.raises(NoSuchChild, match="top has no child 'child4'; it has child1, child2, child3"):
            await top.call(GetChildSpec("child4"))


@pytest.mark.parametrize(("graces", "takes"), [((50, 60), 80.0), ((50, math.inf), 80.0), ((30, 60), 70.0)])
async def test_a_supervisor_has_the_time_that_its_children_have(autojump_clock, graces, takes) -> None:
    """Case 4: supervisor_SUITE: sup_start_map.

    OTP gives a supervisor infinity, so that a child that hangs holds up everything above it. Here it is the sum of what
    its children may take, each of which takes 40 s unless its own grace is less.
    """
    children = (probe(name, Plan(stop_takes=40), shutdown=grace) for name, grace in zip("ab", graces, strict=True))
    inner = SupervisorSpec(id="inner", children=(SupervisorSpec(id="low", children=tuple(children)),))
    async with open_runtime(tree(inner)) as runtime:
        refs = [runtime.ref(f"top/{path}") for path in ("inner", "inner/low")]
        runtime.stop("over")
        await runtime.wait()
        assert trio.current_time() == takes
    assert [ref.incarnation.exit.kind for ref in refs] == [ExitKind.STOPPED] * 2


def complaint(strategy, auto_shutdown, restart, *, dynamic, significant) -> str:
    """Say what is wrong with a combination; nothing where it can run."""
    if significant and restart is Restart.PERMANENT:
        return "'b' is significant and permanent"
    if dynamic and strategy is not Strategy.ONE_FOR_ONE:
        return "'top' is dynamic, so its strategy can only be one_for_one"
    if dynamic and auto_shutdown is not AutoShutdown.NEVER:
        return "'top' is dynamic, so its auto_shutdown can only be never"
    if significant and auto_shutdown is AutoShutdown.NEVER:
        return "'b' is significant, but the auto_shutdown of supervisor 'top' is never"
    return ""


@pytest.mark.parametrize("kind", ["worker", "supervisor"])
@pytest.mark.parametrize("shutdown", [0, 1, math.inf])
@pytest.mark.parametrize(
    ("strategy", "dynamic", "auto_shutdown"), list(itertools.product(Strategy, (False, True), AutoShutdown)), ids=str
)
async def test_every_combination_of_flags_runs_or_is_refused_before_anything_starts(
    autojump_clock, strategy, dynamic, auto_shutdown, shutdown, kind
) -> None:
    """Case 5: supervisor_SUITE: sup_flags, child_specs_map; significant_simple is one of those that are refused."""
    for restart, significant in itertools.product(Restart, (False, True)):
        log, flags = [], {"restart": restart, "significant": significant}

        def make(log=log, flags=flags) -> SupervisorSpec:
            leaf = probe("leaf", Plan(log), shutdown=shutdown)
            b = SupervisorSpec(id="b", children=(leaf,), **flags) if kind == "supervisor" else None
            children = (probe("a"), b or probe("b", Plan(log), shutdown=shutdown, **flags))
            return tree(*children, strategy=strategy, dynamic=dynamic, auto_shutdown=auto_shutdown)

        if wrong := complaint(strategy, auto_shutdown, restart, dynamic=dynamic, significant=significant):
            with pytest.raises(ValueError, match=wrong):
                make()
            assert log == []
            continue
        async with open_runtime(make()) as runtime:
            assert states(runtime) == {"a": "running", "b": "running"}
        assert [line.split()[0] for line in log] == (["start"] if shutdown == 0 else ["start", "stop"])


SPEC = partial(ChildSpec, id="a", factory=Actor)
BY_NAME = (TerminateChild, RestartChild, DeleteChild, GetChildSpec)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (partial(ChildSpec, factory=Actor), TypeError, "id"),
        (partial(ChildSpec, id="a"), TypeError, "factory"),
        (partial(SPEC, id=""), ValueError, "a child's id is a name without a slash, not ''"),
        (partial(SPEC, id="a/b"), ValueError, "a child's id is a name without a slash, not 'a/b'"),
        (partial(SPEC, id=5), ValueError, "a child's id is a name without a slash, not 5"),
        (partial(SPEC, factory="mfa"), TypeError, "'factory' must be callable"),
        (partial(SPEC, restart="prmanent"), TypeError, "'restart' must be <enum 'Restart'>"),
        (partial(SPEC, shutdown=-10), ValueError, "'shutdown' must be >= 0"),
        (partial(SPEC, shutdown=math.nan), ValueError, "'shutdown' must be >= 0"),
        (partial(SPEC, significant="maybe"), TypeError, "'significant' must be <class 'bool'>"),
        (partial(SPEC, budget=3), TypeError, "'budget' must be <class .*Budget'>"),
        (partial(SPEC, backoff=0.5), TypeError, "'backoff' must be <class .*Backoff'>"),
        (partial(SPEC, start_timeout=0), ValueError, "'start_timeout' must be > 0"),
        (partial(SPEC, when_exhausted="stop"), TypeError, "'when_exhausted' must be <enum 'WhenExhausted'>"),
        (partial(SPEC, silly_flag=True), TypeError, "silly_flag"),
        (partial(SupervisorSpec, id="s", strategy="none_for_one"), TypeError, "'strategy' must be <enum 'Strategy'>"),
        (partial(SupervisorSpec, id="s", auto_shutdown="sometimes"), TypeError, "'auto_shutdown' must be"),
        (partial(SupervisorSpec, id="s", dynamic=1), TypeError, "'dynamic' must be <class 'bool'>"),
        (partial(SupervisorSpec, id="s", budget=(2, 3600)), TypeError, "'budget' must be <class .*Budget'>"),
        (partial(SupervisorSpec, id="s", max_children=2), ValueError, "'s' has max_children but is not dynamic"),
        (partial(SupervisorSpec, id="s", dynamic=True, max_children=-1), ValueError, "'max_children' must be >= 0"),
        (partial(SupervisorSpec, id="s", children=("hej",)), TypeError, "a child is a .*Spec, not 'hej'"),
        (partial(tree, probe("a"), probe("b"), probe("a")), ValueError, "'top' has more than one child named a"),
        (partial(Budget, max_restarts=-1), ValueError, "'max_restarts' must be >= 0"),
        (partial(Budget, max_restarts=math.nan), ValueError, "'max_restarts' must be >= 0"),
        (partial(Budget, max_seconds=0), ValueError, "'max_seconds' must be > 0"),
        (partial(StartChild, "hej"), TypeError, "'spec' must be"),
        *((partial(one, ["a"]), TypeError, "'id' must be <class 'str'>") for one in BY_NAME),
    ],
)
def test_an_invalid_value_is_refused_by_name(make, error, says) -> None:
    """Case 5: supervisor_SUITE: sup_flags, child_specs_map, duplicate_child_name.

    OTP passes over a flag that it does not know; here it is a mistake like any other.
    """
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize(("strategy", "dynamic"), FAMILIES, ids=str)
async def test_a_start_by_hand_that_fails_costs_nothing_and_leaves_no_spec(autojump_clock, strategy, dynamic) -> None:
    """Case 6: supervisor_SUITE: sup_start_child_returns_error, and its namesake for simple_one_for_one.

    The caller has the error, nobody else is touched, and the name is free.
    """
    log = []
    async with open_runtime(tree(probe("a", Plan(log)), strategy=strategy, dynamic=dynamic)) as runtime:
        top = runtime.ref("top")
        for factory, says in ((raises, "bad init"), (partial(Probe, Plan(start_fails=-1)), "bad does not start")) * 10:
            with pytest.raises(StartFailed, match=says) as failed:
                await top.call(StartChild(ChildSpec(id="bad", factory=factory)))
            assert failed.value.path == "top/bad"
            assert failed.value.exit.cause.type == "Boom"
        assert await listed(top) == [("a", "running", True)]
        assert (top.actor.restarts_left, top.actor.statistics().restarts) == (10, 0)
        assert (await top.call(StartChild(probe("bad")))).path == "top/bad"
        assert log == ["start a"]
