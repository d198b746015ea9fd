"""Nothing silent: what went wrong on a bus is counted, and told by events, a bounded number of them a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from agentrt.ports import BusError

if TYPE_CHECKING:
    from agentrt.kernel.events import Event

PROBLEM = "nats_problem"
DROPPED = "bus_message_dropped"

# Distinct subjects and errors between two tellings; whatever comes beyond them is told together.
_MAX_ENTRIES = 64
_OTHERS = "(others)"


@attrs.define
class _Entry:
    reason: str
    count: int = 0


@attrs.define
class Ledger:
    """Counts errors by their class for as long as the bus lives, and remembers what was not told yet."""

    problems: Counter[str] = attrs.field(init=False, factory=Counter)
    dropped: Counter[str] = attrs.field(init=False, factory=Counter)
    _untold: dict[tuple[str, str, str], _Entry] = attrs.field(init=False, factory=dict)

    def problem(self, subject: str, error: BusError) -> None:
        """Count what went wrong; *subject* is empty where it concerns none."""
        self.problems[type(error).__name__] += 1
        self._note(PROBLEM, subject, error, 1)

    def drop(self, subject: str, error: BusError, count: int = 1) -> None:
        """Count messages that were given up."""
        self.dropped[type(error).__name__] += count
        self._note(DROPPED, subject, error, count)

    def tell(self, emit: Callable[..., Event]) -> None:
        """Publish an event for each error and subject since the last time, with how often it happened."""
        untold, self._untold = self._untold, {}
        for (kind, name, subject), entry in untold.items():
            emit(kind, error=name, subject=subject, count=entry.count, reason=entry.reason)

    def _note(self, kind: str, subject: str, error: BusError, count: int) -> None:
        name = type(error).__name__
        key = (kind, name, subject)
        if key not in self._untold and len(self._untold) >= _MAX_ENTRIES:
            key = (kind, name, _OTHERS)
        entry = self._untold.setdefault(key, _Entry(str(error)))
        entry.count += count
