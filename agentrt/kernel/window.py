"""The window of a supervisor's restart budget: which restarts still count."""

from __future__ import annotations

import heapq
from collections import deque

import attrs

from agentrt.kernel.spec import Budget, Strategy
from agentrt.policy.intensity import RunningClock, Verdict


def takes_along(strategy: Strategy, origin: int, place: int) -> bool:
    """Whether a restart of the child at *origin* restarts the one at *place* too; places are in start order."""
    match strategy:
        case Strategy.ONE_FOR_ONE:
            return place == origin
        case Strategy.REST_FOR_ONE:
            return place >= origin
        case Strategy.ONE_FOR_ALL:
            return True


@attrs.define(eq=False)
class _Origin:
    """The restarts of one child that still count, oldest first, by the clock that they age by.

    Attributes:
        pauses: How many of those whom they took along are away; the clock stands while there are any.
        is_due: Whether there is a time at which it is looked at.
    """

    clock: RunningClock = attrs.field(factory=RunningClock)
    restarts: deque[float] = attrs.field(factory=deque)
    pauses: int = 0
    is_due: bool = False

    def pause(self, now: float, by: int = 1) -> None:
        if by and not self.pauses:
            self.clock.pause(now)
        self.pauses += by

    def resume(self, now: float) -> None:
        self.pauses -= 1
        if not self.pauses:
            self.clock.resume(now)

    def age(self, now: float) -> float:
        """Say how old the oldest restart is."""
        return self.clock.read(now) - self.restarts[0]


class RestartWindow:
    """Counts the restarts of a supervisor's children, and says when there were too many.

    A restart ages only while all whom it took along are well: up, or down for good. Backoff, siblings that stop and
    slow starts so never make it slide out of the window, and a crash loop spends its budget however slow it turns. And
    a child that is away for long keeps no restart in the window but its own: those of siblings that do not depend on
    it age as ever.

    Where children do not depend on each other, a restart costs the same however many of them there are.

    Pure: it never reads a clock. Times are monotonic seconds, never less than the last one.

    Args:
        budget: How many restarts in which window are tolerated; one exactly as old as the window still counts.
        strategy: Whom a restart takes along.
    """

    def __init__(self, budget: Budget, strategy: Strategy) -> None:
        self._budget = budget
        self._strategy = strategy
        self._away: set[int] = set()
        self._origins: dict[int, _Origin] = {}
        # When each of them is looked at: once at a time, and not after its oldest restart expires.
        self._due: list[tuple[float, int]] = []
        self._counted = 0

    def record(self, origin: int, now: float) -> Verdict:
        """Record a restart of the child at *origin* and return what to do about it."""
        self._forget_expired(now)
        if self._strategy is Strategy.ONE_FOR_ALL:
            # All depend on each other, so their restarts age by one clock.
            origin = 0
        found = self._origins.get(origin)
        if found is None:
            found = self._origins[origin] = _Origin()
            found.pause(now, by=self._away_from(origin))
        found.restarts.append(found.clock.read(now))
        self._look_later(origin, found, now)
        self._counted += 1
        return Verdict.GIVE_UP if self._counted > self._budget.max_restarts else Verdict.RESTART

    @property
    def left(self) -> int:
        """How many restarts would still have been tolerated when it was last asked about a time; never less than 0."""
        return max(0, self._budget.max_restarts - self._counted)

    def restarts_left(self, now: float) -> int:
        """Return how many restarts recorded at *now* would still be tolerated; never less than 0."""
        self._forget_expired(now)
        return self.left

    def leave(self, place: int, now: float) -> None:
        """Take down that the child at *place* is away: it is stopped, waits for its restart, or starts."""
        if place not in self._away:
            self._away.add(place)
            for origin in self._concerned(place):
                self._origins[origin].pause(now)

    def settle(self, place: int, now: float) -> None:
        """Take down that the child at *place* is back, or will not come; nothing happens where it was not away."""
        if place in self._away:
            self._away.remove(place)
            for origin in self._concerned(place):
                self._origins[origin].resume(now)
                self._look_later(origin, self._origins[origin], now)

    def _concerned(self, place: int) -> list[int]:
        """List those whose restarts took along the child at *place*."""
        if self._strategy is Strategy.ONE_FOR_ONE:
            return [place] if place in self._origins else []
        return [origin for origin in self._origins if takes_along(self._strategy, origin, place)]

    def _away_from(self, origin: int) -> int:
        """Count those who are away whom a restart of the child at *origin* takes along."""
        if self._strategy is Strategy.ONE_FOR_ONE:
            return int(origin in self._away)
        return sum(takes_along(self._strategy, origin, place) for place in self._away)

    def _look_later(self, origin: int, found: _Origin, now: float) -> None:
        # While its clock stands nothing expires, and when it goes on this is called again.
        if not (found.is_due or found.pauses):
            found.is_due = True
            # Never before now, as rounding could have it of one that is exactly as old as the window.
            heapq.heappush(self._due, (max(now, now + self._budget.max_seconds - found.age(now)), origin))

    def _forget_expired(self, now: float) -> None:
        while self._due and self._due[0][0] < now:
            _, origin = heapq.heappop(self._due)
            found = self._origins[origin]
            found.is_due = False
            while found.restarts and found.age(now) > self._budget.max_seconds:
                found.restarts.popleft()
                self._counted -= 1
            if found.restarts:
                self._look_later(origin, found, now)
            else:
                del self._origins[origin]
