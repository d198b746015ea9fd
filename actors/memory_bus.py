"""The message bus in memory: the same port, for tests and for fleets in one process; runs in virtual time."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from actors._memory_broker import Listener, MemoryBroker
from actors._memory_consumer import MemoryConsumer
from actors._memory_link import MemoryLink
from actors._memory_store import MSG_ID
from actors._memory_watch import MemoryWatch
from actors._subjects import (
    MAX_PAYLOAD,
    check_consumer,
    check_headers,
    check_key,
    check_keys,
    check_name,
    check_queue,
    check_revision,
    check_size,
    check_subject,
    check_topology,
    matches,
)
from agentrt.config import BusConfig
from agentrt.kernel import Actor
from agentrt.ports import (
    BusMessage,
    BusUnavailable,
    Finding,
    Headers,
    NoResponders,
    SlowConsumer,
    Topology,
)

__all__ = ["MemoryBroker", "MemoryBus", "MemoryConnection"]

_CHANNEL = 1024
_CONFIRM_TIMEOUT = 30.0


class MemoryBus(MemoryLink):
    """A :class:`agentrt.ports.Bus` in memory; a :class:`MemoryConnection` drives it.

    Give several buses one broker and they talk to each other, as agents do over one server.

    Args:
        broker: What is shared; one of its own where none is given.
        publish_buffer: Bytes published that may wait for a connection.
        publish_age: Seconds that they may.
    """

    def __init__(
        self,
        broker: MemoryBroker | None = None,
        *,
        publish_buffer: int = 64 * 1024 * 1024,
        publish_age: float = 600.0,
    ) -> None:
        super().__init__(broker or MemoryBroker(), publish_buffer, publish_age)
        self._consumers: set[MemoryConsumer] = set()

    def redeliver(self) -> None:
        """Have what the consumers of this bus have in hand delivered again now, as by a server that was restarted."""
        for consumer in self._consumers:
            consumer.redeliver()

    # Core

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        """Publish without an answer; see :meth:`agentrt.ports.Bus.publish`."""
        await trio.lowlevel.checkpoint()
        message = _message(subject, body, headers)
        self._publish(message)

    async def request(
        self, subject: str, body: bytes, headers: Headers | None = None, *, timeout: float = 5.0
    ) -> BusMessage:
        """Ask whoever subscribes; see :meth:`agentrt.ports.Bus.request`."""
        await trio.lowlevel.checkpoint()
        what, trouble = f"asking {subject!r}", self._trouble
        message = _message(subject, body, headers, f"_INBOX.{uuid.uuid4().hex}")
        with trio.move_on_at(trio.current_time() + timeout):
            await self._connected.wait()
            trouble = "no answer"
            await self.faults.pass_through()
            self.faults.check_publish(subject)
            async with self.subscribe(message.reply) as answers:
                if not self.broker.has_subscribers(subject):
                    raise NoResponders(f"{what}: nobody subscribes to {subject!r}")
                self._send(message)
                answer = await answers.receive()
                return attrs.evolve(answer, reply="")
        raise BusUnavailable(f"{what}: not done within {timeout:g} s ({trouble})")

    @asynccontextmanager
    async def subscribe(self, subject: str, *, queue: str = "") -> AsyncIterator[trio.MemoryReceiveChannel[BusMessage]]:
        """Open a subscription; see :meth:`agentrt.ports.Bus.subscribe`."""
        check_subject(subject, wildcards=True)
        check_queue(queue)
        self.faults.check_subscribe(subject)
        send, receive = trio.open_memory_channel[BusMessage](_CHANNEL)

        def is_there() -> bool:
            # Who is not connected misses what is published, as with a server.
            return self._connected.is_set and not self.faults.denies_subscribe(subject)

        def sink(message: BusMessage) -> None:
            try:
                send.send_nowait(message)
            except trio.WouldBlock:
                self._drop(message.subject, SlowConsumer("the reader is too slow"))
            except trio.BrokenResourceError:
                # The reader closed its end before it left the subscription.
                return

        end = self.broker.subscribe(Listener(subject, queue, sink, is_there))
        try:
            with send, receive:
                yield receive
        finally:
            end()

    # Streams

    async def store(
        self, subject: str, body: bytes, headers: Headers | None = None, *, msg_id: str, timeout: float = 30.0
    ) -> bool:
        """Publish into a stream; see :meth:`agentrt.ports.Bus.store`."""
        message = _message(subject, body, {**(headers or {}), MSG_ID: msg_id})

        def store() -> bool:
            self.faults.check_publish(subject)
            if self.broker.stream_for(subject) is None:
                raise LookupError
            return self.broker.publish(message)

        return await self._insist(f"storing to {subject!r}", store, timeout)

    @asynccontextmanager
    async def consume(self, stream: str, durable: str, *, batch: int = 1) -> AsyncIterator[MemoryConsumer]:  # noqa: ARG002
        """Open a pull; see :meth:`agentrt.ports.Bus.consume`. Nothing is asked for ahead, whatever *batch* is."""
        check_consumer(stream, durable)
        consumer = MemoryConsumer(self, (stream, durable))
        self._consumers.add(consumer)
        try:
            yield consumer
        finally:
            self._consumers.discard(consumer)
            consumer.close()

    async def depth(self, stream: str, durable: str, *, timeout: float = 5.0) -> int:
        """Messages that wait for this consumer or are in hand."""
        check_consumer(stream, durable)

        def depth() -> int:
            return self.broker.consumers[stream, durable].depth()

        return await self._insist(f"depth of {durable!r}", depth, timeout)

    async def browse(self, stream: str, subject: str, limit: int = 100) -> Sequence[BusMessage]:
        """Read stored messages and leave them there; see :meth:`agentrt.ports.Bus.browse`."""
        check_name("stream", stream)
        check_subject(subject, wildcards=True)

        def browse() -> list[BusMessage]:
            found = [held.message for held in self.broker.streams[stream].messages()]
            return [message for message in found if matches(subject, message.subject)][:limit]

        return await self._insist(f"browsing {stream!r}", browse, _CONFIRM_TIMEOUT)

    # Keys

    async def create(self, bucket: str, key: str, value: bytes, *, timeout: float = 30.0) -> int:
        """Create a key; see :meth:`agentrt.ports.Bus.create`."""
        check_key(bucket, key)
        return await self._insist(
            f"creating {key!r} in {bucket!r}", lambda: self.broker.buckets[bucket].create(key, value), timeout
        )

    async def update(self, bucket: str, key: str, value: bytes, revision: int, *, timeout: float = 30.0) -> int:
        """Write a key that nobody else has written; see :meth:`agentrt.ports.Bus.update`."""
        check_key(bucket, key)
        check_revision(key, revision)
        return await self._insist(
            f"updating {key!r} in {bucket!r}",
            lambda: self.broker.buckets[bucket].update(key, value, revision),
            timeout,
        )

    async def put(self, bucket: str, key: str, value: bytes, *, timeout: float = 30.0) -> int:
        """Write a key, whatever is there; return its revision."""
        check_key(bucket, key)
        return await self._insist(
            f"writing {key!r} in {bucket!r}", lambda: self.broker.buckets[bucket].put(key, value), timeout
        )

    async def get(self, bucket: str, key: str, *, timeout: float = 30.0) -> tuple[bytes, int] | None:
        """Read a key: its value and revision, or None."""
        check_key(bucket, key)
        return await self._insist(
            f"reading {key!r} in {bucket!r}", lambda: self.broker.buckets[bucket].get(key), timeout
        )

    async def delete(self, bucket: str, key: str, *, timeout: float = 30.0) -> None:
        """Delete a key; nothing happens where there is none."""
        check_key(bucket, key)
        await self._insist(f"deleting {key!r} in {bucket!r}", lambda: self.broker.buckets[bucket].delete(key), timeout)

    @asynccontextmanager
    async def watch(self, bucket: str, pattern: str = ">") -> AsyncIterator[MemoryWatch]:
        """Watch keys; see :meth:`agentrt.ports.Bus.watch`."""
        check_keys(bucket, pattern)
        await trio.lowlevel.checkpoint()
        yield MemoryWatch(self, bucket, pattern)

    async def compare(self, topology: Topology, *, timeout: float = 30.0) -> Sequence[Finding]:
        """Compare what is declared with what is there; see :meth:`agentrt.ports.Bus.compare`."""
        check_topology(topology)
        return await self._insist("comparing what is declared", lambda: self.broker.compare(topology), timeout)


class MemoryConnection(Actor):
    """Drives a :class:`MemoryBus`: it is connected while this actor runs."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    @staticmethod
    def sharing(broker: MemoryBroker | None = None) -> MemoryBattery:
        """Give the battery whose buses all share one broker, as connections share a server."""
        return MemoryBattery(broker or MemoryBroker())

    async def run(self) -> None:
        """Keep the bus connected until a stop is asked for."""
        self._bus.attach(self.emit)
        try:
            await self._bus.keep()
        finally:
            self._bus.detach()


@attrs.frozen
class MemoryBattery:
    """Stands in for the battery of a real bus: takes its settings, and needs only what bounds the buffer."""

    broker: MemoryBroker

    def open_handle(self, *, config: BusConfig, **_settings: object) -> MemoryBus:
        """Make the bus handle of one connection."""
        return MemoryBus(self.broker, publish_buffer=config.publish_buffer, publish_age=config.publish_age)

    def __call__(self, bus: MemoryBus) -> MemoryConnection:
        """Make the actor that drives *bus*."""
        return MemoryConnection(bus)


def _message(subject: str, body: bytes, headers: Headers | None, reply: str = "") -> BusMessage:
    check_subject(subject)
    check_headers(headers or {})
    check_size(subject, body, headers, MAX_PAYLOAD)
    # As on the wire, where whitespace around a value is nobody's.
    return BusMessage(subject, body, {name: value.strip() for name, value in (headers or {}).items()}, reply)
