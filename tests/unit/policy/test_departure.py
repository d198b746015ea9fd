"""Departure: a server that serves in part is left for one that serves."""

from __future__ import annotations

import pytest

from agentrt.policy import Backoff, Departure, Whereabouts

STAY, LOOK = Whereabouts.STAY, Whereabouts.LOOK_ELSEWHERE
STEADY = Backoff(initial=10.0, factor=2.0, maximum=30.0, jitter=(1.0, 1.0))


def test_without_trouble_one_stays():
    """For ever."""
    assert STAY is Departure().verdict(1e9)


@pytest.mark.parametrize(("now", "expected"), [(14.9, STAY), (15.0, LOOK)])
def test_trouble_is_borne_for_a_while(now, expected):
    """At exactly the patience it is time; what was seen of it later does not begin it anew."""
    departure = Departure(patience=5.0)
    departure.troubled(10.0)
    departure.troubled(14.0)
    assert expected is departure.verdict(now)


def test_a_moment_without_trouble_begins_it_anew():
    """Only an unbroken stretch counts."""
    departure = Departure(patience=5.0)
    departure.troubled(0.0)
    departure.well()
    departure.troubled(4.0)
    assert [STAY, LOOK] == [departure.verdict(now) for now in (8.9, 9.0)]


SHORT = Backoff(initial=1.0, factor=2.0, maximum=2.0, jitter=(1.0, 1.0))


@pytest.mark.parametrize(("is_needed", "expected"), [(True, [5, 6, 8, 10, 12]), (False, [5, 15, 35, 65, 95])])
def test_who_looks_in_vain_looks_ever_more_rarely(is_needed, expected):
    """Up to a bound, which is a wide one for what nobody needs."""
    departure = Departure(patience=5.0, pauses=SHORT, rarely=STEADY)
    departure.troubled(0.0)
    looks = []
    for now in range(120):
        if departure.verdict(now) is LOOK:
            looks.append(now)
            departure.looked(now, 0.5, is_needed=is_needed)
    assert expected == looks[:5]


def test_a_new_connection_gets_its_time_and_the_pauses_go_on_growing():
    """One that moves from trouble into trouble does not do so every few seconds."""
    departure = Departure(patience=5.0, pauses=STEADY)
    moves = []
    for now in range(120):
        departure.troubled(now)
        if departure.verdict(now) is LOOK:
            moves.append(now)
            departure.looked(now, 0.0)
            departure.connected()
    assert [5, 15, 35, 65, 95] == moves


def test_once_it_is_well_the_next_trouble_is_like_the_first():
    """The pauses too."""
    departure = Departure(patience=5.0, pauses=STEADY)
    departure.troubled(0.0)
    for now in (5.0, 15.0):
        departure.looked(now, 0.0)
    departure.well()
    departure.troubled(20.0)
    assert LOOK is departure.verdict(25.0)
    departure.looked(25.0, 0.0)
    assert [STAY, LOOK] == [departure.verdict(now) for now in (34.9, 35.0)]
