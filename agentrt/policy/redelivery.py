"""Redelivery: whether a message comes again after a delivery that failed, when, and when it is a dead letter."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs
from attrs import validators


class DeadLetterReason(enum.StrEnum):
    """Why a message is not delivered again."""

    #: Its last delivery failed.
    FAILED = "failed"
    #: Its last delivery ended without an outcome, as when the process died.
    NO_OUTCOME = "no_outcome"


@attrs.frozen
class Redeliver:
    """Deliver it again after *delay* seconds."""

    delay: float


@attrs.frozen
class DeadLetter:
    """Keep it apart, with its *reason*, for a person to look at."""

    reason: DeadLetterReason


RedeliveryVerdict: TypeAlias = Redeliver | DeadLetter


@attrs.frozen
class Redelivery:
    """Say what becomes of a message whose delivery failed.

    By default there are 4 deliveries, 1, 5 and 15 minutes apart.

    Pure: the caller counts deliveries and carries out the verdict.

    Args:
        max_deliveries: Deliveries in all, the first included.
        delays: Seconds before the second delivery, the third, and so on; the last one repeats.

    Raises:
        ValueError: There is no delay, one is negative, or *max_deliveries* is less than 1.
    """

    max_deliveries: int = attrs.field(default=4, validator=validators.ge(1))
    delays: tuple[float, ...] = attrs.field(
        default=(60.0, 300.0, 900.0),
        converter=tuple,
        validator=[validators.min_len(1), validators.deep_iterable(validators.ge(0))],
    )

    def after_failure(self, attempt: int) -> RedeliveryVerdict:
        """Return what to do after delivery number *attempt* (from 1) failed."""
        if attempt < 1:
            msg = f"attempt must be at least 1, not {attempt}: deliveries count from 1"
            raise ValueError(msg)
        if attempt >= self.max_deliveries:
            return DeadLetter(DeadLetterReason.FAILED)
        return Redeliver(self.delays[min(attempt, len(self.delays)) - 1])

    def on_arrival(self, attempt: int) -> DeadLetter | None:
        """Return what to do with delivery number *attempt* (from 1) before anyone works on it; None is: go on.

        One more than is allowed can only arrive because the last one had no outcome.
        """
        return DeadLetter(DeadLetterReason.NO_OUTCOME) if attempt > self.max_deliveries else None
