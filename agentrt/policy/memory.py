"""Memory guard: what to do about a process that grows."""

from __future__ import annotations

import enum

import attrs
from attrs import validators


class MemoryVerdict(enum.StrEnum):
    """What to do about a sample of resident memory."""

    #: Nothing to do, or nothing that was not said before.
    OK = "ok"
    WARN = "warn"
    RESTART = "restart"
    #: Too large so soon after its start that a restart would not help: tell a person.
    REPORT = "report"


@attrs.define
class MemoryGuardPolicy:
    """Watch one server's memory: warn at the first limit, ask for a restart at the second.

    Each verdict comes once, not with each sample:

    * WARN at or above *warn*; again only after a sample below *warn*.
    * RESTART at or above *limit*, once per start.
    * REPORT instead, once per start, where the process is younger than *settle*: it needs that much, and would be
      restarted in a loop. It is not restarted while it stays there, however old it grows; once it was below *limit*,
      it can be.

    A verdict about the second limit stands for the warning too. Another start begins anew.

    Pure: the caller takes the samples and carries out the verdicts.

    Args:
        warn: Bytes at which to warn.
        limit: Bytes at which to restart; not less than *warn*.
        settle: Seconds; a process exactly this old has settled.

    Raises:
        ValueError: A limit is not positive, or *warn* is above *limit*.
    """

    warn: int = attrs.field(validator=validators.gt(0))
    limit: int = attrs.field(validator=validators.gt(0))
    settle: float = attrs.field(default=60.0, validator=validators.ge(0))
    _started_at: float | None = attrs.field(init=False, default=None)
    _warned: bool = attrs.field(init=False, default=False)
    _restarted: bool = attrs.field(init=False, default=False)
    _reported: bool = attrs.field(init=False, default=False)
    # Above the limit since before it settled.
    _exempt: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """Refuse a warning that could only come too late."""
        if self.warn > self.limit:
            msg = f"warn ({self.warn}) must not be above limit ({self.limit}): change one of them"
            raise ValueError(msg)

    def sample(self, rss: int, started_at: float, now: float) -> MemoryVerdict:
        """Return what to do about a process that holds *rss* bytes.

        Args:
            rss: Resident memory in bytes.
            started_at: When the process started, in monotonic seconds; it tells one start from the next.
            now: Monotonic seconds.
        """
        if started_at != self._started_at:
            self._begin(started_at)
        if rss < self.limit:
            self._exempt = False
            return self._below_limit(rss)
        self._warned = True
        return self._at_limit(age=now - started_at)

    def _begin(self, started_at: float) -> None:
        self._started_at = started_at
        self._warned = self._restarted = self._reported = self._exempt = False

    def _below_limit(self, rss: int) -> MemoryVerdict:
        was_warned, self._warned = self._warned, rss >= self.warn
        return MemoryVerdict.WARN if self._warned and not was_warned else MemoryVerdict.OK

    def _at_limit(self, age: float) -> MemoryVerdict:
        if age < self.settle:
            self._exempt = True
            was_reported, self._reported = self._reported, True
            return MemoryVerdict.OK if was_reported else MemoryVerdict.REPORT
        if self._exempt or self._restarted:
            return MemoryVerdict.OK
        self._restarted = True
        return MemoryVerdict.RESTART


@attrs.define
class IdleRecycling:
    """Say when a server above the warning is to be replaced because just now nobody needs it.

    Once per start, and not before it settled. One that was there before it had settled needs that much, and is left
    alone until it was below.

    Pure, as above.

    Args:
        warn: Bytes from which on it is worth it.
        settle: Seconds; a process exactly this old has settled.
    """

    warn: int = attrs.field(validator=validators.gt(0))
    settle: float = attrs.field(default=60.0, validator=validators.ge(0))
    _started_at: float | None = attrs.field(init=False, default=None)
    _is_done: bool = attrs.field(init=False, default=False)
    # Above the warning since before it settled.
    _exempt: bool = attrs.field(init=False, default=False)

    def sample(self, rss: int, started_at: float, now: float, *, idle: bool) -> bool:
        """Return whether to replace a process that holds *rss* bytes; the rest as for the guard.

        Args:
            rss: Resident memory in bytes.
            started_at: When the process started, in monotonic seconds.
            now: Monotonic seconds.
            idle: Whether it has no call in hand.
        """
        if started_at != self._started_at:
            self._started_at, self._is_done, self._exempt = started_at, False, False
        if rss < self.warn:
            self._exempt = False
            return False
        if now - started_at < self.settle:
            self._exempt = True
        if not idle or self._exempt or self._is_done:
            return False
        self._is_done = True
        return True
