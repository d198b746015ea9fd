"""What OTP's supervisor suite says about starting and stopping, ported: one test for each of its cases."""

from __future__ import annotations

import itertools

import pytest
import trio
from kernel_kit import (
    AT_ONCE,
    Boom,
    Loop,
    Plan,
    Probe,
    crash,
    hang,
    open_runtime,
    probe,
    probes,
    recorder,
    states,
    tree,
)

from agentrt.kernel import (
    Actor,
    ChildSpec,
    ExitKind,
    Restart,
    StartChild,
    StartFailed,
    Strategy,
    SupervisorSpec,
    TerminateChild,
    TreeFailed,
)


async def test_a_bad_start_raises_and_leaves_nothing_running(autojump_clock) -> None:
    """supervisor_SUITE: sup_start_fail, sup_start_error_return; and no stray exit is told."""
    events, seen = recorder()

    def factory() -> Actor:
        raise Boom("bad init")

    with pytest.raises(TreeFailed, match="bad init"):
        async with open_runtime(tree(ChildSpec(id="a", factory=factory)), events=events):
            pytest.fail("it never started")
    assert [(event.kind, event.path) for event in seen] == [("actor_crashed", "top/a"), ("supervisor_escalated", "top")]


async def test_a_failed_start_carries_the_childs_id_and_its_cause(autojump_clock) -> None:
    """supervisor_SUITE: faulty_application_shutdown; those before it are stopped in reverse."""
    log = []
    with pytest.raises(TreeFailed) as failed:
        async with open_runtime(tree(*probes("ab", log), probe("c", Plan(log, start_fails=1)))):
            pytest.fail("it never started")
    (exit_,) = failed.value.exit.cause.exits
    assert exit_.path == "top/c"
    assert "c does not start" in exit_.cause.message
    assert "on_start" in exit_.cause.traceback
    assert log == ["start a", "start b", "start c", "stop b", "stop a"]


async def test_a_spec_is_permanent_with_five_seconds_of_grace(autojump_clock) -> None:
    """supervisor_SUITE: sup_start_map; a supervisor's grace is computed where OTP has infinity."""
    spec = ChildSpec(id="a", factory=Actor)
    assert (spec.restart, spec.shutdown) == (Restart.PERMANENT, 5.0)
    inner = SupervisorSpec(id="inner", children=(probe("a", Plan(stop_takes=40), shutdown=50),))
    async with open_runtime(tree(inner)) as runtime:
        ref = runtime.ref("top/inner/a")
    assert ref._cell.last_exit.kind is ExitKind.STOPPED
    assert trio.current_time() == 40.0


@pytest.mark.parametrize(
    ("strategy", "dynamic", "restart"), list(itertools.product(Strategy, (False, True), Restart)), ids=str
)
async def test_every_combination_of_flags_runs_or_is_refused_before_anything_starts(
    autojump_clock, strategy, dynamic, restart
) -> None:
    """supervisor_SUITE: sup_flags, child_specs_map."""
    log = []
    children = probes("ab", log, restart=restart)
    if dynamic and strategy is not Strategy.ONE_FOR_ONE:
        with pytest.raises(ValueError, match="can only be one_for_one"):
            tree(*children, strategy=strategy, dynamic=dynamic)
        assert log == []
        return
    async with open_runtime(tree(*children, strategy=strategy, dynamic=dynamic)) as runtime:
        assert states(runtime) == {"a": "running", "b": "running"}
    assert sorted(log) == ["start a", "start b", "stop a", "stop b"]


async def test_two_children_of_one_name_are_refused() -> None:
    """supervisor_SUITE: child_specs_map, duplicate_child_name."""
    with pytest.raises(ValueError, match="more than one child named a"):
        tree(probe("a"), probe("a"))


async def test_a_start_by_hand_that_fails_costs_nothing_and_leaves_no_spec(autojump_clock) -> None:
    """supervisor_SUITE: sup_start_child_returns_error."""
    async with open_runtime(tree(probe("a"))) as runtime:
        for _ in range(20):
            with pytest.raises(StartFailed):
                await runtime.ref("top").call(StartChild(probe("bad", Plan(start_fails=-1))))
        assert states(runtime) == {"a": "running"}


async def test_a_child_that_outlasts_its_grace_is_killed_and_its_siblings_are_not(autojump_clock) -> None:
    """supervisor_SUITE: sup_stop_timeout; the supervisor still ends in order."""
    async with open_runtime(tree(probe("a"), probe("slow", Plan(stop_takes=60), shutdown=2))) as runtime:
        refs = [runtime.ref(f"top/{name}") for name in ("a", "slow")]
    assert [ref._cell.last_exit.kind for ref in refs] == [ExitKind.STOPPED, ExitKind.KILLED]
    assert (await runtime.wait()).kind is ExitKind.STOPPED
    assert trio.current_time() == 2.0


@pytest.mark.parametrize("dynamic", [False, True])
async def test_a_child_without_grace_never_gets_any(autojump_clock, dynamic) -> None:
    """supervisor_SUITE: sup_stop_brutal_kill, sup_stop_brutal_kill_dynamic."""
    log = []
    spec = tree(probe("a", Plan(log, stop_takes=1), shutdown=0), dynamic=dynamic)
    async with open_runtime(spec) as runtime:
        ref = runtime.ref("top/a")
    assert ref._cell.last_exit.kind is ExitKind.KILLED
    assert log == ["start a"]
    assert trio.current_time() == 0.0


async def test_a_worker_may_have_all_the_time_in_the_world(autojump_clock) -> None:
    """supervisor_SUITE: sup_stop_infinity."""
    async with open_runtime(tree(probe("a", Plan(stop_takes=1e6), shutdown=float("inf")))) as runtime:
        ref = runtime.ref("top/a")
    assert ref._cell.last_exit.kind is ExitKind.STOPPED
    assert trio.current_time() == 1e6


async def test_children_that_die_while_all_stop_keep_their_own_reasons(autojump_clock) -> None:
    """supervisor_SUITE: sup_stop_race; each restart type with each way to end, and none is restarted."""
    ways = {"completes": ExitKind.COMPLETED, "crashes": ExitKind.CRASHED, "stays": ExitKind.STOPPED}
    starts = []

    def child(restart: Restart, way: str) -> ChildSpec:
        async def run(actor: Actor) -> None:
            starts.append(actor.name)
            await trio.sleep(1 if way != "stays" else float("inf"))
            if way == "crashes":
                raise Boom(way)

        return ChildSpec(id=f"{restart.value}-{way}", factory=lambda: Loop(run), restart=restart, backoff=AT_ONCE)

    specs = [child(restart, way) for restart in Restart for way in ways]
    last = probe("last", Plan(stop_takes=3))
    async with open_runtime(tree(*specs, last)) as runtime:
        refs = {spec.id: runtime.ref(f"top/{spec.id}") for spec in specs}
        runtime.stop("over")
        await runtime.wait()
    ends = {name: (await ref.wait_gone()).kind for name, ref in refs.items()}
    assert ends == {f"{restart.value}-{way}": kind for restart in Restart for way, kind in ways.items()}
    assert len(starts) == len(specs)


async def test_dynamic_children_share_one_grace(autojump_clock) -> None:
    """supervisor_SUITE: simple_one_for_one_shutdown; 1 s, 1 s and 5 s with 2 s of grace take 2 s."""
    children = [probe(f"t{n}", Plan(stop_takes=seconds), shutdown=2) for n, seconds in enumerate((1, 1, 5))]
    async with open_runtime(tree(*children, dynamic=True)) as runtime:
        refs = [runtime.ref(f"top/t{n}") for n in range(3)]
    assert [ref._cell.last_exit.kind.value for ref in refs] == ["stopped", "stopped", "killed"]
    assert trio.current_time() == 2.0


async def test_the_order_of_children_holds_through_a_restart(autojump_clock) -> None:
    """supervisor_SUITE: order_of_children; the third of five dies under rest_for_one."""
    log = []
    async with open_runtime(tree(*probes("12345", log), strategy=Strategy.REST_FOR_ONE)) as runtime:
        log.clear()
        await crash(runtime.ref("top/3"))
        assert log == ["stop 5", "stop 4", "start 3", "start 4", "start 5"]
        log.clear()
    assert log == [f"stop {number}" for number in "54321"]


async def test_a_naughty_child_cannot_hang_its_termination(autojump_clock) -> None:
    """supervisor_SUITE: child_unlink; ours shields itself, or swallows its cancellation."""
    release = trio.Event()

    class Naughty(Actor):
        async def run(self) -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except trio.Cancelled:
                    with trio.CancelScope(shield=True):
                        await release.wait()

    async with open_runtime(tree(ChildSpec(id="a", factory=Naughty, shutdown=1), probe("b"))) as runtime:
        exit_ = await runtime.ref("top").call(TerminateChild("a"))
        assert (exit_.kind, trio.current_time()) == (ExitKind.ZOMBIE, 6.0)
        assert states(runtime) == {"a": "down", "b": "running"}
        release.set()


async def test_starting_and_stopping_many_children_grows_with_their_number_only(autojump_clock) -> None:
    """supervisor_SUITE: scale_start_stop_many_children; counted in scheduler steps, which no machine makes slower."""

    async def steps(children: int) -> int:
        counter = Steps()
        trio.lowlevel.add_instrument(counter)
        pool = SupervisorSpec(id="pool", dynamic=True)
        async with open_runtime(tree(pool)) as runtime:
            for number in range(children):
                await runtime.ref("top/pool").call(StartChild(probe(f"t{number}")))
        trio.lowlevel.remove_instrument(counter)
        return counter.steps

    few, many = await steps(50), await steps(500)
    assert many < few * 11


class Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


async def test_many_temporary_children_are_looked_at_one_by_one(autojump_clock) -> None:
    """supervisor_SUITE: simple_one_for_one_scale_many_temporary_children; an exit costs the same among few and many."""
    looked: list[int] = []

    def looks(roster: object) -> None:
        original = roster._is_to_stop

        def counted(child: object) -> bool:
            looked[-1] += 1
            return original(child)

        roster._is_to_stop = counted

    for children in (10, 300):
        async with open_runtime(tree(dynamic=True)) as runtime:
            for number in range(children):
                await runtime.ref("top").call(StartChild(probe(f"t{number}", restart=Restart.TEMPORARY)))
            looked.append(0)
            looks(runtime.ref("top").actor._roster)
            await crash(runtime.ref("top/t0"))
            assert len(states(runtime)) == children - 1
            looked.append(0)
    assert looked[0] == looked[2] <= 3


async def test_a_fatal_error_is_not_caught_by_any_supervisor(autojump_clock) -> None:
    """Pekko SupervisionSpec: "not catch fatal error"; what ends the process passes every supervisor on its way."""
    inner = SupervisorSpec(id="inner", children=(ChildSpec(id="a", factory=lambda: Probe(Plan())),))

    async def leave(_: Actor) -> None:
        raise SystemExit(7)

    with pytest.raises(SystemExit) as left:
        async with open_runtime(tree(inner)) as runtime:
            await runtime.ref("top/inner/a").cast(leave)
            await hang(runtime)
    assert left.value.code == 7
