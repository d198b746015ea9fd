"""The window of a supervisor's restart budget: which restarts still count."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

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


class _Origin:
    """The restarts of one child that still count, oldest first, by the clock that they age by.

    Attributes:
        place: Whose they are.
        clock: Stands while anybody is away whom they took along.
        restarts: When each was, by that clock.
        is_due: Whether there is a time at which it is looked at.
    """

    __slots__ = ("clock", "is_due", "place", "restarts")

    def __init__(self, place: int) -> None:
        self.place = place
        self.clock = RunningClock()
        self.restarts: deque[float] = deque()
        self.is_due = False


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
            found = self._origins[origin] = _Origin(origin)
            for _ in range(self._away_from(origin)):
                found.clock.pause(now)
        found.restarts.append(found.clock.read(now))
        self._look_later(found, now)
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
                origin.clock.pause(now)

    def settle(self, place: int, now: float) -> None:
        """Take down that the child at *place* is back, or will not come; nothing happens where it was not away."""
        if place in self._away:
            self._away.remove(place)
            for origin in self._concerned(place):
                origin.clock.resume(now)
                self._look_later(origin, now)

    def _concerned(self, place: int) -> Sequence[_Origin]:
        """List those whose restarts took along the child at *place*."""
        if self._strategy is Strategy.ONE_FOR_ONE:
            found = self._origins.get(place)
            return (found,) if found is not None else ()
        return [found for origin, found in self._origins.items() if takes_along(self._strategy, origin, place)]

    def _away_from(self, origin: int) -> int:
        """Count those who are away whom a restart of the child at *origin* takes along."""
        if self._strategy is Strategy.ONE_FOR_ONE:
            return int(origin in self._away)
        return sum(takes_along(self._strategy, origin, place) for place in self._away)

    def _look_later(self, found: _Origin, now: float) -> None:
        # While its clock stands nothing expires, and when it goes on this is called again.
        if not (found.is_due or found.clock.is_paused):
            found.is_due = True
            due = now + self._budget.max_seconds - (found.clock.read(now) - found.restarts[0])
            # Never before now, as rounding could have it of one that is exactly as old as the window.
            heapq.heappush(self._due, (max(now, due), found.place))

    def _forget_expired(self, now: float) -> None:
        while self._due and self._due[0][0] < now:
            found = self._origins[heapq.heappop(self._due)[1]]
            found.is_due = False
            restarts, read = found.restarts, found.clock.read(now)
            while restarts and read - restarts[0] > self._budget.max_seconds:
                restarts.popleft()
                self._counted -= 1
            if restarts:
                self._look_later(found, now)
            else:
                del self._origins[found.place]
