"""Trying again: carries out what the retry policy says, for tool calls and for whatever else goes over a wire."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import trio

from agentrt.policy import FailureKind, Retry, RetryPolicy

T = TypeVar("T")


class CallFailed(Exception):
    """One try did not work.

    Attributes:
        kind: What kind of failure it was.
        may_have_happened: Whether the other side may have acted on it.
        attempts: How often it was tried, once nobody tries again.
    """

    def __init__(self, message: str, kind: FailureKind, *, may_have_happened: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.may_have_happened = may_have_happened
        self.attempts = 1


@attrs.frozen
class Retrying:
    """Try again what failed, as *policy* says.

    Args:
        policy: Whether and when.
        random: Where the jitter comes from.
        on_retry: Called before each wait, with the failure, the number of the try that failed and the seconds to wait.
        on_recovered: Called when a later try worked, with its number.
    """

    policy: RetryPolicy
    random: random.Random
    on_retry: Callable[[CallFailed, int, float], object]
    on_recovered: Callable[[int], object]

    async def call(
        self, attempt: Callable[[], Awaitable[T]], *, deadline: float | None = None, idempotent: bool = False
    ) -> T:
        """Call *attempt* until it works or the policy gives up.

        Args:
            attempt: One try; raises :class:`CallFailed`, and any other error is not tried again.
            deadline: When the caller stops waiting, in monotonic seconds; ending a try then is up to *attempt*.
            idempotent: Whether doing it twice does no harm.

        Raises:
            CallFailed: The last failure; it may have happened where any of the tries may have.
        """
        number = 0
        happened = False
        while True:
            number += 1
            try:
                answer = await attempt()
            except CallFailed as failure:
                happened = failure.may_have_happened = failure.may_have_happened or happened
                failure.attempts = number
                delay = self._delay(failure, deadline, idempotent=idempotent)
                if delay is None:
                    raise
                self.on_retry(failure, number, delay)
            else:
                if number > 1:
                    self.on_recovered(number)
                return answer
            await trio.sleep(delay)

    def _delay(self, failure: CallFailed, deadline: float | None, *, idempotent: bool) -> float | None:
        verdict = self.policy.decide(
            failure.attempts,
            failure.kind,
            may_have_happened=failure.may_have_happened,
            idempotent=idempotent,
            now=trio.current_time(),
            deadline=deadline,
            jitter=self.random.random(),
        )
        return verdict.delay if isinstance(verdict, Retry) else None
