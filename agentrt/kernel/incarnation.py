"""One generation of an actor as all others see it: what it is, what they ask of it, and whom it tells of its end.

What it does in its own task is in :mod:`~agentrt.kernel.life`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from agentrt.kernel.beside import Beside
from agentrt.kernel.endings import exit_record, suspect
from agentrt.kernel.exits import Cause, Exit, ExitKind
from agentrt.kernel.farewells import Farewells, nothing
from agentrt.kernel.leash import LastResort, Leash
from agentrt.kernel.owner import StopRequested
from agentrt.kernel.serving import Serving
from agentrt.kernel.tracebacks import MESSAGE_KEPT, cut

if TYPE_CHECKING:
    from agentrt.kernel.actor import Actor
    from agentrt.kernel.children import Child
    from agentrt.kernel.events import Event
    from agentrt.kernel.notices import Notices
    from agentrt.kernel.owner import Owner
    from agentrt.kernel.timers import Timer
    from agentrt.policy.watchdog import LimitVerdict


class Incarnation:
    """One generation of one actor.

    Args:
        child: What its owner knows of it; its spec says how it is made and what it may take.
        owner: Who hears of its start and its end.

    Attributes:
        owner: Who hears of it, until it has told its end.
        actor: The actor itself, once it was made and until it ended.
        kind: The name of its class, when it ended.
        ended_by: For a supervisor, the event of its escalation or of its automatic shutdown, where there was one.
        task: The one that it lives in.
        scope: Around what may wait in there; None before there is anything of that kind.
        run_scope: Around a ``run`` of its own, for a stop to cancel.
        notices: What it was told by its own monitors and timers and has not handled yet.
        links: Whose failure it shares, each with the way to leave it.
        is_waiting: It waits for somebody who has limits of his own, so its own progress limit stands still.
        exit: How it ended, or that it was given up; None while it lives.
        successor: The next one, where that lives in the same task.
        was_asked_to_end: It was asked to end before it failed, so that its end is none of its own doing.
        crash: What it crashed of already, while what it spawned is waited for.
        was_cut: A cancellation is all that came out of its task.
        is_over: Its task is done with it.
        leaves_task: It ends just now, and its task may go on as its successor's.
    """

    # Most of it is never set in most lives.
    notices: Notices | None = None
    links: dict[Incarnation, Callable[[], None]] | None = None
    actor: Actor | None = None
    kind = ""
    ended_by: Event | None = None
    task: trio.lowlevel.Task | None = None
    progressed = False
    last_progress_note = ""
    last_progress = 0.0
    started_at: float | None = None
    is_waiting = False
    is_stopping = False
    exit: Exit | None = None
    was_asked_to_end = False
    successor: Incarnation | None = None
    leaves_task = False
    scope: trio.CancelScope | None = None
    run_scope: trio.CancelScope | None = None
    beside: Beside | None = None
    leash: Leash | None = None
    last_resort: LastResort | None = None
    is_cancelled = False
    was_cut = False
    result: object = None
    is_over = False
    zombie: Exit | None = None
    reason = ""
    failure: Exception | None = None
    crash: BaseException | None = None
    masked: Cause | None = None
    _endings: Farewells | None = None
    verdict: LimitVerdict | None = None
    end_timer: Timer | None = None

    def __init__(self, child: Child, owner: Owner) -> None:
        self.child = child
        self.cell = child.cell
        self.generation = child.cell.generation
        self.serving = Serving(child.cell)
        self.owner = owner

    @property
    def name(self) -> str:
        """What its task is called: ``fleet/editor/inbox #2``."""
        return f"{self.cell.path} #{self.generation}"

    @property
    def state(self) -> str:
        """What it does now, in a word."""
        if self.is_over:
            return "ended"
        if self.zombie is not None:
            return "zombie"
        if self.is_stopping or self.is_cancelled:
            return "stopping"
        return "running" if self.started_at is not None else "starting"

    @property
    def stops_although_cancelled(self) -> bool:
        """Whether it was started although that was cancelled, as it was asked to stop: it stops in order."""
        return self.is_stopping and self.is_cancelled and self.started_at is not None and self.last_resort is None

    @property
    def seconds_since_progress(self) -> float | None:
        """Since its last progress mark or message, or its start; None before it is started."""
        if self.started_at is None:
            return None
        return self.cell.runtime.timers.now() - max(self.last_progress, self.serving.taken_at)

    # What the supervisor asks for

    def request_stop(self, reason: str, deadline: float) -> None:
        """Ask for an ordered end; one that has not started yet is cancelled."""
        if self.is_stopping or self.is_over:
            return
        self.is_stopping = True
        self.reason = reason
        self.was_asked_to_end = not self.is_cancelled
        if self.actor is not None and self.actor.stops_itself:
            self.cell.mailbox.put_control(StopRequested(self, reason, deadline))
        elif self.started_at is None:
            self.cancel(reason)
        elif self.serving.is_active:
            self.serving.stop()
        else:
            self.cancel_run(reason)

    def kill(self, reason: str) -> None:
        """Cancel all of it, through its shields too if it does not end; give it up if it does not end even then."""
        if self.is_over or (self.is_cancelled and self.last_resort is not None):
            return
        self.reason = reason
        self.cancel(reason)
        self.hold_to_its_end()

    def hold_to_its_end(self) -> None:
        """Do not wait for ever for one that is to end."""
        if self.last_resort is None:
            self.last_resort = LastResort(self, self.owner.patience_of(self.child))

    def kill_at_once(self, reason: str) -> None:
        """Kill it because it is asked to end without any grace."""
        if not self.is_cancelled:
            self.was_asked_to_end = True
        self.kill(reason)

    def start_exceeded(self, limit: float) -> None:
        """Kill it because its start takes longer than *limit* seconds; one that is asked to stop has its grace."""
        if not self.is_stopping:
            self.kill(f"its start took longer than {limit:g} s")

    def exceeded(self, verdict: LimitVerdict) -> None:
        """Kill it because it reached a limit; where it is on its way down already, what came first stands."""
        if not self.is_cancelled:
            self.verdict = verdict
            noted = cut(self.last_progress_note, MESSAGE_KEPT) or "none"
            self.kill(f"{verdict.value} (last progress: {noted})")

    def fail(self, error: Exception) -> None:
        """Crash it from outside: all of it is cancelled, and *error* is the cause that its exit names.

        Ignored where it is stopping, was cancelled or failed before, or ended: what came first stands.
        """
        if not (self.is_over or self.is_stopping or self.is_cancelled):
            self.failure = error
            self.kill(f"{type(error).__name__}: {error}")

    def at_end(self, callback: Callable[[Exit], None]) -> Callable[[], None]:
        """Call *callback* once, when this ended or was given up; at once where that was before.

        It is called before the supervisor hears of it, in the order of asking, and must not block; one may raise.

        Returns:
            The function that takes it back; done twice, or too late, it does no harm.
        """
        if self.exit is not None:
            callback(self.exit)
            return nothing
        if self._endings is None:
            self._endings = Farewells()
        return self._endings.add(callback)

    def pierced(self, shields: int) -> None:
        """Take down that so many shields were taken off, which keep its cancellation out no more."""
        self.reason = "; ".join(filter(None, [self.reason, "its shield was pierced"]))
        self.cell.runtime.pierced(self, shields, self.reason)

    def give_up(self) -> None:
        """Report it as a zombie: it swallows its cancellation, or waits for what knows none. It reads no more."""
        since = "; ".join(filter(None, [self.reason, "it was cancelled and is still here"]))
        crash = self.crash if self.crash is not None or self.beside is None else self.beside.error
        self.zombie = exit_record(self, ExitKind.ZOMBIE, since, cause=Cause.of(crash) if crash is not None else None)
        self.is_stopping = True
        self.serving.stop()
        self.serving.lose_in_hand(self.zombie)
        self.cell.runtime.zombie_left(self, self.zombie)
        self.tell(self.zombie)

    def cancel_run(self, reason: str) -> None:
        """Cancel a ``run`` of its own."""
        if self.run_scope is not None:
            self.run_scope.cancel(reason=self.reason_text(reason))

    def cancel(self, reason: str) -> None:
        """Cancel all of it, also before its task ran."""
        self.is_cancelled = True
        for scope in self.scopes:
            scope.cancel(reason=self.reason_text(reason))
        self.serving.look_up()

    @property
    def scopes(self) -> list[trio.CancelScope]:
        """What is cancelled to end it."""
        beside = self.beside.scope if self.beside is not None else None
        return [scope for scope in (self.scope, beside) if scope is not None]

    # What the actor asks for

    async def serve(self) -> None:
        """Handle messages until a stop is asked for, which also ends a ``run`` that does more than this."""
        assert self.actor is not None
        try:
            while not self.is_stopping:
                with trio.CancelScope() as scope, self.serving.reading(scope):
                    await self.serving.serve(self.actor)
        finally:
            self.serving.take_cancelled()
            if self.is_stopping:
                self.cancel_run(self.reason)

    def mark_progress(self, what: str) -> None:
        """Stamp that the work moved."""
        self.progressed = True
        self.last_progress_note = what
        self.last_progress = self.cell.runtime.timers.now()

    @property
    def tasks(self) -> list[trio.lowlevel.Task]:
        """Its own task, and the one that keeps what it spawned, as far as there are any."""
        beside = self.beside.task if self.beside is not None else None
        return [task for task in (self.task, beside) if task is not None]

    def spawn(self, function: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        """Run *function* beside the actor.

        Raises:
            RuntimeError: The incarnation has ended.
        """
        if self.is_over:
            raise RuntimeError(f"{self.cell.path} (generation {self.generation}) has ended, so it can spawn no task")
        if self.beside is None:
            self.beside = Beside(self.cancel_for_failure_beside, partial(suspect, self))
            self.cell.runtime.nursery.start_soon(self.beside.live, name=self.name)
            if self.is_cancelled:
                self.cancel(self.reason)
        self.beside.spawn(function, args)

    @property
    def has_failed_beside(self) -> bool:
        """Whether something that it spawned raised."""
        return self.beside is not None and self.beside.error is not None

    def cancel_for_failure_beside(self) -> None:
        """Cancel its own task, because something that it spawned raised."""
        if self.scope is not None:
            self.scope.cancel(reason=self.reason_text("a task of its own failed"))
            self.hold_to_its_end()
        self.serving.look_up()

    # Its end

    def tell(self, exit_: Exit) -> None:
        """Record how it ended, or that it was given up, and tell whoever has to know; its supervisor is the last."""
        self.exit = exit_
        # An exception may know the frames of all that the actor knew.
        self.failure = None
        self.cell.record(exit_)
        if self._endings is not None:
            self._endings.call(exit_, self.cell.runtime.events)
        self.owner.has_ended(self, exit_)
        # A ref that somebody keeps leads here, and must not lead on to all that lived beside it.
        del self.owner

    def precede(self, successor: Incarnation) -> bool:
        """Leave the task to *successor*, if this ends just now and its task is as it was; return whether."""
        if self.leaves_task:
            self.successor = successor
        return self.leaves_task

    def reason_text(self, reason: str) -> str:
        """Say why it is cancelled, for Trio to tell."""
        return f"agentrt: {self.cell.path} generation {self.generation}: {reason}"
