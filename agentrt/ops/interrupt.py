"""Interrupts an actor that holds the event loop in one step: raises :class:`ActorHung` where its code stands.

A signal's handler runs in the main thread between two bytecodes of whatever runs there, and what it raises is raised
there. The signal is SIGURG, as in Go's scheduler and for its reasons: nothing happens to a process that has no handler
for it, the C library does not use it, debuggers let it pass, and a program that does use it has to bear one too many.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

import attrs
import structlog
import trio

from agentrt.kernel import ActorHung
from agentrt.kernel._trio_internals import step_of, why_no_steps
from agentrt.ops.looptasks import Loop, actor_of, describe
from agentrt.ops.safepoint import why_never, why_not_in

_log = structlog.get_logger()

#: Windows has none.
_SIGNAL: signal.Signals | None = getattr(signal, "SIGURG", None)


@attrs.frozen
class Step:
    """What a task does between two checkpoints."""

    task: trio.lowlevel.Task
    number: int

    @classmethod
    def of(cls, task: trio.lowlevel.Task) -> Step:
        """Return the step that *task* is in."""
        return cls(task, step_of(task))


@attrs.frozen
class Outcome:
    """What became of a strike: *refusal* says why nothing was raised, and is "" where it was."""

    step: Step
    task: str
    held: float
    refusal: str


@attrs.define
class Hold:
    """Time for how long one and the same step is seen. Pure.

    Args:
        after: Seconds that are too long.
    """

    after: float
    _step: object = attrs.field(init=False, default=None)
    _since: float = attrs.field(init=False, default=0.0)

    def look(self, step: object, now: float) -> float | None:
        """Return for how many seconds *step* has been seen, where that is too long; else None.

        Args:
            step: What runs; None where nothing does.
            now: Monotonic seconds.
        """
        if step is None or step != self._step:
            self._step, self._since = step, now
        held = now - self._since
        return held if step is not None and held >= self.after else None

    def forget(self) -> None:
        """Begin anew: the time so far says nothing."""
        self._step = None


class Interrupt:
    """Raises :class:`ActorHung` in an actor that holds the event loop for too long without a checkpoint.

    The actor crashes with it, as with any exception, and its supervisor decides. Code that catches it goes on, and is
    interrupted again after the same time. Only an actor's own code is interrupted, with what it calls, and only where
    :mod:`~agentrt.ops.safepoint` has nothing against it; where it has, that is logged, and tried again with each look.
    Native code goes on until it returns, unless it looks for signals itself, as ``time.sleep`` does; while it keeps the
    interpreter's lock, as ``re`` does, nobody can even look.

    It costs nothing while the loop turns: Trio counts a task's steps anyway. It needs POSIX, and the loop in the main
    thread.

    Args:
        after: Seconds that a step may hold the loop, from when it is first seen to.
    """

    def __init__(self, after: float) -> None:
        self._hold = Hold(after)
        self._after = after
        self._armed = False
        self._before: Any = None
        self._asked: tuple[Step, float] | None = None
        self._hit: tuple[Step, float] | None = None
        self._outcome: Outcome | None = None
        self._refused: Step | None = None

    async def arm(self) -> str:
        """Take the signal; done in the loop. Return why that cannot be, or "" where it is done."""
        reason = _why_no_signal() or why_never() or await why_no_steps()
        if not reason and _SIGNAL is not None:
            self._before = signal.signal(_SIGNAL, self._on_signal)
            self._armed = True
        return reason

    def disarm(self) -> None:
        """Give the signal back; done in the loop, where :meth:`arm` was. Nothing happens where it was not armed."""
        if self._armed and _SIGNAL is not None and self._has(_SIGNAL):
            signal.signal(_SIGNAL, self._before)
        self._armed = False
        self._asked = self._hit = self._outcome = self._refused = None
        self._hold.forget()

    # In the thread that watches

    def look(self, loop: Loop, now: float) -> None:
        """Look at what runs in *loop*, which seems to stand, and interrupt it where that is due."""
        if not self._armed or _SIGNAL is None:
            return
        task = loop.running()
        step = Step.of(task) if task is not None else None
        held = self._hold.look(step, now)
        if held is None or step is None:
            return
        if self._has(_SIGNAL):
            self.strike(loop.thread, step, held)
        else:
            self._tell(Outcome(step, describe(step.task), held, "something else took SIGURG"))

    def strike(self, thread: int, step: Step, held: float) -> None:
        """Ask the main thread to raise in *step*, if that still runs there and may be interrupted where it is."""
        assert _SIGNAL is not None
        self._asked = step, held
        signal.pthread_kill(thread, _SIGNAL)

    def forget(self) -> None:
        """Count anew: the loop turns, or nothing ran at all."""
        self._hold.forget()

    def tell(self) -> None:
        """Log what became of the last strike, where that is not told yet."""
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        said = {"task": outcome.task, "seconds": round(outcome.held, 3)}
        if not outcome.refusal:
            _log.warning("event_loop_interrupted", **said)
        elif outcome.step != self._refused:
            # Once for each step: it is tried again with each look.
            self._refused = outcome.step
            _log.warning("event_loop_not_interrupted", reason=outcome.refusal, **said)

    def _has(self, signal_: signal.Signals) -> bool:
        return signal.getsignal(signal_) == self._on_signal

    # In the main thread

    def _on_signal(self, _signal: int, frame: FrameType | None) -> None:
        asked, self._asked = self._asked, None
        if asked is None:
            return
        step, held = asked
        now = time.monotonic()
        # Whoever was hit has as long again to get out, before the same is done to his cleanup.
        is_leaving = self._hit is not None and self._hit[0] == step and now - self._hit[1] < self._after
        if is_leaving or not _runs_now(step):
            return
        actor = actor_of(step.task)
        refusal = _why_not(actor, frame)
        # Named now: the task goes on as the next incarnation.
        self._outcome = Outcome(step, describe(step.task), held, refusal)
        if not refusal:
            self._hit = step, now
            raise ActorHung(actor, held)


def _runs_now(step: Step) -> bool:
    try:
        return Step.of(trio.lowlevel.current_task()) == step
    except RuntimeError:
        # Between two tasks.
        return False


def _why_not(actor: str, frame: FrameType | None) -> str:
    if not actor:
        return "it is no actor"
    if trio.lowlevel.currently_ki_protected():
        return "it is protected, as from Ctrl-C"
    return why_not_in(frame)


def _why_no_signal() -> str:
    if _SIGNAL is None or not hasattr(signal, "pthread_kill"):
        return "this platform has no SIGURG to send to a thread"
    if threading.current_thread() is not threading.main_thread():
        return "the event loop does not run in the main thread, which is where Python handles signals"
    if signal.getsignal(_SIGNAL) not in (signal.SIG_DFL, signal.SIG_IGN):
        return "SIGURG has a handler already"
    return ""
