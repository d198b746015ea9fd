"""The interrupt: which step it strikes, what it leaves alone, and whose signal it is."""

from __future__ import annotations

import signal
import threading

import pytest
import structlog
import trio
from kernel_kit import Actor, Boom, hello, open_runtime, probe, quiet, tree

from agentrt.kernel import ActorDied, ActorHung, Budget, ExitKind
from agentrt.ops import safepoint
from agentrt.ops.interrupt import Hold, Interrupt, Step
from agentrt.ops.looptasks import Loop

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGURG"), reason="needs POSIX")


@pytest.fixture
async def interrupt():
    interrupt = Interrupt(10.0)
    assert await interrupt.arm() == ""
    yield interrupt
    interrupt.disarm()


def strike(interrupt: Interrupt, step: Step | None = None) -> None:
    """Do to *step*, by default the present one, what the watching thread does, but at once and here."""
    # Not by Interrupt.strike(), which would be the place that is interrupted.
    interrupt._asked = step or Step.of(trio.lowlevel.current_task()), 12.5
    signal.raise_signal(signal.SIGURG)


# How long


def test_the_same_step_is_counted_from_when_it_was_first_seen() -> None:
    """Too long is the limit itself, and every look after it."""
    hold = Hold(3.0)
    assert [hold.look("one", now) for now in (10.0, 11.0, 12.9, 13.0, 14.0)] == [None, None, None, 3.0, 4.0]


def test_another_step_begins_anew() -> None:
    """A loop that is merely busy is not held by anybody."""
    hold = Hold(3.0)
    steps = [("one", 0.0), ("two", 2.9), ("three", 5.8), ("three", 8.7), (None, 8.8), ("three", 8.9), ("three", 11.0)]
    assert [hold.look(step, now) for step, now in steps] == [None] * 7


def test_nothing_that_runs_is_no_step() -> None:
    """However long that is so."""
    hold = Hold(3.0)
    assert [hold.look(None, now) for now in (0.0, 5.0, 10.0)] == [None] * 3


def test_what_was_forgotten_is_counted_anew() -> None:
    """The process was suspended meanwhile."""
    hold = Hold(3.0)
    hold.look("one", 0.0)
    hold.forget()
    assert [hold.look("one", now) for now in (100.0, 102.9, 103.0)] == [None, None, 3.0]


# Whom


async def test_an_actor_that_is_struck_crashes_and_is_restarted(autojump_clock, interrupt) -> None:
    """As with any exception: the cause says who held the loop for how long, and the next message is handled."""

    async def spin(_: Actor) -> None:
        strike(interrupt)

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        with pytest.raises(ActorDied):
            await ref.call(spin)
        exit_ = ref._cell.last_exit
        assert exit_.kind is ExitKind.CRASHED
        assert str(exit_.cause) == "ActorHung: top/a #1 held the event loop for 12.5 s without a checkpoint"
        assert "in spin" in exit_.cause.traceback
        assert await ref.call(hello) == "a 2"


async def test_a_task_that_an_actor_spawned_is_struck_in_its_name(autojump_clock, interrupt) -> None:
    """It is a part of the actor, so the actor crashes."""

    async def spin() -> None:
        strike(interrupt)

    async def begin(actor: Actor) -> None:
        actor.spawn(spin)

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        await ref.call(begin)
        await quiet()
        assert str(ref._cell.last_exit.cause).startswith("ActorHung: top/a #1 held")
        assert await ref.call(hello) == "a 2"


async def test_code_that_catches_it_has_as_long_again(autojump_clock, interrupt, monkeypatch) -> None:
    """So that what it does about it is not struck too; one that goes on for ever is struck again."""
    now = 1000.0
    monkeypatch.setattr("agentrt.ops.interrupt.time.monotonic", lambda: now)
    struck = []

    async def stubborn(_: Actor) -> str:
        nonlocal now
        for _ in range(8):
            try:
                strike(interrupt)
            except Exception as error:  # noqa: BLE001 - as a tool loop does it.
                struck.append((now, type(error)))
            now += 4.0
        return "done"

    async with open_runtime(tree(probe("a"))) as runtime:
        assert await runtime.ref("top/a").call(stubborn) == "done"
    assert struck == [(1000.0, ActorHung), (1012.0, ActorHung), (1024.0, ActorHung)]


async def test_a_step_that_is_over_is_not_struck(autojump_clock, interrupt) -> None:
    """The signal came too late: the same task does something else by now, or another one runs."""
    steps: list[Step] = []

    async def first(_: Actor) -> None:
        steps.append(Step.of(trio.lowlevel.current_task()))
        await trio.lowlevel.checkpoint()
        strike(interrupt, steps[0])

    async def second(_: Actor) -> None:
        strike(interrupt, steps[0])

    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        await runtime.ref("top/a").call(first)
        await runtime.ref("top/b").call(second)
        assert [runtime.ref(f"top/{name}").actor.generation for name in "ab"] == [1, 1]


async def test_what_is_no_actor_is_not_struck(interrupt) -> None:
    """The program's own tasks are nobody's to restart; that it was not done is told once."""
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            strike(interrupt)
            interrupt.tell()
    (told,) = logs
    assert (told["event"], told["reason"], told["seconds"]) == ("event_loop_not_interrupted", "it is no actor", 12.5)
    assert told["task"] == trio.lowlevel.current_task().name


async def test_what_is_protected_is_not_struck(autojump_clock, interrupt) -> None:
    """As from Ctrl-C: whoever asked Trio for that holds something together."""

    @trio.lowlevel.enable_ki_protection
    def careful() -> None:
        strike(interrupt)

    async def message(_: Actor) -> str:
        careful()
        return "held together"

    with structlog.testing.capture_logs() as logs:
        async with open_runtime(tree(probe("a"))) as runtime:
            assert await runtime.ref("top/a").call(message) == "held together"
            interrupt.tell()
    assert [(told["reason"], told["task"]) for told in logs] == [("it is protected, as from Ctrl-C", "top/a #1")]


async def test_a_supervisors_own_code_is_not_struck(autojump_clock, interrupt) -> None:
    """Nor what others gave it to call: nobody would be left to restart the child."""

    async def die(_: Actor) -> None:
        raise Boom

    with structlog.testing.capture_logs() as logs:
        async with open_runtime(tree(probe("a", on_exit=lambda _: strike(interrupt)))) as runtime:
            ref = runtime.ref("top/a")
            with pytest.raises(ActorDied):
                await ref.call(die)
            assert await ref.call(hello) == "a 2"
            interrupt.tell()
    assert [told["event"] for told in logs] == ["event_loop_not_interrupted"]
    assert logs[0]["reason"].startswith("it is in agentrt.kernel.")


async def test_what_is_called_by_a_listener_is_not_struck(autojump_clock, interrupt) -> None:
    """The stream would drop the listener for it, and the actor would go on."""

    async def tell(actor: Actor) -> str:
        actor.emit("something_happened")
        return "told"

    seen = []

    def listen(event) -> None:
        if event.kind == "something_happened":
            strike(interrupt)
        seen.append(event.kind)

    async with open_runtime(tree(probe("a"))) as runtime:
        runtime.events.listen(listen)
        assert await runtime.ref("top/a").call(tell) == "told"
        assert seen == ["something_happened"]
        interrupt.tell()


async def test_an_interrupt_is_told_with_task_and_time(autojump_clock, interrupt) -> None:
    async def spin(_: Actor) -> None:
        strike(interrupt)

    with structlog.testing.capture_logs() as logs:
        async with open_runtime(tree(probe("a", budget=Budget(0, 1.0)))) as runtime:
            with pytest.raises(ActorDied):
                await runtime.ref("top/a").call(spin)
            interrupt.tell()
            interrupt.tell()
    assert logs == [
        {"event": "event_loop_interrupted", "log_level": "warning", "task": "top/a #1", "seconds": 12.5},
    ]


# The signal


async def test_a_signal_that_nobody_asked_for_does_nothing(autojump_clock, interrupt) -> None:
    """Others may send it too: urgent data on a socket does."""

    async def message(_: Actor) -> str:
        signal.raise_signal(signal.SIGURG)
        return "undisturbed"

    async with open_runtime(tree(probe("a"))) as runtime:
        assert await runtime.ref("top/a").call(message) == "undisturbed"


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
async def test_the_signal_is_given_back_as_it_was(before) -> None:
    """At the end of the watch; twice does no harm."""
    earlier = signal.signal(signal.SIGURG, before)
    try:
        interrupt = Interrupt(10.0)
        assert await interrupt.arm() == ""
        assert signal.getsignal(signal.SIGURG) not in {signal.SIG_DFL, signal.SIG_IGN}
        interrupt.disarm()
        interrupt.disarm()
        assert signal.getsignal(signal.SIGURG) == before
    finally:
        signal.signal(signal.SIGURG, earlier)


async def test_a_program_that_uses_the_signal_keeps_it() -> None:
    """Whether it was there first or came later, its handler stays and nothing is interrupted."""

    def own(*_: object) -> None:
        pytest.fail("nobody sends it")

    late = Interrupt(0.0)
    earlier = signal.signal(signal.SIGURG, own)
    try:
        assert await late.arm() == "SIGURG has a handler already"
        late.disarm()
        assert signal.getsignal(signal.SIGURG) is own
        signal.signal(signal.SIGURG, signal.SIG_DFL)
        assert await late.arm() == ""
        signal.signal(signal.SIGURG, own)
        with structlog.testing.capture_logs() as logs:
            late.look(Loop.current(), 1.0)
        assert [told["reason"] for told in logs] == ["something else took SIGURG"]
        late.disarm()
        assert signal.getsignal(signal.SIGURG) is own
    finally:
        signal.signal(signal.SIGURG, earlier)


def test_a_loop_outside_of_the_main_thread_cannot_be_interrupted() -> None:
    """Python handles signals in the main thread alone; the rest of the watch goes on."""
    reasons = []
    thread = threading.Thread(target=lambda: reasons.append(trio.run(Interrupt(1.0).arm)))
    thread.start()
    thread.join()
    assert reasons == ["the event loop does not run in the main thread, which is where Python handles signals"]


async def test_an_unknown_trio_or_python_is_not_interrupted(monkeypatch) -> None:
    """What is safe was found out for those that it was tried with."""
    before = signal.getsignal(signal.SIGURG)
    with monkeypatch.context() as patch:
        patch.setattr(trio, "__version__", "0.99.0")
        assert await Interrupt(1.0).arm() == "not tried with Trio 0.99"
    with monkeypatch.context() as patch:
        patch.setattr(safepoint, "TRIED", frozenset())
        assert (await Interrupt(1.0).arm()).startswith("not tried with Python 3.")
    assert signal.getsignal(signal.SIGURG) == before


async def test_a_trio_that_does_not_count_steps_is_found_out(monkeypatch) -> None:
    """The version alone is not believed."""
    monkeypatch.setattr("agentrt.kernel._trio_internals.step_of", lambda _: 7)
    assert await Interrupt(1.0).arm() == "a checkpoint ends no step"


async def test_a_trio_with_another_run_loop_is_found_out(monkeypatch) -> None:
    monkeypatch.setattr("agentrt.kernel._trio_internals.is_run_loop", lambda _: False)
    assert await Interrupt(1.0).arm() == "RuntimeError: a task is not called by the run loop"


async def test_one_that_is_not_armed_does_nothing(monkeypatch) -> None:
    """It was not possible, which was told, and the thread that watches asks all the same."""
    interrupt = Interrupt(0.0)
    monkeypatch.setattr(signal, "pthread_kill", lambda *_: pytest.fail("it has no handler"))
    with structlog.testing.capture_logs() as logs:
        for now in range(3):
            interrupt.look(Loop.current(), float(now))
    assert logs == []
