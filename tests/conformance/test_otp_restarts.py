"""What OTP's supervisor suite says about restarts, strategies and intensity, ported; some of Elixir and Pekko too."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from kernel_kit import (
    AT_ONCE,
    ONE_SECOND,
    Boom,
    Plan,
    crash,
    hello,
    loop,
    node,
    open_runtime,
    probe,
    probes,
    quiet,
    recorder,
    states,
    tree,
)

from agentrt.kernel import (
    Actor,
    ActorDied,
    Budget,
    ChildExists,
    ExitKind,
    NoSuchChild,
    Restart,
    RestartChild,
    StartChild,
    Strategy,
    SupervisorSpec,
    TerminateChild,
    TooManyChildren,
    TreeFailed,
    WhenExhausted,
)
from agentrt.policy.backoff import Backoff

GROUPS = [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE]
FOREVER = Backoff(initial=1e6, maximum=1e6, jitter=(1.0, 1.0))


async def completes(_: Actor) -> None:
    await trio.sleep(1)


async def crashes(_: Actor) -> None:
    await trio.sleep(1)
    raise Boom("abnormal")


@pytest.mark.parametrize(
    ("restart", "end", "state"),
    [
        (Restart.PERMANENT, "normal", "running"),
        (Restart.PERMANENT, "shutdown", "down"),
        (Restart.PERMANENT, "abnormal", "running"),
        (Restart.TRANSIENT, "normal", "done"),
        (Restart.TRANSIENT, "shutdown", "down"),
        (Restart.TRANSIENT, "abnormal", "running"),
        (Restart.TEMPORARY, "normal", None),
        (Restart.TEMPORARY, "shutdown", None),
        (Restart.TEMPORARY, "abnormal", None),
    ],
)
async def test_restart_types_by_exits(autojump_clock, restart, end, state) -> None:
    """supervisor_SUITE: permanent_normal … temporary_abnormal; a temporary child's spec goes with it.

    OTP's exit reason ``shutdown`` is here a stop that somebody asked for, after which no child comes back by itself.
    """
    run = crashes if end == "abnormal" else completes
    async with open_runtime(tree(loop("a", run, restart=restart))) as runtime:
        if end == "shutdown":
            await runtime.ref("top").call(TerminateChild("a"))
        await trio.sleep(1.5)
        assert states(runtime).get("a") == state
        if state == "running":
            assert node(runtime, "top/a").generation == 2


@pytest.mark.parametrize("strategy", GROUPS)
async def test_a_temporary_bystander_is_not_restarted(autojump_clock, strategy) -> None:
    """supervisor_SUITE: temporary_bystander; it goes down with its siblings and does not come back."""
    specs = [probe("a"), probe("guest", restart=Restart.TEMPORARY), probe("b")]
    async with open_runtime(tree(*specs, strategy=strategy)) as runtime:
        await crash(runtime.ref("top/a"))
        assert states(runtime) == {"a": "running", "b": "running"}


async def test_nothing_is_kept_of_a_temporary_child(autojump_clock) -> None:
    """supervisor_SUITE: do_not_save_child_specs_for_temporary_children, do_not_save_start_parameters_…."""

    class Big:
        pass

    async def short(_: Actor) -> None:
        return

    async with open_runtime(tree(dynamic=True)) as runtime:
        top, arguments = runtime.ref("top"), []
        for _ in range(3):
            big = Big()
            arguments.append(weakref.ref(big))

            async def run(actor: Actor, big: Big = big) -> None:
                await short(actor)

            ref = await top.call(StartChild(loop("same-id", run, restart=Restart.TEMPORARY)))
            await ref.wait_gone()
            await quiet()
        big = run = ref = None
        gc.collect()
        assert [argument() for argument in arguments] == [None] * 3


async def test_spaced_crashes_never_trip(autojump_clock) -> None:
    """supervisor_SUITE: multiple_restarts; intensity 1 in 1 s, crashes further apart than that."""
    spec = tree(probe("a", budget=Budget(99, 1)), budget=Budget(1, 1))
    async with open_runtime(spec) as runtime:
        for _ in range(10):
            await trio.sleep(1.1)
            await crash(runtime.ref("top/a"))
        assert node(runtime, "top/a").generation == 11


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_the_third_crash_of_an_intensity_of_two_is_too_many(autojump_clock, strategy) -> None:
    """supervisor_SUITE: one_for_one, one_for_all, rest_for_one; counted across children, and abnormal here."""
    with pytest.raises(TreeFailed, match="RestartIntensityExceeded: top: more than 2 restarts"):
        async with open_runtime(tree(*probes("abc", []), strategy=strategy, budget=Budget(2, 60))) as runtime:
            for name in "abc":
                await crash(runtime.ref(f"top/{name}"))
            await trio.sleep_forever()


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("dynamic", [False, True])
async def test_a_child_that_fails_to_start_again_exhausts_the_intensity(autojump_clock, strategy, dynamic) -> None:
    """supervisor_SUITE: one_for_one_escalation … simple_one_for_one_escalation; the siblings go down with it."""
    if dynamic and strategy is not Strategy.ONE_FOR_ONE:
        return
    log, plan = [], Plan()
    specs = [probe("other", Plan(log)), probe("a", plan, budget=Budget(99, 60))]
    with pytest.raises(TreeFailed, match="more than 4 restarts"):
        async with open_runtime(tree(*specs, strategy=strategy, budget=Budget(4, 60), dynamic=dynamic)) as runtime:
            plan.start_fails = -1
            await crash(runtime.ref("top/a"))
            await trio.sleep_forever()
    assert plan.log == ["start a"] * 5
    assert log[-1] == "stop other"


async def test_one_for_all_replaces_everybody_for_one_unit(autojump_clock) -> None:
    """supervisor_SUITE: one_for_all."""
    spec = tree(*probes("abc", []), strategy=Strategy.ONE_FOR_ALL, budget=Budget(1, 60))
    async with open_runtime(spec) as runtime:
        before = [runtime.ref(f"top/{name}").actor for name in "abc"]
        await crash(runtime.ref("top/b"))
        after = [runtime.ref(f"top/{name}").actor for name in "abc"]
        assert not set(map(id, before)) & set(map(id, after))


async def test_one_for_all_with_a_sibling_that_fails_to_restart_retries_all(autojump_clock) -> None:
    """supervisor_SUITE: one_for_all_other_child_fails_restart."""
    log, plan = [], Plan()
    plan.log = log
    specs = [probe("a", Plan(log)), probe("b", plan), probe("c", Plan(log))]
    async with open_runtime(tree(*specs, strategy=Strategy.ONE_FOR_ALL)) as runtime:
        log.clear()
        plan.start_fails = 1
        await crash(runtime.ref("top/c"))
        assert log == ["stop b", "stop a", "start a", "start b", "stop a", "start a", "start b", "start c"]


async def test_rest_for_one_leaves_those_before_alone(autojump_clock) -> None:
    """supervisor_SUITE: rest_for_one."""
    async with open_runtime(tree(*probes("abc", []), strategy=Strategy.REST_FOR_ONE)) as runtime:
        before = [runtime.ref(f"top/{name}").actor for name in "abc"]
        await crash(runtime.ref("top/b"))
        after = [runtime.ref(f"top/{name}").actor for name in "abc"]
        assert [one is other for one, other in zip(before, after, strict=True)] == [True, False, False]


async def test_rest_for_one_with_a_sibling_that_fails_to_restart_begins_there(autojump_clock) -> None:
    """supervisor_SUITE: rest_for_one_other_child_fails_restart; the one that is back already is not touched."""
    log, plan = [], Plan()
    plan.log = log
    specs = [probe("a", Plan(log)), probe("b", plan), probe("c", Plan(log))]
    async with open_runtime(tree(*specs, strategy=Strategy.REST_FOR_ONE)) as runtime:
        log.clear()
        plan.start_fails = 1
        await crash(runtime.ref("top/a"))
        assert log == ["stop c", "stop b", "start a", "start b", "start b", "start c"]


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_supervisor_answers_while_a_child_is_restarting(autojump_clock, strategy) -> None:
    """supervisor_SUITE: hanging_restart_loop, …_rest_for_one, …_simple; in backoff, and while a start hangs."""
    plan = Plan()
    spec = probe("a", plan, backoff=ONE_SECOND, budget=Budget(99, 60), start_timeout=500)
    async with open_runtime(tree(spec, strategy=strategy)) as runtime:
        top = runtime.ref("top")
        await crash(runtime.ref("top/a"))
        assert states(runtime) == {"a": "waiting"}
        with pytest.raises(ChildExists, match="waiting"):
            await top.call(StartChild(probe("a")))
        plan.start_takes = 100
        await trio.sleep(2)
        assert states(runtime) == {"a": "starting"}
        with pytest.raises(ChildExists, match="starting"):
            await top.call(StartChild(probe("a")))
        assert (await top.call(TerminateChild("a"))).started is False
        assert trio.current_time() == 2.0


@pytest.mark.parametrize("where", ["backoff", "start"])
async def test_a_supervisor_stops_promptly_while_a_child_is_restarting(autojump_clock, where) -> None:
    """supervisor_SUITE: hanging_restart_loop; OTP-9549, and ours includes the backoff."""
    plan = Plan()
    backoff = FOREVER if where == "backoff" else AT_ONCE
    async with open_runtime(tree(probe("a", plan, backoff=backoff, start_timeout=1e6), probe("b"))) as runtime:
        plan.start_takes = 1e6
        await crash(runtime.ref("top/a"))
    assert trio.current_time() == 0.0


@pytest.mark.parametrize("dynamic", [False, True])
async def test_the_whole_matrix_of_admin_errors(autojump_clock, dynamic) -> None:
    """supervisor_SUITE: child_adm, child_adm_simple."""
    async with open_runtime(tree(probe("a"), dynamic=dynamic)) as runtime:
        top = runtime.ref("top")
        for message in (TerminateChild("foreign"), RestartChild("foreign"), TerminateChild("foreign", forget=True)):
            with pytest.raises(NoSuchChild, match="foreign"):
                await top.call(message)
        for _ in range(2):
            await top.call(TerminateChild("a"))
        with pytest.raises(ChildExists, match="down"):
            await top.call(StartChild(probe("a")))
        assert (await top.call(RestartChild("a"))).path == "top/a"
        await top.call(TerminateChild("a", forget=True))
        assert states(runtime) == {}
        assert (await top.call(StartChild(probe("a")))).path == "top/a"


async def test_a_nested_restart_leaves_uncles_alone_and_a_meltdown_goes_up(autojump_clock) -> None:
    """supervisor_SUITE: tree; after the meltdown all are new, and the dynamic children are gone."""
    left = SupervisorSpec(id="left", children=probes("ab", []), budget=Budget(1, 60), backoff=AT_ONCE)
    right = SupervisorSpec(id="right", dynamic=True, backoff=AT_ONCE)
    async with open_runtime(tree(left, right, strategy=Strategy.ONE_FOR_ALL)) as runtime:
        guest = await runtime.ref("top/right").call(StartChild(probe("guest")))
        uncle = runtime.ref("top/left/b").actor
        await crash(runtime.ref("top/left/a"))
        assert runtime.ref("top/left/b").actor is uncle
        assert await guest.call(hello) == "guest 1"
        await crash(runtime.ref("top/left/a"))
        assert [node(runtime, path).generation for path in ("top/left", "top/right", "top/left/b")] == [2, 2, 2]
        assert states(runtime, "top/right") == {}
        with pytest.raises(ActorDied):
            await guest.call(hello)


async def test_a_restarting_child_is_not_running_and_can_be_terminated(autojump_clock) -> None:
    """supervisor_SUITE: count_restarting_children; DynamicSupervisorTest: "terminates restarting child"."""
    async with open_runtime(tree(probe("a", backoff=FOREVER), probe("b"), dynamic=True)) as runtime:
        old = runtime.ref("top/a")
        await crash(old)
        assert states(runtime) == {"a": "waiting", "b": "running"}
        assert old.actor is None
        assert (await runtime.ref("top").call(TerminateChild("a", forget=True))).kind is ExitKind.CRASHED
        assert states(runtime) == {"b": "running"}
        assert (await old.wait_gone()).kind is ExitKind.CRASHED


async def test_a_name_that_is_taken_names_who_has_it(autojump_clock) -> None:
    """supervisor_SUITE: already_started_outside_supervisor; a clash of names is an error of its own."""
    async with open_runtime(tree(probe("a"))) as runtime:
        with pytest.raises(ChildExists, match=r"top has a child 'a' already \(running\)"):
            await runtime.ref("top").call(StartChild(SupervisorSpec(id="a")))


async def test_restarts_wait_longer_and_longer(autojump_clock) -> None:
    """Pekko SupervisionSpec: "restart after exponential backoff"."""
    starts = []

    async def run(_: Actor) -> None:
        starts.append(trio.current_time())
        raise Boom("again")

    backoff = Backoff(initial=1, factor=2, maximum=8, jitter=(1.0, 1.0))
    async with open_runtime(tree(loop("a", run, backoff=backoff, budget=Budget(99, 60)), budget=Budget(99, 60))):
        await trio.sleep(33)
    assert starts == [0.0, 1.0, 3.0, 7.0, 15.0, 23.0, 31.0]


async def test_the_backoff_begins_anew_after_a_quiet_time(autojump_clock) -> None:
    """Pekko SupervisionSpec: "reset exponential backoff count after reset timeout"."""
    events, seen = recorder()
    backoff = Backoff(initial=1, factor=2, maximum=8, jitter=(1.0, 1.0))
    async with open_runtime(tree(probe("a", backoff=backoff, stable_after=20)), events=events) as runtime:
        for quiet_time in (0, 0, 20):
            await trio.sleep(quiet_time)
            await crash(runtime.ref("top/a"))
            await trio.sleep(3)
    assert [event.fields["attempt"] for event in seen if event.kind == "actor_restarting"] == [1, 2, 1]


async def test_a_child_has_all_its_restarts_again_after_its_window(autojump_clock) -> None:
    """Pekko SupervisionSpec: "reset fixed limit after timeout"; ours is a sliding window."""
    async with open_runtime(tree(probe("a", budget=Budget(2, 10)), budget=Budget(99, 10))) as runtime:
        for _ in range(3):
            for _ in range(2):
                await crash(runtime.ref("top/a"))
            await trio.sleep(10.1)
        assert states(runtime) == {"a": "running"}


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_a_limit_counts_failed_starts_and_crashes_alike(autojump_clock, limit) -> None:
    """Pekko SupervisionSpec: "restart.withLimit when deferred factory throws", "fail after more than limit".

    In Pekko the two are off by one.
    """
    ends = []
    for fails_to_start in (True, False):
        plan = Plan()
        spec = probe("a", plan, budget=Budget(limit, 60))
        async with open_runtime(tree(spec)) as runtime:
            plan.start_fails = -1 if fails_to_start else 0
            while states(runtime) == {"a": "running"}:
                await crash(runtime.ref("top/a"))
            ends.append((states(runtime)["a"], node(runtime, "top/a").generation))
    assert ends == [("exhausted", limit + 1)] * 2


async def test_children_that_wait_for_their_restart_count_towards_max_children(autojump_clock) -> None:
    """DynamicSupervisorTest: "restarting on init/exit children counted in max_children"."""
    async with open_runtime(tree(probe("a", backoff=FOREVER), dynamic=True, max_children=1)) as runtime:
        await crash(runtime.ref("top/a"))
        with pytest.raises(TooManyChildren, match="its 1 children already"):
            await runtime.ref("top").call(StartChild(probe("b")))


async def test_a_child_can_spend_the_intensity_by_trying_again(autojump_clock) -> None:
    """DynamicSupervisorTest: "child triggers maximum intensity when trying again"."""
    plan = Plan()
    needed = probe("a", plan, budget=Budget(2, 60), when_exhausted=WhenExhausted.ESCALATE)
    with pytest.raises(TreeFailed, match=r"ChildGaveUp: top/a gave up: top/a crashed .*a does not start"):
        async with open_runtime(tree(needed, dynamic=True)) as runtime:
            plan.start_fails = -1
            await crash(runtime.ref("top/a"))
            await trio.sleep_forever()
    assert plan.log == ["start a"] * 3
