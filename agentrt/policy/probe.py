"""Probe health: whether a connection that looks open still answers."""

from __future__ import annotations

import enum
import math

import attrs
from attrs import validators

#: Seconds that a wake may come late before the process is taken to have stood, or its loop to have been held.
LATENESS = 0.5


class Health(enum.StrEnum):
    """Whether the other side answers."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@attrs.define
class ProbeHealth:
    """Judge a connection by the answers to its probes, never by what its library says of itself.

    It is unhealthy when nothing was heard for *limit* seconds, counted from the last answer or the last connect,
    whichever is later; at exactly *limit* it is. Silence counts also where no probe was sent: a prober that stopped
    must not look like a connection that works. Before the first connect it is unhealthy.

    Silence counts only while somebody listens: see :meth:`woke`.

    Pure: the caller sends the probes and passes in the time, monotonic seconds, never less than the last one.

    Args:
        limit: Seconds of silence.
    """

    limit: float = attrs.field(default=5.0, validator=validators.gt(0))
    _heard_at: float = attrs.field(init=False, default=-math.inf)
    _sent_at: float | None = attrs.field(init=False, default=None)
    _unanswered: int = attrs.field(init=False, default=0)
    _round_trip: float | None = attrs.field(init=False, default=None)

    @property
    def unanswered(self) -> int:
        """Probes sent since the last answer or connect."""
        return self._unanswered

    @property
    def round_trip(self) -> float | None:
        """Seconds from the last probe to its answer, as last measured on this connection; None before the first."""
        return self._round_trip

    def connected(self, now: float) -> None:
        """Record a new connection; what the old one owed is forgotten."""
        self._heard_at = now
        self._sent_at = None
        self._unanswered = 0
        self._round_trip = None

    def sent(self, now: float) -> None:
        """Record a probe."""
        self._sent_at = now
        self._unanswered += 1

    def answered(self, now: float) -> None:
        """Record an answer; it settles all probes before it."""
        self._heard_at = now
        self._unanswered = 0
        if self._sent_at is not None:
            self._round_trip = now - self._sent_at
            self._sent_at = None

    @property
    def due(self) -> float:
        """When it is unhealthy, if nothing is heard until then."""
        return self._heard_at + self.limit

    def woke(self, planned: float, now: float) -> None:
        """Record a wake of the caller that was to come at *planned*, and came now.

        One that is late says that the process was stopped, or its loop held. What the other side said meanwhile could
        not be heard, and is not held against it.
        """
        if now - planned > LATENESS:
            self._heard_at = min(now, self._heard_at + now - planned)

    def verdict(self, now: float) -> Health:
        """Return whether the connection answers."""
        return Health.UNHEALTHY if now >= self.due else Health.HEALTHY
