"""A virtual clock that finds out when a run will never end: nothing to wait for, or no end to what is done."""

from __future__ import annotations

import math

import trio
from trio.testing import MockClock

#: Passes of Trio's loop after which a run goes round in circles; the longest honest one takes some thousands.
PASSES = 20_000
#: Passes without anything to wait for; some are honest, while Trio wakes itself up.
IDLE_PASSES = 100
#: Virtual seconds after which a run should long be over.
HORIZON = 1_000_000.0


class NeverEnds(Exception):
    """The run cannot come to an end any more.

    Attributes:
        root: The task that all others are below.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.root = trio.lowlevel.current_root_task()


class Watch(trio.abc.Instrument):
    """Watches a run, and raises in Trio's loop itself where it would never end.

    A cancellation would not do: what hangs may be shielded, and Trio waits for it.

    Attributes:
        clock: The clock of the run, which jumps to whatever is due next.
    """

    def __init__(self) -> None:
        self.clock = MockClock(autojump_threshold=0)
        self._passes = self._idle_passes = 0
        self._sleep_time = self.clock.deadline_to_sleep_time
        # Asked by the loop whenever there is nothing to do.
        self.clock.deadline_to_sleep_time = self._checked_sleep_time  # type: ignore[method-assign]

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's.
        """Count a pass of the loop."""
        self._passes += 1
        if self._passes > PASSES:
            # Asked by the loop next; what an instrument raises is only logged.
            self.clock.current_time = self._raise_too_many  # type: ignore[method-assign]

    def _raise_too_many(self) -> float:
        raise NeverEnds(f"{PASSES} passes of the loop were not enough")

    def _checked_sleep_time(self, deadline: float) -> float:
        self._idle_passes = self._idle_passes + 1 if deadline == math.inf else 0
        if self._idle_passes > IDLE_PASSES:
            raise NeverEnds("all wait for each other, and nothing is due")
        if HORIZON < deadline < math.inf:
            raise NeverEnds(f"it goes on after {HORIZON:g} s")
        return self._sleep_time(deadline)
