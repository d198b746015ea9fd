"""Significant children: whose end ends their supervisor, whose does not, and what that is to those above."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import AT_ONCE, Ends, Plan, crash, node, open_runtime, probe, probes, quiet, recorder, states, tree

from agentrt.kernel import (
    Actor,
    AutoShutdown,
    Budget,
    ChildSpec,
    ExitKind,
    Ignore,
    Refusal,
    Restart,
    RestartChild,
    StartChild,
    Strategy,
    SupervisorSpec,
    TerminateChild,
    WhenExhausted,
)

ANY, ALL = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT
TEMPORARY, TRANSIENT = Restart.TEMPORARY, Restart.TRANSIENT


def inner(*children: ChildSpec | SupervisorSpec, auto_shutdown: AutoShutdown = ANY, **spec: object) -> SupervisorSpec:
    """Describe a supervisor that stays down when it ended normally."""
    return SupervisorSpec(
        id="inner", children=children, auto_shutdown=auto_shutdown, **{"restart": TRANSIENT, "backoff": AT_ONCE, **spec}
    )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: probe("a", significant=True), "'a' is significant and permanent"),
        (lambda: SupervisorSpec(id="s", significant=True), "'s' is significant and permanent"),
        (
            lambda: SupervisorSpec(id="s", children=(probe("a", significant=True, restart=TRANSIENT),)),
            "'a' is significant, but the auto_shutdown of supervisor 's' is never",
        ),
        (lambda: SupervisorSpec(id="s", dynamic=True, auto_shutdown=ALL), "auto_shutdown can only be never"),
    ],
)
def test_what_can_never_happen_is_refused(make, says) -> None:
    """A flag that could not take effect is a mistake, and told before anything starts."""
    with pytest.raises(ValueError, match=says):
        make()


def test_the_option_is_a_closed_set() -> None:
    with pytest.raises(TypeError, match="auto_shutdown"):
        SupervisorSpec(id="s", auto_shutdown="never")


@pytest.mark.parametrize(
    ("restart", "crashes", "then"),
    [
        (TEMPORARY, False, "done"),
        (TEMPORARY, True, "done"),
        (TRANSIENT, False, "done"),
        (TRANSIENT, True, "running"),
    ],
)
async def test_the_end_of_a_significant_child_ends_its_supervisor(autojump_clock, restart, crashes, then) -> None:
    """A temporary one's whatever it is, a transient one's when it is normal; the supervisor ends normally."""
    log, ends = [], Ends()
    family = inner(ends.child("a", restart=restart, significant=True), *probes("bc", log))
    async with open_runtime(tree(family, probe("other"))) as runtime:
        ends.end("a", crash=crashes)
        await quiet()
        assert states(runtime) == {"inner": then, "other": "running"}
        if then == "done":
            exit_ = node(runtime, "top/inner").last_exit
            assert (exit_.kind, exit_.result) == (ExitKind.COMPLETED, "significant child top/inner/a ended")
            assert log == ["start b", "start c", "stop c", "stop b"]


async def test_a_child_that_is_not_significant_ends_alone(autojump_clock) -> None:
    ends = Ends()
    family = inner(ends.child("a", restart=TEMPORARY), ends.child("b", restart=TEMPORARY, significant=True))
    async with open_runtime(tree(family)) as runtime:
        ends.end("a")
        await quiet()
        assert states(runtime, "top/inner") == {"b": "running"}


async def test_all_significant_waits_for_the_last_of_them(autojump_clock) -> None:
    """Those that are not significant do not count; one that waits for its restart does."""
    ends = Ends()
    flags = {"a": (TEMPORARY, True), "b": (TRANSIENT, True), "c": (TEMPORARY, False)}
    specs = [
        ends.child(name, restart=restart, significant=significant) for name, (restart, significant) in flags.items()
    ]
    async with open_runtime(tree(inner(*specs, auto_shutdown=ALL))) as runtime:
        for name, crashes in (("b", True), ("c", False), ("a", True)):
            ends.end(name, crash=crashes)
            await quiet()
        assert states(runtime, "top/inner") == {"b": "running"}
        ends.end("b")
        await quiet()
        assert states(runtime) == {"inner": "done"}


@pytest.mark.parametrize("policy", [ANY, ALL])
async def test_a_child_that_somebody_terminates_ends_nobody(autojump_clock, policy) -> None:
    """It leaves one less to wait for."""
    ends = Ends()
    specs = [ends.child(name, restart=TRANSIENT, significant=True) for name in "ab"]
    async with open_runtime(tree(inner(*specs, auto_shutdown=policy))) as runtime:
        await runtime.ref("top/inner").call(TerminateChild("a"))
        assert states(runtime, "top/inner") == {"a": "down", "b": "running"}
        ends.end("b")
        await quiet()
        assert states(runtime) == {"inner": "done"}


async def test_a_child_that_is_on_its_way_out_is_not_waited_for(autojump_clock) -> None:
    """As in OTP, where the last one's end would be looked at after the other one's stop."""
    ends = Ends()
    specs = [
        probe("a", Plan(stop_takes=3), restart=TRANSIENT, significant=True),
        ends.child("b", restart=TRANSIENT, significant=True),
    ]
    async with open_runtime(tree(inner(*specs, auto_shutdown=ALL))) as runtime:
        await runtime.ref("top/inner").cast(TerminateChild("a"))
        await quiet()
        ends.end("b")
        await trio.sleep(4)
        assert states(runtime) == {"inner": "done"}


async def test_a_child_that_was_started_again_is_waited_for_again(autojump_clock) -> None:
    ends = Ends()
    specs = [ends.child(name, restart=TRANSIENT, significant=True) for name in "ab"]
    async with open_runtime(tree(inner(*specs, auto_shutdown=ALL))) as runtime:
        ends.end("a")
        await quiet()
        await runtime.ref("top/inner").call(RestartChild("a"))
        ends.end("b")
        await quiet()
        assert states(runtime, "top/inner") == {"a": "running", "b": "done"}
        ends.end("a")
        await quiet()
        assert states(runtime) == {"inner": "done"}


@pytest.mark.parametrize("policy", [ANY, ALL])
async def test_a_bystander_of_a_siblings_restart_ends_nobody(autojump_clock, policy) -> None:
    """A temporary one goes for good then, and a supervisor that waits for all does not wait for it any more."""
    ends = Ends()
    specs = [
        ends.child("first", restart=TEMPORARY, significant=True),
        probe("b"),
        probe("bystander", Plan(stop_takes=2), restart=TEMPORARY, significant=True),
    ]
    family = inner(*specs, auto_shutdown=policy, strategy=Strategy.REST_FOR_ONE)
    async with open_runtime(tree(family)) as runtime:
        await crash(runtime.ref("top/inner/b"))
        assert states(runtime, "top/inner")["bystander"] == "stopping"
        if policy is ALL:
            # While the bystander is still on its way out, it is not waited for.
            ends.end("first")
            await trio.sleep(3)
            assert states(runtime) == {"inner": "done"}
        else:
            await trio.sleep(3)
            assert states(runtime, "top/inner") == {"first": "running", "b": "running"}


async def test_a_child_that_is_not_needed_ends_nobody(autojump_clock) -> None:
    """It never ran, so it did not end; one less is waited for."""

    class Needless(Actor):
        async def on_start(self) -> None:
            raise Ignore("elsewhere")

    ends = Ends()
    needless = ChildSpec(id="a", factory=Needless, restart=TRANSIENT, significant=True)
    family = inner(needless, ends.child("b", restart=TRANSIENT, significant=True), auto_shutdown=ALL)
    async with open_runtime(tree(family)) as runtime:
        assert states(runtime, "top/inner") == {"a": "ignored", "b": "running"}
        ends.end("b")
        await quiet()
        assert states(runtime) == {"inner": "done"}


@pytest.mark.parametrize(
    ("when_exhausted", "then"), [(WhenExhausted.REPORT, ExitKind.COMPLETED), (WhenExhausted.ESCALATE, ExitKind.CRASHED)]
)
async def test_a_child_that_spent_its_budget_ended_for_good(autojump_clock, when_exhausted, then) -> None:
    """Nobody else would end the supervisor then; where its failure is to be seen, it escalates instead."""
    ends = Ends()
    spec = ends.child("a", restart=TRANSIENT, significant=True, budget=Budget(0, 1), when_exhausted=when_exhausted)
    async with open_runtime(tree(inner(spec, own_budget=Budget(0, 1)))) as runtime:
        ends.end("a", crash=True)
        await quiet()
        assert node(runtime, "top/inner").last_exit.kind is then


@pytest.mark.parametrize(
    ("restart", "state", "generation"), [(Restart.PERMANENT, "running", 2), (TRANSIENT, "done", 1)]
)
async def test_a_shutdown_is_a_normal_end_to_the_parent(autojump_clock, restart, state, generation) -> None:
    """So a permanent supervisor is started again, with all its children, and a transient one is not."""
    ends = Ends()
    family = inner(ends.child("a", restart=TEMPORARY, significant=True), probe("b"), restart=restart)
    async with open_runtime(tree(family)) as runtime:
        ends.end("a")
        await quiet()
        assert (states(runtime)["inner"], node(runtime, "top/inner").generation) == (state, generation)
        if state == "running":
            assert states(runtime, "top/inner") == {"a": "running", "b": "running"}


async def test_a_shutdown_goes_up_through_significant_supervisors(autojump_clock) -> None:
    """supervisor_SUITE: significant_upgrade…, significant_escalation; each level by its own rule."""
    events, seen = recorder()
    ends = Ends()
    low = inner(ends.child("a", restart=TRANSIENT, significant=True), significant=True)
    high = SupervisorSpec(id="high", children=(low, probe("b")), auto_shutdown=ALL, restart=TEMPORARY, significant=True)
    async with open_runtime(tree(high, probe("c"), auto_shutdown=ANY), events=events) as runtime:
        ends.end("a")
        exit_ = await runtime.wait()
    assert exit_.kind is ExitKind.COMPLETED
    told = [event for event in seen if event.kind == "supervisor_auto_shutdown"]
    assert [(one.path, one.fields["reason"]) for one in told] == [
        ("top/high/inner", "significant child top/high/inner/a ended"),
        ("top/high", "significant child top/high/inner ended"),
        ("top", "significant child top/high ended"),
    ]
    assert chain(seen, told[-1]) == [
        "supervisor_auto_shutdown top",
        "actor_exited top/high",
        "supervisor_auto_shutdown top/high",
        "actor_exited top/high/inner",
        "supervisor_auto_shutdown top/high/inner",
        "actor_exited top/high/inner/a",
    ]
    (bystander,) = [event for event in seen if event.path == "top/c" and event.kind == "actor_exited"]
    assert (chain(seen, bystander)[1], bystander.fields["reason"]) == (
        "supervisor_auto_shutdown top",
        "significant child top/high ended",
    )


def chain(seen, event) -> list[str]:
    by_id = {one.id: one for one in seen}
    told = [f"{event.kind} {event.path}"]
    while event.cause is not None:
        event = by_id[event.cause]
        told.append(f"{event.kind} {event.path}")
    return told


async def test_an_unneeded_sibling_that_crashes_on_the_way_down_changes_nothing(autojump_clock) -> None:
    """The shutdown is the supervisor's end, and stays normal."""
    ends = Ends()
    family = inner(ends.child("a", restart=TEMPORARY, significant=True), probe("b", Plan(stop_fails=True)))
    async with open_runtime(tree(family)) as runtime:
        ends.end("a")
        await quiet()
        assert node(runtime, "top/inner").last_exit.kind is ExitKind.COMPLETED
        assert node(runtime, "top/inner/b").last_exit.kind is ExitKind.CRASHED_DURING_STOP


async def test_a_stop_in_the_middle_of_a_shutdown_ends_in_order(autojump_clock) -> None:
    """The parent's deadline holds for what is left of it."""
    ends = Ends()
    family = inner(ends.child("a", restart=TEMPORARY, significant=True), probe("b", Plan(stop_takes=3)))
    async with open_runtime(tree(family)) as runtime:
        ends.end("a")
        await trio.sleep(1)
    assert node(runtime, "top/inner").last_exit.kind is ExitKind.STOPPED
    assert (await runtime.wait()).result is None
    assert trio.current_time() == 3.0


async def test_a_significant_guest_is_refused_where_it_would_not_count(autojump_clock) -> None:
    async with open_runtime(
        tree(inner(probe("b"), auto_shutdown=ALL), SupervisorSpec(id="pool", dynamic=True))
    ) as runtime:
        guest = probe("a", restart=TEMPORARY, significant=True)
        for path in ("top", "top/pool"):
            with pytest.raises(Refusal, match=r"'a' is significant, but the auto_shutdown of supervisor .* is never"):
                await runtime.ref(path).call(StartChild(guest))
        await runtime.ref("top/inner").call(StartChild(guest))
        assert states(runtime, "top/inner") == {"b": "running", "a": "running"}


async def test_a_guest_counts_like_any_other(autojump_clock) -> None:
    ends = Ends()
    async with open_runtime(tree(inner(probe("b"), auto_shutdown=ALL))) as runtime:
        await runtime.ref("top/inner").call(StartChild(ends.child("a", restart=TEMPORARY, significant=True)))
        ends.end("a")
        await quiet()
        assert states(runtime) == {"inner": "done"}


async def test_a_tree_whose_job_is_done_ends_by_itself(autojump_clock) -> None:
    """Also where that was before anybody could look: the body runs, and sees how it ended."""

    class Job(Actor):
        async def run(self) -> None:
            return

    job = ChildSpec(id="job", factory=Job, restart=TRANSIENT, significant=True)
    async with open_runtime(tree(job, auto_shutdown=ANY)) as runtime:
        exit_ = await runtime.wait()
    assert (exit_.kind, exit_.result) == (ExitKind.COMPLETED, "significant child top/job ended")
