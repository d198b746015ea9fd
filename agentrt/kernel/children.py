"""A supervisor's record of one child: its states, its budget and its timers."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

from agentrt.kernel.reports import BudgetLeft
from agentrt.kernel.spec import Budget, ChildSpec, Restart, SupervisorSpec
from agentrt.policy.intensity import RestartIntensity, RunningClock, Verdict

if TYPE_CHECKING:
    from agentrt.kernel.cell import Cell
    from agentrt.kernel.events import Event, EventStream
    from agentrt.kernel.exits import Exit
    from agentrt.kernel.incarnation import Incarnation
    from agentrt.kernel.messages import Envelope
    from agentrt.kernel.timers import Timer


class ChildState(enum.Enum):
    """Where a child is, as its supervisor sees it."""

    DOWN = "down"
    """Not running: not started yet, or stopped on purpose."""
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    WAITING = "waiting"
    """Waits for its restart; the backoff runs."""
    DONE = "done"
    """Ended by itself and is not to be restarted."""
    EXHAUSTED = "exhausted"
    """Spent its own restart budget."""
    IGNORED = "ignored"
    """Said at its start that it is not needed."""


#: For the path of each start: to look a member up in its class takes Python 3.11 ten times as long as a name.
STARTING, RUNNING = ChildState.STARTING, ChildState.RUNNING
#: States in which a child has a live incarnation.
ALIVE = (ChildState.STARTING, ChildState.RUNNING, ChildState.STOPPING)
#: States in which a child will not be started again by itself.
FINAL = (ChildState.DONE, ChildState.EXHAUSTED, ChildState.IGNORED)


class Standing(enum.Enum):
    """What a child is to whoever asks for it to be started, restarted or deleted."""

    RUNNING = "running"
    """It runs, or is on its first way up."""
    RESTARTING = "restarting"
    """It is on its way back."""
    DOWN = "down"
    """It is down, or on its way there, until somebody asks for it."""


@attrs.define(eq=False)
class Child:
    """One child of one incarnation of a supervisor.

    Attributes:
        index: Its place in the start order.
        is_guest: It came by :class:`StartChild` and is not one of the supervisor's own specs.
        wanted: Whether it is to run.
        cycle: It has to be stopped before it may be started again, because a sibling's restart takes it along.
        is_new: It was never started by this incarnation of its supervisor.
        ordered: It starts only after its earlier siblings are up.
        not_before: Trio time before which it is not restarted.
        attempt: Restarts since it last ran well; what the backoff counts.
        restarts: All restarts.
        on_trial: Somebody waits for its start, and if that fails it is down again.
        forget: Its record goes when it is down.
        why: The event that its next start or exit follows from.
        due: Its restart, while the backoff runs.
        grace: The end of its grace, while it stops.
        awaiting_start, awaiting_stop: Who is answered when it has started, and when it is down.
    """

    spec: ChildSpec | SupervisorSpec
    cell: Cell
    index: int = 0
    is_guest: bool = False
    ordered: bool = True
    state: ChildState = ChildState.DOWN
    wanted: bool = True
    cycle: bool = False
    on_trial: bool = False
    forget: bool = False
    is_new: bool = True
    not_before: float = 0.0
    attempt: int = 0
    restarts: int = 0
    why: Event | None = None
    incarnation: Incarnation | None = None
    due: Timer | None = None
    grace: Timer | None = None
    awaiting_start: tuple[Envelope, ...] = ()
    awaiting_stop: tuple[Envelope, ...] = ()
    # Most children never need one: there is nothing to count before the first restart.
    _intensity: RestartIntensity | None = attrs.field(init=False, default=None)
    _clock: RunningClock | None = attrs.field(init=False, default=None)
    _is_counted: bool = attrs.field(init=False, default=False)

    @property
    def is_alive(self) -> bool:
        """Whether an incarnation lives."""
        return self.state in ALIVE

    @property
    def is_final(self) -> bool:
        """Whether it will not be started again by itself."""
        return self.state in FINAL

    @property
    def standing(self) -> Standing:
        """What it is to whoever asks for it, now and once what it is doing is done."""
        if not self.wanted:
            return Standing.DOWN
        if self.cycle:
            return Standing.RESTARTING
        return Standing.RUNNING if self.is_new or self.state is ChildState.RUNNING else Standing.RESTARTING

    @property
    def budget(self) -> Budget:
        """What it may be restarted by itself."""
        return self.spec.budget if isinstance(self.spec, ChildSpec) else self.spec.own_budget

    def renew_budget(self) -> None:
        """Forget the restarts that its budget counted, and that its backoff did."""
        self._intensity = None
        self.attempt = 0

    def budget_left(self, now: float) -> BudgetLeft:
        """Say what is left of its own budget."""
        budget = self.budget
        left = budget.max_restarts
        if self._intensity is not None and self._clock is not None:
            left = self._intensity.restarts_left(self._clock.read(now))
        return BudgetLeft(left, budget.max_restarts, budget.max_seconds)

    @property
    def budget_seen(self) -> BudgetLeft:
        """Say what was left of its own budget when it was last counted against it."""
        budget = self.budget
        left = self._intensity.left if self._intensity is not None else budget.max_restarts
        return BudgetLeft(left, budget.max_restarts, budget.max_seconds)

    def backoff_until(self, now: float) -> float | None:
        """Say until when it waits for its restart, in Trio time; None where it does not."""
        return self.not_before if self.state is ChildState.WAITING and self.not_before > now else None

    def run_clock(self, now: float) -> None:
        """Count from now on: it runs."""
        if self._clock is not None:
            self._clock.resume(now)
            self._is_counted = True

    def stop_clock(self, now: float) -> None:
        """Count no more: it ended."""
        if self._is_counted and self._clock is not None:
            self._is_counted = False
            self._clock.pause(now)

    def cancel_timers(self) -> None:
        """Forget what was due for the last incarnation."""
        if self.grace is not None:
            self.grace.cancel()
            self.grace = None
        if self.due is not None:
            self.due.cancel()
            self.due = None

    def restart_verdict(self, exit_: Exit, now: float) -> Verdict | None:
        """Say whether its restart type and its own budget let it be restarted; None where it is not to be."""
        if not self._is_to_restart(exit_):
            return None
        if self._clock is None:
            self._clock = RunningClock()
            self._clock.pause(now)
        if self._intensity is None:
            self._intensity = RestartIntensity(self.budget.max_restarts, self.budget.max_seconds)
        return self._intensity.record(self._clock.read(now))

    def _is_to_restart(self, exit_: Exit) -> bool:
        if self.spec.restart is Restart.PERMANENT:
            return True
        if self.spec.restart is Restart.TEMPORARY:
            return False
        too_short = isinstance(self.spec, ChildSpec) and exit_.uptime < self.spec.min_uptime
        return exit_.is_abnormal or too_short

    def next_delay(self, exit_: Exit, jitter: float) -> float:
        """Count an attempt and say how long to wait before it; begin anew where the last run was good."""
        progressed = self.incarnation is not None and self.incarnation.progressed
        if progressed or (exit_.started and exit_.uptime >= self.spec.stable_after):
            self.attempt = 0
        self.attempt += 1
        return self.spec.backoff.delay(self.attempt, jitter)


def tell_hook(child: Child, exit_: Exit, events: EventStream) -> None:
    """Give *exit_* to whoever wants each exit of *child*; what that raises is an event."""
    if child.spec.on_exit is None:
        return
    try:
        child.spec.on_exit(exit_)
    except Exception as error:  # noqa: BLE001 - whoever watches must not break what is watched.
        events.emit("exit_hook_failed", child.cell.path, error=repr(error))
