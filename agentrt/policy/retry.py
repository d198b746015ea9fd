"""Retry: whether a call that failed is tried again, and when."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs
from attrs import validators

from agentrt.policy.backoff import Backoff
from agentrt.policy.failures import FailureKind


class GiveUpReason(enum.StrEnum):
    """Why a call is not tried again."""

    PERMANENT = "permanent"
    AUTH = "auth"
    THROTTLED = "throttled"
    TOOL = "tool"
    MAY_HAVE_HAPPENED = "may_have_happened"
    RETRIES_SPENT = "retries_spent"
    BUDGET_SPENT = "budget_spent"
    DEADLINE = "deadline"


@attrs.frozen
class Retry:
    """Try again after *delay* seconds."""

    delay: float


@attrs.frozen
class GiveUp:
    """Do not try again, because of *reason*."""

    reason: GiveUpReason


RetryVerdict: TypeAlias = Retry | GiveUp

_NEVER_RETRIED = {
    FailureKind.PERMANENT: GiveUpReason.PERMANENT,
    FailureKind.AUTH: GiveUpReason.AUTH,
    FailureKind.TOOL: GiveUpReason.TOOL,
}


@attrs.frozen
class RetryPolicy:
    """Say whether a call that failed is tried again.

    Only transient failures and timeouts are, and what was throttled where the other side said when to come again. A
    call that may have happened is repeated only where that does no harm. No delay is shorter than what it asked for.
    By default 4 retries wait 0.5, 1, 2 and 4 s plus up to 30 % each: about 7.5 s in all.

    Pure: the caller says how the call failed, waits, and tries again.

    Args:
        retries: Tries after the first one; 0 means never try again.
        backoff: The delay before each.
    """

    retries: int = attrs.field(default=4, validator=validators.ge(0))
    backoff: Backoff = attrs.field(default=Backoff(initial=0.5, factor=2.0, maximum=30.0, jitter=(1.0, 1.3)))

    def decide(
        self,
        attempt: int,
        kind: FailureKind,
        *,
        may_have_happened: bool,
        idempotent: bool,
        now: float,
        deadline: float | None,
        jitter: float,
        retry_after: float | None = None,
    ) -> RetryVerdict:
        """Return what to do after *attempt* failed.

        Args:
            attempt: Which try failed, from 1.
            kind: How it failed.
            may_have_happened: Whether the other side may have acted on it.
            idempotent: Whether acting on it twice does no harm.
            now: Monotonic seconds.
            deadline: When the caller stops waiting, on the same clock; None is never. A try that would begin at the
                deadline or later is not waited for.
            jitter: A number from 0 to 1.
            retry_after: Seconds after which the other side wants to be asked again, where it said so.
        """
        if kind in _NEVER_RETRIED:
            return GiveUp(_NEVER_RETRIED[kind])
        if kind is FailureKind.THROTTLED and retry_after is None:
            return GiveUp(GiveUpReason.THROTTLED)
        if may_have_happened and not idempotent:
            return GiveUp(GiveUpReason.MAY_HAVE_HAPPENED)
        if attempt > self.retries:
            return GiveUp(GiveUpReason.RETRIES_SPENT)
        delay = max(self.backoff.delay(attempt, jitter), retry_after or 0.0)
        if deadline is not None and now + delay >= deadline:
            return GiveUp(GiveUpReason.DEADLINE)
        return Retry(delay)
