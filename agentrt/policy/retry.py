"""Retry: whether a call that failed is tried again, and when."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs
from attrs import validators

from agentrt.policy.backoff import Backoff


class FailureKind(enum.StrEnum):
    """What kind of failure a call had."""

    #: May work next time: refused, reset, DNS, 502, 503, 504, server restarting.
    TRANSIENT = "transient"
    #: Will fail each time: 400, 401, 403, invalid params, no such tool.
    PERMANENT = "permanent"
    #: No answer in time.
    TIMEOUT = "timeout"
    #: The tool ran and reported an error itself.
    TOOL = "tool"


class GiveUpReason(enum.StrEnum):
    """Why a call is not tried again."""

    PERMANENT = "permanent"
    TOOL = "tool"
    MAY_HAVE_HAPPENED = "may_have_happened"
    RETRIES_SPENT = "retries_spent"
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

_NEVER_RETRIED = {FailureKind.PERMANENT: GiveUpReason.PERMANENT, FailureKind.TOOL: GiveUpReason.TOOL}


@attrs.frozen
class RetryPolicy:
    """Say whether a call that failed is tried again.

    Only transient failures and timeouts are. A call that may have happened is repeated only where that does no harm.
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
        """
        if kind in _NEVER_RETRIED:
            return GiveUp(_NEVER_RETRIED[kind])
        if may_have_happened and not idempotent:
            return GiveUp(GiveUpReason.MAY_HAVE_HAPPENED)
        if attempt > self.retries:
            return GiveUp(GiveUpReason.RETRIES_SPENT)
        delay = self.backoff.delay(attempt, jitter)
        if deadline is not None and now + delay >= deadline:
            return GiveUp(GiveUpReason.DEADLINE)
        return Retry(delay)
