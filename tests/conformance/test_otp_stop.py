"""Stopping, as OTP's supervisor suite has it: in reverse order, each child within its own grace."""

from __future__ import annotations

import itertools
import math

import attrs
import pytest
import trio
from conformance_kit import kind_of
from kernel_kit import Boom, Plan, crash, loop, open_runtime, probe, recorder, tree

from agentrt.kernel import Actor, ChildSpec, ExitKind, Restart, Strategy, SupervisorSpec

KILLED, STOPPED = ExitKind.KILLED, ExitKind.STOPPED


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
async def test_a_child_that_outlasts_its_grace_is_killed_and_its_siblings_are_not(autojump_clock, dynamic) -> None:
    """Case 7: supervisor_SUITE: sup_stop_timeout, sup_stop_timeout_dynamic; the supervisor still ends in order."""
    specs = (probe("child1", shutdown=1), probe("child2", Plan(stop_takes=200), shutdown=2))
    async with open_runtime(tree(*specs, dynamic=dynamic)) as runtime:
        refs = [runtime.ref(f"top/{spec.id}") for spec in specs]
    assert list(map(kind_of, refs)) == [STOPPED, KILLED]
    assert refs[1].incarnation.exit.reason == "the run is over: did not stop within 2 s"
    assert (await runtime.wait()).kind is STOPPED
    assert trio.current_time() == 2.0


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
async def test_a_child_without_grace_never_gets_any(autojump_clock, dynamic) -> None:
    """Case 8: supervisor_SUITE: sup_stop_brutal_kill, sup_stop_brutal_kill_dynamic; a sibling may have grace."""
    log = []
    brutal = [probe(f"brutal{n}", Plan(log, stop_takes=1), shutdown=0) for n in range(10)]
    async with open_runtime(tree(probe("gentle", Plan(log, stop_takes=1)), *brutal, dynamic=dynamic)) as runtime:
        refs = [runtime.ref(f"top/{spec.id}") for spec in brutal]
        gentle = runtime.ref("top/gentle")
        log.clear()
    assert list(map(kind_of, refs)) == [KILLED] * 10
    assert kind_of(gentle) is STOPPED
    assert log == ["stop gentle"]
    assert trio.current_time() == 1.0


@pytest.mark.parametrize("level", ["top", "top/inner"], ids=["worker", "supervisor"])
async def test_a_child_may_have_all_the_time_in_the_world(autojump_clock, level) -> None:
    """Case 9: supervisor_SUITE: sup_stop_infinity; a worker too, and then the supervisor above it."""
    patient = probe("patient", Plan(stop_takes=1e6), shutdown=math.inf)
    inner = SupervisorSpec(id="inner", children=(patient,))
    async with open_runtime(tree(patient if level == "top" else inner)) as runtime:
        ref = runtime.ref(f"{level}/patient")
    assert kind_of(ref) is STOPPED
    assert (await runtime.wait()).kind is STOPPED
    assert trio.current_time() == 1e6


@attrs.frozen
class Way:
    """How a child ends while its supervisor stops, and what is to be read of that afterwards."""

    kind: ExitKind
    result: object = None
    cause: str | None = None


#: By OTP's exit reasons. Whoever exits with ``shutdown`` there was asked to; with ``{shutdown, Word}`` it says a word.
WAYS = {
    "normal": Way(ExitKind.COMPLETED),
    "shutdown": Way(ExitKind.STOPPED),
    "shutdown-test": Way(ExitKind.COMPLETED, result="test"),
    "other": Way(ExitKind.CRASHED, cause="Boom: other"),
}


async def test_children_that_die_while_all_stop_keep_their_own_reasons(autojump_clock) -> None:
    """Case 10: supervisor_SUITE: sup_stop_race; each restart type with each way to end, and none is restarted."""
    events, seen = recorder()
    starts, stop = [], trio.Event()

    def child(restart: Restart, way: str) -> ChildSpec:
        async def run(actor: Actor) -> object:
            starts.append(actor.name)
            await (trio.Event() if way == "shutdown" else stop).wait()
            if way == "other":
                raise Boom(way)
            return WAYS[way].result

        return loop(f"{restart.value}-{way}", run, restart=restart, shutdown=1)

    specs = [child(restart, way) for restart, way in itertools.product(Restart, WAYS)]
    first, last = probe("first", shutdown=1), probe("last", Plan(stop_takes=1), shutdown=2)
    async with open_runtime(tree(first, *specs, last), events=events) as runtime:
        refs = {spec.id: runtime.ref(f"top/{spec.id}") for spec in (first, *specs, last)}
        runtime.stop("over")
        await trio.sleep(0.2)
        stop.set()
        exit_ = await runtime.wait()
    assert exit_.kind is STOPPED
    assert trio.current_time() == 1.0
    ends = {name: ref.incarnation.exit for name, ref in refs.items()}
    assert [ends.pop(name).kind for name in ("first", "last")] == [STOPPED] * 2
    assert {name: Way(one.kind, one.result, str(one.cause) if one.cause else None) for name, one in ends.items()} == {
        f"{restart.value}-{way}": what for restart, (way, what) in itertools.product(Restart, WAYS.items())
    }
    assert sorted(starts) == sorted(ends)
    assert {event.kind for event in seen} == {"actor_started", "actor_exited", "actor_crashed"}


@pytest.mark.parametrize("restart", list(Restart))
async def test_dynamic_children_may_end_a_stop_as_they_like(autojump_clock, restart) -> None:
    """Case 10: supervisor_SUITE: sup_stop_non_shutdown_exit_dynamic; whoever raises is not restarted."""
    log = []
    specs = [probe("good", Plan(log), restart=restart), probe("bad", Plan(log, stop_fails=True), restart=restart)]
    async with open_runtime(tree(*specs, dynamic=True)) as runtime:
        refs = [runtime.ref(f"top/{spec.id}") for spec in specs]
    assert list(map(kind_of, refs)) == [STOPPED, ExitKind.CRASHED_DURING_STOP]
    assert (await runtime.wait()).kind is STOPPED
    assert sorted(log) == ["start bad", "start good", "stop bad", "stop good"]


async def test_dynamic_children_share_one_grace(autojump_clock) -> None:
    """Case 11: supervisor_SUITE: simple_one_for_one_shutdown; 1 s, 1 s and 5 s with 2 s of grace take 2 s, not 4."""
    children = [probe(f"t{n}", Plan(stop_takes=seconds), shutdown=2) for n, seconds in enumerate((1, 1, 5))]
    async with open_runtime(tree(*children, dynamic=True)) as runtime:
        refs = [runtime.ref(f"top/t{n}") for n in range(3)]
    assert list(map(kind_of, refs)) == [STOPPED, STOPPED, KILLED]
    assert trio.current_time() == 2.0


async def test_children_stop_one_after_the_other_where_they_are_not_dynamic(autojump_clock) -> None:
    """Case 11: supervisor_SUITE: simple_one_for_one_shutdown; the same ones take 1 s, 1 s and 2 s in a row."""
    children = [probe(f"t{n}", Plan(stop_takes=seconds), shutdown=2) for n, seconds in enumerate((1, 1, 5))]
    async with open_runtime(tree(*children)):
        pass
    assert trio.current_time() == 4.0


#: In no order but that of the list, as in OTP's suite.
NAMES = ["ch7", "ch3", "ch10", "ch2", "ch5"]


async def test_the_order_of_children_holds_through_a_restart(autojump_clock) -> None:
    """Case 12: supervisor_SUITE: order_of_children; the third of five dies under rest_for_one.

    Each is up before the next starts, and down before the next stops.
    """
    log, exits = [], []
    specs = [probe(name, Plan(log, start_takes=1, stop_takes=1), on_exit=exits.append) for name in NAMES]
    async with open_runtime(tree(*specs, strategy=Strategy.REST_FOR_ONE)) as runtime:
        assert log == [f"start {name}" for name in NAMES]
        assert trio.current_time() == 5.0
        log.clear()
        await crash(runtime.ref("top/ch10"))
        await trio.sleep(5)
        assert log == ["stop ch5", "stop ch2", "start ch10", "start ch2", "start ch5"]
        assert [one.path for one in exits] == ["top/ch10", "top/ch5", "top/ch2"]
        log.clear()
        exits.clear()
    assert log == [f"stop {name}" for name in reversed(NAMES)]
    assert [one.path for one in exits] == [f"top/{name}" for name in reversed(NAMES)]
    assert trio.current_time() == 15.0
