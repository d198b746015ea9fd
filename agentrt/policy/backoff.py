"""Backoff: how long to wait before the next attempt."""

from __future__ import annotations

import math

import attrs
from attrs import validators

#: A multiplier between nothing and all of the delay, which spreads attempts best.
FULL_JITTER = (0.0, 1.0)


def _is_range(_backoff: object, attribute: attrs.Attribute[tuple[float, float]], value: tuple[float, float]) -> None:
    low, high = value
    if not 0 <= low <= high < math.inf:
        msg = f"{attribute.name} must be (low, high) with 0 <= low <= high, not {value}"
        raise ValueError(msg)


@attrs.frozen
class Backoff:
    """Say how long to wait after an attempt that failed.

    The delay after attempt *n* is ``initial * factor ** (n - 1)`` times a multiplier from the jitter range, and never
    more than *maximum*: the cap comes after the jitter. Growth stops at *maximum* too, before the jitter; otherwise
    the product would soon exceed the cap whatever the jitter is, and a whole fleet would try again at the same moment.

    Pure: the caller draws the jitter and does the waiting.

    Args:
        initial: Seconds after the first attempt, before jitter; 0 means never wait.
        factor: What the delay is multiplied by from one attempt to the next.
        maximum: Seconds that no delay exceeds; not less than *initial*.
        jitter: The lowest and the highest multiplier. ``(0.0, 1.0)`` is full jitter, ``(1.0, 1.3)`` adds up to 30 %.

    Raises:
        ValueError: A figure is out of its bounds, or *maximum* is less than *initial*.
    """

    initial: float = attrs.field(default=0.5, converter=float, validator=validators.ge(0))
    factor: float = attrs.field(default=2.0, converter=float, validator=[validators.ge(1), validators.lt(math.inf)])
    maximum: float = attrs.field(default=30.0, converter=float, validator=validators.lt(math.inf))
    jitter: tuple[float, float] = attrs.field(default=FULL_JITTER, validator=_is_range)

    def __attrs_post_init__(self) -> None:
        """Refuse a cap below the first delay: it would hide a setting that cannot take effect."""
        if self.maximum < self.initial:
            msg = f"maximum ({self.maximum}) must not be less than initial ({self.initial}): change one of them"
            raise ValueError(msg)

    def delay(self, attempt: int, jitter: float) -> float:
        """Return the seconds to wait after *attempt*.

        Args:
            attempt: Which attempt failed, from 1. However large it is, nothing overflows.
            jitter: A number from 0 to 1, as from ``random.random()``: where in the jitter range the multiplier lies.

        Raises:
            ValueError: *attempt* is less than 1, or *jitter* is not between 0 and 1.
        """
        if attempt < 1:
            msg = f"attempt must be at least 1, not {attempt}: attempts count from 1"
            raise ValueError(msg)
        if not 0 <= jitter <= 1:
            msg = f"jitter must lie between 0 and 1, not {jitter}"
            raise ValueError(msg)
        low, high = self.jitter
        return min(self._grown(attempt) * (low + (high - low) * jitter), self.maximum)

    def _grown(self, attempt: int) -> float:
        try:
            grown = self.initial * self.factor ** (attempt - 1)
        except OverflowError:
            # Beyond what a float holds and so beyond any cap; but nothing grows out of zero.
            grown = math.inf if self.initial else 0.0
        return min(grown, self.maximum)


@attrs.frozen
class ReconnectBackoff:
    """Say how long to wait before the next attempt to connect: eager at first, patient later.

    Most outages are short, so the first minute is spent on quick attempts. It never gives up.

    Pure, like :class:`Backoff`.

    Args:
        first: The backoff while the outage is younger than *patience*.
        later: The backoff from then on. Attempts go on counting, so it usually begins at its maximum.
        patience: Seconds; an outage exactly this old gets *later*.
    """

    first: Backoff = attrs.field(default=Backoff(initial=0.05, factor=2.0, maximum=0.5))
    later: Backoff = attrs.field(default=Backoff(initial=0.5, factor=2.0, maximum=2.0))
    patience: float = attrs.field(default=60.0, validator=validators.ge(0))

    def delay(self, attempt: int, elapsed: float, jitter: float) -> float:
        """Return the seconds to wait after *attempt*.

        Args:
            attempt: Which attempt failed, from 1, counted over the whole outage.
            elapsed: Seconds since the connection was lost.
            jitter: A number from 0 to 1.
        """
        backoff = self.first if elapsed < self.patience else self.later
        return backoff.delay(attempt, jitter)
