"""Bulkhead: how many calls a server may have in hand, and how many may wait for it."""

from __future__ import annotations

import enum

import attrs
from attrs import validators


class Admission(enum.Enum):
    """What a bulkhead says to a call."""

    RUN = "run"
    QUEUE = "queue"
    #: As many wait as may.
    FULL = "full"
    #: Those that wait hold as many bytes as they may.
    TOO_LARGE = "too large"


@attrs.define
class Bulkhead:
    """Bound the calls in hand, and the calls that wait for one of them to end, by number and by size.

    One bad server then costs its own callers only, and no more memory than said. Nobody overtakes: while somebody
    waits, a new call queues up behind.

    Pure: whoever waits is the caller's business, first come, first served.

    Args:
        max_concurrent: Calls in hand.
        max_queued: Calls that wait.
        max_queued_bytes: What the arguments of those that wait may take together.
    """

    max_concurrent: int = attrs.field(default=32, validator=validators.ge(1))
    max_queued: int = attrs.field(default=256, validator=validators.ge(0))
    max_queued_bytes: int = attrs.field(default=16 * 1024 * 1024, validator=validators.ge(0))
    _running: int = attrs.field(init=False, default=0)
    _queued: int = attrs.field(init=False, default=0)
    _bytes: int = attrs.field(init=False, default=0)

    @property
    def running(self) -> int:
        """Calls in hand."""
        return self._running

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return self._queued

    @property
    def has_room(self) -> bool:
        """Whether a call would run at once; its size does not matter then."""
        return self._queued == 0 and self._running < self.max_concurrent

    def enter(self, size: int = 0) -> Admission:
        """Say what becomes of a new call, and count it where it runs or waits."""
        if self.has_room:
            self._running += 1
            return Admission.RUN
        if self._queued >= self.max_queued:
            return Admission.FULL
        if self._bytes + size > self.max_queued_bytes:
            return Admission.TOO_LARGE
        self._queued += 1
        self._bytes += size
        return Admission.QUEUE

    def abandon(self, size: int) -> None:
        """Count out a call that waited in vain."""
        self._queued -= 1
        self._bytes -= size

    def promote(self, size: int) -> None:
        """Count a call that waited as running, in the place of one that left."""
        self.abandon(size)
        self._running += 1

    def leave(self) -> None:
        """Count out a call that ran; whoever waits first may be promoted now."""
        self._running -= 1
