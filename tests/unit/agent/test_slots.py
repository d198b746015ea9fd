"""Slots: what an agent may work on at once."""

from __future__ import annotations

import trio

from agentrt.agent import Slot, Slots

Clock = trio.testing.MockClock


async def test_whoever_waits_longest_gets_the_slot_that_is_given_back(autojump_clock: Clock):
    """It is handed over: nobody who comes later can take it in between."""
    slots = Slots(1)
    order: list[int] = []

    async def take(number: int) -> None:
        await trio.sleep(number)
        slot = Slot(slots)
        await slot.acquire()
        order.append(number)
        await trio.sleep(10)
        slot.close()
        assert 0 == slots.free or number == 3

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(take, number)
    assert ([0, 1, 2, 3], 1) == (order, slots.free)


async def test_a_wait_that_is_cancelled_takes_nothing(autojump_clock: Clock):
    """Also where it is cancelled beside others that wait."""
    slots = Slots(1)
    first, second, third = Slot(slots), Slot(slots), Slot(slots)
    await first.acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(third.acquire)
        with trio.move_on_after(1) as scope:
            await second.acquire()
        first.release()
    assert scope.cancelled_caught
    assert 0 == slots.free
    third.release()
    assert 1 == slots.free


async def test_what_is_taken_beyond_the_bound_is_made_up_for(autojump_clock: Clock):
    """Nobody gets a slot until there are fewer than allowed."""
    slots = Slots(1)
    first, second, third = Slot(slots), Slot(slots), Slot(slots)
    await first.acquire()
    second.take_at_once()
    second.take_at_once()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(third.acquire)
        await trio.sleep(1)
        first.release()
        await trio.sleep(1)
        assert not third._is_held
        second.release()
    assert (True, 0) == (third._is_held, slots.free)


async def test_a_slot_is_taken_and_given_back_once(autojump_clock: Clock):
    """However often it is said."""
    slots = Slots(2)
    slot = Slot(slots)
    await slot.acquire()
    await slot.acquire()
    assert 1 == slots.free
    slot.release()
    slot.release()
    assert 2 == slots.free


async def test_a_closed_slot_stays_free(autojump_clock: Clock):
    """Also for somebody who waited for it when it was closed."""
    slots = Slots(1)
    other, slot = Slot(slots), Slot(slots)
    await other.acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slot.acquire)
        await trio.sleep(1)
        slot.close()
        other.close()
    await slot.acquire()
    slot.take_at_once()
    assert 1 == slots.free
