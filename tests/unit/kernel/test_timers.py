"""Timers: one heap for all that is due."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel

from agentrt.kernel.timers import Timers


@pytest.fixture
async def timers():
    timers = Timers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        yield timers
        nursery.cancel_scope.cancel()


async def test_timers_fire_in_due_order(timers, autojump_clock) -> None:
    """Whatever the order in which they were set, also where one is set that is due before all others."""
    fired = []
    for seconds in (3, 1, 2):
        timers.at(seconds, lambda seconds=seconds: fired.append((seconds, trio.current_time())))
    await trio.sleep(0.5)
    timers.at(0.75, fired.append, "first")
    await trio.sleep(5)
    assert fired == ["first", (1, 1.0), (2, 2.0), (3, 3.0)]


async def test_timers_of_the_same_moment_fire_in_the_order_they_were_set(timers, autojump_clock) -> None:
    fired = []
    for number in range(5):
        timers.at(1.0, fired.append, number)
    await trio.sleep(2)
    assert fired == [0, 1, 2, 3, 4]


async def test_a_timer_of_the_past_fires_at_once_but_not_inside_the_call(timers, autojump_clock) -> None:
    fired = []
    await trio.sleep(1)
    timers.at(0.0, fired.append, "late")
    assert fired == []
    await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert fired == ["late"]


async def test_a_cancelled_timer_does_not_fire(timers, autojump_clock) -> None:
    """Cancelled before, twice, or after it fired: no harm done."""
    fired = []
    cancelled, done = timers.at(1.0, fired.append, "no"), timers.at(1.0, fired.append, "yes")
    cancelled.cancel()
    cancelled.cancel()
    assert not cancelled.is_pending
    await trio.sleep(2)
    done.cancel()
    assert fired == ["yes"]


async def test_a_timer_can_set_and_cancel_others(timers, autojump_clock) -> None:
    """A callback that sets a timer of the same moment has it fired in the same moment."""
    fired = []
    doomed = timers.at(1.0, fired.append, "doomed")

    def first() -> None:
        doomed.cancel()
        timers.at(1.0, fired.append, trio.current_time())

    timers.at(0.5, timers.at, 1.0, fired.append, "nested")
    timers.at(0.9, first)
    await trio.sleep(2)
    assert fired == ["nested", 0.9]


async def test_cancelled_timers_do_not_pile_up(timers, autojump_clock) -> None:
    """A call sets a timer of a minute and cancels it in a moment; ten thousand of them are not kept for a minute."""
    kept = [timers.at(60.0, lambda: None) for _ in range(10)]
    for _ in range(10_000):
        timers.at(60.0, lambda: None).cancel()
    assert len(timers._heap) < 600
    await trio.sleep(61)
    assert not any(timer.is_pending for timer in kept)
    assert timers._heap == []
