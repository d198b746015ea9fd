"""What may be asked of an incarnation from outside: to say when it ended, and to fail."""

from __future__ import annotations

import gc
import weakref

import trio
from kernel_kit import (
    ONE_SECOND,
    Boom,
    Plan,
    crash,
    hang,
    hello,
    loop,
    open_runtime,
    probe,
    quiet,
    recorder,
    stubborn,
    tree,
)
from watch_kit import keeper, monitor

from agentrt.kernel import Actor, ExitKind, TerminateChild
from agentrt.policy.watchdog import Limits


async def test_an_end_calls_back_once_in_order_and_before_the_supervisor_hears(autojump_clock) -> None:
    """What was taken back is not called, not even by one that is called before it."""
    called = []
    async with open_runtime(tree(probe("a", backoff=ONE_SECOND))) as runtime:
        incarnation = runtime.ref("top/a").incarnation

        def first(exit_) -> None:
            state = next(iter(runtime.tree().children)).state
            called.append(("first", exit_.kind, incarnation.exit is exit_, state))
            take_back_third()

        incarnation.at_end(first)
        incarnation.at_end(lambda exit_: called.append(("second", exit_.kind)))
        take_back_third = incarnation.at_end(lambda _: called.append("third"))
        take_back_fourth = incarnation.at_end(lambda _: called.append("fourth"))
        take_back_fourth()
        take_back_fourth()
        await crash(runtime.ref("top/a"))
        assert called == [("first", ExitKind.CRASHED, True, "running"), ("second", ExitKind.CRASHED)]
        take_back_third()


async def test_an_end_that_was_before_calls_back_at_once(autojump_clock) -> None:
    called = []
    async with open_runtime(tree(probe("a", backoff=ONE_SECOND))) as runtime:
        incarnation = runtime.ref("top/a").incarnation
        assert incarnation.exit is None
        await crash(runtime.ref("top/a"))
        incarnation.at_end(called.append)()
        assert called == [runtime.ref("top/a")._cell.last_exit]


async def test_a_callback_that_raises_is_reported_and_stands_in_nobodys_way(autojump_clock) -> None:
    """Neither the others nor the supervisor, which would wait for ever to hear of the end."""
    called = []
    events, seen = recorder()
    async with open_runtime(tree(probe("a"), probe("b")), events=events) as runtime:
        incarnation = runtime.ref("top/a").incarnation
        incarnation.at_end(lambda _: int("no number"))
        incarnation.at_end(called.append)
        await crash(runtime.ref("top/a"))
        assert called == [runtime.ref("top/a")._cell.last_exit]
        assert await runtime.ref("top/a").call(hello) == "a 2"
        assert await runtime.ref("top/b").call(hello) == "b 1"
    (failed,) = [event for event in seen if event.kind == "end_callback_failed"]
    assert failed.path == "top/a"
    assert failed.fields["error"].startswith("ValueError: invalid literal")
    assert "test_ends.py" in failed.fields["traceback"]


async def test_a_timer_that_raises_ends_nobody(autojump_clock) -> None:
    events, seen = recorder()
    async with open_runtime(tree(probe("a")), events=events) as runtime:
        runtime.timers.at(1.0, int, "no number")
        await trio.sleep(2)
        assert await runtime.ref("top/a").call(hello) == "a 1"
    (failed,) = [event for event in seen if event.kind == "timer_failed"]
    assert (failed.path, failed.fields["error"][:10]) == ("top", "ValueError")


# A failure from outside


async def test_one_that_is_failed_crashes_with_that_cause(autojump_clock) -> None:
    """Whatever it does. What came first stands."""
    log = []

    async def run(_: Actor) -> None:
        try:
            await trio.sleep_forever()
        finally:
            log.append("cleaned up")

    async with open_runtime(tree(probe("a", backoff=ONE_SECOND), loop("b", run, backoff=ONE_SECOND))) as runtime:
        await runtime.ref("top/a").cast(hang)
        await quiet()
        for name in "ab":
            incarnation = runtime.ref(f"top/{name}").incarnation
            incarnation.fail(Boom("from outside"))
            incarnation.fail(Boom("too late"))
        await quiet()
        exits = [runtime.ref(f"top/{name}")._cell.last_exit.summary() for name in "ab"]
        assert exits == [f"top/{name} crashed (generation 1): Boom: from outside" for name in "ab"]
        assert log == ["cleaned up"]


async def test_one_that_is_failed_while_it_starts_did_not_start(autojump_clock) -> None:
    plan = Plan()
    async with open_runtime(tree(probe("a", plan, backoff=ONE_SECOND))) as runtime:
        plan.start_takes = 5
        await crash(runtime.ref("top/a"))
        await trio.sleep(2)
        runtime.ref("top/a").incarnation.fail(Boom("from outside"))
        await quiet()
        exit_ = runtime.ref("top/a")._cell.last_exit
        assert (exit_.kind, exit_.started) == (ExitKind.CRASHED, False)
        assert str(exit_.cause) == "Boom: from outside"


async def test_one_that_is_failed_stays_so_where_it_reaches_a_limit_on_the_way(autojump_clock) -> None:
    """What came first stands."""

    async def tidy_up(_: Actor) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(4)

    async with open_runtime(tree(probe("a", limits=Limits(total=3.0)))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(tidy_up)
        await trio.sleep(1)
        ref.incarnation.fail(Boom("from outside"))
        assert await ref.call(hello) == "a 2"
        exit_ = ref._cell.last_exit
        assert (exit_.kind, exit_.reason, exit_.uptime) == (ExitKind.CRASHED, "Boom: from outside", 4.0)


async def test_what_it_raises_on_the_way_is_told_with_the_failure(autojump_clock) -> None:
    """Nothing is lost, and what came first is named first."""

    async def run(_: Actor) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("untidy")

    async with open_runtime(tree(loop("a", run, backoff=ONE_SECOND))) as runtime:
        runtime.ref("top/a").incarnation.fail(Boom("from outside"))
        await quiet()
        exit_ = runtime.ref("top/a")._cell.last_exit
        assert (exit_.kind, exit_.cause.message) == (ExitKind.CRASHED, "Boom: from outside; ValueError: untidy")


async def test_one_that_stops_or_ended_is_not_failed(autojump_clock) -> None:
    """An order that was given is carried out."""
    async with open_runtime(tree(probe("a", Plan(stop_takes=3)), probe("b", backoff=ONE_SECOND))) as runtime:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.ref("top").call, TerminateChild("a"))
            await trio.sleep(1)
            runtime.ref("top/a").incarnation.fail(Boom("too late"))
        exit_ = runtime.ref("top/a")._cell.last_exit
        assert (exit_.kind, exit_.cause, trio.current_time()) == (ExitKind.STOPPED, None, 3.0)
        await crash(runtime.ref("top/b"))
        runtime.ref("top/b").incarnation.fail(Boom("too late"))
        assert runtime.ref("top/b").incarnation.failure is None
        assert await runtime.ref("top/b").call(hello) == "b 2"
        assert [str(one.cause) for one in runtime.ref("top/b")._cell.exits] == ["Boom: told to"]


async def test_one_that_is_failed_and_does_not_end_is_given_up(autojump_clock) -> None:
    """As one that is killed; the zombie's exit says what it was failed for."""
    release = trio.Event()
    kept: list = []
    async with open_runtime(tree(keeper("w", kept), loop("a", lambda _: stubborn(release)))) as runtime:
        await runtime.ref("top/w").call(monitor(runtime.ref("top/a")))
        runtime.ref("top/a").incarnation.fail(Boom("from outside"))
        await trio.sleep(60)
        ((_, down),) = kept
        assert down.exit.kind is ExitKind.ZOMBIE
        assert down.exit.reason.startswith("Boom: from outside; ")
        release.set()


async def test_a_failure_that_knows_its_frames_is_not_kept(autojump_clock) -> None:
    """A frame keeps everything alive that its function knew."""

    class Big:
        """Something that one would not want to keep."""

    async with open_runtime(tree(probe("a", backoff=ONE_SECOND))) as runtime:

        def fail() -> weakref.ref[Big]:
            big = Big()
            try:
                raise Boom(repr(type(big)))
            except Boom as error:
                runtime.ref("top/a").incarnation.fail(error)
            return weakref.ref(big)

        big = fail()
        await quiet()
        gc.collect()
        assert big() is None
