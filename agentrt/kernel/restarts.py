"""What follows when a child ended: whether that is a matter of restarts at all, and if so, what is decided."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from agentrt.kernel.children import Child, ChildState
from agentrt.kernel.errors import ChildGaveUp, RestartIntensityExceeded
from agentrt.kernel.exits import Exit, ExitKind
from agentrt.kernel.reports import BudgetLeft, Outlook, Sequel
from agentrt.kernel.spec import Strategy, SupervisorSpec, WhenExhausted
from agentrt.kernel.window import RestartWindow, takes_along
from agentrt.policy.intensity import Verdict

#: Exits that an escalation names.
EXITS_NAMED = 10


class Fate(enum.Enum):
    """What the end of a child is, to its supervisor."""

    STOPPED = "stopped"
    """It was to be stopped: somebody asked for it, or a sibling's restart took it along."""
    SWEPT = "swept"
    """All of them end."""
    IGNORED = "ignored"
    """It is not needed."""
    TRIAL_FAILED = "trial_failed"
    """Somebody asked for its start, and it did not start."""
    START_FAILED = "start_failed"
    """It did not start when its supervisor did."""
    OPEN = "open"
    """It ended by itself: its restart type and the budgets decide."""


def fate_of(child: Child, was: ChildState, exit_: Exit, *, all_end: bool) -> Fate:
    """Say what the end of *child* is.

    Args:
        child: The child.
        was: What it was doing.
        exit_: How it ended.
        all_end: Whether its supervisor is ending.
    """
    if was is ChildState.STOPPING or child.cycle or not child.wanted:
        # Also where it went down by itself while it waited for its turn to be stopped.
        return Fate.STOPPED
    if all_end or exit_.ends_run:
        return Fate.SWEPT
    if exit_.kind is ExitKind.IGNORED:
        return Fate.IGNORED
    if was is ChildState.STARTING and child.on_trial:
        return Fate.TRIAL_FAILED
    if was is ChildState.STARTING and child.is_new:
        return Fate.START_FAILED
    return Fate.OPEN


class Leave(NamedTuple):
    """It ended as it should, and stays down."""


class GiveUp(NamedTuple):
    """It spent its own budget; *failure* is set where its supervisor cannot do without it."""

    failure: ChildGaveUp | None


class RestartIn(NamedTuple):
    """Start it again after *delay* seconds."""

    delay: float


class Escalate(NamedTuple):
    """Restarting does not help: *failure* is the parent's to mend."""

    failure: RestartIntensityExceeded


Decision = Leave | GiveUp | RestartIn | Escalate


class Restarts:
    """The restarts of one incarnation of a supervisor: its budget, and what led here.

    Pure: the caller passes in the time and the jitter, and carries out the decision.

    Attributes:
        made: How many there were, each one however many siblings it took along.
    """

    def __init__(self, spec: SupervisorSpec, path: str) -> None:
        self.made = 0
        self._spec = spec
        self._path = path
        self._window = RestartWindow(spec.budget, spec.strategy)
        self._recent: deque[Exit] = deque(maxlen=EXITS_NAMED)

    def budget_left(self, now: float) -> BudgetLeft:
        """Say what is left of the supervisor's budget."""
        budget = self._spec.budget
        return BudgetLeft(self._window.restarts_left(now), budget.max_restarts, budget.max_seconds)

    def decide(self, child: Child, exit_: Exit, now: float, jitter: float) -> Decision:
        """Count the exit against both budgets, say what follows, and put that into its record.

        One restart is one unit of the supervisor's budget, however many siblings it takes along. A child that spent its
        own budget costs no unit, since it is not restarted.
        """
        verdict = child.restart_verdict(exit_, now)
        if verdict is None:
            return Leave()
        self._recent.append(exit_)
        if verdict is Verdict.GIVE_UP:
            exit_.foresee(self._outlook(child, Sequel.GIVE_UP))
            fatal = child.spec.when_exhausted is WhenExhausted.ESCALATE
            return GiveUp(ChildGaveUp(child.cell.path, exit_) if fatal else None)
        if self._window.record(child.index, now) is Verdict.GIVE_UP:
            exit_.foresee(self._outlook(child, Sequel.ESCALATE))
            budget = self._spec.budget
            # The last one with all that led to it, the others without: so a deep tree's is no tree of exits.
            exits = (*(one.shallow() for one in self._recent if one is not exit_), exit_)
            return Escalate(RestartIntensityExceeded(self._path, budget.max_restarts, budget.max_seconds, exits))
        self.made += 1
        delay = child.next_delay(exit_, jitter)
        exit_.foresee(self._outlook(child, Sequel.RESTART, delay))
        return RestartIn(delay)

    def _outlook(self, child: Child, sequel: Sequel, delay: float | None = None) -> Outlook:
        budget = self._spec.budget
        shared = BudgetLeft(self._window.left, budget.max_restarts, budget.max_seconds)
        attempt = child.attempt if delay is not None else None
        return Outlook(sequel, self._path, child.budget_seen, shared, delay, attempt)

    def taken_along(self, child: Child, children: Iterable[Child]) -> list[Child]:
        """List the children that a restart of *child* restarts, itself among them, in start order."""
        strategy = self._spec.strategy
        if strategy is Strategy.ONE_FOR_ONE:
            return [child]
        return [
            one for one in children if one.wanted and not one.is_final and takes_along(strategy, child.index, one.index)
        ]

    def begin(self, child: Child, now: float) -> None:
        """Take down that *child* is on its way back: what it has to do with does not age until it is there."""
        self._window.leave(child.index, now)

    def over(self, child: Child, now: float) -> None:
        """Take down that *child* is back, or will not come."""
        self._window.settle(child.index, now)
