"""Lanes: the highest priority first, also where a message of a lower one waits already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from actors._lanes import PATIENCE, Lanes

HIGH, NORMAL, LOW = 0, 1, 2


@attrs.define(eq=False)
class Queue:
    """A consumer that takes *latency* seconds to answer, as one over a network does."""

    latency: float = 0.01
    messages: list[Any] = attrs.field(factory=list)
    pulled: int = 0
    _arrived: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def put(self, *messages: Any) -> None:
        self.messages += messages
        self._arrived.unpark_all()

    async def next(self) -> Any:
        while True:
            await trio.sleep(self.latency)
            if self.messages:
                self.pulled += 1
                return self.messages.pop(0)
            await self._arrived.park()


@asynccontextmanager
async def running(*queues: Queue) -> AsyncIterator[Lanes]:
    lanes = Lanes(len(queues))
    async with trio.open_nursery() as nursery:
        for index, queue in enumerate(queues):
            nursery.start_soon(lanes.pump, index, queue)
        yield lanes
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("attempt", range(8))
async def test_a_backlog_is_taken_in_order_of_priority(attempt: int, autojump_clock: trio.testing.MockClock):
    """A lower lane that holds a message waits until the higher ones had time to answer.

    Several attempts, because Trio shuffles the order in which tasks run.
    """
    queues = Queue(), Queue(), Queue()
    queues[LOW].put("low 1", "low 2")
    queues[NORMAL].put("normal 1", "normal 2")
    queues[HIGH].put("high 1", "high 2", "high 3")
    async with running(*queues) as lanes:
        taken = [await lanes.next() for _ in range(7)]
    assert ["high 1", "high 2", "high 3", "normal 1", "normal 2", "low 1", "low 2"] == taken


async def test_a_message_for_an_idle_agent_does_not_wait(autojump_clock: trio.testing.MockClock):
    """Pulls that were not answered for a while will not be now: nobody waits for them."""
    queues = Queue(), Queue(), Queue(latency=0.0)
    async with running(*queues) as lanes, trio.open_nursery() as nursery:
        took: list[float] = []

        async def take() -> None:
            await lanes.next()
            took.append(trio.current_time())

        nursery.start_soon(take)
        await trio.sleep(10)
        queues[LOW].put("low")
    assert [10.0] == took


async def test_a_slow_pull_is_not_waited_for_for_long(autojump_clock: trio.testing.MockClock):
    """A bus that takes an hour to answer for one lane does not hold up the others."""
    queues = Queue(latency=3600.0), Queue()
    queues[0].put("high")
    queues[1].put("low")
    async with running(*queues) as lanes:
        assert "low" == await lanes.next()
        assert pytest.approx(PATIENCE) == trio.current_time()


async def test_each_lane_pulls_one_message_and_only_while_one_is_wanted(autojump_clock: trio.testing.MockClock):
    """What a busy agent holds, no other replica can take."""
    queues = Queue(), Queue()
    for queue in queues:
        queue.put(*range(10))
    async with running(*queues) as lanes:
        await trio.sleep(10)
        assert [0, 0] == [queue.pulled for queue in queues]
        await lanes.next()
        await trio.sleep(10)
        assert [1, 1] == [queue.pulled for queue in queues]
        assert [0] == lanes.held


async def test_a_cancelled_wait_loses_nothing(autojump_clock: trio.testing.MockClock):
    """The message that arrives after it is there for the next one who waits."""
    queue = Queue(latency=1.0)
    queue.put("only")
    async with running(queue) as lanes:
        with trio.move_on_after(0.5):
            await lanes.next()
        await trio.sleep(5)
        assert ["only"] == lanes.held
        assert "only" == await lanes.next()


async def test_what_is_given_up_is_held_no_more(autojump_clock: trio.testing.MockClock):
    """It is handed out once, and the lane is free for the next message."""
    queues = Queue(), Queue()
    queues[0].put("first", "second")
    queues[1].put("low")
    async with running(*queues) as lanes:
        assert "first" == await lanes.next()
        await trio.sleep(1)
        assert (["low"], []) == (lanes.give_up(), lanes.held)
        assert "second" == await lanes.next()
