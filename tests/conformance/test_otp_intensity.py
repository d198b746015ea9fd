"""Restart intensity, as OTP's supervisor suite has it, and where ours is better: what it counts, and what it says."""

from __future__ import annotations

from collections import deque

import pytest
import trio
from conformance_kit import FAMILIES, PLENTY, kind_of, told
from kernel_kit import AT_ONCE, Boom, Ends, Plan, crash, loop, node, open_runtime, probe, quiet, recorder, states, tree

from agentrt.kernel import (
    Actor,
    Budget,
    Exit,
    ExitKind,
    Restart,
    StartChild,
    Strategy,
    SupervisorSpec,
    TreeFailed,
)
from agentrt.policy.backoff import Backoff


def otp_gives_up(restarts: list[float], intensity: int, period: float) -> bool:
    """Say whether OTP's supervisor would give up at one of these restarts: its ``add_restart``, for whole seconds."""
    window: deque[float] = deque()
    for now in restarts:
        window.append(now)
        while window[0] < now - period:
            window.popleft()
        if len(window) > intensity:
            return True
    return False


async def test_spaced_crashes_never_trip(autojump_clock) -> None:
    """Case 16: supervisor_SUITE: multiple_restarts; intensity 1 in 1 s, crashes further apart than that.

    OTP reads its clock in whole seconds, so there they have to be 2.1 s apart.
    """
    async with open_runtime(tree(probe("a", budget=PLENTY), budget=Budget(1, 1))) as runtime:
        for _ in range(10):
            await trio.sleep(1.1)
            await crash(runtime.ref("top/a"))
        assert node(runtime, "top/a").generation == 11


@pytest.mark.parametrize(("gaps", "survives"), [((0, 3.5, 1.75), True), ((0, 3.5, 1.5), False), ((0, 2, 2), False)])
async def test_the_window_slides(autojump_clock, gaps, survives) -> None:
    """Case 16: supervisor_SUITE: multiple_restarts; two in 5 s, and one that is exactly 5 s old still counts."""
    spec = SupervisorSpec(id="family", children=(probe("a", budget=PLENTY),), budget=Budget(2, 5), backoff=AT_ONCE)
    async with open_runtime(tree(spec)) as runtime:
        for gap in gaps:
            await trio.sleep(gap)
            await crash(runtime.ref("top/family/a"))
        assert node(runtime, "top/family").generation == (1 if survives else 2)


@pytest.mark.parametrize(("strategy", "dynamic"), FAMILIES, ids=str)
async def test_the_third_crash_of_an_intensity_of_two_is_too_many(autojump_clock, strategy, dynamic) -> None:
    """Case 17: supervisor_SUITE: one_for_one, one_for_all, rest_for_one, simple_one_for_one.

    It is counted across different children, and the others go down with their supervisor.
    """
    exits = []
    specs = [probe(name, on_exit=exits.append) for name in "abc"]
    with pytest.raises(TreeFailed, match="RestartIntensityExceeded: top: more than 2 restarts in 3600 s") as failed:
        async with open_runtime(tree(*specs, strategy=strategy, dynamic=dynamic, budget=Budget(2, 3600))) as runtime:
            for left, name in enumerate("cba"):
                assert runtime.ref("top").actor.restarts_left == 2 - left
                refs = [runtime.ref(f"top/{one}") for one in "abc" if one != name]
                await crash(runtime.ref(f"top/{name}"))
            await trio.sleep_forever()
    assert list(map(kind_of, refs)) == [ExitKind.STOPPED] * 2
    crashes = [line.split()[0] for line in told(exits) if line.endswith("crashed")]
    assert crashes == ["c", "b", "a"]
    assert [one.path for one in failed.value.exit.cause.exits] == ["top/c", "top/b", "top/a"]


@pytest.mark.parametrize(("strategy", "dynamic"), FAMILIES, ids=str)
@pytest.mark.parametrize("backoff", [AT_ONCE, Backoff(initial=2, maximum=2, jitter=(1.0, 1.0))], ids=["at-once", "2 s"])
async def test_a_child_that_fails_to_start_again_exhausts_the_intensity(
    autojump_clock, strategy, dynamic, backoff
) -> None:
    """Case 18: supervisor_SUITE: one_for_one_escalation, one_for_all_escalation, rest_for_one_escalation.

    And simple_one_for_one_escalation. As there, ``child2`` does not start any more, and where its sibling's restart
    takes it along, that is enough. The siblings go down too.
    """
    exits, plan = [], Plan()
    taken_along = strategy is not Strategy.ONE_FOR_ONE
    specs = [
        probe("child1", on_exit=exits.append, backoff=backoff),
        probe("child2", plan, on_exit=exits.append, backoff=backoff, budget=PLENTY),
    ]
    family = tree(*specs, strategy=strategy, dynamic=dynamic, budget=Budget(4, 3600))
    with pytest.raises(TreeFailed, match=r"more than 4 restarts(.|\n)*child2 does not start"):
        async with open_runtime(family) as runtime:
            plan.start_fails = -1
            await crash(runtime.ref("top/child1" if taken_along else "top/child2"))
            await trio.sleep_forever()
    failures = [line for line in told(exits) if line.startswith("child2") and line.endswith("crashed")]
    assert len(failures) == (4 if taken_along else 5)
    assert told(exits)[-1] == f"child1 {(5 if strategy is Strategy.ONE_FOR_ALL else 2) if taken_along else 1} stopped"


@pytest.mark.parametrize("slow", ["start", "stop", "backoff"])
async def test_a_restart_loop_gives_up_however_slow_it_turns(autojump_clock, slow) -> None:
    """Case 18: supervisor_SUITE: one_for_all_escalation; 3 in 5 s, where each turn takes 2 s that nobody runs in.

    A trap of OTP's: there those seconds make the restarts slide out of the window, and it goes on for ever.
    """
    at = []

    async def run(_: Actor) -> None:
        at.append(trio.current_time())
        raise Boom("again")

    backoff = Backoff(initial=2, maximum=2, jitter=(1.0, 1.0)) if slow == "backoff" else AT_ONCE
    takes = {"start": {"start_takes": 2}, "stop": {"stop_takes": 2}, "backoff": {}}[slow]
    specs = [probe("sibling", Plan(**takes)), loop("a", run, backoff=backoff, budget=PLENTY)]
    with pytest.raises(TreeFailed, match="top: more than 3 restarts in 5 s"):
        async with open_runtime(tree(*specs, strategy=Strategy.ONE_FOR_ALL, budget=Budget(3, 5))):
            await trio.sleep_forever()
    assert [one - at[0] for one in at] == [0.0, 2.0, 4.0, 6.0]
    for_ever = [2.0 * turn for turn in range(1000)]
    assert otp_gives_up(for_ever, 3, 5) is False
    assert otp_gives_up([1.0 * turn for turn in range(5)], 3, 5) is True


@pytest.mark.parametrize(("restart", "then"), [(Restart.TRANSIENT, 2), (Restart.TEMPORARY, None)])
async def test_a_meltdown_is_abnormal_so_that_a_transient_parent_mends_it(autojump_clock, restart, then) -> None:
    """Case 17: supervisor_SUITE: one_for_one.

    OTP's supervisor exits with ``shutdown`` then, which reads as a normal end: a transient one stays down for ever.
    """
    exits = []
    family = SupervisorSpec(
        id="family",
        children=(probe("a"), probe("b")),
        budget=Budget(2, 60),
        restart=restart,
        backoff=AT_ONCE,
        on_exit=exits.append,
    )
    async with open_runtime(tree(family)) as runtime:
        for _ in range(3):
            await crash(runtime.ref("top/family/a"))
        assert states(runtime) == ({"family": "running"} if then else {})
        if then:
            assert [node(runtime, f"top/{path}").generation for path in ("family", "family/b")] == [2, 2]
    (meltdown, *_) = exits
    assert (meltdown.kind, meltdown.is_abnormal, meltdown.cause.type) == (
        ExitKind.CRASHED,
        True,
        "RestartIntensityExceeded",
    )


async def test_a_meltdown_carries_the_chain_of_its_causes(autojump_clock) -> None:
    """Case 17: supervisor_SUITE: one_for_one; up to the top, where OTP has but ``shutdown``, and in the events too."""
    events, seen = recorder()
    low = SupervisorSpec(id="low", children=(probe("a"), probe("b")), budget=Budget(1, 60), backoff=AT_ONCE)
    high = SupervisorSpec(id="high", children=(low,), budget=Budget(0, 60), backoff=AT_ONCE)
    with pytest.raises(TreeFailed) as failed:
        async with open_runtime(tree(high, budget=Budget(0, 60)), events=events) as runtime:
            for name in "ab":
                await crash(runtime.ref(f"top/high/low/{name}"))
            await trio.sleep_forever()
    assert chain(failed.value.exit) == [
        ("top", "RestartIntensityExceeded"),
        ("top/high", "RestartIntensityExceeded"),
        ("top/high/low", "RestartIntensityExceeded"),
        ("top/high/low/b", "Boom"),
    ]
    by_id = {event.id: event for event in seen}
    event, told_of = [one for one in seen if one.kind == "supervisor_escalated"][-1], []
    while event is not None:
        told_of.append(f"{event.kind} {event.path}")
        event = by_id.get(event.cause)
    assert told_of == [
        f"{kind} {path}"
        for path in ("top", "top/high", "top/high/low")
        for kind, path in (("supervisor_escalated", path), ("actor_crashed", BELOW[path]))
    ]


BELOW = {"top": "top/high", "top/high": "top/high/low", "top/high/low": "top/high/low/b"}


def chain(exit_: Exit) -> list[tuple[str, str]]:
    """Follow an exit to the last of those that led to it."""
    links = [(exit_.path, exit_.cause.type)]
    while exit_.cause.exits:
        exit_ = exit_.cause.exits[-1]
        links.append((exit_.path, exit_.cause.type))
    return links


async def test_one_bad_child_costs_its_siblings_nothing(autojump_clock) -> None:
    """Case 17: supervisor_SUITE: simple_one_for_one.

    In OTP the intensity is the supervisor's alone, so one bad dynamic child takes all its siblings down. Here it has a
    budget of its own, stays down when that is spent, and the rest of the family goes on.
    """
    async with open_runtime(tree(*(probe(f"t{n}") for n in range(20)), dynamic=True)) as runtime:
        crashes = []
        while states(runtime)["t7"] == "running":
            await trio.sleep(1)
            crashes.append(trio.current_time())
            await crash(runtime.ref("top/t7"))
        assert len(crashes) == 4
        assert otp_gives_up(crashes, 1, 5)
        assert otp_gives_up(crashes, 3, 5)
        assert states(runtime) == {f"t{n}": "exhausted" if n == 7 else "running" for n in range(20)}
        assert runtime.ref("top").actor.restarts_left == 7


@pytest.mark.parametrize("expiring", [10, 20])
@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
async def test_many_sessions_may_expire_at_once(autojump_clock, restart, expiring) -> None:
    """Case 17: supervisor_SUITE: simple_one_for_one, with all defaults.

    Seen in an MCP server: sessions that expired together, and were permanent by default, spent the intensity of their
    supervisor and took every other session down. An end that is in order costs nothing where it is not restarted.
    """
    ends = Ends()
    async with open_runtime(tree(SupervisorSpec(id="sessions", dynamic=True))) as runtime:
        sessions = runtime.ref("top/sessions")
        for number in range(2 * expiring):
            await sessions.call(StartChild(ends.child(f"s{number}", restart=restart)))
        for number in range(expiring):
            ends.end(f"s{number}")
        await quiet()
        assert states(runtime, "top/sessions") == {f"s{n}": "running" for n in range(expiring, 2 * expiring)}
        assert (sessions.statistics().generation, sessions.actor.restarts_left) == (1, 10)
    assert otp_gives_up([0.0] * expiring, 3, 5)


async def test_ten_permanent_sessions_may_expire_at_once(autojump_clock) -> None:
    """Case 17: supervisor_SUITE: simple_one_for_one, with all defaults.

    Even the ones that are restarted in vain: the default is ten in 60 s, where OTP's is one in 5 s and Elixir's three.
    """
    ends = Ends()
    async with open_runtime(tree(SupervisorSpec(id="sessions", dynamic=True))) as runtime:
        sessions = runtime.ref("top/sessions")
        for number in range(20):
            await sessions.call(StartChild(ends.child(f"s{number}")))
        for number in range(10):
            ends.end(f"s{number}")
        await quiet()
        assert states(runtime, "top/sessions") == {f"s{n}": "running" for n in range(20)}
        assert (sessions.statistics().generation, sessions.actor.restarts_left) == (1, 0)
