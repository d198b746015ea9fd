"""The supervisor: one control loop that takes exits, timers and admin calls one at a time.

Signals from its children and timers are taken at once, in the task that brings them, or after the one that is being
taken; admin calls and the request to stop come through its mailbox. None of it ever waits, so no two overlap.

Each changes what is known of the children (:mod:`~agentrt.kernel.roster`), and then the picture is put right. What is
to become of a child that ended is decided in :mod:`~agentrt.kernel.restarts`; what others ask for is taken in
:mod:`~agentrt.kernel.desk`.
"""

from __future__ import annotations

import contextvars
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from agentrt.kernel.actor import Actor
from agentrt.kernel.census import SupervisorStatistics, in_figures
from agentrt.kernel.children import RUNNING, STARTING, Child, ChildState, tell_hook
from agentrt.kernel.collecting import making
from agentrt.kernel.desk import Desk
from agentrt.kernel.errors import KernelError, StartFailed
from agentrt.kernel.messages import Envelope
from agentrt.kernel.owner import StopRequested
from agentrt.kernel.restarts import Decision, Escalate, Fate, GiveUp, Leave, RestartIn, Restarts, fate_of
from agentrt.kernel.roster import ChildExited, ChildStarted, RestartDue, Roster
from agentrt.kernel.spec import Restart, SupervisorSpec

if TYPE_CHECKING:
    from agentrt.kernel.events import Event, EventStream
    from agentrt.kernel.exits import Exit

#: Control events taken between two checkpoints.
_BATCH = 64


class Supervisor(Actor):
    """Start children in order, restart those that fail, stop them in reverse, and escalate when that does not help."""

    stops_itself: ClassVar[bool] = True

    def __init__(self, spec: SupervisorSpec) -> None:
        self.spec = spec
        self._failure: Exception | None = None
        self._escalations = 0
        self._signals: deque[object] = deque()
        self._is_taking = False
        self._broken: BaseException | None = None
        self._until: Callable[[], bool] = bool
        self._own_context = contextvars.Context()
        self._now: Callable[[], float]
        self._events: EventStream
        self._roster: Roster
        self._restarts: Restarts
        self._desk: Desk

    @property
    def children(self) -> Mapping[str, Child]:
        """The records of its children."""
        return self.context.cell.children

    @property
    def restarts_left(self) -> int:
        """What its budget has left now."""
        return self._restarts.budget_left(self._now()).left

    def statistics(self) -> SupervisorStatistics:
        """Say in figures what its children do, and what is left of the budgets; its ref's are those of its messages."""
        now, children = self._now(), self.children.values()
        return SupervisorStatistics(
            states=dict(Counter(child.state for child in children)),
            restarts=self._restarts.made,
            restarts_left=self.restarts_left,
            escalations=self._escalations,
            children={child.spec.id: in_figures(child, now) for child in children},
        )

    # The life

    async def on_start(self) -> None:
        """Start the children in order; raise what stopped one of them from starting."""
        cell = self.context.cell
        self._now, self._events = cell.runtime.timers.now, cell.runtime.events
        self._restarts = Restarts(self.spec, cell.path)
        # What the children of a child get is its supervisor's context, whoever brings the signal that starts it.
        self._own_context = contextvars.copy_context()
        self._roster = Roster(cell, self.spec, self._signal, self._down)
        self._desk = Desk(cell, self.spec, self._roster)
        cell.children = self._roster.children
        for spec in self.spec.children:
            self._roster.add(spec)
        with making(len(self.spec.children)):
            self._roster.reconcile()
            await self._take_events(until=lambda: self._roster.is_over or self._roster.all_started)
        self._raise_failure()

    async def run(self) -> object:
        """Take events until the end; raise what there was to escalate, return why it shut down by itself if it did."""
        await self._take_events(until=lambda: self._roster.is_over)
        self._raise_failure()
        return self._roster.ending if self.context.incarnation.ended_by is not None else None

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
        self._until = until
        while not until():
            if self._broken is not None:
                broken, self._broken = self._broken, None
                raise broken
            item = mailbox.pop()
            if item is None:
                await mailbox.wait()
                taken = 0
                continue
            self._signal(item)
            taken += 1
            if taken >= _BATCH:
                await trio.lowlevel.checkpoint()
                taken = 0

    def _signal(self, item: object) -> None:
        """Take *item*, now or after the one that is being taken; in the supervisor's own context."""
        self._signals.append(item)
        if not self._is_taking:
            self._own_context.run(self._take_signals)

    def _take_signals(self) -> None:
        self._is_taking = True
        try:
            while self._signals:
                self._take(self._signals.popleft())
                self._roster.reconcile()
        except BaseException as error:  # noqa: BLE001, ASYNC103 - whoever brought it is not to blame; the loop raises it.
            self._broken = error
        finally:
            self._is_taking = False
        if self._broken is not None or self._until():
            self.context.cell.mailbox.wake()

    def _take(self, item: object) -> None:
        """Take one item; what was meant for an incarnation that is no more is stale, and dropped."""
        roster = self._roster
        match item:
            case ChildStarted():
                if roster.is_current(item.child, item.incarnation):
                    self._child_started(item.child)
            case ChildExited():
                if roster.is_current(item.child, item.incarnation):
                    self._child_exited(item.child, item.exit)
            case RestartDue():
                roster.touch(item.child)
            case Envelope():
                self._desk.take(item)
            case StopRequested():
                if item.incarnation is self.context.incarnation:
                    roster.end(item.reason, item.deadline)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # What happens to children

    def _child_started(self, child: Child) -> None:
        if child.state is not STARTING:
            return
        now = self._now()
        child.state = RUNNING
        child.is_new = child.on_trial = False
        # Only a first start waits for its turn; after that it depends on nobody but its group.
        child.ordered = self._roster.is_grouped
        child.cancel_timers()
        child.run_clock(now)
        self._restarts.over(child, now)
        cell = child.cell
        if child.awaiting_start:
            self._roster.tell_started(child, cell.ref)
        why, child.why = child.why, None
        if self._events.has_listeners:
            # Where nobody hears of it, to say it costs as much as all of this.
            self._events.emit("actor_started", cell.path, why, generation=cell.generation, restarts=child.restarts)

    def _child_exited(self, child: Child, exit_: Exit) -> None:
        now = self._now()
        was = self._roster.ended(child, now)
        fate = fate_of(child, was, exit_, all_end=self._roster.ending is not None)
        decision: Decision | None = None
        if fate is Fate.OPEN:
            decision = self._restarts.decide(child, exit_, now, self.random.random())
        ended_by = child.incarnation.ended_by if child.incarnation is not None else None
        event = self._emit_exit(child, exit_, ended_by or child.why)
        self._escalations += ended_by is not None and exit_.is_abnormal
        tell_hook(child, exit_, self._events)
        if decision is not None:
            if child.awaiting_start:
                self._roster.tell_not_started(child, lambda: StartFailed(child.cell.path, exit_))
            self._carry_out(decision, child, exit_, event, now)
            return
        match fate:
            case Fate.STOPPED:
                self._child_stopped(child)
            case Fate.SWEPT:
                self._roster.retire(child, ChildState.DOWN)
            case Fate.IGNORED:
                self._roster.tell_started(child, None)
                self._roster.retire(child, ChildState.IGNORED)
            case Fate.TRIAL_FAILED:
                child.forget |= child.is_guest and child.is_new
                self._roster.retire(child, ChildState.DOWN, failure=lambda: StartFailed(child.cell.path, exit_))
            case Fate.START_FAILED:
                self._escalate(StartFailed(child.cell.path, exit_), event)

    def _child_stopped(self, child: Child) -> None:
        child.cycle = False
        self._roster.tell_stopped(child)
        if self._roster.ending is not None or not child.wanted:
            self._roster.retire(child, ChildState.DOWN)
        else:
            child.state = ChildState.WAITING

    def _carry_out(self, decision: Decision, child: Child, exit_: Exit, event: Event, now: float) -> None:
        """Leave it, give it up, restart it, or escalate."""
        match decision:
            case Leave():
                self._retire_for_good(child, ChildState.DONE, event)
            case GiveUp(failure):
                event = self._emit_of(
                    child, "actor_gave_up", event, restarts=child.restarts, reason=exit_.summary(), **_budgets(exit_)
                )
                if failure is not None:
                    self._roster.retire(child, ChildState.EXHAUSTED)
                    self._escalate(failure, event, exit_)
                else:
                    self._retire_for_good(child, ChildState.EXHAUSTED, event)
            case RestartIn(delay):
                self._schedule_restart(child, event, delay, exit_, now)
            case Escalate(failure):
                self._escalate(failure, event, exit_)

    def _retire_for_good(self, child: Child, state: ChildState, event: Event) -> None:
        """Leave it down, and shut down where it was the significant child to wait for."""
        shuts_down = self._roster.significance.ended(child.index)
        self._roster.retire(child, state)
        if shuts_down:
            reason = f"significant child {child.cell.path} ended"
            why = self.emit("supervisor_auto_shutdown", cause=event, reason=reason)
            self.context.incarnation.ended_by = why
            self._roster.end(reason, math.inf, why=why)

    def _schedule_restart(self, child: Child, event: Event, delay: float, exit_: Exit, now: float) -> None:
        fields = _budgets(exit_) if self._events.has_listeners else {}
        why = self._events.emit("actor_restarting", child.cell.path, event, **fields)
        for member in self._restarts.taken_along(child, self.children.values()):
            member.why = why
            member.not_before = max(member.not_before, now + delay)
            member.ordered = self._roster.is_grouped
            member.cycle = member.is_alive
            if not member.is_alive:
                member.state = ChildState.WAITING
            elif member.spec.restart is Restart.TEMPORARY:
                self._roster.unwant(member)
            self._restarts.begin(member, now)
            self._roster.touch(member)

    def _escalate(self, failure: KernelError, cause: Event, exit_: Exit | None = None) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        why = self.emit(
            "supervisor_escalated",
            cause=cause,
            error=type(failure).__name__,
            reason=str(failure),
            **(_budgets(exit_) if exit_ is not None else {}),
        )
        self.context.incarnation.ended_by = why
        self._roster.end(f"its supervisor gave up: {failure.headline}", math.inf, why=why)

    def _down(self, child: Child) -> None:
        self._restarts.over(child, self._now())

    # What is told

    def _emit_of(self, child: Child, kind: str, cause: Event | None = None, **fields: Any) -> Event:
        return self._events.emit(kind, child.cell.path, cause, **fields)

    def _emit_exit(self, child: Child, exit_: Exit, why: Event | None) -> Event:
        kind = "actor_crashed" if exit_.is_abnormal else "actor_exited"
        if not self._events.has_listeners:
            # To say all of it costs more than the crash does.
            return self._events.emit(kind, child.cell.path, why)
        return self._emit_of(
            child,
            kind,
            why,
            exit=exit_.kind.value,
            generation=exit_.generation,
            uptime=round(exit_.uptime, 3),
            reason=exit_.reason or None,
            error=str(exit_.cause) if exit_.cause is not None else None,
            traceback=exit_.cause.traceback if exit_.cause is not None else None,
            **_budgets(exit_),
        )


def _budgets(exit_: Exit) -> dict[str, Any]:
    return exit_.outlook.fields() if exit_.outlook is not None else {}
