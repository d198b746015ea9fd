"""The breaker under any sequence of events, in integer seconds: against a naive model, and against itself."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentrt.policy import Breaker, BreakerState, Transition

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class BreakerAgainstModel(RuleBasedStateMachine):
    """Drive a breaker and a model that lives through each second by itself.

    The model has no due times: it counts down, second by second, what is left of a recovery or a lease.
    """

    @initialize(
        threshold=st.integers(1, 4), recovery=st.integers(1, 10), extra=st.integers(0, 30), lease=st.integers(1, 15)
    )
    def begin(self, threshold: int, recovery: int, extra: int, lease: int) -> None:
        """Choose the figures."""
        self.breaker = Breaker(threshold, recovery, recovery + extra, lease)
        self.threshold, self.recovery, self.maximum, self.lease = threshold, recovery, recovery + extra, lease
        self.now = 0
        self.state, self.in_a_row, self.opened_at, self.reason = CLOSED, 0, None, None
        self.waits, self.left, self.probe_left = 0, 0, None

    def open_it(self, reason: str) -> None:
        """Open the model; *waits* counts openings since it was closed last."""
        self.state, self.in_a_row, self.probe_left = OPEN, 0, None
        self.left = min(self.recovery * 2**self.waits, self.maximum)
        self.waits += 1
        self.opened_at, self.reason = self.now, reason

    def close_it(self) -> None:
        """Close the model."""
        self.state, self.in_a_row, self.waits, self.probe_left = CLOSED, 0, 0, None
        self.opened_at = self.reason = None

    def change(self, before: BreakerState) -> Transition | None:
        """Return what the breaker should have reported."""
        return None if before is self.state else Transition(before, self.state)

    @rule(seconds=st.integers(1, 80), ticking=st.booleans())
    def wait(self, seconds: int, ticking: bool) -> None:  # noqa: FBT001 - drawn, not passed
        """Let time pass; the breaker hears of each second or only of the last."""
        before = self.state
        for _ in range(seconds):
            was = self.state
            self.now += 1
            if self.state is OPEN:
                self.left -= 1
                if not self.left:
                    self.state = HALF_OPEN
            elif self.probe_left is not None:
                self.probe_left -= 1
                if not self.probe_left:
                    self.open_it(f"no result of the probe in {self.lease} s")
            if ticking:
                assert self.change(was) == self.breaker.tick(self.now)
        if not ticking:
            assert self.change(before) == self.breaker.tick(self.now)

    @rule()
    def allow(self) -> None:
        """Ask for a permit."""
        expected = self.state is CLOSED
        if self.state is HALF_OPEN and self.probe_left is None:
            expected, self.probe_left = True, self.lease
        assert expected == self.breaker.allow(self.now)

    @rule()
    def success(self) -> None:
        """Report a success."""
        before = self.state
        if self.state is CLOSED:
            self.in_a_row = 0
        elif self.probe_left is not None:
            self.close_it()
        assert self.change(before) == self.breaker.success(self.now)

    @rule(reason=st.sampled_from("ab"))
    def failure(self, reason: str) -> None:
        """Report a failure."""
        before = self.state
        if self.state is CLOSED:
            self.in_a_row += 1
        if self.in_a_row == self.threshold or self.probe_left is not None:
            self.open_it(reason)
        assert self.change(before) == self.breaker.failure(self.now, reason)

    @rule()
    def release(self) -> None:
        """Give the permit back."""
        self.probe_left = None
        assert self.breaker.release(self.now) is None

    @rule(reason=st.sampled_from("cd"))
    def trip(self, reason: str) -> None:
        """Escalate."""
        before = self.state
        if self.state is not OPEN:
            self.open_it(reason)
        assert self.change(before) == self.breaker.trip(self.now, reason)

    @rule()
    def reset(self) -> None:
        """Close it by hand."""
        before = self.state
        self.close_it()
        assert self.change(before) == self.breaker.reset(self.now)

    @invariant()
    def all_that_is_public_agrees(self) -> None:
        """State, count, reason and times."""
        left = self.left if self.state is OPEN else self.probe_left
        expected = {
            "state": self.state,
            "failures": self.in_a_row,
            "opened_at": self.opened_at,
            "reason": self.reason,
            "retry_at": self.now + self.left if self.state is OPEN else None,
            "next_due": None if left is None else self.now + left,
        }
        assert expected == {name: getattr(self.breaker, name) for name in expected}


TestBreakerAgainstModel = BreakerAgainstModel.TestCase

EVENTS = ("allow", "success", "failure", "release", "trip", "reset")
histories = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(EVENTS)), max_size=40)


def apply(breaker: Breaker, event: str, now: int) -> object:
    """Carry out an event; return what the breaker answered."""
    arguments = (now, "why") if event in {"failure", "trip"} else (now,)
    return getattr(breaker, event)(*arguments)


@given(histories)
def test_ticking_never_changes_what_happens(history):
    """A breaker that is looked at each second and one that is never ticked answer and end alike."""
    ticked, unticked = Breaker(2, 7, 25, 5), Breaker(2, 7, 25, 5)
    now = 0
    for gap, event in history:
        for _ in range(gap):
            now += 1
            ticked.tick(now)
        answers = apply(ticked, event, now), apply(unticked, event, now)
        if event == "allow":
            assert answers[0] == answers[1]
        assert attrs.asdict(ticked) == attrs.asdict(unticked)


@given(histories, st.integers(0, 1000))
def test_it_is_never_open_for_longer_than_the_maximum(history, later):
    """Whatever happened, after the longest recovery and a lease somebody is let through: it is stuck nowhere."""
    breaker = Breaker(2, 7, 25, 5)
    now = 0
    for gap, event in history:
        now += gap
        apply(breaker, event, now)
    now += 25 + 5 + later
    permits = [breaker.allow(now + second) for second in range(26)]
    assert any(permits)


@given(histories)
def test_each_reported_change_follows_on_the_one_before(history):
    """Ticked before each event, as a caller does, the reports are one unbroken chain from closed to the present."""
    breaker = Breaker(2, 7, 25, 5)
    now, state = 0, CLOSED
    for gap, event in history:
        now += gap
        for change in (breaker.tick(now), apply(breaker, event, now)):
            if isinstance(change, Transition):
                assert state is change.old
                assert change.old is not change.new
                state = change.new
    assert state is breaker.state
