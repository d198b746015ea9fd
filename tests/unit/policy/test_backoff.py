"""Backoff: exact delays, the cap, and what is refused."""

from __future__ import annotations

import math

import pytest

from agentrt.policy import FULL_JITTER, Backoff, ReconnectBackoff

NO_JITTER = (1.0, 1.0)


def test_delays_double_until_the_cap():
    """The delay after attempt n is initial * factor ** (n - 1), at most the maximum; attempts count from 1."""
    backoff = Backoff(jitter=NO_JITTER)
    delays = [backoff.delay(attempt, 0.0) for attempt in range(1, 9)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_the_defaults_are_half_a_second_doubling_to_thirty_with_full_jitter():
    """Restart backoff is 0.5 s x 2 with a cap of 30 s, spread over all of the delay."""
    assert Backoff(initial=0.5, factor=2.0, maximum=30.0, jitter=FULL_JITTER) == Backoff()
    assert FULL_JITTER == (0.0, 1.0)


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, 4.0), (0.5, 4.6), (1.0, 5.2)])
def test_jitter_draws_a_multiplier_linearly_from_its_range(jitter, expected):
    """With a range of 1.0 to 1.3 up to 30 % are added."""
    assert expected == pytest.approx(Backoff(jitter=(1.0, 1.3)).delay(4, jitter))


def test_the_cap_comes_after_the_jitter():
    """A multiplier above 1 does not lift a delay over the maximum."""
    assert Backoff(initial=4.0, maximum=5.0, jitter=(1.0, 1.3)).delay(1, 1.0) == 5.0


def test_full_jitter_still_spreads_after_a_thousand_attempts():
    """At the cap the delays of a fleet still differ: nothing lines up its restarts."""
    backoff = Backoff()
    assert [backoff.delay(1_000, jitter) for jitter in (0.0, 0.25, 0.5, 0.75)] == [0.0, 7.5, 15.0, 22.5]


@pytest.mark.parametrize("attempt", [1_025, 10**9, 10**400])
def test_huge_attempts_do_not_overflow(attempt):
    """An outage may last for ever, and 2 ** attempt soon leaves what a float holds."""
    assert Backoff(jitter=NO_JITTER).delay(attempt, 0.0) == 30.0
    assert Backoff(initial=0.0).delay(attempt, 0.5) == 0.0


def test_an_initial_of_zero_never_waits():
    """Nothing grows out of zero."""
    assert [Backoff(initial=0).delay(attempt, 0.9) for attempt in (1, 50)] == [0.0, 0.0]


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt):
    """Attempt 0 is a mistake of the caller."""
    with pytest.raises(ValueError, match="attempts count from 1"):
        Backoff().delay(attempt, 0.0)


@pytest.mark.parametrize("jitter", [-0.1, 1.1, math.nan])
def test_jitter_outside_of_its_range_is_refused(jitter):
    """A jitter in seconds or per cent would otherwise give absurd delays."""
    with pytest.raises(ValueError, match="jitter must lie between 0 and 1"):
        Backoff().delay(1, jitter)


@pytest.mark.parametrize(
    "figures",
    [
        {"initial": -1},
        {"factor": 0.5},
        {"factor": math.inf},
        {"maximum": math.inf},
        {"maximum": 0.4},
        {"jitter": (0.5, 0.4)},
        {"jitter": (-0.1, 1.0)},
        {"jitter": (0.0, math.inf)},
    ],
)
def test_impossible_figures_are_refused(figures):
    """A policy that cannot work is an error where it is made, not where it is used."""
    with pytest.raises(ValueError, match=r"must (not )?be"):
        Backoff(**figures)


def test_a_maximum_equal_to_the_initial_delay_is_fine():
    """A constant delay."""
    assert [Backoff(initial=2, maximum=2, jitter=NO_JITTER).delay(n, 0.0) for n in (1, 2)] == [2.0, 2.0]


def test_reconnecting_is_eager_for_a_minute_and_patient_later():
    """0.05 s x 2 to 0.5 s while the outage is younger than 60 s, then up to 2 s."""
    backoff = ReconnectBackoff()
    assert [backoff.delay(attempt, 0.0, 1.0) for attempt in range(1, 7)] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    assert backoff.delay(200, 59.999, 1.0) == 0.5
    assert backoff.delay(201, 60.0, 1.0) == 2.0


def test_reconnecting_has_full_jitter_in_both_phases():
    """A fleet that lost its broker does not come back all at once."""
    backoff = ReconnectBackoff()
    assert (backoff.delay(200, 0.0, 0.0), backoff.delay(200, 0.0, 0.5)) == (0.0, 0.25)
    assert (backoff.delay(200, 3600.0, 0.0), backoff.delay(200, 3600.0, 0.5)) == (0.0, 1.0)


def test_a_negative_patience_is_refused():
    """An outage has no negative age."""
    with pytest.raises(ValueError, match="patience"):
        ReconnectBackoff(patience=-1.0)
