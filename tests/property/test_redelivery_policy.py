"""Redelivery: a message that always fails is delivered so often, and ends as a dead letter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import DeadLetter, DeadLetterReason, Redelivery

delays = st.lists(st.integers(0, 1000), min_size=1, max_size=8)


@given(st.integers(1, 10), delays, st.lists(st.booleans(), min_size=12, max_size=12))
def test_no_message_is_worked_on_more_often_than_allowed(max_deliveries, waits, dies):
    """Each delivery fails or dies with its process; either way it ends as a dead letter with the right reason."""
    policy = Redelivery(max_deliveries, waits)
    worked_on, waited = 0, []
    for attempt in range(1, 13):
        verdict = policy.on_arrival(attempt)
        if verdict is None:
            worked_on += 1
            if dies[attempt - 1]:
                continue
            verdict = policy.after_failure(attempt)
        if isinstance(verdict, DeadLetter):
            break
        waited.append((attempt, verdict.delay))
    last_died = dies[max_deliveries - 1]
    expected = DeadLetterReason.NO_OUTCOME if last_died else DeadLetterReason.FAILED
    assert DeadLetter(expected) == verdict
    assert max_deliveries == worked_on
    padded = waits + [waits[-1]] * 12
    assert all(delay == padded[attempt - 1] for attempt, delay in waited)
    assert [number for number in range(1, max_deliveries) if not dies[number - 1]] == [number for number, _ in waited]
