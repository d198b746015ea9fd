"""When a server that grew is replaced because nobody needs it just now."""

from __future__ import annotations

from agentrt.policy import IdleRecycling


def test_it_is_replaced_once_when_it_is_idle_and_has_settled():
    """Busy it is left alone, and so is one that is replaced already."""
    recycling = IdleRecycling(100, 60.0)
    assert not recycling.sample(99, 0.0, 10.0, idle=True)
    assert not recycling.sample(100, 0.0, 60.0, idle=False)
    assert recycling.sample(100, 0.0, 90.0, idle=True)
    assert not recycling.sample(100, 0.0, 120.0, idle=True)


def test_one_that_is_large_from_its_start_is_left_until_it_was_small():
    """It needs that much, and the next one would, too."""
    recycling = IdleRecycling(100, 60.0)
    assert not recycling.sample(100, 0.0, 59.9, idle=True)
    assert not recycling.sample(100, 0.0, 3600.0, idle=True)
    assert not recycling.sample(99, 0.0, 3630.0, idle=True)
    assert recycling.sample(100, 0.0, 3660.0, idle=True)


def test_another_start_begins_anew():
    """At the moment that it has settled, to the second."""
    recycling = IdleRecycling(100, 60.0)
    assert recycling.sample(100, 0.0, 60.0, idle=True)
    assert not recycling.sample(50, 100.0, 110.0, idle=True)
    assert recycling.sample(100, 100.0, 160.0, idle=True)
