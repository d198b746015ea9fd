"""What the NATS connections of a run share: one who writes, and beats without a task each."""

from __future__ import annotations

import pytest
import trio

from actors._flag import Flag
from actors._nats_shared import Beat, Turns, current_shared, open_shared

Clock = trio.testing.MockClock


async def test_what_is_to_be_written_is_written_in_the_next_pass(autojump_clock: Clock):
    """In its order, and before whoever sleeps wakes; also what is said while the writer writes."""
    said: list[str] = []

    def say_more() -> None:
        said.append("b")
        current_shared().writer.soon(lambda: said.append("c"))

    async with open_shared():
        writer = current_shared().writer
        for _ in range(2):
            writer.soon(lambda: said.append("a"))
            writer.soon(say_more)
            assert [] == said
            await trio.sleep(0.001)
            assert ["a", "b", "c"] == said
            said.clear()


async def test_what_was_said_last_is_written_also_in_a_run_that_is_cancelled(autojump_clock: Clock):
    """A connection that ends in order says so until its end."""
    said: list[str] = []
    with trio.CancelScope() as scope:
        async with open_shared():
            shared = current_shared()
            beat = Beat(shared.timers, 0.5, lambda: said.append("beat"))
            scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(0.9)
                beat.cancel()
                shared.writer.soon(lambda: said.append("goodbye"))
    assert ["beat", "goodbye"] == said


async def test_nothing_is_shared_where_no_bridge_is_open():
    """Whoever asks hears so."""
    with pytest.raises(LookupError):
        current_shared()


async def test_a_beat_beats_until_it_is_cancelled(autojump_clock: Clock):
    """First after one interval; one that fails is logged, and beats on."""
    beats: list[float] = []

    def beat() -> None:
        beats.append(round(trio.current_time() - began, 6))
        if len(beats) == 2:
            raise RuntimeError("a beat that fails")

    async with open_shared():
        began = trio.current_time()
        beating = Beat(current_shared().timers, 0.25, beat)
        await trio.sleep(1.1)
        beating.cancel()
        await trio.sleep(10.0)
    assert [0.25, 0.5, 0.75, 1.0] == beats


async def test_rare_beats_of_many_come_together(autojump_clock: Clock):
    """Each a little late, so that a hundred connections wake the process as often as one."""
    moments: set[float] = set()
    count = 0

    def beat() -> None:
        nonlocal count
        count += 1
        moments.add(trio.current_time())

    async with open_shared():
        beats = []
        for _ in range(100):
            beats.append(Beat(current_shared().timers, 2.0, beat))
            await trio.sleep(0.0001)
        await trio.sleep(9.0)
        for one in beats:
            one.cancel()
    assert 400 == count
    assert len(moments) <= 8


async def test_a_flag_wakes_who_waits_also_where_it_turns_off_at_once(autojump_clock: Clock):
    """Whoever waited has seen it on; whoever comes then waits for the next time."""
    flag, seen = Flag(), []

    async def wait(name: str) -> None:
        await flag.wait()
        seen.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        await trio.sleep(1)
        flag.turn(on=True)
        flag.turn(on=False)
        nursery.start_soon(wait, "c")
        await trio.sleep(1)
        assert ({"a", "b"}, False) == (set(seen), flag.is_set)
        flag.turn(on=True)
        await trio.sleep(1)
        assert "c" in seen
        await flag.wait()


async def test_few_connect_at_once_and_nobody_waits_long_for_a_turn(autojump_clock: Clock):
    """Where each is quick all have their turn soon; where none ends, the others go on without one."""
    turns = Turns()
    inside, most = 0, 0

    async def connect(seconds: float) -> None:
        nonlocal inside, most
        async with turns.turn():
            inside += 1
            most = max(most, inside)
            await trio.sleep(seconds)
            inside -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(connect, 0.001)
    assert (16, 0) == (most, inside)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(connect, 10.0)
    assert (100, 0, 10.25) == (most, inside, trio.current_time() - began)
    await connect(0.0)
