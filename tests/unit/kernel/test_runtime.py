"""The run as a whole: how it begins, what ends it, and what comes out of it."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import Boom, Plan, crash, hang, loop, node, open_runtime, probe, probes, quiet, recorder, states, tree

from agentrt.kernel import (
    Actor,
    Budget,
    ChildSpec,
    EventStream,
    ExitKind,
    Restart,
    SupervisorSpec,
    TreeFailed,
    WhenExhausted,
)
from agentrt.kernel.runtime import Runtime


async def test_the_body_runs_beside_a_started_tree_which_stops_with_it(autojump_clock) -> None:
    log = []
    async with open_runtime(tree(*probes("ab", log))) as runtime:
        assert states(runtime) == {"a": "running", "b": "running"}
        assert log == ["start a", "start b"]
    assert (await runtime.wait()).kind is ExitKind.STOPPED
    assert log[2:] == ["stop b", "stop a"]


async def test_a_tree_that_does_not_start_is_an_error(autojump_clock) -> None:
    with pytest.raises(TreeFailed, match=r"top crashed .*StartFailed: top/a did not start"):
        async with open_runtime(tree(probe("a", Plan(start_fails=1)))):
            pytest.fail("it never started")


async def test_a_tree_that_fails_under_the_body_cancels_it(autojump_clock) -> None:
    spec = tree(probe("a", budget=Budget(0, 1), when_exhausted=WhenExhausted.ESCALATE))
    with pytest.raises(TreeFailed, match="ChildGaveUp: top/a gave up"):
        async with open_runtime(spec) as runtime:
            await crash(runtime.ref("top/a"))
            await trio.sleep_forever()
    assert trio.current_time() == 0.0


async def test_what_the_body_raises_comes_out_as_it_is(autojump_clock) -> None:
    """After the tree has stopped in order; it is not wrapped into a group."""
    log = []
    with pytest.raises(Boom, match="the body"):
        async with open_runtime(tree(*probes("a", log))):
            raise Boom("the body")
    assert log == ["start a", "stop a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(2)])
async def test_what_ends_the_process_comes_out_of_the_body_as_it_is(autojump_clock, error) -> None:
    log = []
    with pytest.raises(type(error)) as raised:
        async with open_runtime(tree(*probes("a", log))):
            raise error
    assert raised.value is error
    assert log == ["start a", "stop a"]


async def test_a_body_that_fails_with_its_tree_says_so(autojump_clock) -> None:
    """The body's error is what the caller knows how to handle; the tree's stands in a note."""
    spec = tree(probe("a", budget=Budget(0, 1), when_exhausted=WhenExhausted.ESCALATE))
    with pytest.raises(Boom) as raised:
        async with open_runtime(spec) as runtime:
            await runtime.ref("top/a").cast(_die)
            try:
                await trio.sleep_forever()
            finally:
                raise Boom("in the cleanup")
    (note,) = raised.value.__notes__
    assert note.startswith("The tree failed too: top crashed (generation 1): ChildGaveUp")


async def _die(_: Actor) -> None:
    raise Boom("told to")


async def test_a_cancellation_from_outside_is_a_stop_in_order(autojump_clock) -> None:
    """Children have their grace, and the timeout still comes out as a timeout."""
    log = []
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(5):
            async with open_runtime(tree(probe("a", Plan(log, stop_takes=3)), probe("b", Plan(log, stop_takes=1)))):
                await trio.sleep_forever()
    assert log == ["start a", "start b", "stop b", "stop a"]
    assert trio.current_time() == 9.0


async def test_a_cancellation_during_the_start_stops_what_is_started(autojump_clock) -> None:
    log = []
    with trio.move_on_after(5) as scope:
        async with open_runtime(tree(probe("a", Plan(log, stop_takes=1)), probe("b", Plan(log, start_takes=100)))):
            pytest.fail("it never started")
    assert scope.cancelled_caught
    assert log == ["start a", "start b", "stop a"]
    assert trio.current_time() == 6.0


async def test_a_run_that_is_cancelled_before_it_begins_ends_at_once(autojump_clock) -> None:
    log = []
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_runtime(tree(*probes("a", log))):
            pytest.fail("it never started")
    assert scope.cancelled_caught
    assert log == []


async def test_a_run_that_is_stopped_before_it_begins_starts_nothing(autojump_clock) -> None:
    """Whoever asked did so before there was anything to ask."""
    log: list[str] = []
    runtime = Runtime(tree(*probes("a", log)))
    runtime.stop("changed its mind")
    await runtime.run()
    assert log == []
    assert (await runtime.wait()).reason == "changed its mind"


async def test_stop_can_be_asked_for_from_anywhere_and_twice(autojump_clock) -> None:
    """The first reason is the one that stands in the exits; the body sees the end by wait()."""
    async with open_runtime(tree(probe("a"))) as runtime:
        runtime.stop("first")
        runtime.stop("second")
        assert (await runtime.wait()).reason == "first"
        assert runtime.ref("top/a")._cell.last_exit.reason == "first"


async def test_a_run_that_is_stopped_while_it_starts_never_was(autojump_clock) -> None:
    """There is nothing to run beside, so the body does not run."""

    class Stops(Actor):
        async def on_start(self) -> None:
            self.context.cell.runtime.stop("changed its mind")
            await trio.sleep(1)

    with pytest.raises(TreeFailed, match=r"top stopped .*changed its mind"):
        async with open_runtime(tree(ChildSpec(id="a", factory=Stops))):
            pytest.fail("it never started")


async def test_the_picture_has_every_actor(autojump_clock) -> None:
    inner = SupervisorSpec(id="inner", children=probes("ab", []))
    async with open_runtime(tree(inner, probe("c"))) as runtime:
        await runtime.ref("top/c").cast(hang)
        await runtime.ref("top/c").cast(hang)
        await quiet()
        assert [one.path for one in runtime.tree().walk()] == [
            "top",
            "top/inner",
            "top/inner/a",
            "top/inner/b",
            "top/c",
        ]
        assert node(runtime, "top").kind == "Supervisor"
        assert node(runtime, "top").state == "running"
        one = node(runtime, "top/c")
        assert (one.name, one.kind, one.generation, one.restarts, one.waiting) == ("c", "Probe", 1, 0, 1)
        await runtime.ref("top/inner/a").cast(_die)
        await quiet()
        assert str(node(runtime, "top/inner/a").last_exit.cause) == "Boom: told to"


async def test_an_empty_tree_runs(autojump_clock) -> None:
    async with open_runtime(tree()) as runtime:
        await trio.sleep(10)
    assert (await runtime.wait()).uptime == 10.0


async def test_runs_in_one_process_know_nothing_of_each_other(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as one, open_runtime(tree(probe("a"))) as two:
        await crash(one.ref("top/a"))
        assert (node(one, "top/a").generation, node(two, "top/a").generation) == (2, 1)


async def test_a_seed_fixes_all_that_is_drawn(autojump_clock) -> None:
    async def delays() -> list[float]:
        events, seen = recorder()
        async with open_runtime(tree(ChildSpec(id="a", factory=Actor)), seed=3, events=events) as runtime:
            draws = [runtime.random.random() for _ in range(3)]
        assert seen
        return draws

    assert await delays() == await delays()


async def test_listeners_are_told_in_order_and_may_leave(autojump_clock) -> None:
    events = EventStream()
    first, second = [], []
    leave = events.listen(first.append)
    events.listen(second.append)
    events.emit("one", "a")
    leave()
    leave()
    events.emit("two", "a", 1, what="x")
    assert [event.kind for event in first] == ["one"]
    assert [(event.id, event.kind, event.cause, dict(event.fields)) for event in second] == [
        (1, "one", None, {}),
        (2, "two", 1, {"what": "x"}),
    ]


async def test_a_listener_that_raises_is_dropped_and_that_is_an_event(autojump_clock) -> None:
    events, seen = EventStream(), []

    def broken(event) -> None:
        raise Boom(event.kind)

    events.listen(broken)
    events.listen(seen.append)
    cause = events.emit("one", "a")
    events.emit("two", "a")
    dropped = next(event for event in seen if event.kind == "event_listener_dropped")
    assert (dropped.cause, dropped.fields["error"]) == (cause.id, "Boom('one')")
    assert sorted(event.kind for event in seen) == ["event_listener_dropped", "one", "two"]


async def test_a_listener_may_leave_and_raise(autojump_clock) -> None:
    events = EventStream()

    def broken(_) -> None:
        leave()
        raise Boom("and gone")

    leave = events.listen(broken)
    assert events.emit("one", "a").id == 1
    assert events.emit("two", "a").id == 2


async def test_a_loop_of_its_own_has_a_result_in_its_exit(autojump_clock) -> None:
    """And the runtime's picture says that it is done."""

    async def run(_: Actor) -> int:
        return 42

    exits = []
    spec = loop("a", run, restart=Restart.TRANSIENT, on_exit=exits.append)
    async with open_runtime(tree(spec)) as runtime:
        await quiet()
        assert states(runtime) == {"a": "done"}
    assert [exit_.result for exit_ in exits] == [42]


async def test_of_two_errors_that_end_the_run_the_first_comes_out(autojump_clock) -> None:
    """What follows while the tree stops is a consequence."""

    async def leave(_: Actor) -> None:
        raise SystemExit(1)

    class Leaves(Actor):
        async def on_stop(self) -> None:
            raise SystemExit(2)

    with pytest.raises(SystemExit) as raised:
        async with open_runtime(tree(ChildSpec(id="a", factory=Leaves), probe("b"))) as runtime:
            await runtime.ref("top/b").cast(leave)
            await trio.sleep_forever()
    assert 1 == raised.value.code
