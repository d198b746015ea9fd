"""A consumer of the memory bus, and the deliveries that come from it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

from actors._memory_store import DurableConsumer, Taken
from agentrt.ports import Headers

if TYPE_CHECKING:
    from actors.memory_bus import MemoryBus


@attrs.frozen
class MemoryDelivery:
    """A message in hand; see :class:`agentrt.ports.Delivery`."""

    _taken: Taken
    _key: tuple[str, str]
    _consumer: DurableConsumer
    _bus: MemoryBus

    @property
    def subject(self) -> str:
        """Where it was published."""
        return self._taken.stored.message.subject

    @property
    def body(self) -> bytes:
        """What it says."""
        return self._taken.stored.message.body

    @property
    def headers(self) -> Headers:
        """What is said about it."""
        return self._taken.stored.message.headers

    @property
    def attempt(self) -> int:
        """How often it was delivered, this time included."""
        return self._taken.attempt

    @property
    def sequence(self) -> int:
        """Its number in the stream."""
        return self._taken.stored.sequence

    async def ack(self) -> None:
        """Say that it is done."""
        await self._confirm()
        if self._bus.faults.loses_ack():
            await self._bus.forget()
        self._consumer.settle(self.sequence)

    def ack_nowait(self) -> None:
        """Say that it is done; said to nobody where there is no connection."""
        if self._bus.is_connected and not self._bus.faults.loses_ack():
            self._consumer.settle(self.sequence)

    async def _confirm(self) -> None:
        await self._bus.confirm()
        if self._bus.broker.consumers.get(self._key) is not self._consumer:
            # It was deleted meanwhile; one that was made anew knows nothing of this delivery.
            await self._bus.forget()

    def give_back(self) -> None:
        """Have it delivered again now; nobody saw it."""
        self._consumer.defer(self.sequence, 0.0)

    async def nak(self, delay: float = 0.0) -> None:
        """Ask for it again after *delay* seconds."""
        await self._confirm()
        self._consumer.defer(self.sequence, delay)

    async def term(self, reason: str) -> None:  # noqa: ARG002 - the port's; nobody listens to advisories here.
        """Take it out of the stream without having done it."""
        await self._confirm()
        self._consumer.settle(self.sequence)

    async def in_progress(self) -> None:
        """Say that it is still worked on: the ack wait begins anew."""
        await self._confirm()
        self._consumer.defer(self.sequence, self._consumer.spec.ack_wait)


@attrs.define(eq=False)
class MemoryConsumer:
    """An open pull; see :class:`agentrt.ports.Consumer`. It asks for nothing ahead."""

    _bus: MemoryBus
    _key: tuple[str, str]
    # On their way, with when they arrive.
    _coming: deque[tuple[float, MemoryDelivery]] = attrs.field(init=False, factory=deque)

    async def next(self) -> MemoryDelivery:
        """Wait for the next message, however long that takes."""
        await trio.lowlevel.checkpoint()
        while True:
            await self._bus.wait_connected()
            if self._coming:
                await trio.sleep_until(self._coming[0][0])
                return self._coming.popleft()[1]
            broker = self._bus.broker
            consumer = broker.consumers.get(self._key)
            if consumer is None or broker.jetstream_trouble:
                await broker.changed.park()
                continue
            taken = consumer.take()
            if taken is not None:
                self._send(taken, consumer)
                continue
            with trio.move_on_at(consumer.next_due()):
                await consumer.arrived.park()

    def _send(self, taken: Taken, consumer: DurableConsumer) -> None:
        faults = self._bus.faults
        delivery = MemoryDelivery(taken, self._key, consumer, self._bus)
        self._coming.append((trio.current_time() + faults.delivery_delay, delivery))
        if faults.comes_twice():
            consumer.defer(taken.stored.sequence, 0.0)

    def redeliver(self) -> None:
        """Have what is in hand delivered again now."""
        consumer = self._bus.broker.consumers.get(self._key)
        if consumer is not None:
            consumer.redeliver()

    def close(self) -> None:
        """Give back what is still on its way."""
        for _, delivery in self._coming:
            delivery.give_back()
        self._coming.clear()
