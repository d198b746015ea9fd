"""Latch: a short failure stays visible long enough to be seen from outside."""

from __future__ import annotations

import attrs
from attrs import validators


@attrs.define
class Latch:
    """Keep a check failed for *hold* seconds after it failed last.

    What heals within milliseconds would else be seen by nobody who asks once a second, and a check that flaps would
    look good half of the time.

    Pure: it never reads a clock. *now* is monotonic seconds, never less than the last one.

    Args:
        hold: Seconds that a failure is held.

    Raises:
        ValueError: *hold* is negative.
    """

    hold: float = attrs.field(default=2.0, validator=validators.ge(0))
    _failed: dict[str, tuple[float, str]] = attrs.field(init=False, factory=dict)

    def look(self, name: str, *, ok: bool, reason: str, now: float) -> tuple[bool, str]:
        """Take what a check says now; return what is to be shown: its result and its reason."""
        if not ok:
            self._failed[name] = (now, reason)
            return False, reason
        if name not in self._failed:
            return True, reason
        since, why = self._failed[name]
        if now - since >= self.hold:
            del self._failed[name]
            return True, reason
        return False, f"{why} (over for {now - since:.1f} s)"
