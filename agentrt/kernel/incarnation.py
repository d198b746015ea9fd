"""One life of an actor: from its factory to its exit record.

All that turns the outcome of a task into an :class:`Exit` stands here. An incarnation owns a cancel scope and a
nursery; nothing leaves it but the ambient cancellation. What must end the whole run (KeyboardInterrupt, SystemExit) is
handed to the runtime.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from agentrt.kernel.actor import Actor, ActorContext
from agentrt.kernel.beside import Beside
from agentrt.kernel.endings import BEYOND_US, ENDS_RUN, exit_of, exit_record, joined, leaf, only, suspect, without
from agentrt.kernel.exits import Cause, Exit, ExitKind
from agentrt.kernel.farewells import Farewells, nothing
from agentrt.kernel.leash import LastResort, Leash, start_in_time
from agentrt.kernel.owner import StopRequested
from agentrt.kernel.serving import Serving

if TYPE_CHECKING:
    from agentrt.kernel.children import Child
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
        notices: What it was told by its own monitors and timers and has not handled yet.
        links: Whose failure it shares, each with the way to leave it.
        is_waiting: It waits for somebody who has limits of his own, so its own progress limit stands still.
        exit: How it ended, or that it was given up; None while it lives.
        successor: The next one, where that lives in the same task.
        was_asked_to_end: It was asked to end before it failed, so that its end is none of its own doing.
    """

    # Most of it is never set in most lives.
    notices: Notices | None = None
    links: dict[Incarnation, Callable[[], None]] | None = None
    actor: Actor | None = None
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
    _leaves_task = False
    _context: contextvars.Context | None = None
    _scope: trio.CancelScope | None = None
    _run_scope: trio.CancelScope | None = None
    _beside: Beside | None = None
    _leash: Leash | None = None
    _last_resort: LastResort | None = None
    is_cancelled = False
    was_cut = False
    result: object = None
    _ended = False
    _zombie: Exit | None = None
    reason = ""
    failure: Exception | None = None
    _crash: BaseException | None = None
    masked: Cause | None = None
    _endings: Farewells | None = None
    verdict: LimitVerdict | None = None
    _end_timer: Timer | None = None

    def __init__(self, child: Child, owner: Owner) -> None:
        self.child = child
        self.cell = child.cell
        self.generation = child.cell.generation
        self.serving = Serving(child.cell)
        self._owner = owner

    @property
    def state(self) -> str:
        """What it does now, in a word."""
        if self._ended:
            return "ended"
        if self._zombie is not None:
            return "zombie"
        if self.is_stopping or self.is_cancelled:
            return "stopping"
        return "running" if self.started_at is not None else "starting"

    @property
    def seconds_since_progress(self) -> float | None:
        """Since its last progress mark or message, or its start; None before it is started."""
        if self.started_at is None:
            return None
        return self.cell.runtime.timers.now() - max(self.last_progress, self.serving.taken_at)

    # What the supervisor asks for

    def request_stop(self, reason: str, deadline: float) -> None:
        """Ask for an ordered end; one that has not started yet is cancelled."""
        if self.is_stopping or self._ended:
            return
        self.is_stopping = True
        self.reason = reason
        self.was_asked_to_end = not self.is_cancelled
        if self.actor is not None and self.actor.stops_itself:
            self.cell.mailbox.put_control(StopRequested(self, reason, deadline))
        elif self.started_at is None:
            self._cancel(reason)
        elif self.serving.is_active:
            self.serving.stop()
        else:
            self._cancel_run(reason)

    def kill(self, reason: str) -> None:
        """Cancel all of it, through its shields too if it does not end; give it up if it does not end even then."""
        if self._ended or (self.is_cancelled and self._last_resort is not None):
            return
        self.reason = reason
        self._cancel(reason)
        self._hold_to_its_end()

    def _hold_to_its_end(self) -> None:
        """Do not wait for ever for one that is to end."""
        if self._last_resort is None:
            self._last_resort = LastResort(self, self._owner.patience_of(self.child))

    def kill_at_once(self, reason: str) -> None:
        """Kill it because it is asked to end without any grace."""
        if not self.is_cancelled:
            self.was_asked_to_end = True
        self.kill(reason)

    def exceeded(self, verdict: LimitVerdict) -> None:
        """Kill it because it reached a limit; where it is on its way down already, what came first stands."""
        if not self.is_cancelled:
            self.verdict = verdict
            self.kill(f"{verdict.value} (last progress: {self.last_progress_note or 'none'})")

    def fail(self, error: Exception) -> None:
        """Crash it from outside: all of it is cancelled, and *error* is the cause that its exit names.

        Ignored where it is stopping, was cancelled or failed before, or ended: what came first stands.
        """
        if not (self._ended or self.is_stopping or self.is_cancelled):
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
        crash = self._crash if self._crash is not None or self._beside is None else self._beside.error
        self._zombie = exit_record(self, ExitKind.ZOMBIE, since, cause=Cause.of(crash) if crash is not None else None)
        self.is_stopping = True
        self.serving.stop()
        self.serving.lose_in_hand(self._zombie)
        self.cell.runtime.zombie_left(self, self._zombie)
        self._tell(self._zombie)

    def mark_progress(self, what: str) -> None:
        """Stamp that the work moved."""
        self.progressed = True
        self.last_progress_note = what
        self.last_progress = self.cell.runtime.timers.now()

    # The life

    async def live(self) -> None:
        """Run the actor to its end and report how it ended.

        KeyboardInterrupt and SystemExit are handed to the runtime, which ends the run in order.

        Raises:
            trio.Cancelled: The ambient cancellation, after the exit was reported.
        """
        self.task = trio.lowlevel.current_task()
        self._context = self.task.context.copy()
        error: BaseException | None = None
        goes_on = True
        while goes_on:
            # It goes on for long, and is not to keep what the handler knew that was cancelled.
            error = None
            with trio.CancelScope() as self._scope:
                try:
                    await self._act(self._scope)
                except BaseException as raised:  # noqa: BLE001, ASYNC103 - sorted below; what is not ours is raised.
                    error = raised
            # A handler that was cancelled took the scope with it.
            goes_on = self.serving.take_cancelled() and not self._is_over(error)
        if self._beside is not None:
            if error is not None and not self.is_stopping:
                # Nobody else bounds what it leaves behind; a stop has its grace.
                self._crash = without(error, trio.Cancelled)
                self._hold_to_its_end()
            await self._beside.end(self._reason_text("it ended"))
        try:
            if (beyond_us := self._end(error)) is not None:
                raise beyond_us
        finally:
            # An exception knows this frame; together they would keep alive all that the actor knew.
            del error
            self._crash = None

    def _is_over(self, error: BaseException | None) -> bool:
        failed = self.is_cancelled or (self._beside is not None and self._beside.error is not None)
        return failed or without(error, trio.Cancelled) is not None

    async def _act(self, scope: trio.CancelScope) -> None:
        """Be the actor; done again where only a handler was cancelled."""
        if self.is_cancelled:
            # Nothing of an actor that was stopped before its task ran is to be seen.
            self._cancel(self.reason)
            await trio.lowlevel.checkpoint()
        actor = self.actor if self.actor is not None else await self._start()
        if type(actor).run is not Actor.run:
            await self._run(actor)
        elif not self.is_stopping:
            # A stop ends the reading of the mailbox by itself.
            await self.serving.serve(actor, scope)
            if self.serving.was_cancelled:
                return
        self._time_own_end()
        await actor.on_stop()

    async def _start(self) -> Actor:
        self.actor = actor = self.cell.runtime.factory_of(self.child.spec)()
        actor.context = ActorContext(self.cell, self)
        if type(actor).on_start is not Actor.on_start:
            await start_in_time(self, actor, self.child.spec.start_timeout)
        self.started_at = self.last_progress = self.cell.runtime.timers.now()
        if (limits := self.child.spec.limits).is_set:
            self._leash = Leash(self, limits)
        if self.exit is None:
            self._owner.has_started(self)
        return actor

    async def _run(self, actor: Actor) -> None:
        if actor.stops_itself:
            self.result = await actor.run()
            return
        with trio.CancelScope() as self._run_scope:
            if self.is_stopping:
                self._run_scope.cancel(reason=self._reason_text(self.reason))
            try:
                self.result = await actor.run()
            except BaseException as error:
                suspect(self, error)
                raise

    async def serve(self) -> None:
        """Handle messages until a stop is asked for, which also ends a ``run`` that does more than this."""
        assert self.actor is not None
        try:
            while not self.is_stopping:
                with trio.CancelScope() as scope:
                    await self.serving.serve(self.actor, scope)
        finally:
            self.serving.take_cancelled()
            if self.is_stopping:
                self._cancel_run(self.reason)

    def _cancel_run(self, reason: str) -> None:
        if self._run_scope is not None:
            self._run_scope.cancel(reason=self._reason_text(reason))

    def _cancel(self, reason: str) -> None:
        """Cancel all of it, also before its task ran."""
        self.is_cancelled = True
        for scope in self.scopes:
            scope.cancel(reason=self._reason_text(reason))
        self.serving.look_up()

    @property
    def scopes(self) -> list[trio.CancelScope]:
        """What is cancelled to end it."""
        beside = self._beside.scope if self._beside is not None else None
        return [scope for scope in (self._scope, beside) if scope is not None]

    # What runs beside it

    @property
    def beside(self) -> list[trio.lowlevel.Task]:
        """The task that keeps what it spawned, where it spawned anything."""
        task = self._beside.task if self._beside is not None else None
        return [task] if task is not None else []

    def spawn(self, function: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        """Run *function* beside the actor.

        Raises:
            RuntimeError: The incarnation has ended.
        """
        if self._ended:
            raise RuntimeError(f"{self.cell.path} (generation {self.generation}) has ended, so it can spawn no task")
        if self._beside is None:
            self._beside = Beside(self._failed_beside, partial(suspect, self))
            self.cell.runtime.nursery.start_soon(self._beside.live, name=f"{self.cell.path} #{self.generation}")
            if self.is_cancelled:
                self._cancel(self.reason)
        self._beside.spawn(function, args)

    def _failed_beside(self) -> None:
        if self._scope is not None:
            self._scope.cancel(reason=self._reason_text("a task of its own failed"))
            self.serving.look_up()
            self._hold_to_its_end()

    def _time_own_end(self) -> None:
        if not self.is_stopping:
            timers, grace = self.cell.runtime.timers, self.child.spec.own_grace
            self._end_timer = timers.at(timers.now() + grace, self.kill, f"its stop took longer than {grace:g} s")

    # The end

    def _end(self, error: BaseException | None) -> BaseException | None:
        """Sort what came of it, record it and tell whoever has to know; return what is beyond us."""
        beside = self._beside.error if self._beside is not None else None
        if self.is_cancelled or beside is not None:
            # It was cancelled by its supervisor, or because one of its own tasks failed.
            left = without(error, trio.Cancelled)
            self.was_cut = self.is_cancelled and error is not None and left is None
            suspect(self, error)
            error = left
        if beside is not None:
            error = joined("the actor and a task of its own failed", error, beside)
        self._ended = True
        for pending in (self._leash, self._end_timer, self._last_resort):
            if pending is not None:
                pending.cancel()
        ends_run, beyond_us = leaf(error, *ENDS_RUN), only(error, *BEYOND_US)
        if self._zombie is not None:
            self.cell.runtime.zombie_ended(self, self._zombie)
        else:
            exit_ = exit_of(self, error, ends_run)
            self.serving.lose_in_hand(exit_)
            self._leaves_task = ends_run is None and beyond_us is None and self._left_context_alone()
            self._tell(exit_)
            self._leaves_task = False
        if ends_run is not None:
            self.cell.runtime.end_run(ends_run)
        return beyond_us

    def precede(self, successor: Incarnation) -> bool:
        """Leave the task to *successor*, if this ends just now and its task is as it was; return whether."""
        if self._leaves_task:
            self.successor = successor
        return self._leaves_task

    def _left_context_alone(self) -> bool:
        assert self.task is not None
        try:
            return self.task.context == self._context
        except Exception:  # noqa: BLE001 - a context variable's value may compare as it likes.
            return False

    def _tell(self, exit_: Exit) -> None:
        self.exit = exit_
        # An exception may know the frames of all that the actor knew.
        self.failure = None
        self.cell.record(exit_)
        if self._endings is not None:
            self._endings.call(exit_, self.cell.runtime.events)
        self._owner.has_ended(self, exit_)
        # A ref that somebody keeps leads here, and must not lead on to all that lived beside it.
        del self._owner

    def _reason_text(self, reason: str) -> str:
        return f"agentrt: {self.cell.path} generation {self.generation}: {reason}"
