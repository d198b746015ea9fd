"""A consumer of the memory bus, and the deliveries that come from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from actors._memory_broker import DurableConsumer, Taken
from agentrt.ports import Headers

if TYPE_CHECKING:
    from actors.memory_bus import MemoryBus


@attrs.frozen
class MemoryDelivery:
    """A message in hand; see :class:`agentrt.ports.Delivery`."""

    _taken: Taken
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
        await self._bus.confirm()
        self._consumer.settle(self.sequence)

    def ack_nowait(self) -> None:
        """Say that it is done; said to nobody where there is no connection."""
        if self._bus.is_connected:
            self._consumer.settle(self.sequence)

    async def nak(self, delay: float = 0.0) -> None:
        """Ask for it again after *delay* seconds."""
        await self._bus.confirm()
        self._consumer.defer(self.sequence, delay)

    async def term(self, reason: str) -> None:  # noqa: ARG002 - the port's; nobody listens to advisories here.
        """Take it out of the stream without having done it."""
        await self._bus.confirm()
        self._consumer.settle(self.sequence)

    async def in_progress(self) -> None:
        """Say that it is still worked on: the ack wait begins anew."""
        await self._bus.confirm()
        self._consumer.defer(self.sequence, self._consumer.spec.ack_wait)


@attrs.frozen
class MemoryConsumer:
    """An open pull; see :class:`agentrt.ports.Consumer`. It asks for nothing ahead."""

    _bus: MemoryBus
    _key: tuple[str, str]

    async def next(self) -> MemoryDelivery:
        """Wait for the next message, however long that takes."""
        await trio.lowlevel.checkpoint()
        while True:
            await self._bus.wait_connected()
            consumer = self._bus.broker.consumers.get(self._key)
            if consumer is None:
                await self._bus.broker.changed.park()
                continue
            taken = consumer.take()
            if taken is not None:
                return MemoryDelivery(taken, consumer, self._bus)
            with trio.move_on_at(consumer.next_due()):
                await consumer.arrived.park()
