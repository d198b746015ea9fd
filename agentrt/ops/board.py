"""The board between the event loop and the threads that watch it: the latest snapshot and the last beat."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrt.ops.snapshot import FleetSnapshot

#: The worst lag is remembered for one to two of these, in seconds, so that a scrape does not miss a short block.
LAG_WINDOW = 30.0


class SnapshotBoard:
    """Holds what the event loop published last; safe to use from any thread, and it never waits for the loop.

    Args:
        beat_interval: Seconds between two beats that the loop aims at; what a gap is longer than that is lag.
        clock: Monotonic seconds. Real time also where Trio's is virtual: it measures the thread, not the work.
    """

    def __init__(self, beat_interval: float = 0.25, clock: Callable[[], float] = time.monotonic) -> None:
        self.beat_interval = beat_interval
        self.now = clock
        self._lock = threading.Lock()
        self._snapshot: FleetSnapshot | None = None
        # A loop that never turns is as dead as one that stopped, so the start counts as the first beat.
        self._last_beat = self._window_began = clock()
        self._worst = self._worst_before = 0.0

    def __repr__(self) -> str:
        return f"<SnapshotBoard last_beat={self._last_beat:.3f} snapshot={self._snapshot!r}>"

    def publish(self, snapshot: FleetSnapshot) -> None:
        """Replace the snapshot. It is no beat: only the loop's own task can say that the loop turns."""
        with self._lock:
            self._snapshot = snapshot

    def read(self) -> FleetSnapshot | None:
        """Return the latest snapshot, or None before the first."""
        with self._lock:
            return self._snapshot

    def beat(self) -> None:
        """Say, from the event loop, that it turned."""
        now = self.now()
        with self._lock:
            elapsed = now - self._window_began
            if elapsed >= LAG_WINDOW:
                self._worst_before = self._worst if elapsed < 2 * LAG_WINDOW else 0.0
                self._worst = 0.0
                self._window_began = now
            self._worst = max(self._worst, now - self._last_beat - self.beat_interval)
            self._last_beat = now

    @property
    def last_beat(self) -> float:
        """When the event loop last turned, on the board's clock."""
        with self._lock:
            return self._last_beat

    @property
    def lag(self) -> float:
        """Seconds that a beat was late at worst, lately or right now."""
        now = self.now()
        with self._lock:
            return max(0.0, now - self._last_beat - self.beat_interval, self._worst, self._worst_before)
