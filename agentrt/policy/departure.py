"""Departure: when to look for another server, because the present one serves only in part."""

from __future__ import annotations

import enum
import math

import attrs
from attrs import validators

from agentrt.policy.backoff import Backoff


class Whereabouts(enum.StrEnum):
    """Where to be served."""

    STAY = "stay"
    LOOK_ELSEWHERE = "look_elsewhere"


@attrs.define
class Departure:
    """Say when a connection that answers its probes should look for another server all the same.

    A bus server may pass messages and store none: it runs without JetStream, was parted from the leader of its cluster,
    or its disk hangs. That is no reason to end the connection, which serves in part, before another one serves better;
    so the verdict is to look, and whoever looks moves only to what answers. It is time for that when the trouble has
    lasted for *patience* seconds without a break; and again after pauses that grow, however often the connection was
    made anew meanwhile, until there is no trouble. They grow as little as those between two attempts to reconnect:
    the others may be electing a leader, and what waits for them is down as long as one looks away. Where nothing waits
    for what is missing, each look is one that servers are asked to bear for ever, so those become rare.

    Pure: the caller tells only of trouble that another server may not have, passes in the time, monotonic seconds that
    never go back, and draws the jitter.

    Args:
        patience: Seconds of trouble; at exactly so many it is time.
        pauses: Between two looks for what is needed.
        rarely: Between two looks for what nobody needs yet.
    """

    patience: float = attrs.field(default=5.0, validator=validators.gt(0))
    pauses: Backoff = attrs.field(default=Backoff(initial=0.5, factor=2.0, maximum=2.0, jitter=(0.5, 1.0)))
    rarely: Backoff = attrs.field(default=Backoff(initial=5.0, factor=2.0, maximum=60.0, jitter=(0.5, 1.0)))
    _since: float = attrs.field(init=False, default=math.inf)
    _looks: int = attrs.field(init=False, default=0)
    _not_before: float = attrs.field(init=False, default=-math.inf)

    def connected(self) -> None:
        """Record a new connection: its trouble, if it has any, begins now. What was looked for in vain still counts."""
        self._since = math.inf

    def troubled(self, since: float) -> None:
        """Record trouble that began at *since*; within one stretch of it, the first counts."""
        self._since = min(self._since, since)

    def well(self) -> None:
        """Record that there is none."""
        self._since = math.inf
        self._looks = 0
        self._not_before = -math.inf

    def looked(self, now: float, jitter: float, *, is_needed: bool = True) -> None:
        """Record that a look begins.

        Args:
            now: When.
            jitter: A number from 0 to 1: where in its range the pause to the next one lies.
            is_needed: Whether somebody needs what is missing.
        """
        self._looks += 1
        self._not_before = now + (self.pauses if is_needed else self.rarely).delay(self._looks, jitter)

    def verdict(self, now: float) -> Whereabouts:
        """Return where to be served."""
        is_time = now - self._since >= self.patience and now >= self._not_before
        return Whereabouts.LOOK_ELSEWHERE if is_time else Whereabouts.STAY
