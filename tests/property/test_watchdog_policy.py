"""The watchdog: whatever the limits are, the time to look again is the first at which there is a verdict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import Limits, LimitVerdict, judge, next_due


@st.composite
def limits(draw: st.DrawFn, seconds: st.SearchStrategy[float]) -> Limits:
    """Draw limits, each possibly off, that can work together."""
    total, progress = draw(st.none() | seconds), draw(st.none() | seconds)
    if total is not None and progress is not None and progress >= total:
        progress = None
    return Limits(total, progress)


@given(limits(st.integers(1, 50)), st.integers(0, 20), st.integers(0, 60), st.integers(0, 60))
def test_a_verdict_says_which_limit_is_used_up(given_limits, started, until_progress, since):
    """By subtraction, in integers; being out of time wins."""
    last_progress = started + until_progress
    now = last_progress + since
    timed_out = given_limits.total is not None and now - started >= given_limits.total
    stuck = given_limits.progress is not None and now - last_progress >= given_limits.progress
    expected = LimitVerdict.TIMED_OUT if timed_out else LimitVerdict.STUCK if stuck else None
    assert expected is judge(given_limits, started, last_progress, now)


@given(limits(st.integers(1, 50)), st.integers(0, 20), st.integers(0, 60))
def test_the_next_look_is_due_at_the_first_second_with_a_verdict(given_limits, started, until_progress):
    """Not before, so no limit is shortened, and not after."""
    last_progress = started + until_progress
    seconds = range(200)
    first = next((now for now in seconds if judge(given_limits, started, last_progress, now) is not None), None)
    due = next_due(given_limits, started, last_progress)
    assert first == due


times = st.floats(1e-3, 1e9)


@given(limits(times), times, times)
def test_a_timer_that_fires_when_due_always_finds_a_verdict(given_limits, started, until_progress):
    """Also where seconds are rounded: a timer that finds nothing would be set again for the same moment, for ever."""
    last_progress = started + until_progress
    due = next_due(given_limits, started, last_progress)
    assert due is None or judge(given_limits, started, last_progress, due) is not None
