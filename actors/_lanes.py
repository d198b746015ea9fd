"""Lanes: one pull per priority, and the next message from the highest of them."""

from __future__ import annotations

import math

import attrs
import trio

from agentrt.ports import Consumer, Delivery

#: Seconds in which a pull on a queue that has something is answered; a lower lane waits so long for a higher one.
PATIENCE = 0.05


@attrs.define(eq=False)
class _Lane:
    held: Delivery | None = None
    #: When it began to pull; None while it does not.
    asked_at: float | None = None


class Lanes:
    """Takes from several consumers in order of priority.

    Each lane holds at most one message, and pulls only while somebody waits in :meth:`next`, so that a busy agent keeps
    little from others. A cancelled :meth:`next` loses nothing.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._lanes = [_Lane() for _ in range(count)]
        self._wanted = trio.Event()
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def held(self) -> list[Delivery]:
        """Messages that arrived and wait here."""
        return [lane.held for lane in self._lanes if lane.held is not None]

    def give_up(self) -> list[Delivery]:
        """Hand out all that is held, to whoever gives it back."""
        held = self.held
        for lane in self._lanes:
            lane.held = None
        self._changed.unpark_all()
        return held

    async def pump(self, index: int, consumer: Consumer) -> None:
        """Fill lane number *index* (0: the highest) from *consumer*, for ever."""
        lane = self._lanes[index]
        while True:
            await self._wanted.wait()
            lane.asked_at = trio.current_time()
            lane.held = await consumer.next()
            lane.asked_at = None
            self._changed.unpark_all()
            while lane.held is not None:
                await self._changed.park()

    async def next(self) -> Delivery:
        """Wait for a message; give one of the highest lane that has any."""
        await trio.lowlevel.checkpoint()
        began = trio.current_time()
        self._wanted.set()
        while True:
            settled_at = -math.inf
            for lane in self._lanes:
                if lane.held is not None:
                    break
                settled_at = max(settled_at, (began if lane.asked_at is None else lane.asked_at) + PATIENCE)
            else:
                await self._changed.park()
                continue
            if trio.current_time() >= settled_at:
                self._wanted = trio.Event()
                delivery, lane.held = lane.held, None
                self._changed.unpark_all()
                return delivery
            with trio.move_on_at(settled_at):
                await self._changed.park()
