"""Watchdog: when something took too long, or stopped moving."""

from __future__ import annotations

import enum

import attrs
from attrs import validators


class LimitVerdict(enum.StrEnum):
    """Which limit was reached."""

    TIMED_OUT = "timed_out"
    STUCK = "stuck"


@attrs.frozen
class Limits:
    """How long something may take, and how long it may stand still.

    Args:
        total: Seconds from its start; None is for ever.
        progress: Seconds without a progress mark; None is for ever. Less than *total*, or it could never be the one
            that is reached.

    Raises:
        ValueError: A limit is not positive, or *progress* is not less than *total*.
    """

    total: float | None = attrs.field(default=None, validator=validators.optional(validators.gt(0)))
    progress: float | None = attrs.field(default=None, validator=validators.optional(validators.gt(0)))

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return self.total is not None or self.progress is not None

    def __attrs_post_init__(self) -> None:
        """Refuse a progress limit that could not take effect."""
        if self.total is not None and self.progress is not None and self.progress >= self.total:
            msg = f"the progress limit ({self.progress}) must be less than the total limit ({self.total})"
            raise ValueError(msg)


def judge(limits: Limits, started: float, last_progress: float, now: float) -> LimitVerdict | None:
    """Return which limit is reached, or None. Where both are, it timed out.

    A limit is reached at its very moment, so a timer set by :func:`next_due` always finds a verdict.

    Args:
        limits: The limits.
        started: When it started, in monotonic seconds.
        last_progress: When it last moved; its start where it has not moved yet.
        now: Monotonic seconds.
    """
    # Added up as in next_due: subtracting would round differently, and a timer could fire to find nothing.
    if limits.total is not None and now >= started + limits.total:
        return LimitVerdict.TIMED_OUT
    if limits.progress is not None and now >= last_progress + limits.progress:
        return LimitVerdict.STUCK
    return None


def next_due(limits: Limits, started: float, last_progress: float) -> float | None:
    """Return when :func:`judge` will first have a verdict if nothing moves until then; None is never."""
    due = None if limits.total is None else started + limits.total
    if limits.progress is None:
        return due
    stuck = last_progress + limits.progress
    return stuck if due is None else min(due, stuck)
