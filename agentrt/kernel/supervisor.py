"""The supervisor: one control loop that takes exits, timers and admin calls one at a time.

Each changes what is known of the children (:mod:`~agentrt.kernel.roster`), and then the picture is put right. What is
to become of a child that ended is decided in :mod:`~agentrt.kernel.restarts`; what others ask for is taken in
:mod:`~agentrt.kernel.desk`. The loop never waits for anything but its next item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from agentrt.kernel.actor import Actor
from agentrt.kernel.children import Child, ChildState
from agentrt.kernel.desk import Desk
from agentrt.kernel.errors import StartFailed
from agentrt.kernel.incarnation import StopRequested
from agentrt.kernel.messages import Envelope
from agentrt.kernel.restarts import Escalate, GiveUp, Leave, RestartIn, Restarts
from agentrt.kernel.roster import ChildExited, ChildStarted, RestartDue, Roster
from agentrt.kernel.spec import Restart, SupervisorSpec

if TYPE_CHECKING:
    from agentrt.kernel.events import Event
    from agentrt.kernel.exits import Exit

#: Control events taken between two checkpoints.
_BATCH = 64


class Supervisor(Actor):
    """Start children in order, restart those that fail, stop them in reverse, and escalate when that does not help.

    Attributes:
        escalated: The event of its escalation, where there was one.
    """

    stops_itself: ClassVar[bool] = True

    def __init__(self, spec: SupervisorSpec) -> None:
        self.spec = spec
        self.escalated: Event | None = None
        self._failure: Exception | None = None
        self._is_up = False
        self._roster: Roster
        self._restarts: Restarts
        self._desk: Desk

    @property
    def children(self) -> Mapping[str, Child]:
        """The records of its children."""
        return self.context.cell.children

    # The life

    async def on_start(self) -> None:
        """Start the children in order; raise what stopped one of them from starting."""
        cell = self.context.cell
        self._restarts = Restarts(self.spec, cell.path)
        self._roster = Roster(cell, self.spec, cell.mailbox.put_control, self._down)
        self._desk = Desk(cell.path, self.spec, self._roster)
        cell.children = self._roster.children
        for spec in self.spec.children:
            self._roster.add(spec)
        self._roster.reconcile()
        await self._take_events(until=lambda: self._roster.is_over or self._roster.all_started)
        self._raise_failure()
        self._is_up = True

    async def run(self) -> object:
        """Take events until the end; raise what there was to escalate."""
        await self._take_events(until=lambda: self._roster.is_over)
        self._raise_failure()
        return None

    async def _take_events(self, until: Callable[[], bool]) -> None:
        try:
            await self._take_until(until)
        except BaseException:
            # Cancelled, or broken: in any case no child outlives it. Each ends, or is given up, within its patience.
            self._roster.kill("its supervisor was cancelled")
            self._roster.reconcile()
            with trio.CancelScope(shield=True):
                await self._take_until(lambda: self._roster.is_over)
            raise

    async def _take_until(self, until: Callable[[], bool]) -> None:
        mailbox = self.context.cell.mailbox
        taken = 0
        while not until():
            item = mailbox.pop()
            if item is None:
                await mailbox.wait()
                taken = 0
                continue
            self._take(item)
            self._roster.reconcile()
            taken += 1
            if taken >= _BATCH:
                await trio.lowlevel.checkpoint()
                taken = 0

    def _take(self, item: object) -> None:
        roster = self._roster
        match item:
            case Envelope():
                self._desk.take(item)
            case StopRequested() if item.incarnation is self.context.incarnation:
                roster.end(item.reason, item.deadline)
            case RestartDue():
                roster.touch(item.child)
            case ChildStarted() if roster.is_current(item.child, item.incarnation):
                self._child_started(item.child)
            case ChildExited() if roster.is_current(item.child, item.incarnation):
                self._child_exited(item.child, item.exit)
            case _:
                # Stale: it was meant for an incarnation that is no more.
                return

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # What happens to children

    def _child_started(self, child: Child) -> None:
        if child.state is not ChildState.STARTING:
            return
        now = trio.current_time()
        child.state = ChildState.RUNNING
        child.is_new = False
        child.cancel_timers()
        child.run_clock(now)
        self._restarts.over(child, now)
        for envelope in child.awaiting_start:
            envelope.answer(child.cell.ref)
        child.awaiting_start.clear()
        self._emit_of(child, "actor_started", child.why, generation=child.cell.generation, restarts=child.restarts)
        child.why = None

    def _child_exited(self, child: Child, exit_: Exit) -> None:
        was = self._roster.ended(child)
        event = self._emit_exit(child, exit_)
        self._tell_hook(child, exit_)
        if was is ChildState.STOPPING or child.cycle or not child.wanted:
            # Also where it went down by itself while it waited for its turn to be stopped.
            self._child_stopped(child)
        elif self._roster.ending is not None or exit_.ends_run:
            self._roster.retire(child, ChildState.DOWN)
        elif was is ChildState.STARTING and child.is_new and (child.is_guest or not self._is_up):
            self._first_start_failed(child, exit_, event)
        else:
            self._roster.tell_not_started(child, StartFailed(child.cell.path, exit_))
            self._decide(child, exit_, event)

    def _child_stopped(self, child: Child) -> None:
        child.cycle = False
        self._roster.tell_stopped(child)
        if child.spec.restart is Restart.TEMPORARY:
            child.forget = True
            self._roster.retire(child, ChildState.DOWN)
        elif self._roster.ending is not None or not child.wanted:
            self._roster.retire(child, ChildState.DOWN)
        else:
            child.state = ChildState.WAITING

    def _first_start_failed(self, child: Child, exit_: Exit, event: Event) -> None:
        failure = StartFailed(child.cell.path, exit_)
        if child.is_guest:
            child.forget = True
            self._roster.retire(child, ChildState.DOWN, failure=failure)
        else:
            self._escalate(failure, event)

    def _decide(self, child: Child, exit_: Exit, event: Event) -> None:
        """Leave it, give it up, restart it, or escalate."""
        match self._restarts.decide(child, exit_, trio.current_time(), self.random.random()):
            case Leave():
                child.forget |= self._comes_and_goes(child) or child.spec.restart is Restart.TEMPORARY
                self._roster.retire(child, ChildState.DONE)
            case GiveUp(failure):
                gave_up = self._emit_of(child, "actor_gave_up", event, restarts=child.restarts, reason=exit_.summary())
                child.forget |= self._comes_and_goes(child)
                self._roster.retire(child, ChildState.EXHAUSTED)
                if failure is not None:
                    self._escalate(failure, gave_up)
            case RestartIn(delay):
                self._schedule_restart(child, event, delay)
            case Escalate(failure):
                self._escalate(failure, event)

    def _comes_and_goes(self, child: Child) -> bool:
        """Whether nobody would know its name any more: a pool does not fill with guests who are done."""
        return self.spec.dynamic and child.is_guest

    def _schedule_restart(self, child: Child, event: Event, delay: float) -> None:
        now = trio.current_time()
        why = self._emit_of(child, "actor_restarting", event, delay=delay, attempt=child.attempt)
        for member in self._restarts.taken_along(child, self.children.values()):
            member.why = why
            member.not_before = max(member.not_before, now + delay)
            member.ordered = self._roster.is_grouped
            member.cycle = member.is_alive
            if not member.is_alive:
                member.state = ChildState.WAITING
            self._restarts.begin(member, now)
            self._roster.touch(member)

    def _escalate(self, failure: Exception, cause: Event) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        self.escalated = self.emit(
            "supervisor_escalated", cause=cause, error=type(failure).__name__, reason=str(failure)
        )
        self._roster.end(f"its supervisor gave up: {failure}", float("inf"), why=self.escalated)

    def _down(self, child: Child) -> None:
        self._restarts.over(child, trio.current_time())

    # What is told

    def _tell_hook(self, child: Child, exit_: Exit) -> None:
        if child.spec.on_exit is None:
            return
        try:
            child.spec.on_exit(exit_)
        except Exception as error:  # noqa: BLE001 - whoever watches must not break what is watched.
            self._emit_of(child, "exit_hook_failed", error=repr(error))

    def _emit_of(self, child: Child, kind: str, cause: Event | None = None, **fields: Any) -> Event:
        return self.context.cell.runtime.events.emit(kind, child.cell.path, cause, **fields)

    def _emit_exit(self, child: Child, exit_: Exit) -> Event:
        actor = child.incarnation.actor if child.incarnation is not None else None
        cause = actor.escalated if isinstance(actor, Supervisor) else None
        events = self.context.cell.runtime.events
        return self._emit_of(
            child,
            "actor_crashed" if exit_.is_abnormal else "actor_exited",
            cause or child.why,
            exit=exit_.kind.value,
            generation=exit_.generation,
            uptime=exit_.uptime,
            reason=exit_.reason or None,
            error=str(exit_.cause) if exit_.cause is not None else None,
            # To format one costs more than the crash does.
            traceback=exit_.cause.traceback if exit_.cause is not None and events.has_listeners else None,
        )
