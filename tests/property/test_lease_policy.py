"""Leases against a registry that forgets what is not renewed, in integer seconds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import Leases

LEASE = 9
wishes = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("want"), wishes),
        st.tuples(st.just("pass"), st.integers(1, 12)),
        st.tuples(st.just("doubt"), st.none()),
        st.tuples(st.just("outage"), st.booleans()),
    ),
    max_size=40,
)


@given(steps)
def test_what_is_wanted_is_there_and_nothing_else(steps):
    """After each look, unless the registry was away; and what is told as missing is what nobody finds."""
    leases, now, is_away = Leases(LEASE), 0, False
    wanted: dict[str, str] = {}
    there: dict[str, tuple[str, int]] = {}
    for step, value in steps:
        match step:
            case "want":
                wanted = dict(value)
            case "pass":
                now += value
            case "outage":
                is_away = value
            case "doubt":
                # The registry lost everything.
                leases.doubt()
                there.clear()
        there = {key: (said, at) for key, (said, at) in there.items() if now - at < LEASE}
        work = leases.work(wanted, now)
        assert set(work.write) <= set(wanted)
        assert not set(work.remove) & set(wanted)
        if is_away:
            found = {key for key, (_, at) in there.items() if now - at < LEASE}
            assert set(wanted) - found >= set(leases.missing(wanted, now))
            continue
        for key in work.write:
            there[key] = (wanted[key], now)
            leases.written(key, wanted[key], now)
        for key in work.remove:
            there.pop(key, None)
            leases.removed(key)
        assert wanted == {key: said for key, (said, _) in there.items()}
        assert () == leases.missing(wanted, now)
        assert all(now - at < LEASE / 3 for _, at in there.values())
        assert leases.work(wanted, now).write == ()


def test_an_entry_is_renewed_three_times_in_a_lease():
    """At a third of it and not before; a new value at once."""
    leases = Leases(9.0)
    leases.written("a", "x", 0.0)
    assert () == leases.work({"a": "x"}, 2.9).write
    assert ("a",) == leases.work({"a": "x"}, 3.0).write
    assert ("a",) == leases.work({"a": "y"}, 0.0).write
    assert () == leases.missing({"a": "x"}, 8.9)
    assert ("a",) == leases.missing({"a": "x"}, 9.0)
    assert ("a",) == leases.keys
