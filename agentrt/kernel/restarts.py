"""What a supervisor decides about a child that ended: leave it, give it up, restart it, or escalate."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from agentrt.kernel.errors import ChildGaveUp, RestartIntensityExceeded
from agentrt.kernel.spec import Strategy, SupervisorSpec, WhenExhausted
from agentrt.policy.intensity import RestartIntensity, RunningClock, Verdict

if TYPE_CHECKING:
    from agentrt.kernel.children import Child
    from agentrt.kernel.exits import Exit

#: Exits that an escalation names.
EXITS_NAMED = 10


@attrs.frozen
class Leave:
    """It ended as it should, and stays down."""


@attrs.frozen
class GiveUp:
    """It spent its own budget; *failure* is set where its supervisor cannot do without it."""

    failure: ChildGaveUp | None


@attrs.frozen
class RestartIn:
    """Start it again after *delay* seconds."""

    delay: float


@attrs.frozen
class Escalate:
    """Restarting does not help: *failure* is the parent's to mend."""

    failure: RestartIntensityExceeded


Decision = Leave | GiveUp | RestartIn | Escalate


class Restarts:
    """The restarts of one incarnation of a supervisor: its budget, the clock that it is counted by, and what led here.

    The clock stands while any child is on its way back, so that backoff, stopping siblings and starting again do not
    make the window slide away from under the budget.

    Pure: the caller passes in the time and the jitter, and carries out the decision.
    """

    def __init__(self, spec: SupervisorSpec, path: str) -> None:
        self._spec = spec
        self._path = path
        self._intensity = RestartIntensity(spec.budget.max_restarts, spec.budget.max_seconds)
        self._clock = RunningClock()
        self._on_their_way: set[Child] = set()
        self._recent: deque[Exit] = deque(maxlen=EXITS_NAMED)

    def decide(self, child: Child, exit_: Exit, now: float, jitter: float) -> Decision:
        """Count the exit against both budgets and say what follows.

        One restart is one unit of the supervisor's budget, however many siblings it takes along. A child that spent its
        own budget costs no unit, since it is not restarted.
        """
        verdict = child.restart_verdict(exit_, now)
        if verdict is None:
            return Leave()
        self._recent.append(exit_)
        if verdict is Verdict.GIVE_UP:
            fatal = child.spec.when_exhausted is WhenExhausted.ESCALATE
            return GiveUp(ChildGaveUp(child.cell.path, exit_) if fatal else None)
        if self._intensity.record(self._clock.read(now)) is Verdict.GIVE_UP:
            budget = self._spec.budget
            return Escalate(
                RestartIntensityExceeded(self._path, budget.max_restarts, budget.max_seconds, tuple(self._recent))
            )
        return RestartIn(child.next_delay(exit_, jitter))

    def taken_along(self, child: Child, children: Iterable[Child]) -> list[Child]:
        """List the children that a restart of *child* restarts, itself among them, in start order."""
        if self._spec.strategy is Strategy.ONE_FOR_ONE:
            return [child]
        first = 0 if self._spec.strategy is Strategy.ONE_FOR_ALL else child.index
        return [one for one in children if one.index >= first and one.wanted and not one.is_final]

    def begin(self, child: Child, now: float) -> None:
        """Stop the clock: *child* is on its way back."""
        if not self._on_their_way:
            self._clock.pause(now)
        self._on_their_way.add(child)

    def over(self, child: Child, now: float) -> None:
        """Let the clock run, if nobody else is on the way: *child* is back, or will not come."""
        if child in self._on_their_way:
            self._on_their_way.remove(child)
            if not self._on_their_way:
                self._clock.resume(now)
