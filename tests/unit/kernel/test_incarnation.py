"""One life: each way in which it can end is one exit record, and a cancellation is never a crash."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from kernel_kit import Boom, Plan, die, hang, hello, loop, open_runtime, probe, quiet, recorder, stubborn, tree, wait

from agentrt.kernel import (
    Actor,
    ActorDied,
    Budget,
    CallTimeout,
    ChildSpec,
    Exit,
    ExitKind,
    Restart,
    TerminateChild,
    TreeFailed,
)
from agentrt.kernel.leash import PIERCE_GRACE, ZOMBIE_AFTER
from agentrt.policy.watchdog import Limits

LONG = 1000.0


async def only_exit(spec: ChildSpec, act=None, *, at_end: bool = False) -> Exit:
    """Run one temporary child until it is gone, or to the end of the run; return how it ended."""
    async with open_runtime(tree(spec)) as runtime:
        ref = runtime.ref(f"top/{spec.id}")
        if act is not None:
            await act(runtime, ref)
        if not at_end:
            return await ref.wait_gone()
    return await ref.wait_gone()


async def test_what_run_returns_is_completed(autojump_clock) -> None:
    async def run(_: Actor) -> str:
        await trio.sleep(3)
        return "result"

    exit_ = await only_exit(loop("a", run, restart=Restart.TEMPORARY))
    assert (exit_.kind, exit_.result, exit_.uptime, exit_.started) == (ExitKind.COMPLETED, "result", 3.0, True)
    assert not exit_.is_abnormal
    assert exit_.summary() == "top/a completed (generation 1)"


async def test_an_exception_is_crashed(autojump_clock) -> None:
    """With its cause as text; the innermost frames are kept."""
    exit_ = await only_exit(probe("a", restart=Restart.TEMPORARY), lambda _, ref: ref.cast(die))
    assert exit_.kind is ExitKind.CRASHED
    assert exit_.is_abnormal
    assert str(exit_.cause) == "Boom: told to"
    assert 'raise Boom("told to")' in exit_.cause.traceback


async def test_an_exception_in_a_spawned_task_is_crashed(autojump_clock) -> None:
    """It is the actor's own: a group of one is that one."""

    async def run(actor: Actor) -> None:
        async def fail() -> None:
            raise Boom("beside")

        actor.spawn(fail)
        await trio.sleep_forever()

    exit_ = await only_exit(loop("a", run, restart=Restart.TEMPORARY))
    assert (exit_.kind, str(exit_.cause)) == (ExitKind.CRASHED, "Boom: beside")


async def test_an_ordered_end_is_stopped(autojump_clock) -> None:
    """The message in hand is handled to its end, and the stop hook runs, with spawned tasks still alive."""
    beats = []

    async def begin(actor: Actor) -> None:
        async def beat() -> None:
            while True:
                beats.append(trio.current_time())
                await trio.sleep(1)

        actor.spawn(beat)

    plan = Plan(stop_takes=2)

    async def act(_, ref) -> None:
        await ref.cast(begin)
        await ref.cast(wait(1.5))
        await quiet()

    exit_ = await only_exit(probe("a", plan, restart=Restart.TEMPORARY), act, at_end=True)
    assert (exit_.kind, exit_.uptime, exit_.reason) == (ExitKind.STOPPED, 3.5, "the run is over")
    assert plan.log == ["start a", "stop a"]
    assert beats == [0.0, 1.0, 2.0, 3.0]


async def test_a_run_of_its_own_is_cancelled_and_then_stopped(autojump_clock) -> None:
    """Its stop hook runs after its ``run`` was cancelled."""
    log = []

    class Own(Actor):
        async def run(self) -> None:
            await trio.sleep_forever()

        async def on_stop(self) -> None:
            await trio.sleep(1)
            log.append("stopped")

    exit_ = await only_exit(ChildSpec(id="a", factory=Own), at_end=True)
    assert (exit_.kind, exit_.result) == (ExitKind.STOPPED, None)
    assert log == ["stopped"]


async def test_an_exception_on_the_way_out_is_crashed_during_stop(autojump_clock) -> None:
    exit_ = await only_exit(probe("a", Plan(stop_fails=True)), at_end=True)
    assert (exit_.kind, str(exit_.cause)) == (ExitKind.CRASHED_DURING_STOP, "Boom: a does not stop well")
    assert exit_.reason == "the run is over"


async def test_what_does_not_end_within_its_grace_is_killed(autojump_clock) -> None:
    async def act(_, ref) -> None:
        await ref.cast(hang)
        await quiet()

    exit_ = await only_exit(probe("a", shutdown=3), act, at_end=True)
    assert (exit_.kind, exit_.uptime) == (ExitKind.KILLED, 3.0)
    assert exit_.reason == "the run is over: did not stop within 3 s"


async def test_without_grace_it_is_killed_at_once(autojump_clock) -> None:
    """A grace of 0 asks nothing: the stop hook does not run."""
    plan = Plan()
    exit_ = await only_exit(probe("a", plan, shutdown=0), at_end=True)
    assert (exit_.kind, exit_.uptime) == (ExitKind.KILLED, 0.0)
    assert plan.log == ["start a"]


async def test_too_long_in_all_is_timed_out(autojump_clock) -> None:
    spec = loop("a", hang, restart=Restart.TEMPORARY, limits=Limits(total=7))
    exit_ = await only_exit(spec)
    assert (exit_.kind, exit_.uptime) == (ExitKind.TIMED_OUT, 7.0)
    assert exit_.reason == "timed_out (last progress: none)"


async def test_too_long_without_progress_is_stuck(autojump_clock) -> None:
    """The reason has the last mark."""

    async def run(actor: Actor) -> None:
        for step in range(3):
            await trio.sleep(4)
            actor.progress(f"step {step}")
        await trio.sleep_forever()

    exit_ = await only_exit(loop("a", run, restart=Restart.TEMPORARY, limits=Limits(progress=5)))
    assert (exit_.kind, exit_.uptime) == (ExitKind.STUCK, 17.0)
    assert exit_.reason == "stuck (last progress: step 2)"


async def test_an_actor_that_waits_for_messages_is_not_stuck(autojump_clock) -> None:
    """Idle is not stuck, for however long; a handler that does not come back is, from when it began."""
    async with open_runtime(tree(probe("a", restart=Restart.TEMPORARY, limits=Limits(progress=5)))) as runtime:
        ref = runtime.ref("top/a")
        await trio.sleep(LONG)
        assert await ref.call(wait(4)) == "waited"
        await trio.sleep(LONG)
        with pytest.raises(CallTimeout):
            await ref.call(hang, timeout=2)
        await trio.sleep(LONG)
        with pytest.raises(ActorDied):
            await ref.call(hang)
        assert ref._cell.last_exit.kind is ExitKind.STUCK
        assert trio.current_time() == 3 * LONG + 4 + 2 + 5


async def test_an_actor_that_waits_for_another_is_not_stuck(autojump_clock) -> None:
    """Whoever has limits of his own is waited for without one."""

    async def run(actor: Actor) -> None:
        actor.context.incarnation.is_waiting = True
        await trio.sleep(LONG)
        actor.context.incarnation.is_waiting = False
        actor.progress("the other is done")
        await trio.sleep_forever()

    exit_ = await only_exit(loop("a", run, restart=Restart.TEMPORARY, limits=Limits(progress=5)))
    assert (exit_.kind, exit_.uptime) == (ExitKind.STUCK, LONG + 5)


async def test_a_stop_has_its_grace_and_no_progress_limit(autojump_clock) -> None:
    """Tidying up is no work that could be stuck."""
    plan = Plan(stop_takes=20)
    exit_ = await only_exit(probe("a", plan, shutdown=30, limits=Limits(progress=5)), at_end=True)
    assert (exit_.kind, exit_.uptime) == (ExitKind.STOPPED, 20.0)


async def test_a_stop_hook_that_hangs_after_its_own_end_is_killed(autojump_clock) -> None:
    """An actor that ended by itself has its grace too, so that it cannot stay for ever half ended."""

    class Ends(Actor):
        async def run(self) -> str:
            return "lost"

        async def on_stop(self) -> None:
            await trio.sleep_forever()

    exit_ = await only_exit(ChildSpec(id="a", factory=Ends, restart=Restart.TEMPORARY, shutdown=4))
    assert (exit_.kind, exit_.uptime, exit_.reason) == (ExitKind.KILLED, 4.0, "its stop took longer than 4 s")


async def test_what_does_not_end_even_then_is_a_zombie(autojump_clock) -> None:
    """It is reported with the place where it hangs, its callers are told, and its supervisor goes on without it."""
    events, seen = recorder()
    release = trio.Event()

    async def shut(_: Actor) -> None:
        await stubborn(release)

    async with open_runtime(tree(probe("a", shutdown=2)), events=events) as runtime:
        ref = runtime.ref("top/a")
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorDied, match="zombie"):
                    await ref.call(shut)

            nursery.start_soon(ask)
            await quiet()
            exit_ = await runtime.ref("top").call(TerminateChild("a"))
        assert trio.current_time() == 2.0 + ZOMBIE_AFTER + PIERCE_GRACE
        assert exit_.kind is ExitKind.ZOMBIE
        assert exit_.is_abnormal
        assert exit_.reason == (
            "asked for: did not stop within 2 s; its shield was pierced; it was cancelled and is still here"
        )
        assert runtime.zombies == [exit_]
        assert ref._cell.incarnation.state == "zombie"
        (told,) = [event for event in seen if event.kind == "actor_zombie"]
        assert "await release.wait()" in told.fields["stack"]
        release.set()
        await quiet()
        assert runtime.zombies == []
        assert ref._cell.last_exit is exit_
    assert [event.kind for event in seen if "zombie" in event.kind] == ["actor_zombie", "actor_zombie_ended"]


async def test_a_zombie_reads_no_more_messages(autojump_clock) -> None:
    """One that wakes up after it was replaced leaves the mailbox to its successor."""
    release = trio.Event()
    handled = []

    class Shut(Actor):
        async def run(self) -> object:
            with trio.CancelScope(shield=self.generation == 1):
                return await super().run()

        async def handle(self, message: object) -> None:
            handled.append((self.generation, message))
            if message == "hang":
                await stubborn(release)

    spec = ChildSpec(id="a", factory=Shut, limits=Limits(progress=1), backoff=probe("x").backoff)
    async with open_runtime(tree(spec)) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast("hang")
        await ref.cast("next")
        await trio.sleep(10)
        assert ref.actor.generation == 2
        release.set()
        await ref.cast("last")
        await quiet()
        assert runtime.zombies == []
    assert handled == [(1, "hang"), (2, "next"), (2, "last")]


async def test_a_start_that_is_stopped_is_cancelled(autojump_clock) -> None:
    """An actor that has not started has nothing to tidy up; it was stopped, and not by a fault of its own."""
    plan = Plan(start_takes=50)

    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(TreeFailed):
                async with open_runtime(tree(probe("a", plan))) as _:
                    pytest.fail("it never started")

        nursery.start_soon(run)
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 3.0
    assert plan.log == ["start a"]


async def test_a_failed_factory_is_a_failed_start(autojump_clock) -> None:
    def factory() -> Actor:
        raise Boom("no such thing")

    with pytest.raises(TreeFailed, match=r"top/a did not start\n  top/a crashed .*Boom: no such thing"):
        async with open_runtime(tree(ChildSpec(id="a", factory=factory))):
            pytest.fail("it never started")


async def test_a_factory_that_gives_the_same_actor_again_is_a_failed_start(autojump_clock) -> None:
    """Neither for two children nor for two incarnations: it would tell one of the other's place, and keep its state."""
    one = Actor()
    shared = ChildSpec(id="b", factory=lambda: one)
    with pytest.raises(TreeFailed, match="the factory of top/b gave <Actor top/a generation 1 running>, which lives"):
        async with open_runtime(tree(ChildSpec(id="a", factory=lambda: one), shared)):
            pytest.fail("it never started")


async def test_a_factory_that_makes_no_actor_says_what_it_made(autojump_clock) -> None:
    with pytest.raises(TreeFailed, match="the factory of top/a made None, which is no Actor"):
        async with open_runtime(tree(ChildSpec(id="a", factory=lambda: None))):
            pytest.fail("it never started")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
async def test_what_ends_the_process_is_no_crash_and_ends_the_run_in_order(autojump_clock, error) -> None:
    """Not restarted, also out of a group; the others stop in order; the error itself comes out, not a group of it."""
    plan = Plan(stop_takes=1)

    async def leave(actor: Actor) -> None:
        async def raise_() -> None:
            raise error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(raise_)

    ref = None
    with pytest.raises(type(error)) as raised:
        async with open_runtime(tree(probe("b", plan), probe("a"))) as runtime:
            ref = runtime.ref("top/a")
            await ref.cast(leave)
            await trio.sleep_forever()
    assert raised.value is error
    assert plan.log == ["start b", "stop b"]
    exit_ = ref._cell.last_exit
    assert (exit_.kind, exit_.generation, exit_.cause) == (ExitKind.KILLED, 1, None)
    assert exit_.ends_run
    assert exit_.reason == f"{type(error).__name__} ends the run"


async def test_a_system_exit_at_the_start_ends_the_run(autojump_clock) -> None:
    class Leaves(Actor):
        async def on_start(self) -> None:
            raise SystemExit(4)

    with pytest.raises(SystemExit) as raised:
        async with open_runtime(tree(ChildSpec(id="a", factory=Leaves), probe("b"))):
            await trio.sleep_forever()
    assert raised.value.code == 4


async def test_a_crash_beside_a_system_exit_is_told_as_well(autojump_clock) -> None:
    async def both(_: Actor) -> None:
        raise BaseExceptionGroup("two", [Boom("one"), SystemExit(1)])

    ref = None
    with pytest.raises(SystemExit):
        async with open_runtime(tree(probe("a"))) as runtime:
            ref = runtime.ref("top/a")
            await ref.cast(both)
            await trio.sleep_forever()
    assert (ref._cell.last_exit.kind, str(ref._cell.last_exit.cause)) == (ExitKind.CRASHED, "Boom: one")


async def test_an_exit_keeps_nothing_of_the_actor_alive(autojump_clock) -> None:
    """A frame knows everything that its function knew; the record has text only."""

    class Big:
        pass

    big = Big()
    gone = weakref.ref(big)

    async def hold(_: Actor, big: Big = big) -> None:
        raise Boom("with something in hand")

    del big
    async with open_runtime(tree(probe("a", budget=Budget(0, 1)))) as runtime:
        ref = runtime.ref("top/a")
        gc.disable()
        try:
            await ref.cast(hold)
            await quiet()
            hold = None
            # Not even until the collector comes by.
            assert gone() is None
        finally:
            gc.enable()
        assert "hold" in ref._cell.last_exit.cause.traceback


async def test_progress_is_seen_from_outside(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        await trio.sleep(4)
        assert runtime.tree().children[0].seconds_since_progress == 4.0
        await ref.call(hello)
        assert runtime.tree().children[0].seconds_since_progress == 0.0
        assert runtime.tree().seconds_since_progress == 4.0


async def test_an_actor_emits_events_with_their_cause(autojump_clock) -> None:
    events, seen = recorder()

    async def tell(actor: Actor) -> float:
        first = actor.emit("tool_failed", tool="grep")
        actor.emit("tool_restarted", cause=first)
        return actor.random.random()

    async with open_runtime(tree(probe("a")), seed=7, events=events) as runtime:
        drawn = await runtime.ref("top/a").call(tell)
    failed, restarted = (event for event in seen if event.kind.startswith("tool"))
    assert (failed.path, failed.fields, restarted.cause) == ("top/a", {"tool": "grep"}, failed.id)
    async with open_runtime(tree(probe("a")), seed=7) as runtime:
        assert await runtime.ref("top/a").call(tell) == drawn


async def test_a_crash_that_comes_with_a_cancellation_is_a_crash(autojump_clock) -> None:
    """A group of both is sorted; the exception is what is told."""

    async def run(_: Actor) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fail_late)
            await trio.sleep_forever()

    async def act(runtime, ref) -> None:
        await runtime.ref("top").call(TerminateChild("a"))

    exit_ = await only_exit(loop("a", run), act, at_end=True)
    assert (exit_.kind, str(exit_.cause)) == (ExitKind.CRASHED_DURING_STOP, "Boom: late")


async def _fail_late() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise Boom("late")


async def test_an_actor_that_shields_itself_beyond_its_grace_is_killed_and_no_zombie(autojump_clock) -> None:
    """Where the shield ends before the patience does."""

    async def tidy(_: Actor) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(6)

    async with open_runtime(tree(probe("a", shutdown=2))) as runtime:
        await runtime.ref("top/a").cast(tidy)
        await quiet()
        exit_ = await runtime.ref("top").call(TerminateChild("a"))
        assert (exit_.kind, trio.current_time()) == (ExitKind.KILLED, 6.0)
        assert runtime.zombies == []


async def test_crashes_of_one_moment_are_one_exit(autojump_clock) -> None:
    """The cause names both."""

    async def both(_: Actor) -> None:
        raise ExceptionGroup("two", [Boom("one"), ValueError("two")])

    async with open_runtime(tree(probe("a", restart=Restart.TEMPORARY))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(both)
        exit_ = await ref.wait_gone()
    assert str(exit_.cause) == "ExceptionGroup: Boom: one; ValueError: two"


async def test_an_actor_that_swallows_its_cancellation_holds_up_the_run_but_not_wait(autojump_clock) -> None:
    """Trio cannot abandon a task: the run says so, and wait() returns so that the process can decide."""
    events, seen = recorder()

    with trio.move_on_after(LONG) as scope:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                async with open_runtime(tree(probe("a", shutdown=1)), events=events) as runtime:
                    await runtime.ref("top/a").cast(shielded_until(release))
                    await quiet()
                    runtime.stop("over")
                    exit_ = await runtime.wait()
                    assert exit_.kind is ExitKind.STOPPED
                    assert [one.path for one in runtime.zombies] == ["top/a"]

            release = trio.Event()
            nursery.start_soon(run)
            await trio.sleep(100)
            assert [event.fields["zombies"] for event in seen if event.kind == "run_held_by_zombies"] == [["top/a"]]
            release.set()
    assert not scope.cancelled_caught


def shielded_until(release: trio.Event):
    async def message(_: Actor) -> None:
        await stubborn(release)

    return message
