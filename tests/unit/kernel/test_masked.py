"""Masked crashes: what a cancellation took the place of is found, and what was only being handled is not."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest
import trio
import trio.testing
from kernel_kit import Boom, crash, loop, open_runtime, probe, quiet, recorder, tree

from agentrt.kernel import Actor, ChildSpec, ExitKind, Restart, TerminateChild
from agentrt.kernel.masking import masked_by
from agentrt.policy.watchdog import Limits


class Other(Exception):
    """Another error."""


async def hang() -> None:
    await trio.sleep_forever()


# What crashes, unless it is cancelled where it hangs.


async def in_a_finally() -> None:
    try:
        raise Boom("lost")
    finally:
        await hang()


async def in_an_except_that_raises_it_on() -> None:
    try:
        raise Boom("lost")
    except Boom:
        await hang()
        raise


async def in_an_except_that_raises_another() -> None:
    try:
        raise Boom("lost")
    except Boom as error:
        await hang()
        raise Other from error


class Closing:
    def __init__(self, *, swallows: bool = False) -> None:
        self._swallows = swallows

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> bool:
        await hang()
        return self._swallows


async def in_an_aexit() -> None:
    async with Closing():
        raise Boom("lost")


@contextlib.asynccontextmanager
async def closing():
    try:
        yield
    finally:
        await hang()


async def in_a_generator_that_is_a_context() -> None:
    async with closing():
        raise Boom("lost")


async def in_a_frame_further_in() -> None:
    with contextlib.suppress(Other):
        await in_a_finally()


async def in_two_finallys() -> None:
    """The first cancellation is itself replaced by a second one."""
    try:
        await in_a_finally()
    finally:
        await trio.lowlevel.checkpoint()


async def while_another_is_handled_on_the_way_out() -> None:
    try:
        raise Boom("lost")
    finally:
        try:
            raise Other
        except Other:
            await hang()


async def while_another_is_handled_further_in() -> None:
    try:
        raise Boom("lost")
    finally:
        await handled()


async def in_a_loop_on_the_way_out() -> None:
    try:
        raise Boom("lost")
    finally:
        for _ in range(3):
            with contextlib.suppress(KeyError):
                await hang()


async def in_a_scope_on_the_way_out() -> None:
    try:
        raise Boom("lost")
    finally:
        with trio.move_on_after(1e6):
            await hang()


async def out_of_a_nursery() -> None:
    """What is lost is a group."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang)
            raise Boom("lost")
    finally:
        await hang()


async def out_of_a_nursery_that_was_cancelled() -> None:
    """What is lost is a group that has a cancellation in it."""

    async def fail() -> None:
        try:
            await hang()
        finally:
            raise Boom("lost")

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(hang)
    finally:
        await trio.lowlevel.checkpoint()


async def in_a_task_of_its_own() -> None:
    """What comes out is a group of cancellations."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_a_finally)
        nursery.start_soon(hang)


async def beside_a_group_that_is_not_meant() -> None:
    try:
        raise ExceptionGroup("lost", [Boom("lost")])
    except* Other:
        pytest.fail("it is none")
    finally:
        await hang()


# What does not crash.


async def nothing_wrong() -> None:
    await hang()


async def handled() -> None:
    try:
        raise Boom("handled")
    except Boom:
        await hang()


async def handled_by_name() -> None:
    try:
        raise Boom("handled")
    except Boom as error:
        await hang()
        repr(error)


async def handled_whatever_it_is() -> None:
    try:
        raise Boom("handled")
    except:  # noqa: E722
        await hang()


async def handled_before_the_next_try() -> None:
    """As each retry does; the last error would be raised."""
    for attempt in range(3):
        try:
            raise Boom("handled")
        except Boom:
            if attempt == 2:
                raise
            await hang()


async def handled_in_an_endless_loop() -> None:
    while True:
        try:
            raise Boom("handled")
        except (Boom, OSError):
            with trio.move_on_after(1e6):
                await hang()


async def handled_within_another() -> None:
    try:
        raise Boom("handled")
    except Boom:
        try:
            raise Other
        except Other:
            await hang()


async def handled_in_a_group() -> None:
    try:
        raise ExceptionGroup("handled", [Boom("handled")])
    except* Boom:
        await hang()


async def handled_with_a_nursery() -> None:
    try:
        raise Boom("handled")
    except Boom:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang)


async def given_up_in_a_finally() -> None:
    try:
        raise Boom("handled")
    finally:
        await hang()
        return  # noqa: B012 - that is the case.


async def not_ready() -> None:
    """Trio's own way to say that there is nothing to take yet."""
    try:
        raise trio.WouldBlock
    finally:
        await hang()


async def found_by(function) -> BaseException | None:
    """Cancel *function* where it hangs, from a task that handles something of its own; return what is found."""
    found: list[BaseException | None] = []

    async def watched(scope: trio.CancelScope) -> None:
        with scope:
            try:
                await function()
            except BaseException as cancellation:
                found.append(masked_by(cancellation))
                raise

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(watched, scope)
        await trio.testing.wait_all_tasks_blocked()
        try:
            raise Other("the canceller's own, which stands in the context as well")
        except Other:
            scope.cancel()
    return found[0]


@pytest.mark.parametrize(
    "function",
    [
        in_a_finally,
        in_an_except_that_raises_it_on,
        in_an_except_that_raises_another,
        in_an_aexit,
        in_a_generator_that_is_a_context,
        in_a_frame_further_in,
        in_two_finallys,
        while_another_is_handled_on_the_way_out,
        while_another_is_handled_further_in,
        in_a_loop_on_the_way_out,
        in_a_scope_on_the_way_out,
        in_a_task_of_its_own,
    ],
)
async def test_a_crash_that_was_on_its_way_out_is_found(function) -> None:
    """Wherever a checkpoint stood in its way."""
    masked = await found_by(function)
    assert (type(masked), str(masked)) == (Boom, "lost")


@pytest.mark.parametrize(
    "function", [out_of_a_nursery, out_of_a_nursery_that_was_cancelled, beside_a_group_that_is_not_meant]
)
async def test_a_group_that_was_on_its_way_out_is_found_without_cancellations(function) -> None:
    masked = await found_by(function)
    assert isinstance(masked, ExceptionGroup)
    assert [str(one) for one in masked.exceptions] == ["lost"]


@pytest.mark.parametrize(
    "function",
    [
        nothing_wrong,
        handled,
        handled_by_name,
        handled_whatever_it_is,
        handled_before_the_next_try,
        handled_in_an_endless_loop,
        handled_within_another,
        handled_in_a_group,
        handled_with_a_nursery,
        given_up_in_a_finally,
        not_ready,
    ],
)
async def test_an_exception_that_was_only_handled_is_none(function) -> None:
    """The code would have got over it; and what the canceller handled at that time is none of this task."""
    assert await found_by(function) is None


def test_a_circle_of_contexts_has_an_end() -> None:
    """Whoever sets contexts by hand can close one."""
    one, other = Boom("one"), Boom("other")
    one.__context__, other.__context__ = other, one
    cancellation = BaseExceptionGroup("", [trio.Cancelled._create(source="unknown")])
    cancellation.exceptions[0].__context__ = one
    assert masked_by(cancellation) is None


def test_a_chain_of_thousands_is_not_followed_to_its_end() -> None:
    cancellation = trio.Cancelled._create(source="unknown")
    last: BaseException = cancellation
    for _ in range(100_000):
        last.__context__ = last = Boom()
    assert masked_by(cancellation) is None


# In the tree


async def test_a_killed_actor_tells_the_crash_that_it_was_on_its_way_to(autojump_clock) -> None:
    """The exit stays what it is and keeps the cause as text; there is an event."""
    events, seen = recorder()

    async def run(_: Actor) -> None:
        await in_a_finally()

    async with open_runtime(
        tree(loop("a", run, limits=Limits(total=3), restart=Restart.TEMPORARY)), events=events
    ) as r:
        exit_ = await r.ref("top/a").wait_gone()
    assert (exit_.kind, exit_.cause) == (ExitKind.TIMED_OUT, None)
    assert str(exit_.suspected_masked) == "Boom: lost"
    assert 'raise Boom("lost")' in exit_.suspected_masked.traceback
    (told,) = [event for event in seen if event.kind == "crash_suspected_masked"]
    assert (told.path, told.fields["generation"], told.fields["error"]) == ("top/a", 1, "Boom: lost")
    assert 'raise Boom("lost")' in told.fields["traceback"]


async def test_a_run_of_its_own_that_is_stopped_tells_it_too(autojump_clock) -> None:
    """A stop is an end like any other: stopped, not crashed, and so not restarted."""

    async def run(_: Actor) -> None:
        await in_a_finally()

    async with open_runtime(tree(loop("a", run, shutdown=2))) as runtime:
        await quiet()
        exit_ = await runtime.ref("top").call(TerminateChild("a"))
    assert (exit_.kind, exit_.is_abnormal, str(exit_.suspected_masked)) == (ExitKind.STOPPED, False, "Boom: lost")


async def test_a_task_that_it_spawned_tells_it_too(autojump_clock) -> None:
    """It is a part of the actor, whatever that itself came to."""

    async def run(actor: Actor) -> str:
        actor.spawn(in_a_finally)
        await quiet()
        return "done"

    ends = []
    async with open_runtime(tree(loop("a", run, restart=Restart.TEMPORARY, on_exit=ends.append))):
        await trio.sleep(1)
    assert [(end.kind, end.result, str(end.suspected_masked)) for end in ends] == [
        (ExitKind.COMPLETED, "done", "Boom: lost")
    ]


async def test_an_ordinary_kill_tells_nothing(autojump_clock) -> None:
    """Nor does one of an actor that waits out an error."""
    events, seen = recorder()

    async def retry(_: Actor) -> None:
        await handled_before_the_next_try()

    specs = (loop("a", retry, shutdown=0), loop("b", lambda _: hang(), shutdown=0))
    async with open_runtime(tree(*specs), events=events) as runtime:
        await quiet()
    ends = [runtime.ref(f"top/{name}")._cell.last_exit for name in "ab"]
    assert [(end.kind, end.suspected_masked) for end in ends] == [(ExitKind.KILLED, None)] * 2
    assert [event for event in seen if event.kind == "crash_suspected_masked"] == []


async def test_an_exception_that_came_out_is_no_masked_one(autojump_clock) -> None:
    """What is known need not be suspected; the context of a crash is a part of its traceback."""

    class Twice(Actor):
        async def run(self) -> None:
            try:
                raise Other("first")
            finally:
                raise Boom("then")

    ends = []
    async with open_runtime(tree(ChildSpec(id="a", factory=Twice, restart=Restart.TEMPORARY, on_exit=ends.append))):
        await quiet()
    (exit_,) = ends
    assert (exit_.kind, str(exit_.cause), exit_.suspected_masked) == (ExitKind.CRASHED, "Boom: then", None)


async def test_a_crash_that_came_out_later_is_the_one_that_is_told(autojump_clock) -> None:
    """An exit has one cause; what another cancellation may have hidden before is left out."""

    class Unlucky(Actor):
        async def run(self) -> None:
            await in_a_finally()

        async def on_stop(self) -> None:
            raise Other("at its stop")

    async with open_runtime(tree(ChildSpec(id="a", factory=Unlucky))) as runtime:
        await quiet()
        exit_ = await runtime.ref("top").call(TerminateChild("a"))
    assert (exit_.kind, str(exit_.cause), exit_.suspected_masked) == (
        ExitKind.CRASHED_DURING_STOP,
        "Other: at its stop",
        None,
    )


async def test_an_ordinary_crash_tells_nothing_of_the_kind(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        await crash(runtime.ref("top/a"))
        assert runtime.ref("top/a")._cell.last_exit.suspected_masked is None


async def test_a_masked_crash_keeps_nothing_alive(autojump_clock) -> None:
    """As with any cause: the record has text only."""

    class Big:
        pass

    gone = []

    async def run(_: Actor) -> None:
        big = Big()
        gone.append(weakref.ref(big))
        await in_a_finally()

    async with open_runtime(tree(loop("a", run, shutdown=0))) as runtime:
        await quiet()
        exit_ = await runtime.ref("top").call(TerminateChild("a"))
        assert exit_.suspected_masked is not None
        gc.collect()
        assert [one() for one in gone] == [None]
