"""Retry, for any failure: what is retried is safe, in time and bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import Backoff, FailureKind, GiveUp, Retry, RetryPolicy

failures = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(FailureKind),
        "may_have_happened": st.booleans(),
        "idempotent": st.booleans(),
        "now": st.integers(0, 3),
        "deadline": st.none() | st.integers(0, 12),
        "jitter": st.sampled_from([0.0, 0.5]),
    }
)


@given(st.integers(0, 3), st.integers(1, 4), failures)
def test_it_retries_exactly_where_all_conditions_hold(retries, attempt, failure):
    """Passing, safe, within the number, and begun before the deadline: all four, and then with the backoff's delay."""
    backoff = Backoff(initial=2.0, jitter=(1.0, 2.0))
    delay = backoff.delay(attempt, failure["jitter"])
    conditions = [
        failure["kind"] in {FailureKind.TRANSIENT, FailureKind.TIMEOUT},
        failure["idempotent"] or not failure["may_have_happened"],
        attempt in range(1, retries + 1),
        failure["deadline"] is None or failure["now"] + delay < failure["deadline"],
    ]
    verdict = RetryPolicy(retries, backoff).decide(attempt, **failure)
    if all(conditions):
        assert Retry(delay) == verdict
    else:
        assert isinstance(verdict, GiveUp)


@given(st.integers(0, 8), st.lists(st.floats(0, 1, exclude_max=True), min_size=9, max_size=9), st.integers(1, 60))
def test_a_call_that_always_fails_ends_before_its_deadline(retries, jitters, limit):
    """Driven as a caller drives it, with calls that take no time: a bounded number of tries, none at the deadline."""
    now, tries = 0.0, 0
    for attempt in range(1, 100):
        tries += 1
        verdict = RetryPolicy(retries).decide(
            attempt,
            FailureKind.TRANSIENT,
            may_have_happened=False,
            idempotent=False,
            now=now,
            deadline=limit,
            jitter=jitters[min(attempt, 9) - 1],
        )
        if isinstance(verdict, GiveUp):
            break
        now += verdict.delay
    assert tries <= retries + 1
    assert now < limit
