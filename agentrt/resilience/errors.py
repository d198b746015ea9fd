"""What a call ends with that did not work, or was not even begun."""

from __future__ import annotations

from agentrt.policy import Failure, FailureKind, SendState


class CallFailed(Exception):
    """One try of a call did not work.

    Attributes:
        failure: How.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class BreakerOpen(CallFailed):
    """The breaker lets nothing through now; nothing was sent."""

    def __init__(self, name: str, reason: str, retry_after: float | None) -> None:
        then = "its probe is under way" if retry_after is None else f"it lets a probe through in {retry_after:.1f} s"
        said = f"the breaker of {name} is open ({reason}); {then}"
        super().__init__(Failure(FailureKind.TRANSIENT, SendState.NOT_SENT, said, retry_after))


class BulkheadFull(CallFailed):
    """As many calls wait as may, or this one waited for as long as it may; nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(Failure(FailureKind.THROTTLED, SendState.NOT_SENT, reason))
