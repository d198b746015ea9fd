"""Setbacks: what the end of a connection, or an attempt that failed, means for the next attempt."""

from __future__ import annotations

import enum

import attrs
from attrs import validators

from agentrt.policy.backoff import Backoff, ReconnectBackoff

# Of what the other side asks for, so that a fleet that it turned away does not come back at one moment.
_SPREAD = 0.1


class Pace(enum.StrEnum):
    """How eagerly to try again."""

    AT_ONCE = "at_once"
    BACKOFF = "backoff"
    #: Trying again does not help until a person has changed something.
    RARELY = "rarely"


@attrs.frozen
class Setback:
    """What went wrong means so much for the next attempt.

    Args:
        pace: How eagerly to try again.
        after: Seconds that the other side wants to be left alone.
        advice: What a person can do about it; empty where nothing has to be done.
    """

    pace: Pace = Pace.BACKOFF
    after: float = attrs.field(default=0.0, validator=validators.ge(0))
    advice: str = ""


@attrs.frozen
class ReconnectPace:
    """Say how long to wait before the next attempt to connect, by what ended the last one.

    It never gives up. Only the first attempt of an outage can be made at once: a connection that dies as soon as it is
    made is backed off from like any other.

    Pure, like :class:`~agentrt.policy.Backoff`.

    Args:
        backoff: For what passes by itself.
        rarely: For what does not.
        patience: Seconds that the other side may ask for at most.
    """

    backoff: ReconnectBackoff = attrs.field(factory=ReconnectBackoff)
    rarely: Backoff = attrs.field(default=Backoff(initial=1.0, factor=2.0, maximum=30.0, jitter=(0.5, 1.0)))
    patience: float = attrs.field(default=300.0, validator=validators.ge(0))

    def delay(self, setback: Setback, attempt: int, elapsed: float, jitter: float) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            setback: What ended the last one.
            attempt: Which attempt comes next, from 1, counted over the whole outage.
            elapsed: Seconds since the outage began.
            jitter: A number from 0 to 1.
        """
        if setback.pace is Pace.RARELY:
            own = self.rarely.delay(attempt, jitter)
        elif setback.pace is Pace.AT_ONCE and attempt == 1:
            own = 0.0
        else:
            own = self.backoff.delay(attempt, elapsed, jitter)
        return max(own, min(setback.after, self.patience) * (1 + _SPREAD * jitter))
