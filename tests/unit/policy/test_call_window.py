"""Call window: what share of failed or slow calls is too much."""

from __future__ import annotations

import pytest

from agentrt.policy import CallWindow


def test_half_of_the_calls_is_too_much():
    """From *min_calls* on; which of them failed does not matter."""
    window = CallWindow(failure_rate=0.5, min_calls=4)
    assert [None, None, None] == [window.record(0.0, None, failed=failed) for failed in (True, False, True)]
    assert "2 of the last 4 calls failed" == window.record(0.0, None, failed=False)


def test_slow_calls_count_whether_they_worked_or_not():
    """Exactly the limit is not slow; what nobody measured is not either."""
    window = CallWindow(failure_rate=0.0, slow_rate=1.0, slow_call=2.0, min_calls=2)
    assert window.record(0.0, 2.1, failed=False) is None
    assert "2 of the last 2 calls took longer than 2 s" == window.record(0.0, 9.0, failed=True)
    assert window.record(0.0, 2.0, failed=False) is None
    assert window.record(0.0, None, failed=False) is None


def test_old_calls_are_forgotten():
    """At the end of the window, and by order."""
    window = CallWindow(min_calls=2, window=10.0)
    window.record(0.0, None, failed=True)
    assert window.record(10.0, None, failed=True) is None
    assert window.record(10.0, None, failed=True) is not None
    window.forget()
    assert window.record(10.0, None, failed=True) is None


@pytest.mark.parametrize("figures", [{"failure_rate": 1.5}, {"slow_rate": -1}, {"min_calls": 0}, {"window": 0}])
def test_impossible_figures_are_refused(figures):
    """A share is a share."""
    with pytest.raises(ValueError, match="must be"):
        CallWindow(**figures)
