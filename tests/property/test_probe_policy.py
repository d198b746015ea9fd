"""Probe health against a list of all that was heard."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import Health, ProbeHealth
from agentrt.policy.probe import LATENESS

steps = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["connected", "sent", "answered", "nothing"])))


@given(st.integers(1, 10), steps)
def test_it_is_healthy_while_something_was_heard_within_the_limit(limit, history):
    """An answer or a connect less than *limit* ago; probes sent count for nothing but themselves."""
    health = ProbeHealth(limit)
    now, events = 0, []
    for gap, event in history:
        now += gap
        events.append((now, event))
        if event != "nothing":
            getattr(health, event)(now)
        heard = [then for then, what in events if what in {"connected", "answered"} and now - then < limit]
        assert (Health.HEALTHY if heard else Health.UNHEALTHY) is health.verdict(now)
        kinds = [what for _, what in events]
        last_heard = max((i for i, what in enumerate(kinds) if what in {"connected", "answered"}), default=-1)
        assert kinds[last_heard + 1 :].count("sent") == health.unanswered


@given(st.integers(1, 10), st.lists(st.tuples(st.integers(0, 6), st.booleans())))
def test_time_in_which_nobody_could_listen_is_no_silence(limit, history):
    """As if it had not been, and no more than that: the next silence is seen as soon as any other."""
    health = ProbeHealth(limit)
    health.connected(0)
    now = silent = 0
    for gap, stood in history:
        now += gap
        if stood:
            health.woke(now - gap, now)
        else:
            silent += gap
            # One that is hardly late says nothing.
            health.woke(now - LATENESS, now)
        assert (Health.HEALTHY if silent < limit else Health.UNHEALTHY) is health.verdict(now)
    health.answered(now)
    health.woke(now - 5, now)
    assert Health.UNHEALTHY is health.verdict(now + limit)


@given(steps)
def test_the_round_trip_is_from_the_last_probe_to_its_first_answer(history):
    """On the present connection only."""
    health = ProbeHealth()
    now, pending, expected = 0, [], []
    for gap, event in history:
        now += gap
        if event == "connected":
            pending, expected = [], []
        elif event == "sent":
            pending.append(now)
        elif event == "answered" and pending:
            expected.append(now - pending[-1])
            pending = []
        if event != "nothing":
            getattr(health, event)(now)
        assert (expected[-1] if expected else None) == health.round_trip
