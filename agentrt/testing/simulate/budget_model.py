"""Naive models of budgets and backoffs, to hold against what the kernel decides; none of the kernel's own is used."""

from __future__ import annotations

import math

import attrs

from agentrt.kernel import Budget, Strategy
from agentrt.policy.backoff import Backoff

#: Seconds by which two ways to add up the same floats may differ.
TINY = 1e-9
#: Seconds by which an event's delay may differ from what was waited: events are rounded for people.
ROUNDED = 0.001
#: Times that are multiples of this are added up without an error.
_ROUND = 1.0 / 4096


@attrs.define
class Stopwatch:
    """Time that is counted only while it runs."""

    ran: float = 0.0
    since: float | None = None

    def start(self, now: float) -> None:
        """Run from now on; nothing changes where it runs."""
        if self.since is None:
            self.since = now

    def stop(self, now: float) -> None:
        """Stand from now on; nothing changes where it stands."""
        self.ran = self.read(now)
        self.since = None

    def read(self, now: float) -> float:
        """Say what was counted."""
        return self.ran if self.since is None else self.ran + (now - self.since)


def may_be_spent(budget: Budget, ages: list[float]) -> set[bool]:
    """Say whether one restart more than those of these *ages* is too many; both, where that is a matter of rounding."""
    exact = all(age % _ROUND == 0.0 for age in ages)
    slacks = (0.0,) if exact else (-TINY, TINY)
    return {sum(age <= budget.max_seconds + slack for age in ages) + 1 > budget.max_restarts for slack in slacks}


@attrs.define
class OwnRestarts:
    """All restarts of one child, each by what its stopwatch read; it runs while the child does.

    Attributes:
        made: Those that count.
        open: Those of which nobody can tell whether they were forgotten.
    """

    budget: Budget
    watch: Stopwatch = attrs.field(factory=Stopwatch)
    made: list[float] = attrs.field(factory=list)
    open: list[float] = attrs.field(factory=list)
    _renewed_at: float | None = None

    def may_be_spent(self, now: float) -> set[bool]:
        """Say whether one more is too many; both, where the log leaves that open."""
        read = self.watch.read(now)
        ages, more = ([read - one for one in these] for these in (self.made, self.open))
        return may_be_spent(self.budget, ages) | may_be_spent(self.budget, ages + more)

    def record(self, now: float) -> None:
        """Count one; at the moment of a renewal, it may have come before that or after it."""
        (self.open if now == self._renewed_at else self.made).append(self.watch.read(now))

    def renew(self, now: float) -> None:
        """Forget them all, because somebody asked for a restart."""
        self.made.clear()
        self.open.clear()
        self._renewed_at = now


@attrs.define(eq=False)
class _Absence:
    """A child that is on its way back, from its place in the start order and until it is there."""

    index: int
    since: float
    until: float = math.inf


@attrs.define
class SharedRestarts:
    """All restarts of a supervisor's children, and who was away when.

    A restart ages only while nobody is away whom it takes along, so its age is looked up in the whole history.
    """

    budget: Budget
    strategy: Strategy
    made: list[tuple[int, float]] = attrs.field(factory=list)
    absences: list[_Absence] = attrs.field(factory=list)

    def takes_along(self, origin: int, index: int) -> bool:
        """Whether a restart of the child at *origin* takes the one at *index* along."""
        if self.strategy is Strategy.REST_FOR_ONE:
            return index >= origin
        return self.strategy is Strategy.ONE_FOR_ALL or index == origin

    def may_be_spent(self, now: float) -> set[bool]:
        """Say whether one more is too many."""
        return may_be_spent(self.budget, [self._age(origin, since, now) for origin, since in self.made])

    def _age(self, origin: int, since: float, now: float) -> float:
        """Add up the time in which nobody was away whom the restart takes along."""
        spans = sorted(
            (max(one.since, since), min(one.until, now)) for one in self.absences if self.takes_along(origin, one.index)
        )
        age, at = 0.0, since
        for begins, ends in spans:
            age += max(0.0, begins - at)
            at = max(at, ends)
        return age + max(0.0, now - at)

    def record(self, origin: int, now: float) -> None:
        """Count one."""
        self.made.append((origin, now))

    def leaves(self, index: int, now: float) -> None:
        """Take down that a child is on its way; nothing changes where it is."""
        if not any(one.index == index and one.until == math.inf for one in self.absences):
            self.absences.append(_Absence(index, now))

    def is_back(self, index: int, now: float) -> None:
        """Take down that a child is back, or will not come."""
        for one in self.absences:
            if one.index == index and one.until == math.inf:
                one.until = now


def delay_is_right(backoff: Backoff, attempt: int, delay: float) -> bool:
    """Whether *delay* lies within the bounds of *backoff* after *attempt*."""
    grown = backoff.initial
    for _ in range(attempt - 1):
        grown = min(grown * backoff.factor, backoff.maximum)
    low, high = (min(grown * multiplier, backoff.maximum) for multiplier in backoff.jitter)
    return low - ROUNDED <= delay <= high + ROUNDED
