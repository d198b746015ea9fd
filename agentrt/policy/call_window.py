"""Call window: what share of the recent calls failed or was slow."""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs
from attrs import validators

_SLICES = 10


def _share(default: float) -> Any:
    return attrs.field(default=default, validator=[validators.ge(0), validators.le(1)])


@attrs.define
class _Slice:
    begins: float
    calls: int = 0
    failed: int = 0
    slow: int = 0


@attrs.define
class CallWindow:
    """Say when too large a share of the calls of the last *window* seconds failed, or took too long.

    Counting failures in a row does not see a server that fails every other call, nor one that answers each call after a
    minute. Fewer than *min_calls* say nothing.

    The window moves in ten steps, so a call counts for at least nine tenths of it and at most for all of it.

    Pure: it never reads a clock. *now* is monotonic seconds, never less than the last one.

    Args:
        failure_rate: Share of failed calls that is too much; 0 never is.
        slow_rate: Share of slow calls that is too much; 0 never is.
        slow_call: Seconds above which a call is slow, whether it worked or not; 0 calls none slow.
        min_calls: Calls in the window below which nothing is judged.
        window: Seconds that count.
    """

    failure_rate: float = _share(0.5)
    slow_rate: float = _share(0.0)
    slow_call: float = attrs.field(default=0.0, validator=validators.ge(0))
    min_calls: int = attrs.field(default=20, validator=validators.ge(1))
    window: float = attrs.field(default=60.0, validator=validators.gt(0))
    _slices: deque[_Slice] = attrs.field(init=False, factory=deque)
    # What the slices have together: to add them up for each call would cost more than all else here.
    _sum: _Slice = attrs.field(init=False, factory=lambda: _Slice(0.0))

    def record(self, now: float, took: float | None, *, failed: bool) -> str | None:
        """Record a call that ended; return what is too much, for people, or None.

        Args:
            now: When it ended.
            took: Seconds that it took; None where nobody measured.
            failed: Whether it failed.
        """
        is_slow = bool(self.slow_call) and took is not None and took > self.slow_call
        for one in (self._slice(now), self._sum):
            one.calls += 1
            one.failed += failed
            one.slow += is_slow
        recent = self._sum
        if recent.calls < self.min_calls:
            return None
        if self.failure_rate and recent.failed >= self.failure_rate * recent.calls:
            return f"{recent.failed} of the last {recent.calls} calls failed"
        if self.slow_rate and recent.slow >= self.slow_rate * recent.calls:
            return f"{recent.slow} of the last {recent.calls} calls took longer than {self.slow_call:g} s"
        return None

    def forget(self) -> None:
        """Begin anew."""
        self._slices.clear()
        self._sum = _Slice(0.0)

    def _slice(self, now: float) -> _Slice:
        while self._slices and now >= self._slices[0].begins + self.window:
            old = self._slices.popleft()
            self._sum.calls -= old.calls
            self._sum.failed -= old.failed
            self._sum.slow -= old.slow
        if not self._slices or now >= self._slices[-1].begins + self.window / _SLICES:
            self._slices.append(_Slice(now))
        return self._slices[-1]
