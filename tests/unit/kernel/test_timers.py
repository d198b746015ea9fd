"""Timers: one heap for all that is due."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel

from agentrt.kernel.timers import Timers


@pytest.fixture
def failed() -> list[Exception]:
    return []


@pytest.fixture
async def timers(failed):
    timers = Timers(failed.append)
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


class Deadline:
    """Something that is due and says itself whether it still is, as a call does."""

    def __init__(self, fired: list[str], name: str) -> None:
        self.is_pending = True
        self._fired = fired
        self._name = name

    def fire(self) -> None:
        self.is_pending = False
        self._fired.append(self._name)


async def test_what_is_pushed_is_asked_whether_it_is_still_pending(timers, autojump_clock) -> None:
    """It shares the heap and the order with all other timers."""
    fired = []
    first, second, settled = (Deadline(fired, name) for name in ("first", "second", "settled"))
    for when, due in ((2.0, second), (1.0, first), (1.5, settled)):
        timers.push(when, due)
    timers.at(1.5, fired.append, "timer")
    assert timers.pending == 4
    settled.is_pending = False
    timers.one_cancelled()
    assert timers.pending == 3
    await trio.sleep(3)
    assert fired == ["first", "timer", "second"]
    assert (timers.pending, timers._heap, timers._cancelled) == (0, [], 0)


async def test_what_was_settled_does_not_pile_up_either(timers, autojump_clock) -> None:
    """Also where nothing ever comes due: each call leaves its deadline behind when it is answered."""
    fired = []
    kept = Deadline(fired, "kept")
    timers.push(60.0, kept)
    for _ in range(10_000):
        due = Deadline(fired, "no")
        timers.push(30.0, due)
        due.is_pending = False
        timers.one_cancelled()
    assert len(timers._heap) < 600
    assert timers.pending == 1
    await trio.sleep(61)
    assert fired == ["kept"]


async def test_many_timers_fire_once_each_in_order(timers, autojump_clock) -> None:
    """Whatever is cancelled among them, and whenever the heap is swept."""
    fired = []
    made = [timers.at(float(number % 100), fired.append, number) for number in range(1000)]
    for timer in made[::3]:
        timer.cancel()
    await trio.sleep(50.5)
    for timer in made[1::3]:
        timer.cancel()
    await trio.sleep(100)
    expected = sorted((number for number in range(1000) if number % 3), key=lambda number: (number % 100, number))
    assert fired == [number for number in expected if number % 100 <= 50 or number % 3 == 2]


async def test_a_timer_that_raises_is_reported_and_the_others_fire(timers, failed, autojump_clock) -> None:
    """All that is timed in a run stands on one task."""
    fired = []
    timers.at(1.0, fired.append, "before")
    timers.at(1.0, int, "no number")
    timers.at(1.0, fired.append, "after")
    timers.at(2.0, fired.append, "later")
    await trio.sleep(3)
    assert fired == ["before", "after", "later"]
    assert [type(error) for error in failed] == [ValueError]
