"""The supervisor: order at the start and at the end, strategies, budgets and what escalates."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import (
    AT_ONCE,
    ONE_SECOND,
    Boom,
    Plan,
    crash,
    hang,
    hello,
    loop,
    node,
    open_runtime,
    probe,
    probes,
    quiet,
    recorder,
    states,
    stubborn,
    tree,
)

from agentrt.kernel import (
    Actor,
    Budget,
    ChildSpec,
    Exit,
    ExitKind,
    Refusal,
    Restart,
    RestartChild,
    StartChild,
    StartFailed,
    Strategy,
    SupervisorSpec,
    TerminateChild,
    TreeFailed,
    WhenExhausted,
)
from agentrt.kernel.leash import PIERCE_GRACE, ZOMBIE_AFTER
from agentrt.kernel.owner import StopRequested
from agentrt.kernel.roster import ChildExited, ChildStarted
from agentrt.policy.backoff import Backoff
from agentrt.policy.watchdog import Limits


def top_exit(failed: pytest.ExceptionInfo[TreeFailed]) -> Exit:
    return failed.value.exit


async def test_children_start_in_order_each_before_the_next(autojump_clock) -> None:
    """Started means that the start hook returned."""
    log = []

    class Slow(Actor):
        async def on_start(self) -> None:
            log.append(f"{self.name} starts")
            await trio.sleep(1)
            log.append(f"{self.name} started")

    async with open_runtime(tree(*(ChildSpec(id=name, factory=Slow) for name in "abc"))):
        assert trio.current_time() == 3.0
    assert log == [f"{name} {what}" for name in "abc" for what in ("starts", "started")]


async def test_children_stop_in_reverse_one_after_the_other(autojump_clock) -> None:
    log = []
    async with open_runtime(tree(*(probe(name, Plan(log, stop_takes=1)) for name in "abc"))):
        log.clear()
    assert log == ["stop c", "stop b", "stop a"]
    assert trio.current_time() == 3.0


async def test_a_failed_start_stops_those_before_it_in_reverse_and_names_child_and_cause(autojump_clock) -> None:
    log = []
    specs = [*probes("ab", log), probe("c", Plan(log, start_fails=1)), *probes("d", log)]
    with pytest.raises(TreeFailed, match=r"top/c did not start\n  top/c crashed .*Boom: c does not start") as failed:
        async with open_runtime(tree(*specs)):
            pytest.fail("it never started")
    assert log == ["start a", "start b", "start c", "stop b", "stop a"]
    (cause,) = top_exit(failed).cause.exits
    assert (cause.path, cause.kind, cause.started) == ("top/c", ExitKind.CRASHED, False)


async def test_a_start_that_takes_too_long_is_a_failed_start(autojump_clock) -> None:
    with pytest.raises(TreeFailed, match=r"top/a did not start\n  top/a .*its start took longer than 2 s"):
        async with open_runtime(tree(probe("a", Plan(start_takes=9), start_timeout=2))):
            pytest.fail("it never started")
    assert trio.current_time() == 2.0


async def test_a_start_that_cannot_be_cancelled_is_given_up(autojump_clock) -> None:
    """A start hook that shields itself holds its supervisor up for as long as it takes to call it a zombie."""
    release = trio.Event()

    class Shut(Actor):
        async def on_start(self) -> None:
            await stubborn(release)

    async with trio.open_nursery() as nursery:
        ends = []

        async def run() -> None:
            with pytest.raises(TreeFailed, match=r"top/b did not start\n  top/b zombie .*took longer than 2 s"):
                async with open_runtime(tree(probe("a"), ChildSpec(id="b", factory=Shut, start_timeout=2))):
                    pytest.fail("it never started")
            ends.append(trio.current_time())

        nursery.start_soon(run)
        await trio.sleep(20)
        release.set()
    assert ends == [20.0]


async def test_a_start_that_ends_in_the_moment_of_its_timeout_is_one_or_the_other(autojump_clock) -> None:
    """Either it did not start, or it runs; it is never started and then killed for not having started."""

    def overdue(seen: list) -> bool:
        return any("its start took longer than 2 s" in str(event.fields.get("reason")) for event in seen)

    for _ in range(30):
        events, seen = recorder()
        try:
            async with open_runtime(tree(probe("a", Plan(start_takes=2), start_timeout=2)), events=events) as runtime:
                await quiet()
                assert node(runtime, "top/a").generation == 1
        except TreeFailed:
            assert overdue(seen)


async def test_what_is_stale_is_dropped(autojump_clock) -> None:
    """Signals of an incarnation that is no more say nothing about its successor."""
    inner = SupervisorSpec(id="inner", children=(probe("a"),), backoff=AT_ONCE)
    async with open_runtime(tree(inner)) as runtime:
        ref = runtime.ref("top/inner")
        old, mailbox = ref._cell.incarnation, ref._cell.mailbox
        child = ref.actor.children["a"]
        before = child.incarnation
        await crash(runtime.ref("top/inner/a"))
        mailbox.put_control(ChildStarted(child, before))
        mailbox.put_control(ChildExited(child, before, Exit("top/inner/a", 1, ExitKind.CRASHED)))
        await runtime.ref("top").call(RestartChild("inner", stop_first=True))
        mailbox.put_control(StopRequested(old, "too late", 0.0))
        await quiet()
        assert (node(runtime, "top/inner").generation, states(runtime)) == (2, {"inner": "running"})
        assert node(runtime, "top/inner/a").generation == 3


async def test_a_child_that_is_terminated_on_its_way_back_lets_the_clock_run_again(autojump_clock) -> None:
    """Otherwise the window would never slide again, and crashes that are far apart would add up."""
    spec = tree(probe("a", backoff=ONE_SECOND), probe("b", budget=Budget(99, 1)), budget=Budget(2, 5))
    async with open_runtime(spec) as runtime:
        await crash(runtime.ref("top/a"))
        await runtime.ref("top").call(TerminateChild("a"))
        for _ in range(5):
            await trio.sleep(5.1)
            await crash(runtime.ref("top/b"))
        assert states(runtime) == {"a": "down", "b": "running"}


async def test_a_child_that_missed_the_start_of_its_supervisor_may_fail_later(autojump_clock) -> None:
    """Terminated before its turn and started by hand, its failure is the caller's to see, and no escalation."""
    plan = Plan(start_fails=1)

    class Ends(Actor):
        async def on_start(self) -> None:
            runtime_top = self.context.cell.runtime.ref("top")
            await runtime_top.cast(TerminateChild("b"))
            await trio.sleep(1)

    async with open_runtime(tree(ChildSpec(id="a", factory=Ends), probe("b", plan))) as runtime:
        assert states(runtime) == {"a": "running", "b": "down"}
        with pytest.raises(StartFailed):
            await runtime.ref("top").call(RestartChild("b"))
        assert states(runtime) == {"a": "running", "b": "down"}


async def test_nothing_of_a_child_that_was_stopped_before_its_task_ran_is_seen(autojump_clock) -> None:
    """A stop that comes at once finds an actor that does not exist yet, and makes none."""
    log = []
    async with open_runtime(tree(probe("a", Plan(log)))) as runtime:
        top = runtime.ref("top")
        await top.cast(StartChild(probe("b", Plan(log))))
        await top.cast(TerminateChild("b"))
        await quiet()
        assert states(runtime) == {"a": "running", "b": "down"}
    assert log == ["start a", "stop a"]


@pytest.mark.parametrize(
    ("strategy", "stopped", "restarted"),
    [
        (Strategy.ONE_FOR_ONE, [], ["b"]),
        (Strategy.REST_FOR_ONE, ["d", "c"], ["b", "c", "d"]),
        (Strategy.ONE_FOR_ALL, ["d", "c", "a"], ["a", "b", "c", "d"]),
    ],
)
async def test_a_strategy_says_which_siblings_a_restart_takes_along(
    autojump_clock, strategy, stopped, restarted
) -> None:
    """Stopped in reverse, started in order, and one unit of the budget however many they are."""
    log = []
    async with open_runtime(tree(*probes("abcd", log), strategy=strategy, budget=Budget(1, 60))) as runtime:
        log.clear()
        await crash(runtime.ref("top/b"))
        assert log == [f"stop {name}" for name in stopped] + [f"start {name}" for name in restarted]
        assert set(states(runtime).values()) == {"running"}
        assert {child.name: child.restarts for child in runtime.tree().children} == {
            name: int(name in restarted) for name in "abcd"
        }


async def test_siblings_that_stop_slowly_are_waited_for(autojump_clock) -> None:
    """Nobody starts while the old ones are still on their way out."""
    log = []
    specs = [probe(name, Plan(log, stop_takes=2)) for name in "abc"]
    async with open_runtime(tree(*specs, strategy=Strategy.ONE_FOR_ALL)) as runtime:
        log.clear()
        await crash(runtime.ref("top/c"))
        assert log == ["stop b"]
        await trio.sleep(2.5)
        assert log == ["stop b", "stop a"]
        await trio.sleep(2)
        assert log == ["stop b", "stop a", "start a", "start b", "start c"]


async def test_siblings_that_crash_together_are_one_restart(autojump_clock) -> None:
    """Under one_for_all, whoever goes down while all go down costs nothing more."""
    async with open_runtime(tree(*probes("abc", []), strategy=Strategy.ONE_FOR_ALL, budget=Budget(1, 60))) as runtime:
        for name in "abc":
            runtime.ref(f"top/{name}").cast_nowait(_boom)
        await trio.sleep(1)
        await quiet()
        assert {child.name: child.generation for child in runtime.tree().children} == {"a": 2, "b": 2, "c": 2}


async def _boom(_: Actor) -> None:
    await trio.sleep(1)
    raise Boom("together")


async def test_a_restart_that_fails_spends_budget_and_backs_off(autojump_clock) -> None:
    """Like a crash: here two restarts of the three, a second apart."""
    plan = Plan()
    async with open_runtime(tree(probe("a", plan, backoff=ONE_SECOND, budget=Budget(3, 60)))) as runtime:
        plan.start_fails = 1
        await crash(runtime.ref("top/a"))
        times = [trio.current_time()]
        assert await runtime.ref("top/a").call(hello) == "a 3"
        times.append(trio.current_time())
        assert times == [0.0, 2.0]
        assert node(runtime, "top/a").restarts == 2


async def test_a_child_that_spends_its_budget_stays_down_and_its_siblings_go_on(autojump_clock) -> None:
    events, seen = recorder()
    specs = probes("ab", [], budget=Budget(2, 60))
    async with open_runtime(tree(*specs), events=events) as runtime:
        for _ in range(3):
            await crash(runtime.ref("top/a"))
        assert states(runtime) == {"a": "exhausted", "b": "running"}
        assert await runtime.ref("top/b").call(hello) == "b 1"
        (told,) = [event for event in seen if event.kind == "actor_gave_up"]
        assert (told.path, told.fields["restarts"], told.fields["restarts_left"]) == ("top/a", 2, 0)
        assert told.fields["supervisor_restarts_left"] == 8


async def test_a_child_that_cannot_be_done_without_escalates(autojump_clock) -> None:
    """Its supervisor fails with the chain of causes, which says what happened at the bottom."""
    worker = probe("w", budget=Budget(1, 60), when_exhausted=WhenExhausted.ESCALATE)
    inner = SupervisorSpec(
        id="inner",
        children=(worker, probe("x")),
        own_budget=Budget(0, 60),
        when_exhausted=WhenExhausted.ESCALATE,
    )
    with pytest.raises(TreeFailed) as failed:
        async with open_runtime(tree(inner)) as runtime:
            for _ in range(2):
                await crash(runtime.ref("top/inner/w"))
            await trio.sleep_forever()
    assert top_exit(failed).report() == str(failed.value)
    assert str(failed.value).splitlines() == [
        "top crashed (generation 1, up 0 s): ChildGaveUp: top/inner gave up",
        "  top/inner crashed (generation 1, up 0 s): ChildGaveUp: top/inner/w gave up",
        "    given up; 0 of 0 restarts left in 60 s, 10 of 10 for top",
        "    top/inner/w crashed (generation 2, up 0 s): Boom: told to",
        "      given up; 0 of 1 restarts left in 60 s, 9 of 10 for top/inner",
    ]


async def test_a_supervisor_that_spends_its_budget_raises_to_its_parent(autojump_clock) -> None:
    """Abnormal, so that a transient supervisor is restarted too; the exits that led there are named."""
    inner = SupervisorSpec(
        id="inner",
        children=probes("ab", []),
        budget=Budget(2, 60),
        restart=Restart.TRANSIENT,
        backoff=AT_ONCE,
    )
    async with open_runtime(tree(inner)) as runtime:
        refs = [runtime.ref(f"top/inner/{name}") for name in "ab"]
        for ref in (refs[0], refs[1], refs[0]):
            await crash(ref)
        exit_ = node(runtime, "top/inner").last_exit
        assert (exit_.kind, exit_.cause.type) == (ExitKind.CRASHED, "RestartIntensityExceeded")
        assert [one.path for one in exit_.cause.exits] == ["top/inner/a", "top/inner/b", "top/inner/a"]
        assert "more than 2 restarts in 60 s; last: top/inner/a crashed (generation 2): Boom" in str(exit_.cause)
        assert node(runtime, "top/inner").generation == 2
        assert states(runtime, "top/inner") == {"a": "running", "b": "running"}
        assert [await ref.call(hello) for ref in refs] == ["a 3", "b 3"]


async def test_refs_into_a_subtree_outlive_the_restart_of_its_supervisor(autojump_clock) -> None:
    """The subtree is down for a while, which callers are told at once; then the same refs reach the new actors."""
    inner = SupervisorSpec(
        id="inner",
        children=(probe("a", budget=Budget(0, 60), when_exhausted=WhenExhausted.ESCALATE),),
        backoff=ONE_SECOND,
    )
    async with open_runtime(tree(inner)) as runtime:
        ref = runtime.ref("top/inner/a")
        await crash(ref)
        with pytest.raises(Exception, match="is gone"):
            await ref.call(hello)
        await trio.sleep(1.5)
        assert await ref.call(hello) == "a 2"
        assert runtime.ref("top/inner/a") is ref


async def test_time_in_backoff_and_stopping_does_not_count_towards_the_window(autojump_clock) -> None:
    """OTP's second trap: each cycle takes longer than the window allows, and it would never give up."""
    plan = Plan(stop_takes=4)
    specs = [probe("slow", plan, budget=Budget(99, 1)), probe("a", backoff=ONE_SECOND, budget=Budget(99, 1))]
    spec = tree(*specs, strategy=Strategy.ONE_FOR_ALL, budget=Budget(3, 5))
    crashes = 0
    with pytest.raises(TreeFailed, match="more than 3 restarts in 5 s"):
        async with open_runtime(spec) as runtime:
            while crashes < 20:
                await runtime.ref("top/a").cast(_boom)
                crashes += 1
                await trio.sleep(5.5)
    assert crashes == 4


async def test_time_in_backoff_does_not_count_towards_a_childs_own_window(autojump_clock) -> None:
    spec = probe("a", backoff=Backoff(initial=10, maximum=10, jitter=(1.0, 1.0)), budget=Budget(2, 5))
    async with open_runtime(tree(spec)) as runtime:
        for _ in range(3):
            await runtime.ref("top/a").cast(_boom)
            await trio.sleep(11)
        assert states(runtime) == {"a": "exhausted"}


async def test_crashes_that_are_far_apart_never_spend_a_budget(autojump_clock) -> None:
    """The window slides over the time in which the child runs."""
    async with open_runtime(tree(probe("a", budget=Budget(1, 5)), budget=Budget(1, 5))) as runtime:
        for generation in range(2, 20):
            await trio.sleep(5.5)
            await crash(runtime.ref("top/a"))
            assert node(runtime, "top/a").generation == generation


async def test_backoff_grows_and_begins_anew_after_a_good_run(autojump_clock) -> None:
    """Good is a run of ``stable_after``, or one with a progress mark."""
    events, seen = recorder()
    spec = probe("a", backoff=Backoff(initial=1, maximum=60, jitter=(1.0, 1.0)), budget=Budget(99, 60), stable_after=30)

    async def progress(actor: Actor) -> None:
        actor.progress("moved")

    async with open_runtime(tree(spec, budget=Budget(99, 60)), events=events) as runtime:
        ref = runtime.ref("top/a")
        for run in (0, 0, 0, 30, 0, "progress", 0):
            if run == "progress":
                await ref.call(progress)
            else:
                await trio.sleep(run)
            await crash(ref)
            await trio.sleep(20)
    delays = [event.fields["delay"] for event in seen if event.kind == "actor_restarting"]
    # The runs last what is left of the 20 s after the backoff, which is never good by itself.
    assert delays == [1.0, 2.0, 4.0, 1.0, 2.0, 1.0, 2.0]


async def test_ending_too_soon_is_a_failure_also_without_an_exception(autojump_clock) -> None:
    """A transient child that completes within ``min_uptime`` is restarted; one that took its time is done."""

    async def run(actor: Actor) -> None:
        await trio.sleep(1 if actor.generation == 1 else 10)

    spec = loop("a", run, restart=Restart.TRANSIENT, min_uptime=5)
    async with open_runtime(tree(spec)) as runtime:
        await trio.sleep(2)
        assert node(runtime, "top/a").generation == 2
        await trio.sleep(10)
        assert states(runtime) == {"a": "done"}


async def test_dynamic_children_stop_at_once_and_not_one_after_the_other(autojump_clock) -> None:
    work = SupervisorSpec(id="work", dynamic=True)
    async with open_runtime(tree(work)) as runtime:
        for number in range(5):
            await runtime.ref("top/work").call(StartChild(probe(f"t{number}", Plan(stop_takes=3))))
        assert trio.current_time() == 0.0
    assert trio.current_time() == 3.0


async def test_a_supervisors_grace_is_computed_from_its_children(autojump_clock) -> None:
    """All of them use theirs to the last second, at every level, and nobody is killed for it."""
    inner = SupervisorSpec(id="inner", children=tuple(probe(name, Plan(stop_takes=4.9)) for name in "ab"))
    outer = SupervisorSpec(id="outer", children=(inner, probe("c", Plan(stop_takes=4.9))))
    async with open_runtime(tree(outer)) as runtime:
        refs = [runtime.ref(f"top/outer/{path}") for path in ("c", "inner/b", "inner/a", "inner")]
    assert [ref._cell.last_exit.kind for ref in refs] == [ExitKind.STOPPED] * 4
    assert trio.current_time() == pytest.approx(14.7)


async def test_a_supervisor_that_is_killed_takes_its_children_with_it(autojump_clock) -> None:
    """No child outlives its supervisor, and none is left without its end being told."""
    log = []
    inner = SupervisorSpec(
        id="inner", children=tuple(probe(name, Plan(log, stop_takes=50), shutdown=99) for name in "ab")
    )
    with pytest.raises(TreeFailed, match=r"top killed \(generation 1, up 0 s\): at once"):
        async with open_runtime(tree(inner)) as runtime:
            refs = [runtime.ref(f"top/inner/{name}") for name in "ab"]
            runtime.kill("at once")
            runtime.kill("twice does no harm")
    assert trio.current_time() == 0.0
    assert [(await ref.wait_gone()).kind for ref in refs] == [ExitKind.KILLED] * 2
    assert log == ["start a", "start b"]


async def test_a_kill_in_the_middle_of_a_stop_waits_for_nobody(autojump_clock) -> None:
    """The second signal: whoever still has grace left loses it."""
    with pytest.raises(TreeFailed, match="second signal"):
        async with open_runtime(tree(probe("a", shutdown=60), probe("b", shutdown=60))) as runtime:
            for name in "ab":
                await runtime.ref(f"top/{name}").cast(hang)
            await quiet()
            runtime.stop("first signal")
            await trio.sleep(10)
            runtime.kill("second signal")
    assert trio.current_time() == 10.0


async def test_a_zombie_does_not_keep_its_supervisor_from_escalating(autojump_clock) -> None:
    """The subtree is given up and built again around it."""
    release = trio.Event()

    async def shut(_: Actor) -> None:
        await stubborn(release)
        await trio.sleep_forever()

    inner = SupervisorSpec(
        id="inner",
        children=(loop("a", shut, limits=Limits(total=1), budget=Budget(0, 1), when_exhausted=WhenExhausted.ESCALATE),),
        backoff=AT_ONCE,
    )
    async with open_runtime(tree(inner)) as runtime:
        await trio.sleep(1 + ZOMBIE_AFTER + PIERCE_GRACE + 0.5)
        assert node(runtime, "top/inner").generation == 2
        assert [one.path for one in runtime.zombies] == ["top/inner/a"]
        release.set()
        await quiet()
        assert runtime.zombies == []


async def test_a_killed_supervisor_gives_up_its_zombies_before_it_is_one(autojump_clock) -> None:
    """Only who hangs is called a zombie, not those above it who wait for it."""
    release = trio.Event()

    class Shut(Actor):
        async def run(self) -> None:
            await stubborn(release)

    inner = SupervisorSpec(id="inner", children=(ChildSpec(id="a", factory=Shut),))
    events, seen = recorder()
    zombies = []

    def let_go(event) -> None:
        if event.kind == "run_held_by_zombies":
            zombies.extend(event.fields["zombies"])
            release.set()

    events.listen(let_go)
    with pytest.raises(TreeFailed):
        async with open_runtime(tree(SupervisorSpec(id="outer", children=(inner,))), events=events) as runtime:
            runtime.kill("at once")
    assert zombies == ["top/outer/inner/a"]
    assert [event.path for event in seen if event.kind == "actor_zombie"] == zombies


async def test_a_stop_while_a_supervisor_escalates_ends_in_order(autojump_clock) -> None:
    """The parent's deadline holds for what is left of it."""
    inner = SupervisorSpec(
        id="inner",
        children=(
            probe("slow", Plan(stop_takes=100), shutdown=50),
            probe("a", budget=Budget(0, 1), when_exhausted=WhenExhausted.ESCALATE),
        ),
    )
    async with open_runtime(tree(inner)) as runtime:
        await crash(runtime.ref("top/inner/a"))
        await trio.sleep(1)
        assert states(runtime, "top/inner") == {"slow": "stopping", "a": "exhausted"}
    assert runtime.ref("top/inner")._cell.last_exit.kind is ExitKind.CRASHED_DURING_STOP
    assert trio.current_time() == 50.0


async def test_a_child_that_crashes_while_all_stop_is_not_restarted(autojump_clock) -> None:
    log = []
    async with open_runtime(tree(probe("a", Plan(log)), probe("b", Plan(log, stop_takes=2)))) as runtime:
        ref = runtime.ref("top/a")
        runtime.stop("over")
        await trio.sleep(1)
        await crash(ref)
        await runtime.wait()
    assert log == ["start a", "start b", "stop b"]
    assert ref._cell.last_exit.kind is ExitKind.CRASHED


async def test_events_tell_the_chain_of_causes(autojump_clock) -> None:
    """From an actor's restart back to its crash, and from a supervisor's crash back to the child's that led to it."""
    events, seen = recorder()
    inner = SupervisorSpec(
        id="inner", children=probes("ab", []), strategy=Strategy.ONE_FOR_ALL, budget=Budget(1, 60), backoff=AT_ONCE
    )
    async with open_runtime(tree(inner), events=events) as runtime:
        await crash(runtime.ref("top/inner/a"))
        await crash(runtime.ref("top/inner/a"))
    by_id = {event.id: event for event in seen}

    def chain(event) -> list[str]:
        told = [f"{event.kind} {event.path.removeprefix('top/inner/')}"]
        while event.cause is not None:
            event = by_id[event.cause]
            told.append(f"{event.kind} {event.path.removeprefix('top/inner/')}")
        return told

    restarted_b = next(one for one in seen if one.kind == "actor_started" and one.fields["restarts"] == 1)
    assert chain(restarted_b) == ["actor_started a", "actor_restarting a", "actor_crashed a"]
    stopped_b = next(one for one in seen if one.kind == "actor_exited" and one.path == "top/inner/b")
    assert chain(stopped_b) == ["actor_exited b", "actor_restarting a", "actor_crashed a"]
    again = [one for one in seen if one.kind == "actor_started" and one.path == "top/inner"][-1]
    assert chain(again) == [
        "actor_started top/inner",
        "actor_restarting top/inner",
        "actor_crashed top/inner",
        "supervisor_escalated top/inner",
        "actor_crashed a",
    ]


async def test_an_exit_hook_sees_each_exit_and_cannot_break_its_supervisor(autojump_clock) -> None:
    events, seen = recorder()
    exits = []

    def hook(exit_: Exit) -> None:
        exits.append(exit_.kind)
        raise Boom("in a hook")

    async with open_runtime(tree(probe("a", on_exit=hook), on_exit=hook), events=events) as runtime:
        await crash(runtime.ref("top/a"))
        assert await runtime.ref("top/a").call(hello) == "a 2"
    # The last is the root's.
    assert exits == [ExitKind.CRASHED, ExitKind.STOPPED, ExitKind.STOPPED]
    failed = [(event.path, event.fields["error"]) for event in seen if event.kind == "exit_hook_failed"]
    assert failed == [(path, "Boom('in a hook')") for path in ("top/a", "top/a", "top")]


async def test_a_start_takes_part_in_the_group_it_belongs_to(autojump_clock) -> None:
    """A sibling that crashes while later ones still wait for their first start restarts before they start."""
    log = []
    dies = trio.Event()

    class Dies(Actor):
        async def on_start(self) -> None:
            log.append(f"start {self.name} {self.generation}")

        async def run(self) -> None:
            if self.generation == 1:
                await dies.wait()
                raise Boom("early")
            await trio.sleep_forever()

    class Slow(Actor):
        async def on_start(self) -> None:
            log.append(f"start {self.name} {self.generation}")
            if self.generation == 1:
                dies.set()
                await trio.sleep(5)

    specs = [
        ChildSpec(id="a", factory=Dies, backoff=ONE_SECOND),
        ChildSpec(id="b", factory=Slow),
        ChildSpec(id="c", factory=Slow),
    ]
    async with open_runtime(tree(*specs, strategy=Strategy.ONE_FOR_ALL)) as runtime:
        assert set(states(runtime).values()) == {"running"}
    assert log == ["start a 1", "start b 1", "start a 2", "start b 2", "start c 1"]


async def test_a_child_that_is_as_good_as_started_stops_in_order(autojump_clock) -> None:
    """It is asked to stop as its start hook returns: it is started, so its stop hook has its time."""
    log: list[str] = []
    gate = trio.Event()

    class Waits(Actor):
        async def on_start(self) -> None:
            await gate.wait()
            log.append(f"started {self.generation}")

        async def on_stop(self) -> None:
            await trio.sleep(1)
            log.append(f"stopped {self.generation}")

    async def open_and_die(_: Actor) -> None:
        gate.set()
        raise Boom

    async with open_runtime(tree(probe("b"), strategy=Strategy.ONE_FOR_ALL)) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(runtime.ref("top").call, StartChild(ChildSpec(id="a", factory=Waits)))
        await quiet()
        await runtime.ref("top/b").cast(open_and_die)
        await trio.sleep(2)
        assert log == ["started 1", "stopped 1", "started 2"]
        assert runtime.ref("top/a")._cell.last_exit.kind is ExitKind.STOPPED


async def test_a_supervisor_that_is_stopped_while_it_starts_has_its_grace(autojump_clock) -> None:
    """Its children stop in order; that its start would have taken too long is nobody's business any more."""
    log: list[str] = []
    slow, endless = Plan(log, stop_takes=4), Plan(log, start_takes=1000)
    sub = SupervisorSpec(id="sub", children=(probe("a", slow, shutdown=5), probe("b", endless)), start_timeout=3)
    async with open_runtime(tree(dynamic=True)) as runtime, trio.open_nursery() as nursery:

        async def start() -> None:
            with pytest.raises(Refusal, match="was stopped before it was started"):
                await runtime.ref("top").call(StartChild(sub))

        nursery.start_soon(start)
        await trio.sleep(2)
        exit_ = await runtime.ref("top").call(TerminateChild("sub"))
        assert (exit_.kind, exit_.reason, trio.current_time()) == (ExitKind.STOPPED, "asked for", 6.0)
    assert log == ["start a", "start b", "stop a"]
