"""The bulkhead that calls wait at, and the breaker that counts their results."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agentrt.policy import Breaker, Bulkhead, Failure, FailureKind, SendState, Transition
from agentrt.resilience import BreakerGate, BreakerOpen, BulkheadFull, BulkheadGate

RESET = Failure(FailureKind.TRANSIENT, SendState.UNKNOWN, "reset")


async def test_calls_get_their_turn_in_the_order_in_which_they_came(autojump_clock):
    """And no more of them are in hand than may be."""
    gate = BulkheadGate("archive", Bulkhead(max_concurrent=1))
    order: list[int] = []

    async def call(number: int) -> None:
        async with gate.slot(lambda: 1):
            assert 1 == gate.running
            order.append(number)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(call, number)
            await wait_all_tasks_blocked()
    assert [0, 1, 2, 3, 4, 5] == order
    assert (0, 0, 6.0) == (gate.running, gate.queued, trio.current_time())


async def test_the_wait_is_bounded_by_time(autojump_clock):
    """By the gate's own bound, and by the caller's deadline where that is sooner; the place is given up."""
    gate = BulkheadGate("archive", Bulkhead(max_concurrent=1), max_wait=5.0)
    async with gate.slot(lambda: 0):
        for deadline, waited in ((None, 5.0), (trio.current_time() + 7.0, 2.0)):
            began = trio.current_time()
            with pytest.raises(BulkheadFull, match="no turn in time: archive has 1 calls in hand"):
                async with gate.slot(lambda: 0, deadline):
                    raise AssertionError
            assert waited == trio.current_time() - began
        assert 0 == gate.queued
    assert gate.running == 0


async def test_the_size_is_asked_only_of_those_that_wait(autojump_clock):
    """To measure the arguments of each call would cost more than the bulkhead."""
    gate = BulkheadGate("archive", Bulkhead(max_concurrent=1, max_queued_bytes=10))
    async with gate.slot(pytest.fail):
        with pytest.raises(BulkheadFull, match="as many bytes as may wait"):
            async with gate.slot(lambda: 11):
                raise AssertionError


async def test_a_turn_that_comes_together_with_a_cancellation_is_not_lost(autojump_clock):
    """It goes to whoever waits next."""
    gate = BulkheadGate("archive", Bulkhead(max_concurrent=1))
    scope = trio.CancelScope()
    served = trio.Event()

    async def cancelled() -> None:
        with scope:
            async with gate.slot(lambda: 0):
                raise AssertionError

    async def next_one() -> None:
        async with gate.slot(lambda: 0):
            served.set()

    async with trio.open_nursery() as nursery:
        async with gate.slot(lambda: 0):
            nursery.start_soon(cancelled)
            await wait_all_tasks_blocked()
            nursery.start_soon(next_one)
            await wait_all_tasks_blocked()
            scope.cancel()
        await served.wait()
    assert (0, 0) == (gate.running, gate.queued)


def test_a_result_from_before_the_opening_tells_nothing_about_the_probe(autojump_clock):
    """Nor does one from before the closing."""
    changes: list[Transition] = []

    async def main() -> None:
        gate = BreakerGate(
            "archive", Breaker(failure_threshold=1, recovery_timeout=10.0), lambda c, _: changes.append(c)
        )
        early, other = gate.admit(), gate.admit()
        gate.ended(other, RESET)
        await trio.sleep(10)
        probe = gate.admit()
        gate.ended(early)
        assert "half_open" == gate.state
        with pytest.raises(BreakerOpen):
            gate.admit()
        gate.ended(probe)
        gate.ended(early, RESET)
        assert "closed" == gate.state

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert ["open", "half_open", "closed"] == [change.new for change in changes]


async def test_a_permit_is_a_lease(autojump_clock):
    """A probe that nobody hears of again holds it no longer than that."""
    gate = BreakerGate("archive", Breaker(1, 10.0, probe_lease=30.0), lambda *_: None)
    gate.ended(gate.admit(), RESET)
    await trio.sleep(10)
    gate.admit()
    await trio.sleep(30)
    assert ("open", "no result of the probe in 30 s") == (gate.state, gate.reason)
    await trio.sleep(20)
    gate.ended(gate.admit())
    assert "closed" == gate.state


@pytest.mark.parametrize("kind", [FailureKind.PERMANENT, FailureKind.AUTH, FailureKind.TOOL])
async def test_a_refusal_and_a_tools_error_are_answers(autojump_clock, kind):
    """The other side works."""
    gate = BreakerGate("archive", Breaker(failure_threshold=1), lambda *_: None)
    gate.ended(gate.admit(), Failure(kind, SendState.SENT, "no"))
    assert "closed" == gate.state


@pytest.mark.parametrize("kind", [FailureKind.TRANSIENT, FailureKind.TIMEOUT, FailureKind.THROTTLED])
async def test_what_speaks_against_the_other_side_counts(autojump_clock, kind):
    """Silence, faults, and too much work."""
    gate = BreakerGate("archive", Breaker(failure_threshold=1), lambda *_: None)
    gate.ended(gate.admit(), Failure(kind, SendState.SENT, "no"))
    assert "open" == gate.state
