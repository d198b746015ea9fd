"""The breaker: each transition, the probe's lease, and the time until the next probe."""

from __future__ import annotations

import re

import pytest

from agentrt.policy import TRANSITIONS, Breaker, BreakerState, CallWindow, Transition
from agentrt.policy import breaker as breaker_module

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def opened(now: float = 0.0, **figures: float) -> Breaker:
    """Return a breaker that opened at *now*."""
    breaker = Breaker(**figures)
    breaker.trip(now, "escalated")
    return breaker


def probing(**figures: float) -> Breaker:
    """Return a breaker that opened at 0 and gave its probe's permit away at 300."""
    breaker = opened(**figures)
    assert breaker.allow(300.0)
    return breaker


def test_three_failures_in_a_row_open_it():
    """The third failure is reported as the change from closed to open, with its reason and its time."""
    breaker = Breaker()
    changes = [breaker.failure(now, f"failed at {now:g}") for now in (1.0, 2.0, 3.0)]
    assert [None, None, Transition(CLOSED, OPEN)] == changes
    assert (breaker.state, breaker.opened_at, breaker.reason, breaker.retry_at) == (OPEN, 3.0, "failed at 3", 303.0)
    assert not breaker.allow(3.0)


def test_a_critical_agent_opens_after_two_and_recovers_after_two_minutes():
    """Threshold and recovery time are settings."""
    breaker = Breaker(failure_threshold=2, recovery_timeout=120.0)
    breaker.failure(0.0, "a")
    assert Transition(CLOSED, OPEN) == breaker.failure(0.0, "b")
    assert breaker.retry_at == 120.0


def test_a_success_starts_the_count_again():
    """Only failures in a row count."""
    breaker = Breaker()
    breaker.failure(1.0, "a")
    breaker.failure(2.0, "b")
    assert breaker.failures == 2
    assert breaker.success(3.0) is None
    assert breaker.failures == 0
    assert [breaker.failure(4.0, "c"), breaker.failure(5.0, "d")] == [None, None]
    assert breaker.allow(6.0)


def test_an_escalation_opens_it_at_once():
    """No counting."""
    breaker = Breaker()
    assert Transition(CLOSED, OPEN) == breaker.trip(1.0, "out of restarts")
    assert (breaker.state, breaker.reason) == (OPEN, "out of restarts")


def test_an_escalation_while_open_changes_nothing():
    """The first reason and the time of the next probe stay."""
    breaker = opened()
    assert breaker.trip(100.0, "again") is None
    assert (breaker.reason, breaker.opened_at, breaker.retry_at) == ("escalated", 0.0, 300.0)


def test_results_while_open_are_ignored():
    """They belong to work from before it opened."""
    breaker = opened()
    assert (breaker.success(1.0), breaker.failure(2.0, "late")) == (None, None)
    assert (breaker.state, breaker.retry_at, breaker.failures) == (OPEN, 300.0, 0)


def test_it_is_half_open_when_the_recovery_time_is_over():
    """At exactly five minutes, and not before."""
    breaker = opened()
    assert breaker.tick(299.999) is None
    assert Transition(OPEN, HALF_OPEN) == breaker.tick(300.0)
    assert breaker.retry_at is None


def test_half_open_lets_exactly_one_caller_through():
    """The probe is one; everybody else waits for its result."""
    breaker = opened()
    assert [breaker.allow(now) for now in (299.0, 300.0, 300.0, 400.0)] == [False, True, False, False]


def test_a_probe_that_succeeds_closes_it():
    """And its history is forgotten: opening again takes as many failures as ever."""
    breaker = probing()
    assert Transition(HALF_OPEN, CLOSED) == breaker.success(310.0)
    assert (breaker.opened_at, breaker.reason, breaker.retry_at, breaker.next_due) == (None, None, None, None)
    assert [breaker.failure(311.0, "a"), breaker.failure(312.0, "b")] == [None, None]
    assert Transition(CLOSED, OPEN) == breaker.failure(313.0, "c")


def test_a_probe_that_fails_opens_it_for_twice_as_long():
    """The recovery time doubles up to its maximum: 5, 10, 20, 40, 60, 60 min."""
    breaker = opened()
    waits = []
    for _ in range(6):
        now = breaker.retry_at
        waits.append(now - breaker.opened_at)
        assert breaker.allow(now)
        assert Transition(HALF_OPEN, OPEN) == breaker.failure(now, "still ill")
        assert (now, "still ill") == (breaker.opened_at, breaker.reason)
    assert waits == [300.0, 600.0, 1200.0, 2400.0, 3600.0, 3600.0]


def test_closing_takes_the_recovery_time_back_to_its_first_value():
    """The next illness is a new one."""
    breaker = probing()
    breaker.failure(300.0, "still ill")
    assert breaker.retry_at == 900.0
    assert breaker.allow(900.0)
    breaker.success(900.0)
    breaker.trip(1000.0, "new")
    assert breaker.retry_at == 1300.0


def test_an_escalation_during_a_probe_opens_it_for_twice_as_long():
    """The agent has not recovered, whoever says so."""
    breaker = probing()
    assert Transition(HALF_OPEN, OPEN) == breaker.trip(310.0, "again")
    assert breaker.retry_at == 910.0


def test_a_probe_nobody_hears_of_counts_as_failed_when_its_lease_ends():
    """Otherwise it would be half-open for ever."""
    breaker = probing(probe_lease=60.0)
    assert breaker.next_due == 360.0
    assert breaker.tick(359.9) is None
    assert Transition(HALF_OPEN, OPEN) == breaker.tick(360.0)
    assert (breaker.opened_at, breaker.retry_at, breaker.reason) == (360.0, 960.0, "no result of the probe in 60 s")


def test_a_result_after_the_lease_is_ignored():
    """The probe counted as failed already, at the moment when its lease ended, although nobody looked."""
    breaker = probing(probe_lease=60.0)
    assert Transition(HALF_OPEN, OPEN) == breaker.success(500.0)
    assert breaker.retry_at == 960.0


def test_a_long_silence_is_accounted_for_step_by_step():
    """A lease that ended and the recovery after it leave it half-open, with a permit to give."""
    breaker = probing(probe_lease=60.0)
    assert breaker.tick(5_000.0) is None
    assert (breaker.state, breaker.opened_at) == (HALF_OPEN, 360.0)
    assert breaker.allow(5_000.0)


def test_a_permit_given_back_goes_to_the_next_caller():
    """A cancelled probe says nothing about the agent: no failure, no success."""
    breaker = probing()
    assert breaker.release(310.0) is None
    assert (breaker.state, breaker._recovery) == (HALF_OPEN, 300.0)
    assert [breaker.allow(311.0), breaker.allow(311.0)] == [True, False]


def test_a_permit_given_back_has_no_deadline():
    """Half-open with no probe under way, time changes nothing."""
    breaker = probing()
    breaker.release(310.0)
    assert breaker.next_due is None
    assert breaker.tick(1e9) is None


@pytest.mark.parametrize("state", [CLOSED, OPEN])
def test_release_without_a_probe_changes_nothing(state):
    """Whoever had no permit has none to give back."""
    breaker = Breaker() if state is CLOSED else opened()
    assert breaker.release(1.0) is None
    assert (state, None if state is CLOSED else 300.0) == (breaker.state, breaker.next_due)


def test_results_while_half_open_without_a_probe_are_ignored():
    """Nobody was let through, so they belong to work from before."""
    breaker = opened()
    breaker.tick(300.0)
    assert (breaker.success(301.0), breaker.failure(302.0, "late")) == (None, None)
    assert HALF_OPEN is breaker.state


@pytest.mark.parametrize("at", [10.0, 300.0])
def test_reset_closes_it_at_once(at):
    """A person who mended the agent need not wait."""
    breaker = opened()
    before = OPEN if breaker.tick(at) is None else HALF_OPEN
    assert Transition(before, CLOSED) == breaker.reset(at)
    assert breaker.allow(at)


def test_reset_while_closed_forgets_the_failures():
    """And is no change of state."""
    breaker = Breaker()
    breaker.failure(1.0, "a")
    assert breaker.reset(2.0) is None
    assert breaker.failures == 0


@pytest.mark.parametrize(
    "figures",
    [
        {"failure_threshold": 0},
        {"recovery_timeout": 0.0},
        {"probe_lease": 0.0},
        {"recovery_timeout": 7200.0},
    ],
)
def test_impossible_figures_are_refused(figures):
    """A bound below the first recovery time would shorten it unseen."""
    with pytest.raises(ValueError, match=r"must (not )?be"):
        Breaker(**figures)


def test_the_documented_table_is_the_table():
    """The module's docstring lists each transition, and no other."""
    rows = re.findall(r"^([A-Z_]+) +([A-Z_]+) +([A-Z_]+) ", breaker_module.__doc__, re.MULTILINE)
    expected = {(old.name, event.name, new.name) for (old, event), new in TRANSITIONS.items()}
    assert expected == set(rows)
    assert len(expected) == len(rows)


def test_half_of_the_calls_open_it_although_no_row_of_them_failed():
    """A server that fails every other call works for nobody."""
    breaker = Breaker(failure_threshold=99, window=CallWindow(failure_rate=0.5, min_calls=6))
    for _ in range(2):
        assert breaker.success(0.0) is None
        assert breaker.failure(0.0, "reset") is None
    assert breaker.success(0.0) is None
    assert Transition(BreakerState.CLOSED, BreakerState.OPEN) == breaker.failure(0.0, "reset")
    assert "3 of the last 6 calls failed" == breaker.reason


def test_slow_successes_open_it():
    """An answer after a minute is none for most who ask."""
    breaker = Breaker(window=CallWindow(failure_rate=0.0, slow_rate=1.0, slow_call=5.0, min_calls=2))
    assert breaker.success(0.0, 6.0) is None
    assert Transition(BreakerState.CLOSED, BreakerState.OPEN) == breaker.success(0.0, 6.0)
    assert "2 of the last 2 calls took longer than 5 s" == breaker.reason


def test_shares_begin_anew_when_it_closes():
    """What was before it opened is settled, and a probe is judged by itself."""
    breaker = Breaker(failure_threshold=99, recovery_timeout=10.0, window=CallWindow(min_calls=2))
    breaker.failure(0.0, "reset")
    breaker.failure(0.0, "reset")
    assert breaker.allow(10.0)
    breaker.success(10.0)
    assert BreakerState.CLOSED is breaker.state
    assert breaker.failure(10.0, "reset") is None


def test_a_hint_lets_a_probe_through_before_the_recovery_time_is_over():
    """Somebody saw that it answers again; where it is not open, a hint means nothing."""
    breaker = Breaker(failure_threshold=1, recovery_timeout=300.0)
    assert breaker.hint(0.0) is None
    breaker.failure(0.0, "reset")
    assert not breaker.allow(1.0)
    assert Transition(BreakerState.OPEN, BreakerState.HALF_OPEN) == breaker.hint(1.0)
    assert breaker.allow(1.0)
    assert not breaker.allow(1.0)
    assert breaker.hint(1.0) is None
    assert Transition(BreakerState.HALF_OPEN, BreakerState.OPEN) == breaker.failure(2.0, "reset")
    assert 602.0 == breaker.retry_at
