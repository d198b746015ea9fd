"""Probe health: silence makes a connection unhealthy, whatever its library says."""

from __future__ import annotations

import pytest

from agentrt.policy import Health, ProbeHealth


def test_before_the_first_connect_it_is_unhealthy():
    """Nobody was heard yet."""
    assert Health.UNHEALTHY is ProbeHealth().verdict(0.0)


@pytest.mark.parametrize(("now", "expected"), [(14.9, Health.HEALTHY), (15.0, Health.UNHEALTHY)])
def test_a_new_connection_has_five_seconds_to_answer(now, expected):
    """At exactly the limit it is unhealthy."""
    health = ProbeHealth()
    health.connected(10.0)
    health.sent(10.0)
    assert expected == health.verdict(now)


def test_each_answer_begins_the_limit_anew():
    """Probed every 2 s and answered, it is healthy for ever; then it goes silent."""
    health = ProbeHealth()
    health.connected(0.0)
    verdicts = set()
    for now in range(0, 1_000, 2):
        health.sent(now)
        health.answered(now + 0.1)
        verdicts.add(health.verdict(now + 1.9))
    assert {Health.HEALTHY} == verdicts
    assert [health.verdict(now) for now in (1003.0, 1003.2)] == [Health.HEALTHY, Health.UNHEALTHY]


def test_probes_without_an_answer_do_not_make_it_healthy():
    """Sending is no evidence."""
    health = ProbeHealth()
    health.connected(0.0)
    for now in (2.0, 4.0, 6.0):
        health.sent(now)
    assert (health.verdict(6.0), health.unanswered) == (Health.UNHEALTHY, 3)


def test_silence_counts_also_where_no_probe_was_sent():
    """A prober that stopped must not look like a connection that works."""
    health = ProbeHealth()
    health.connected(0.0)
    assert Health.UNHEALTHY is health.verdict(5.0)


def test_a_late_answer_makes_it_healthy_again():
    """The connection does answer."""
    health = ProbeHealth()
    health.connected(0.0)
    health.sent(2.0)
    health.answered(8.0)
    assert (health.verdict(8.0), health.unanswered, health.round_trip) == (Health.HEALTHY, 0, 6.0)


def test_one_answer_settles_all_probes_before_it():
    """The round trip is measured once per answer, from the last probe."""
    health = ProbeHealth()
    health.connected(0.0)
    assert health.round_trip is None
    health.sent(1.0)
    health.sent(2.0)
    health.answered(2.5)
    health.answered(4.0)
    assert (health.unanswered, health.round_trip) == (0, 0.5)


def test_a_new_connection_forgets_what_the_old_one_owed():
    """An answer without a probe on this connection measures nothing."""
    health = ProbeHealth()
    health.connected(0.0)
    health.sent(1.0)
    health.answered(1.5)
    health.sent(2.0)
    health.connected(10.0)
    assert (health.unanswered, health.round_trip) == (0, None)
    health.answered(11.0)
    assert (health.round_trip, health.verdict(15.9)) == (None, Health.HEALTHY)


def test_a_limit_of_nothing_is_refused():
    """It would never be healthy."""
    with pytest.raises(ValueError, match="limit"):
        ProbeHealth(limit=0.0)
