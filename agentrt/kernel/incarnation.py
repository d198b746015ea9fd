"""One life of an actor: from its factory to its exit record.

All that turns the outcome of a task into an :class:`Exit` stands here. An incarnation owns a cancel scope and a
nursery; nothing leaves it but the ambient cancellation. What must end the whole run (KeyboardInterrupt, SystemExit) is
handed to the runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from agentrt.kernel.actor import Actor, ActorContext
from agentrt.kernel.exits import Cause, Exit, ExitKind
from agentrt.kernel.serving import Serving
from agentrt.policy.watchdog import Limits, LimitVerdict, judge, next_due

if TYPE_CHECKING:
    from agentrt.kernel.cell import Cell
    from agentrt.kernel.timers import Timer

#: Seconds after which a cancelled incarnation that did not end is given up as a zombie.
ZOMBIE_AFTER = 5.0

_LIMIT_EXITS = {LimitVerdict.TIMED_OUT: ExitKind.TIMED_OUT, LimitVerdict.STUCK: ExitKind.STUCK}
_ENDS_RUN = (KeyboardInterrupt, SystemExit)
_BEYOND_US = (trio.Cancelled, trio.TrioInternalError, GeneratorExit)


class StopRequested:
    """Control message: an actor that stops by itself (a supervisor) is asked to."""

    __slots__ = ("deadline", "incarnation", "reason")

    def __init__(self, incarnation: Incarnation, reason: str, deadline: float) -> None:
        self.incarnation = incarnation
        self.reason = reason
        self.deadline = deadline


class Incarnation:
    """One generation of one actor.

    Args:
        cell: Its cell.
        factory: Makes the actor.
        limits: Its total time and time without progress.
        grace: Seconds that its stop hook may take when it ended by itself; a stop that is asked for brings its own.
        patience: Says how many seconds after it was cancelled it is given up, if it does not end.
        on_started: Called when it is started.
        on_exit: Called once: when it ended, or when it was given up.
    """

    def __init__(
        self,
        cell: Cell,
        factory: Callable[[], Actor],
        limits: Limits,
        *,
        grace: float,
        patience: Callable[[], float],
        on_started: Callable[[Incarnation], None],
        on_exit: Callable[[Incarnation, Exit], None],
    ) -> None:
        self.cell = cell
        self.generation = cell.generation
        self.nursery: trio.Nursery
        self.serving = Serving(cell)
        self.actor: Actor | None = None
        self.task: trio.lowlevel.Task | None = None
        self.progressed = False
        self.last_progress_note = ""
        #: It waits for somebody who has limits of his own, so its own progress limit stands still.
        self.is_waiting = False
        self._factory = factory
        self._limits = limits
        self._grace = grace
        self._patience = patience
        self._on_started = on_started
        self._on_exit = on_exit
        self._scope = trio.CancelScope()
        self._run_scope = trio.CancelScope()
        self._stopping = False
        self._started_at: float | None = None
        self._ended = False
        self._zombie: Exit | None = None
        self._last_progress = 0.0
        self._reason = ""
        self._verdict: LimitVerdict | None = None
        self._limit_timer: Timer | None = None
        self._end_timer: Timer | None = None
        self._give_up_timer: Timer | None = None

    @property
    def state(self) -> str:
        """What it does now, in a word."""
        if self._ended:
            return "ended"
        if self._zombie is not None:
            return "zombie"
        if self._stopping or self._scope.cancel_called:
            return "stopping"
        return "running" if self._started_at is not None else "starting"

    @property
    def seconds_since_progress(self) -> float | None:
        """Since its last progress mark or message, or its start; None before it is started."""
        if self._started_at is None:
            return None
        return trio.current_time() - max(self._last_progress, self.serving.taken_at)

    # What the supervisor asks for

    def request_stop(self, reason: str, deadline: float) -> None:
        """Ask for an ordered end; one that has not started yet is cancelled."""
        if self._stopping or self._ended:
            return
        self._stopping = True
        self._reason = reason
        if self.actor is not None and self.actor.stops_itself:
            self.cell.mailbox.put_control(StopRequested(self, reason, deadline))
        elif self._started_at is None:
            self._scope.cancel(reason=self._reason_text(reason))
        elif self.serving.is_active:
            self.serving.stop()
        else:
            self._run_scope.cancel(reason=self._reason_text(reason))

    def kill(self, reason: str) -> None:
        """Cancel all of it, and give it up if it does not end even then."""
        if self._ended or self._give_up_timer is not None:
            return
        self._reason = reason
        self._scope.cancel(reason=self._reason_text(reason))
        self._give_up_timer = self.cell.runtime.timers.at(trio.current_time() + self._patience(), self._give_up)

    def start_overdue(self, reason: str) -> None:
        """Kill it if it still starts."""
        if self._started_at is None:
            self.kill(reason)

    def _give_up(self) -> None:
        """Report it as a zombie: it swallows its cancellation or shields itself. It reads no more messages."""
        since = "; ".join(filter(None, [self._reason, "it was cancelled and is still here"]))
        self._zombie = self._exit_record(ExitKind.ZOMBIE, since)
        self._stopping = True
        self.serving.stop()
        self.serving.fail_in_hand(self._zombie)
        self.cell.exits.append(self._zombie)
        self.cell.runtime.zombie_left(self, self._zombie)
        self._on_exit(self, self._zombie)

    def mark_progress(self, what: str) -> None:
        """Stamp that the work moved."""
        self.progressed = True
        self.last_progress_note = what
        self._last_progress = trio.current_time()

    # The life

    async def live(self) -> None:
        """Run the actor to its end and report how it ended.

        KeyboardInterrupt and SystemExit are handed to the runtime, which ends the run in order.

        Raises:
            trio.Cancelled: The ambient cancellation, after the exit was reported.
        """
        self.task = trio.lowlevel.current_task()
        error: BaseException | None = None
        result: object = None
        try:
            with self._scope:
                result = await self._live()
        except BaseException as raised:  # noqa: BLE001, ASYNC103 - sorted below; what is not ours is raised.
            error = raised
        try:
            self._end(error, result)
            if (beyond_us := _only(error, *_BEYOND_US)) is not None:
                raise beyond_us
        finally:
            # An exception knows this frame; together they would keep alive all that the actor knew.
            del error

    async def _live(self) -> object:
        # Nothing of an actor that was stopped before its task ran is to be seen.
        await trio.lowlevel.checkpoint_if_cancelled()
        self.actor = actor = self._factory()
        actor.context = ActorContext(self.cell, self)
        result: object = None
        async with trio.open_nursery() as self.nursery:
            await actor.on_start()
            self._started_at = self._last_progress = trio.current_time()
            self._arm_limits()
            self._on_started(self)
            with self._run_scope:
                if self._stopping and not actor.stops_itself:
                    self._run_scope.cancel(reason=self._reason_text(self._reason))
                result = await actor.run()
            self._time_own_end()
            await actor.on_stop()
            self.nursery.cancel_scope.cancel(reason=self._reason_text("it ended"))
        return result

    async def serve(self) -> None:
        """Handle messages until a stop is asked for, which also ends a ``run`` that does more than this."""
        assert self.actor is not None
        try:
            await self.serving.serve(self.actor)
        finally:
            if self._stopping:
                self._run_scope.cancel(reason=self._reason_text(self._reason))

    # Limits

    def _time_own_end(self) -> None:
        if not self._stopping:
            due = trio.current_time() + self._grace
            self._end_timer = self.cell.runtime.timers.at(
                due, self.kill, f"its stop took longer than {self._grace:g} s"
            )

    def _arm_limits(self) -> None:
        assert self._started_at is not None
        due = next_due(self._limits, self._started_at, self._moved_at())
        if due is not None:
            self._limit_timer = self.cell.runtime.timers.at(due, self._check_limits)

    def _check_limits(self) -> None:
        if self._ended or self._stopping or self._started_at is None:
            # A stop has its grace, which is the shorter leash.
            return
        verdict = judge(self._limits, self._started_at, self._moved_at(), trio.current_time())
        if verdict is None:
            self._arm_limits()
            return
        self._verdict = verdict
        self.kill(f"{verdict.value} (last progress: {self.last_progress_note or 'none'})")

    def _moved_at(self) -> float:
        """An actor that waits for messages, or for another agent, is idle and not stuck."""
        if self.serving.is_idle or self.is_waiting:
            return trio.current_time()
        return max(self._last_progress, self.serving.taken_at)

    # The end

    def _end(self, error: BaseException | None, result: object) -> None:
        """Sort what came of it, record it and tell whoever has to know."""
        self._ended = True
        for timer in (self._limit_timer, self._end_timer, self._give_up_timer):
            if timer is not None:
                timer.cancel()
        ends_run = _leaf(error, _ENDS_RUN)
        if self._zombie is not None:
            self.cell.runtime.zombie_ended(self, self._zombie)
        else:
            exit_ = self._exit(error, result, ends_run)
            self.serving.fail_in_hand(exit_)
            self.cell.exits.append(exit_)
            self._on_exit(self, exit_)
        if ends_run is not None:
            self.cell.runtime.end_run(ends_run)

    def _exit(self, error: BaseException | None, result: object, ends_run: BaseException | None) -> Exit:
        crash = _without(error, trio.Cancelled, *_ENDS_RUN)
        reason = f"{type(ends_run).__name__} ends the run" if ends_run is not None else self._reason
        return self._exit_record(
            self._kind(crash, cancelled_from_outside=_only(error, trio.Cancelled, *_ENDS_RUN) is not None),
            reason,
            cause=Cause.of(crash) if crash is not None else None,
            result=result,
            ends_run=ends_run is not None,
        )

    def _exit_record(
        self,
        kind: ExitKind,
        reason: str,
        *,
        cause: Cause | None = None,
        result: object = None,
        ends_run: bool = False,
    ) -> Exit:
        started = self._started_at is not None
        uptime = trio.current_time() - self._started_at if self._started_at is not None else 0.0
        return Exit(self.cell.path, self.generation, kind, reason, cause, uptime, started, result, ends_run)

    def _kind(self, crash: BaseException | None, *, cancelled_from_outside: bool) -> ExitKind:
        if self._verdict is not None:
            return _LIMIT_EXITS[self._verdict]
        if crash is not None:
            asked = self._stopping or self._scope.cancel_called
            return ExitKind.CRASHED_DURING_STOP if asked else ExitKind.CRASHED
        if cancelled_from_outside:
            return ExitKind.KILLED
        if self._scope.cancelled_caught:
            return ExitKind.STOPPED if self._stopping and self._started_at is None else ExitKind.KILLED
        return ExitKind.STOPPED if self._stopping else ExitKind.COMPLETED

    def _reason_text(self, reason: str) -> str:
        return f"agentrt: {self.cell.path} generation {self.generation}: {reason}"


def _without(error: BaseException | None, *kinds: type[BaseException]) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.split(kinds)[1]
    return None if isinstance(error, kinds) else error


def _only(error: BaseException | None, *kinds: type[BaseException]) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kinds)
    return error if isinstance(error, kinds) else None


def _leaf(error: BaseException | None, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    """Find the first exception of *kinds* in groups of any depth."""
    found = _only(error, *kinds)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
