"""Bulkhead, budget and window against models that remember everything, in integer seconds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import Admission, Bulkhead, CallWindow, RetryBudget

steps = st.lists(st.tuples(st.sampled_from(["enter", "leave", "abandon"]), st.integers(0, 5)), max_size=60)


@given(steps, st.integers(1, 3), st.integers(0, 3), st.integers(0, 8))
def test_no_bound_of_a_bulkhead_is_ever_exceeded(history, concurrent, queued, size_bound):
    """And who is turned away had no room at that moment."""
    bulkhead = Bulkhead(concurrent, queued, size_bound)
    running, waiting = 0, []
    for what, size in history:
        if what == "enter":
            admission = bulkhead.enter(size)
            if running < concurrent and not waiting:
                assert Admission.RUN is admission
                running += 1
            elif len(waiting) >= queued:
                assert Admission.FULL is admission
            elif sum(waiting) + size > size_bound:
                assert Admission.TOO_LARGE is admission
            else:
                assert Admission.QUEUE is admission
                waiting.append(size)
        elif what == "leave" and running:
            bulkhead.leave()
            running -= 1
            if waiting:
                bulkhead.promote(waiting.pop(0))
                running += 1
        elif what == "abandon" and waiting:
            bulkhead.abandon(waiting.pop())
        assert (running, len(waiting)) == (bulkhead.running, bulkhead.queued)
        assert running <= concurrent


calls = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=80)


@given(calls, st.integers(0, 4))
def test_a_budget_is_never_overdrawn(history, minimum):
    """In any nine tenths of a window; and it is never withheld where a whole window has room for one more."""
    budget = RetryBudget(ratio=0.5, minimum=minimum, window=10.0)
    now, made, spent = 0, [], []
    for pause, is_retry in history:
        now += pause
        if not is_retry:
            budget.record_call(now)
            made.append(now)
            continue
        # A slice is one second here, so a window of whole seconds is exact.
        recent = [at for at in made if at > now - 10]
        used = [at for at in spent if at > now - 10]
        expected = len(used) + 1 <= max(minimum, 0.5 * len(recent))
        assert expected == budget.spend(now)
        if expected:
            spent.append(now)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=80), st.integers(1, 5))
def test_a_window_counts_exactly_the_calls_in_it(history, least):
    """Against a list of all of them."""
    window = CallWindow(failure_rate=0.5, min_calls=least, window=10.0)
    now, ended = 0, []
    for pause, failed in history:
        now += pause
        ended.append((now, failed))
        recent = [bad for at, bad in ended if at > now - 10]
        expected = len(recent) >= least and sum(recent) >= 0.5 * len(recent)
        assert expected == (window.record(now, None, failed=failed) is not None)
