"""Bulkhead: who runs, who waits, and who is turned away."""

from __future__ import annotations

from agentrt.policy import Admission, Bulkhead


def test_calls_run_then_wait_and_then_are_turned_away():
    """By number."""
    bulkhead = Bulkhead(max_concurrent=2, max_queued=1)
    assert [Admission.RUN, Admission.RUN, Admission.QUEUE, Admission.FULL] == [bulkhead.enter() for _ in range(4)]
    assert (2, 1) == (bulkhead.running, bulkhead.queued)


def test_those_that_wait_are_bounded_by_their_size_too():
    """Exactly the bound fits."""
    bulkhead = Bulkhead(max_concurrent=1, max_queued_bytes=100)
    bulkhead.enter(10_000)
    assert [Admission.QUEUE, Admission.QUEUE, Admission.TOO_LARGE] == [bulkhead.enter(size) for size in (60, 40, 1)]
    bulkhead.abandon(40)
    assert Admission.QUEUE is bulkhead.enter(40)


def test_nobody_overtakes():
    """While somebody waits a new call waits, too, also where a slot is free."""
    bulkhead = Bulkhead(max_concurrent=1)
    bulkhead.enter()
    bulkhead.enter(5)
    bulkhead.leave()
    assert not bulkhead.has_room
    bulkhead.promote(5)
    assert (1, 0) == (bulkhead.running, bulkhead.queued)
    bulkhead.leave()
    assert bulkhead.has_room
