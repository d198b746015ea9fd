"""Retry budget: how many retries a server may get, so that an outage is not multiplied."""

from __future__ import annotations

from collections import deque

import attrs
from attrs import validators

_SLICES = 10


@attrs.define
class _Slice:
    begins: float
    calls: int = 0
    retries: int = 0


@attrs.define
class RetryBudget:
    """Allow retries up to a share of the calls of the last *window* seconds, and always up to *minimum*.

    A server that is down fails every call; four retries each would make five times the load of it, just when it comes
    back. A fifth of the calls is enough for what fails in passing.

    The window moves in ten steps, so a call counts for at least nine tenths of it and at most for all of it.

    Pure: it never reads a clock. *now* is monotonic seconds, never less than the last one.

    Args:
        ratio: Retries per call, 0 to 1.
        minimum: Retries in a window that are allowed however few calls there were.
        window: Seconds that count.
    """

    ratio: float = attrs.field(default=0.2, validator=[validators.ge(0), validators.le(1)])
    minimum: int = attrs.field(default=10, validator=validators.ge(0))
    window: float = attrs.field(default=60.0, validator=validators.gt(0))
    _slices: deque[_Slice] = attrs.field(init=False, factory=deque)

    def record_call(self, now: float) -> None:
        """Record a call, once however often it is tried."""
        self._slice(now).calls += 1

    def spend(self, now: float) -> bool:
        """Take one retry; False where there is none left, and the call is not to be tried again."""
        current = self._slice(now)
        calls = sum(one.calls for one in self._slices)
        retries = sum(one.retries for one in self._slices)
        if retries + 1 > max(self.minimum, self.ratio * calls):
            return False
        current.retries += 1
        return True

    def _slice(self, now: float) -> _Slice:
        while self._slices and now >= self._slices[0].begins + self.window:
            self._slices.popleft()
        width = self.window / _SLICES
        if not self._slices or now >= self._slices[-1].begins + width:
            self._slices.append(_Slice(now))
        return self._slices[-1]
