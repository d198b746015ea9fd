"""Restart intensity: when there were too many restarts, and the clock that its window is measured by."""

from __future__ import annotations

import enum

import attrs
from attrs import validators


class Verdict(enum.Enum):
    """What to do about a failed child."""

    RESTART = "restart"
    GIVE_UP = "give_up"


@attrs.define
class RestartIntensity:
    """Count restarts in a sliding window and say when there were too many.

    More than *max_restarts* within *max_seconds* means that restarting does not help, so the failure belongs to the
    parent supervisor. A restart exactly *max_seconds* old still counts, as in OTP.

    Pure: it never reads a clock. The caller passes in the time and carries out the verdict.

    Args:
        max_restarts: Restarts tolerated per window; 0 means never restart.
        max_seconds: Length of the window, in seconds.
    """

    max_restarts: int = attrs.field(default=3, validator=validators.ge(0))
    max_seconds: float = attrs.field(default=5.0, validator=validators.gt(0))
    # A list and not a deque: most are empty for ever, and an empty deque takes ten times the room.
    _restarts: list[float] = attrs.field(init=False, factory=list)

    def record(self, now: float) -> Verdict:
        """Record a restart and return what to do about it.

        Args:
            now: A monotonic time in seconds, never less than the last one. To leave out backoff and stopping, pass
                what a :class:`RunningClock` reads.
        """
        self._forget_expired(now)
        self._restarts.append(now)
        if len(self._restarts) <= self.max_restarts:
            return Verdict.RESTART
        # One more than is tolerated is enough to see that it is too many, so a caller that goes on costs no memory.
        del self._restarts[: -self.max_restarts - 1]
        return Verdict.GIVE_UP

    @property
    def left(self) -> int:
        """How many restarts would still have been tolerated when it was last asked about a time; never less than 0."""
        return max(0, self.max_restarts - len(self._restarts))

    def restarts_left(self, now: float) -> int:
        """Return how many restarts recorded at *now* would still be tolerated; never less than 0."""
        self._forget_expired(now)
        return self.left

    def _forget_expired(self, now: float) -> None:
        # Oldest on the left, so everything that expired is there too.
        expired = 0
        for restart in self._restarts:
            if now - restart <= self.max_seconds:
                break
            expired += 1
        if expired:
            del self._restarts[:expired]


@attrs.define
class RunningClock:
    """Measure time that stands still while paused.

    A restart window in real time slides on while a supervisor backs off or waits for siblings to stop; when a cycle
    takes longer than the window allows per restart, the budget is never spent and the loop never ends. Measured by
    this clock, only time in which the children ran counts.

    Pauses nest: it runs again when each pause was resumed. Never paused, it reads what it is told.

    Pure: it never reads a clock itself. Times are monotonic seconds, never less than the last one.
    """

    _pauses: int = attrs.field(init=False, default=0)
    _ran: float = attrs.field(init=False, default=0.0)
    _running_since: float = attrs.field(init=False, default=0.0)

    @property
    def is_paused(self) -> bool:
        """Whether it stands."""
        return self._pauses > 0

    def pause(self, now: float) -> None:
        """Stop the clock at *now*."""
        if not self._pauses:
            self._ran += now - self._running_since
        self._pauses += 1

    def resume(self, now: float) -> None:
        """Take back one pause; the last one starts the clock again.

        Raises:
            RuntimeError: It is not paused.
        """
        if not self._pauses:
            msg = "the clock is not paused: each resume() takes back one pause()"
            raise RuntimeError(msg)
        self._pauses -= 1
        self._running_since = now

    def read(self, now: float) -> float:
        """Return the seconds that ran until *now*; never less than at an earlier reading."""
        if self._pauses:
            return self._ran
        return self._ran + (now - self._running_since)
