"""A breaker per agent: what parks an agent that does not work, and lets one probe through later."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from agentrt.policy.breaker import Breaker, BreakerState, Transition

if TYPE_CHECKING:
    from agentrt.kernel import Event, EventStream

#: Ids of failed tasks that are remembered, so that each counts once.
_FAILED_KEPT = 256

_EVENTS = {
    BreakerState.OPEN: "breaker_opened",
    BreakerState.HALF_OPEN: "breaker_half_opened",
    BreakerState.CLOSED: "breaker_closed",
}


class AgentBreaker:
    """The breaker of one agent, and the admission that its inbox asks for.

    A task that fails on each of its deliveries counts once: one poisoned task parks nobody. An escalation of the
    agent's actors opens the breaker at once. While it is half-open only the probe counts, and nothing that was in hand
    before.
    """

    def __init__(self, agent: str, path: str, breaker: Breaker, events: EventStream) -> None:
        self.agent = agent
        self._path = path
        self._breaker = breaker
        self.events = events
        self._failed: OrderedDict[str, None] = OrderedDict()
        self._probe: str | None = None

    @property
    def state(self) -> BreakerState:
        """The state as it is now."""
        self._report(self._breaker.tick(trio.current_time()))
        return self._breaker.state

    @property
    def reason(self) -> str:
        """Why it opened last; empty while closed."""
        return self._breaker.reason or ""

    @property
    def next_due(self) -> float | None:
        """Trio time at which it will change by itself."""
        return self._breaker.next_due

    # What the inbox asks

    def closed(self) -> str | None:
        """Say why no task may be taken now; None where one may."""
        state = self.state
        if state is BreakerState.OPEN:
            return f"breaker is open: {self.reason}"
        if state is BreakerState.HALF_OPEN and self._breaker.next_due is not None:
            return "breaker is half-open and its probe is under way"
        return None

    def admit(self, task: str) -> bool:
        """Take the permission for *task*."""
        is_probe = self.state is BreakerState.HALF_OPEN
        if not self._breaker.allow(trio.current_time()):
            return False
        if is_probe:
            self._probe = task
        return True

    def succeeded(self, task: str) -> None:
        """*task* was done."""
        if self._counts(task):
            self._report(self._breaker.success(trio.current_time()))

    def failed(self, task: str, reason: str, cause: Event | None = None) -> None:
        """An attempt at *task* failed."""
        if not self._counts(task) or (self.state is BreakerState.CLOSED and task in self._failed):
            return
        self._failed[task] = None
        if len(self._failed) > _FAILED_KEPT:
            self._failed.popitem(last=False)
        self._report(self._breaker.failure(trio.current_time(), reason), cause)

    def released(self, task: str) -> None:
        """*task* was given back without a result."""
        if self._counts(task):
            self._report(self._breaker.release(trio.current_time()))

    def _counts(self, task: str) -> bool:
        return self.state is not BreakerState.HALF_OPEN or task == self._probe

    # What the fleet does

    def escalated(self, reason: str, cause: Event | None = None) -> None:
        """The agent's actors gave up."""
        self._report(self._breaker.trip(trio.current_time(), reason), cause)

    def _report(self, transition: Transition | None, cause: Event | None = None) -> None:
        if transition is None:
            return
        # The alert's name is the one that rules and people know.
        alert = "AgentCircuitOpen" if transition.new is BreakerState.OPEN else None
        self.events.emit(
            _EVENTS[transition.new],
            self._path,
            cause,
            agent=self.agent,
            was=transition.old.value,
            reason=self.reason,
            alert=alert,
        )
