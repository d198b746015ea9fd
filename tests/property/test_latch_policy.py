"""The latch against a model that remembers everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import Latch

LOOKS = st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 3)), max_size=30)


@given(LOOKS, st.integers(0, 4))
def test_a_check_is_shown_good_only_where_no_look_in_the_hold_before_failed(
    looks: list[tuple[str, bool, int]], hold: int
) -> None:
    latch = Latch(hold=float(hold))
    now, failed = 0, dict[str, int]()
    for name, ok, passed in looks:
        now += passed
        if not ok:
            failed[name] = now
        expected = ok and (name not in failed or now - failed[name] >= hold)
        if expected:
            failed.pop(name, None)
        assert latch.look(name, ok=ok, reason="", now=float(now))[0] is expected
