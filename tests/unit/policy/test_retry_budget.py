"""Retry budget: a fifth of the calls, and ten in any case."""

from __future__ import annotations

import pytest

from agentrt.policy import RetryBudget


def spend_all(budget: RetryBudget, now: float) -> int:
    spent = 0
    while budget.spend(now):
        spent += 1
    return spent


@pytest.mark.parametrize(("calls", "retries"), [(0, 10), (1, 10), (50, 10), (54, 10), (55, 11), (100, 20), (1000, 200)])
def test_a_fifth_of_the_calls_and_at_least_ten(calls, retries):
    """Few calls are not kept from being tried again; an outage under load is not multiplied."""
    budget = RetryBudget()
    for _ in range(calls):
        budget.record_call(0.0)
    assert retries == spend_all(budget, 0.0)


def test_what_is_older_than_the_window_counts_no_more():
    """Neither the calls nor the retries."""
    budget = RetryBudget(window=60.0)
    for _ in range(100):
        budget.record_call(0.0)
    assert 20 == spend_all(budget, 0.0)
    assert 0 == spend_all(budget, 59.9)
    assert 10 == spend_all(budget, 60.0)


def test_nothing_is_a_budget_too():
    """Zero and zero switch retries off."""
    assert not RetryBudget(ratio=0.0, minimum=0).spend(0.0)


@pytest.mark.parametrize("figures", [{"ratio": -0.1}, {"ratio": 1.1}, {"minimum": -1}, {"window": 0.0}])
def test_impossible_figures_are_refused(figures):
    """A share is a share."""
    with pytest.raises(ValueError, match="must be"):
        RetryBudget(**figures)
