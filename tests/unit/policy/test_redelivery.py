"""Redelivery: four deliveries, three delays, and two ways to become a dead letter."""

from __future__ import annotations

import pytest

from agentrt.policy import DeadLetter, DeadLetterReason, Redeliver, Redelivery


def test_redelivery_comes_after_one_five_and_fifteen_minutes():
    """Four deliveries; the failure of the fourth makes a dead letter."""
    expected = [Redeliver(60.0), Redeliver(300.0), Redeliver(900.0), DeadLetter(DeadLetterReason.FAILED)]
    assert expected == [Redelivery().after_failure(attempt) for attempt in range(1, 5)]


def test_the_last_delay_repeats():
    """Where there are more deliveries than delays."""
    policy = Redelivery(max_deliveries=5, delays=(1.0, 2.0))
    assert [policy.after_failure(attempt).delay for attempt in range(1, 5)] == [1.0, 2.0, 2.0, 2.0]


def test_a_failure_beyond_the_last_delivery_is_a_dead_letter_too():
    """However it came about."""
    assert DeadLetter(DeadLetterReason.FAILED) == Redelivery().after_failure(9)


@pytest.mark.parametrize("attempt", [1, 4])
def test_an_allowed_delivery_is_worked_on(attempt):
    """None of the four is stopped on arrival."""
    assert Redelivery().on_arrival(attempt) is None


def test_one_delivery_more_than_allowed_is_a_dead_letter_on_arrival():
    """The process died with the fourth in hand, so nobody said that it failed."""
    assert DeadLetter(DeadLetterReason.NO_OUTCOME) == Redelivery().on_arrival(5)


def test_deliveries_count_from_one():
    """Delivery 0 is a mistake of the caller."""
    with pytest.raises(ValueError, match="count from 1"):
        Redelivery().after_failure(0)


@pytest.mark.parametrize("figures", [{"max_deliveries": 0}, {"delays": ()}, {"delays": (1.0, -1.0)}])
def test_impossible_figures_are_refused(figures):
    """No delivery, no delay and a delay into the past are mistakes."""
    with pytest.raises(ValueError, match=r"must be|Length of"):
        Redelivery(**figures)


def test_delays_may_come_as_a_list():
    """As a configuration has them."""
    assert Redelivery(delays=(1.0, 2.0)) == Redelivery(delays=[1.0, 2.0])
