"""Circuit breaker: when to keep work away from something that fails, and when to try it again.

All that changes a breaker's state is in this file, and :data:`TRANSITIONS` is all there is of the state machine:

=========== ======================= =========== =================================================================
state       event                   next        meaning
=========== ======================= =========== =================================================================
CLOSED      THRESHOLD_REACHED       OPEN        as many failures in a row as are tolerated, or too large a share of
                                                failed or slow calls
CLOSED      TRIPPED                 OPEN        an escalation: no counting
OPEN        RECOVERY_OVER           HALF_OPEN   time for a probe
OPEN        HINTED                  HALF_OPEN   somebody saw that it answers again: a probe now
OPEN        RESET                   CLOSED      a person, or whoever knows better, closes it
HALF_OPEN   PROBE_SUCCEEDED         CLOSED      the recovery time goes back to its first value
HALF_OPEN   PROBE_FAILED            OPEN        the recovery time doubles
HALF_OPEN   TRIPPED                 OPEN        the recovery time doubles
HALF_OPEN   RESET                   CLOSED      as above
=========== ======================= =========== =================================================================

What is not in the table changes nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import attrs
from attrs import validators

from agentrt.policy.call_window import CallWindow


class BreakerState(enum.StrEnum):
    """Whether work goes through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerEvent(enum.Enum):
    """What can change a breaker's state."""

    THRESHOLD_REACHED = enum.auto()
    TRIPPED = enum.auto()
    RECOVERY_OVER = enum.auto()
    HINTED = enum.auto()
    PROBE_SUCCEEDED = enum.auto()
    PROBE_FAILED = enum.auto()
    RESET = enum.auto()


#: The state machine: (state, event) -> next state.
TRANSITIONS: Mapping[tuple[BreakerState, BreakerEvent], BreakerState] = MappingProxyType(
    {
        (BreakerState.CLOSED, BreakerEvent.THRESHOLD_REACHED): BreakerState.OPEN,
        (BreakerState.CLOSED, BreakerEvent.TRIPPED): BreakerState.OPEN,
        (BreakerState.OPEN, BreakerEvent.RECOVERY_OVER): BreakerState.HALF_OPEN,
        (BreakerState.OPEN, BreakerEvent.HINTED): BreakerState.HALF_OPEN,
        (BreakerState.OPEN, BreakerEvent.RESET): BreakerState.CLOSED,
        (BreakerState.HALF_OPEN, BreakerEvent.PROBE_SUCCEEDED): BreakerState.CLOSED,
        (BreakerState.HALF_OPEN, BreakerEvent.PROBE_FAILED): BreakerState.OPEN,
        (BreakerState.HALF_OPEN, BreakerEvent.TRIPPED): BreakerState.OPEN,
        (BreakerState.HALF_OPEN, BreakerEvent.RESET): BreakerState.CLOSED,
    }
)


class Transition(NamedTuple):
    """A change of state, for the caller to report."""

    old: BreakerState
    new: BreakerState


@attrs.define
class Breaker:
    """Keep work away from something that fails, and let one probe through to see whether it recovered.

    *failure_threshold* failures in a row open it; a success in between starts the count again. Where it has a *window*,
    so does too large a share of failed or slow calls. Open, it lets nothing through for the recovery time. Then,
    half-open, exactly one caller gets a permit, the probe: its success closes the breaker, its failure opens it again
    for twice as long, up to *max_recovery_timeout*.

    The permit is a lease. A probe that nobody hears of again counts as failed when the lease ends, at that moment,
    whenever it is noticed; so a breaker is never half-open for good. A result that arrives while it is open, or
    half-open with no probe under way, belongs to work from before and is ignored.

    Every method but :meth:`allow` returns the change of state from before the call to after it, or None. Time alone
    changes the state too, and each method accounts for that first, so how often :meth:`tick` is called decides when a
    change is reported and never what happens.

    Pure: it never reads a clock. *now* is monotonic seconds, never less than the last one.

    Args:
        failure_threshold: Failures in a row that open it.
        recovery_timeout: Seconds from the first opening to the first probe.
        max_recovery_timeout: Seconds that the recovery time never exceeds; not less than *recovery_timeout*.
        probe_lease: Seconds that a probe may take; the default is the total limit of a task.
        window: Judges the share of failed and slow calls; None where only failures in a row count.

    Raises:
        ValueError: A figure is out of its bounds, or *max_recovery_timeout* is less than *recovery_timeout*.
    """

    failure_threshold: int = attrs.field(default=3, validator=validators.ge(1))
    recovery_timeout: float = attrs.field(default=300.0, validator=validators.gt(0))
    max_recovery_timeout: float = attrs.field(default=3600.0)
    probe_lease: float = attrs.field(default=1800.0, validator=validators.gt(0))
    window: CallWindow | None = None
    _state: BreakerState = attrs.field(init=False, default=BreakerState.CLOSED)
    _failures: int = attrs.field(init=False, default=0)
    _recovery: float = attrs.field(init=False, default=0.0)
    _opened_at: float | None = attrs.field(init=False, default=None)
    _reason: str | None = attrs.field(init=False, default=None)
    # When OPEN ends or the probe's lease does; None where only an event can change the state.
    _due: float | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Refuse a bound below the first recovery time: it would shorten that one unseen."""
        if self.max_recovery_timeout < self.recovery_timeout:
            msg = (
                f"max_recovery_timeout ({self.max_recovery_timeout}) must not be less than "
                f"recovery_timeout ({self.recovery_timeout}): change one of them"
            )
            raise ValueError(msg)

    @property
    def state(self) -> BreakerState:
        """The state as of the last call of a method."""
        return self._state

    @property
    def failures(self) -> int:
        """Failures in a row since it closed; 0 unless it is closed."""
        return self._failures

    @property
    def opened_at(self) -> float | None:
        """When it opened last; None while closed."""
        return self._opened_at

    @property
    def reason(self) -> str | None:
        """Why it opened last; None while closed."""
        return self._reason

    @property
    def retry_at(self) -> float | None:
        """When it will be half-open; None unless it is open."""
        return self._due if self._state is BreakerState.OPEN else None

    @property
    def next_due(self) -> float | None:
        """When :meth:`tick` will have something to do: the recovery or a probe's lease ends; None if nothing waits."""
        return self._due

    def tick(self, now: float) -> Transition | None:
        """Account for the time that passed; return the change of state that it brought."""
        before = self._state
        self._advance(now)
        return self._changed_from(before)

    def allow(self, now: float) -> bool:
        """Return whether work may go through now.

        Half-open, the one caller that hears True has the probe's permit, and must report with :meth:`success`,
        :meth:`failure` or :meth:`release`. Call :meth:`tick` first to learn of a change that time brought.
        """
        self._advance(now)
        if self._state is BreakerState.HALF_OPEN and self._due is None:
            self._due = now + self.probe_lease
            return True
        return self._state is BreakerState.CLOSED

    def success(self, now: float, took: float | None = None) -> Transition | None:
        """Report work that succeeded, and the seconds that it took; what succeeds too slowly can open it."""
        before = self._state
        self._advance(now)
        self._failures = 0
        if self._probe_is_out():
            self._apply(BreakerEvent.PROBE_SUCCEEDED, now)
        else:
            self._judge_share(now, took, failed=False)
        return self._changed_from(before)

    def failure(self, now: float, reason: str, took: float | None = None) -> Transition | None:
        """Report work that failed or was never answered, and the seconds that it took."""
        before = self._state
        self._advance(now)
        if self._state is BreakerState.CLOSED:
            self._failures += 1
            if self._failures >= self.failure_threshold:
                self._apply(BreakerEvent.THRESHOLD_REACHED, now, reason)
            self._judge_share(now, took, failed=True)
        elif self._probe_is_out():
            self._apply(BreakerEvent.PROBE_FAILED, now, reason)
        return self._changed_from(before)

    def release(self, now: float) -> Transition | None:
        """Give the probe's permit back without a result, as after a cancellation: the next caller gets it."""
        before = self._state
        self._advance(now)
        if self._probe_is_out():
            self._due = None
        return self._changed_from(before)

    def trip(self, now: float, reason: str) -> Transition | None:
        """Open at once, whatever the count is; does nothing while open already."""
        before = self._state
        self._advance(now)
        self._apply(BreakerEvent.TRIPPED, now, reason)
        return self._changed_from(before)

    def hint(self, now: float) -> Transition | None:
        """Say that it seems to answer again: where it is open, the next caller gets the probe's permit."""
        before = self._state
        self._advance(now)
        self._apply(BreakerEvent.HINTED, now)
        return self._changed_from(before)

    def reset(self, now: float) -> Transition | None:
        """Close at once and forget all failures."""
        before = self._state
        self._failures = 0
        self._apply(BreakerEvent.RESET, now)
        return self._changed_from(before)

    def _judge_share(self, now: float, took: float | None, *, failed: bool) -> None:
        if self.window is None or self._state is not BreakerState.CLOSED:
            return
        too_much = self.window.record(now, took, failed=failed)
        if too_much is not None:
            self._apply(BreakerEvent.THRESHOLD_REACHED, now, too_much)

    def _probe_is_out(self) -> bool:
        return self._state is BreakerState.HALF_OPEN and self._due is not None

    def _changed_from(self, before: BreakerState) -> Transition | None:
        return Transition(before, self._state) if self._state is not before else None

    def _advance(self, now: float) -> None:
        # A lease that ended long ago may have been followed by a whole recovery time: two steps, each at its own time.
        while self._due is not None and now >= self._due:
            if self._state is BreakerState.OPEN:
                self._apply(BreakerEvent.RECOVERY_OVER, self._due)
            else:
                self._apply(BreakerEvent.PROBE_FAILED, self._due, f"no result of the probe in {self.probe_lease:g} s")

    def _apply(self, event: BreakerEvent, now: float, reason: str | None = None) -> None:
        old, new = self._state, TRANSITIONS.get((self._state, event))
        if new is None:
            return
        self._state, self._failures, self._due = new, 0, None
        if self.window is not None:
            self.window.forget()
        if new is BreakerState.OPEN:
            first = old is BreakerState.CLOSED
            self._recovery = self.recovery_timeout if first else min(self._recovery * 2, self.max_recovery_timeout)
            self._opened_at, self._reason, self._due = now, reason, now + self._recovery
        elif new is BreakerState.CLOSED:
            self._recovery, self._opened_at, self._reason = 0.0, None, None
