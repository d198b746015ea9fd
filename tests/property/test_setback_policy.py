"""Whatever happened, the next attempt comes: never sooner than asked for, never later than the patience allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import Pace, ReconnectPace, Setback, judge_close, judge_handshake

JITTER = st.floats(0, 1)
ATTEMPT = st.integers(1, 10**6)
ELAPSED = st.floats(0, 10**9)
AFTER = st.floats(0, 10**12)


@given(pace=st.sampled_from(Pace), after=AFTER, attempt=ATTEMPT, elapsed=ELAPSED, jitter=JITTER)
def test_the_wait_is_bounded_on_both_sides(pace, after, attempt, elapsed, jitter):
    """From below by what the other side asked for, as far as the patience goes; from above for ever."""
    policy = ReconnectPace()
    delay = policy.delay(Setback(pace, after), attempt, elapsed, jitter)
    assert min(after, policy.patience) <= delay
    assert delay <= max(policy.rarely.maximum, policy.patience * 1.1)


@given(attempt=ATTEMPT, elapsed=ELAPSED, jitter=JITTER)
def test_without_a_wish_it_is_never_slower_than_every_two_seconds(attempt, elapsed, jitter):
    """Whatever passes by itself."""
    for pace in (Pace.AT_ONCE, Pace.BACKOFF):
        assert ReconnectPace().delay(Setback(pace), attempt, elapsed, jitter) <= 2.0


@given(jitter=JITTER, elapsed=ELAPSED)
def test_only_the_first_attempt_is_made_at_once(jitter, elapsed):
    """Else a connection that dies as soon as it is made would be made in a tight loop."""
    policy, at_once = ReconnectPace(), Setback(Pace.AT_ONCE)
    assert 0.0 == policy.delay(at_once, 1, elapsed, jitter)
    assert policy.backoff.delay(2, elapsed, jitter) == policy.delay(at_once, 2, elapsed, jitter)


@given(attempt=ATTEMPT, jitter=JITTER)
def test_what_needs_a_person_is_never_tried_in_a_hurry(attempt, jitter):
    """Half a second at least, however the dice fall."""
    assert ReconnectPace().delay(Setback(Pace.RARELY), attempt, 0.0, jitter) >= 0.5


@given(code=st.integers(0, 65535), status=st.integers(0, 999), after=st.none() | AFTER)
def test_every_code_and_status_is_judged(code, status, after):
    """A server may send any; what needs a person always says what to do."""
    for found in (judge_close(code), judge_handshake(status, after)):
        assert found.pace is not Pace.RARELY or found.advice
