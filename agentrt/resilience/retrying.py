"""Trying again: carries out what the retry policy says, within the deadline and the budget."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

import attrs
import trio

from agentrt.policy import Failure, GiveUp, GiveUpReason, RetryBudget, RetryPolicy, SendState

T = TypeVar("T")


class Report(Protocol):
    """Told of each retry, and of the try that worked: ``call_retried``, ``call_recovered``, ``call_not_retried``."""

    def __call__(self, kind: str, fields: Mapping[str, Any], /) -> object:
        """Take note of it."""
        ...


@attrs.define
class Tries:
    """What became of a call so far; the same for whoever wants to say more about its end.

    Args:
        attempt: Which try it is, from 1.
        failure: How the last one failed; it may have happened where any try may have.
        given_up: Why it was not tried again.
    """

    attempt: int = 1
    failure: Failure | None = None
    given_up: GiveUpReason | None = None


@attrs.frozen
class Retrying:
    """Try again what failed, as *policy* says.

    Args:
        policy: Whether and when.
        budget: Bounds the retries of all calls together; None where nothing does.
        classify: Says how a try failed by what it raised; None for what is no failure of a call, and passes as it is.
        report: Told of each retry and of the recovery.
        random: Where the jitter comes from.
    """

    policy: RetryPolicy
    budget: RetryBudget | None
    classify: Callable[[Exception], Failure | None]
    report: Report
    random: random.Random

    async def call(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        deadline: float | None = None,
        idempotent: Callable[[], bool],
        tries: Tries | None = None,
    ) -> T:
        """Call *attempt* until it works or the policy gives up; then raise what the last try raised.

        Args:
            attempt: One try.
            deadline: When the caller stops waiting, in Trio's time; no wait reaches it, and ending a try then is up to
                *attempt*.
            idempotent: Says whether doing it twice does no harm; asked after a try that may have happened.
            tries: Filled in while it is tried.
        """
        tries = tries or Tries()
        if self.budget is not None:
            self.budget.record_call(trio.current_time())
        while True:
            try:
                answer = await attempt()
            except Exception as error:
                delay = self._delay(error, tries, deadline, idempotent)
                if delay is None:
                    raise
            else:
                if tries.attempt > 1:
                    self.report("call_recovered", {"attempt": tries.attempt})
                return answer
            await trio.sleep(delay)
            tries.attempt += 1

    def _delay(
        self, error: Exception, tries: Tries, deadline: float | None, idempotent: Callable[[], bool]
    ) -> float | None:
        failure = self.classify(error)
        if failure is None:
            return None
        if tries.failure is not None and tries.failure.may_have_happened and not failure.may_have_happened:
            # A later try that did not happen does not undo an earlier one that may have.
            failure = attrs.evolve(failure, sent=SendState.UNKNOWN)
        tries.failure = failure
        now = trio.current_time()
        verdict = self.policy.decide(
            tries.attempt,
            failure.kind,
            may_have_happened=failure.may_have_happened,
            idempotent=failure.may_have_happened and idempotent(),
            now=now,
            deadline=deadline,
            jitter=self.random.random(),
            retry_after=failure.retry_after,
        )
        if isinstance(verdict, GiveUp) or failure.is_final:
            tries.given_up = verdict.reason if isinstance(verdict, GiveUp) else None
            return None
        fields = {"error": failure.reason, "error_kind": failure.kind.value, "attempt": tries.attempt}
        if self.budget is not None and not self.budget.spend(now):
            tries.given_up = GiveUpReason.BUDGET_SPENT
            self.report("call_not_retried", {**fields, "reason": "the retry budget is spent"})
            return None
        self.report("call_retried", {**fields, "wait": round(verdict.delay, 3)})
        return verdict.delay
