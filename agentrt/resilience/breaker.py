"""A breaker around calls: carries out what the policy decides, and counts only what belongs to its present state."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from agentrt.policy import Breaker, BreakerState, Failure, FailureKind, Transition
from agentrt.resilience.errors import BreakerOpen

#: What says something against the other side; a refusal or a tool's error is an answer.
_AGAINST = frozenset({FailureKind.TRANSIENT, FailureKind.TIMEOUT, FailureKind.THROTTLED})


@attrs.frozen
class Ticket:
    """The permission for one call.

    Args:
        epoch: Which stay in its state the breaker was in.
        began: When the call began.
    """

    epoch: int
    began: float


class BreakerGate:
    """Lets calls through while the other side seems to work, and one probe at a time while it may not.

    A result counts only in the state in which its call was let through: what was in hand when the breaker opened tells
    nothing about the probe. Whoever has a ticket reports once, by :meth:`ended` or :meth:`released`.

    Args:
        name: What it guards, for people.
        breaker: Decides.
        on_change: Called with each change of state and the reason.
    """

    def __init__(self, name: str, breaker: Breaker, on_change: Callable[[Transition, str], object]) -> None:
        self._name = name
        self._breaker = breaker
        self._on_change = on_change
        self._epoch = 0

    @property
    def state(self) -> BreakerState:
        """The state as it is now."""
        self._tick()
        return self._breaker.state

    @property
    def reason(self) -> str:
        """Why it opened last; empty while closed."""
        return self._breaker.reason or ""

    def admit(self) -> Ticket:
        """Let a call through.

        Raises:
            BreakerOpen: Not now.
        """
        now = self._tick()
        if not self._breaker.allow(now):
            due = self._breaker.retry_at
            raise BreakerOpen(self._name, self.reason, due - now if due is not None else None)
        return Ticket(self._epoch, now)

    def ended(self, ticket: Ticket, failure: Failure | None = None) -> None:
        """Report how a call ended: with an answer of any kind, or with *failure*."""
        now = self._tick()
        if ticket.epoch != self._epoch:
            return
        if failure is None or failure.kind not in _AGAINST:
            self._tell(self._breaker.success(now, now - ticket.began))
        else:
            self._tell(self._breaker.failure(now, failure.reason, now - ticket.began))

    def released(self, ticket: Ticket) -> None:
        """Give a ticket back without a result, as after a cancellation."""
        if ticket.epoch == self._epoch:
            self._tell(self._breaker.release(trio.current_time()))

    def hint(self) -> None:
        """Say that the other side seems to answer again."""
        self._tell(self._breaker.hint(trio.current_time()))

    def _tick(self) -> float:
        """Account for the time that passed, where that can change anything; return the time."""
        now = trio.current_time()
        if self._breaker.next_due is not None:
            self._tell(self._breaker.tick(now))
        return now

    def _tell(self, transition: Transition | None) -> None:
        if transition is not None:
            self._epoch += 1
            self._on_change(transition, self.reason)
