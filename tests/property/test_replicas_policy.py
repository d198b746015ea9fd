"""The order of replicas against its rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy.replicas import ReplicaLoad, order_of

loads = st.lists(st.builds(ReplicaLoad, st.booleans(), st.integers(0, 3)), min_size=1, max_size=6)
chance = st.floats(0, 1)


@given(loads, chance, st.data())
def test_the_order_keeps_its_rules(replicas, jitter, data):
    """All, each once; a session's own first; those that work before those that do not; least loaded first."""
    home = data.draw(st.none() | st.integers(0, len(replicas) - 1))
    order = order_of(replicas, jitter, home)
    assert sorted(order) == list(range(len(replicas)))
    rest = order
    if home is not None:
        assert home == order[0]
        rest = order[1:]
    ranks = [(not replicas[place].is_usable, replicas[place].in_flight) for place in rest]
    assert ranks == sorted(ranks)


def test_equals_get_their_turn_by_chance():
    equal = [ReplicaLoad(is_usable=True)] * 4
    assert [0, 1, 2, 3, 3] == [order_of(equal, jitter)[0] for jitter in (0.0, 0.25, 0.5, 0.75, 1.0)]


@pytest.mark.parametrize("jitter", [-0.1, 1.1])
def test_what_is_no_chance_is_refused(jitter):
    with pytest.raises(ValueError, match="jitter must lie between 0 and 1"):
        order_of([ReplicaLoad(is_usable=True)], jitter)
