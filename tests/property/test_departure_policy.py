"""Departure against a list of all that was told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import Backoff, Departure, Whereabouts

PAUSES = Backoff(initial=2.0, factor=2.0, maximum=8.0, jitter=(1.0, 1.0))
steps = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["connected", "troubled", "well", "looked", "nothing"])))


@given(st.integers(1, 10), steps)
def test_it_looks_where_trouble_lasts_and_the_last_look_is_long_ago(patience, history):
    """Trouble counts from its first word since the last connection or good news; looks count since the good news."""
    departure = Departure(patience, PAUSES)
    now = 0
    since, looks = None, []
    for gap, event in history:
        now += gap
        if event == "looked":
            departure.looked(now, 0.0)
            looks.append(now)
        elif event == "troubled":
            departure.troubled(now)
            since = now if since is None else since
        elif event in ("connected", "well"):
            getattr(departure, event)()
            since = None
            looks = [] if event == "well" else looks
        is_long = since is not None and now - since >= patience
        is_free = not looks or now - looks[-1] >= min(2 * 2 ** (len(looks) - 1), 8)
        expected = Whereabouts.LOOK_ELSEWHERE if is_long and is_free else Whereabouts.STAY
        assert expected is departure.verdict(now)
