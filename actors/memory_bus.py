"""The message bus in memory: the same port, for tests and for fleets in one process; runs in virtual time."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from actors._flag import Flag
from actors._memory_broker import MSG_ID, MemoryBroker
from actors._memory_consumer import MemoryConsumer
from actors._memory_watch import MemoryWatch
from actors._subjects import (
    MAX_PAYLOAD,
    check_headers,
    check_key,
    check_keys,
    check_size,
    check_subject,
    matches,
    merged,
    payload_size,
)
from agentrt.config import BusConfig
from agentrt.kernel import Actor
from agentrt.ports import (
    BusError,
    BusMessage,
    BusRefused,
    BusUnavailable,
    Finding,
    Headers,
    MessageDropped,
    NoResponders,
    SlowConsumer,
    Topology,
)

if TYPE_CHECKING:
    from agentrt.kernel import Event

__all__ = ["MemoryBroker", "MemoryBus", "MemoryConnection"]

_CHANNEL = 1024
_CONFIRM_TIMEOUT = 30.0

_T = TypeVar("_T")


class MemoryBus:
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
        self.broker = broker or MemoryBroker()
        self.dropped = 0
        self._publish_buffer = publish_buffer
        self._publish_age = publish_age
        self._topology = Topology()
        self._buffer: deque[tuple[BusMessage, float]] = deque()
        self._buffered = 0
        self._connected = Flag()
        self._ready = Flag()
        self._trouble = "not started"
        self._refused = ""
        self._is_cut = False
        self._emit: Callable[..., Event] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it is connected and all that was declared exists."""
        return self._ready.is_set

    def checks(self) -> Mapping[str, tuple[bool, str]]:
        """``nats_connected`` and ``jetstream``, each with a reason."""
        trouble = self._trouble or self._refused
        return {
            "nats_connected": (not self._trouble, self._trouble or "connected"),
            "jetstream": (not trouble, trouble or "answers, and has what was declared"),
        }

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""
        await self._ready.wait()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._connected.is_set

    async def wait_connected(self) -> None:
        """Wait until there is a connection."""
        await self._connected.wait()

    def declare(self, topology: Topology) -> None:
        """Add to what has to exist; it does at once where the bus is connected."""
        self._topology = merged(self._topology, topology)
        if self._connected.is_set:
            self._ensure()

    # Faults to order, and the driver's side

    def disconnect(self, reason: str = "disconnected by a test") -> None:
        """Lose the connection until :meth:`reconnect`."""
        if self._is_cut:
            return
        self._is_cut = True
        if self._connected.is_set:
            self._close(reason)
            self._say("nats_connection_lost", reason=reason)

    def reconnect(self) -> None:
        """Let the connection be made again."""
        if not self._is_cut:
            return
        self._is_cut = False
        if self._emit is not None:
            self._open()
            self._say("nats_connection_rebuilt", attempt=1)

    def attach(self, emit: Callable[..., Event]) -> None:
        """Connect, on behalf of the actor that drives it."""
        self._emit = emit
        if not self._is_cut:
            self._open()
            self._say("nats_connected", attempt=1)

    def detach(self) -> None:
        """Disconnect: the actor that drives it ends."""
        self._emit = None
        self._close("stopped")

    def _open(self) -> None:
        self._trouble = ""
        self._connected.turn(on=True)
        self._ensure()
        self._expire()
        waiting, self._buffer, self._buffered = self._buffer, deque(), 0
        for message, _ in waiting:
            self._send(message)

    def _close(self, reason: str) -> None:
        self._trouble = reason
        self._connected.turn(on=False)
        self._ready.turn(on=False)

    def _ensure(self) -> None:
        try:
            self.broker.ensure(self._topology)
        except BusRefused as refused:
            self._refused = str(refused)
        else:
            self._refused = ""
        self._ready.turn(on=not self._refused)

    # Core

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        """Publish without an answer; see :meth:`agentrt.ports.Bus.publish`."""
        await trio.lowlevel.checkpoint()
        message = _message(subject, body, headers)
        if self._connected.is_set:
            self._send(message)
            return
        self._expire()
        size = payload_size(body, headers)
        if self._buffered + size > self._publish_buffer:
            waiting, limit = self._buffered, self._publish_buffer
            raise BusUnavailable(f"disconnected ({self._trouble}), and {waiting} of {limit} bytes wait to be published")
        self._buffer.append((message, trio.current_time()))
        self._buffered += size

    def _expire(self) -> None:
        oldest = trio.current_time() - self._publish_age
        while self._buffer and self._buffer[0][1] <= oldest:
            message, _ = self._buffer.popleft()
            self._buffered -= payload_size(message.body, message.headers)
            self._drop(message.subject, MessageDropped(f"it waited {self._publish_age:g} s for a connection"))

    def _send(self, message: BusMessage) -> None:
        try:
            self.broker.publish(message)
        except BusRefused as refused:
            # As with a server: nobody waits for an answer to a publish.
            self._drop(message.subject, refused)

    async def request(
        self, subject: str, body: bytes, headers: Headers | None = None, *, timeout: float = 5.0
    ) -> BusMessage:
        """Ask whoever subscribes; see :meth:`agentrt.ports.Bus.request`."""
        await trio.lowlevel.checkpoint()
        what, trouble = f"asking {subject!r}", self._trouble
        message = _message(subject, body, headers, f"_INBOX.{uuid.uuid4().hex}")
        with trio.move_on_after(timeout):
            await self._connected.wait()
            trouble = "no answer"
            async with self.subscribe(message.reply) as answers:
                if not self.broker.has_subscribers(subject):
                    raise NoResponders(f"{what}: nobody subscribes to {subject!r}")
                self._send(message)
                answer = await answers.receive()
                return attrs.evolve(answer, reply="")
        raise BusUnavailable(f"{what}: not done within {timeout:g} s ({trouble})")

    @asynccontextmanager
    async def subscribe(self, subject: str) -> AsyncIterator[trio.MemoryReceiveChannel[BusMessage]]:
        """Open a subscription; see :meth:`agentrt.ports.Bus.subscribe`."""
        check_subject(subject, wildcards=True)
        send, receive = trio.open_memory_channel[BusMessage](_CHANNEL)

        def sink(message: BusMessage) -> None:
            # Who is not connected misses what is published, as with a server.
            if not self._connected.is_set:
                return
            try:
                send.send_nowait(message)
            except trio.WouldBlock:
                self._drop(message.subject, SlowConsumer("the reader is too slow"))
            except trio.BrokenResourceError:
                # The reader closed its end before it left the subscription.
                return

        end = self.broker.subscribe(subject, sink)
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
            if self.broker.stream_for(subject) is None:
                raise LookupError
            return self.broker.publish(message)

        return await self._insist(f"storing to {subject!r}", store, timeout)

    @asynccontextmanager
    async def consume(self, stream: str, durable: str, *, batch: int = 1) -> AsyncIterator[MemoryConsumer]:  # noqa: ARG002
        """Open a pull; see :meth:`agentrt.ports.Bus.consume`. Nothing is asked for ahead, whatever *batch* is."""
        yield MemoryConsumer(self, (stream, durable))

    async def depth(self, stream: str, durable: str, *, timeout: float = 5.0) -> int:
        """Messages that wait for this consumer or are in hand."""

        def depth() -> int:
            return self.broker.consumers[stream, durable].depth()

        return await self._insist(f"depth of {durable!r}", depth, timeout)

    async def browse(self, stream: str, subject: str, limit: int = 100) -> Sequence[BusMessage]:
        """Read stored messages and leave them there; see :meth:`agentrt.ports.Bus.browse`."""

        def browse() -> list[BusMessage]:
            found = [held.message for held in self.broker.streams[stream].messages()]
            return [message for message in found if matches(subject, message.subject)][:limit]

        return await self._insist(f"browsing {stream!r}", browse, _CONFIRM_TIMEOUT)

    # Keys

    async def create(self, bucket: str, key: str, value: bytes, *, timeout: float = 30.0) -> int:
        """Create a key; see :meth:`agentrt.ports.Bus.create`."""
        check_key(key)
        return await self._insist(
            f"creating {key!r} in {bucket!r}", lambda: self.broker.buckets[bucket].create(key, value), timeout
        )

    async def put(self, bucket: str, key: str, value: bytes, *, timeout: float = 30.0) -> int:
        """Write a key, whatever is there; return its revision."""
        check_key(key)
        return await self._insist(
            f"writing {key!r} in {bucket!r}", lambda: self.broker.buckets[bucket].put(key, value), timeout
        )

    async def get(self, bucket: str, key: str, *, timeout: float = 30.0) -> tuple[bytes, int] | None:
        """Read a key: its value and revision, or None."""
        check_key(key)
        return await self._insist(
            f"reading {key!r} in {bucket!r}", lambda: self.broker.buckets[bucket].get(key), timeout
        )

    async def delete(self, bucket: str, key: str, *, timeout: float = 30.0) -> None:
        """Delete a key; nothing happens where there is none."""
        check_key(key)
        await self._insist(f"deleting {key!r} in {bucket!r}", lambda: self.broker.buckets[bucket].delete(key), timeout)

    @asynccontextmanager
    async def watch(self, bucket: str, pattern: str = ">") -> AsyncIterator[MemoryWatch]:
        """Watch keys; see :meth:`agentrt.ports.Bus.watch`."""
        check_keys(pattern)
        await trio.lowlevel.checkpoint()
        yield MemoryWatch(self, bucket, pattern)

    async def compare(self, topology: Topology, *, timeout: float = 30.0) -> Sequence[Finding]:
        """Compare what is declared with what is there; see :meth:`agentrt.ports.Bus.compare`."""
        return await self._insist("comparing what is declared", lambda: self.broker.compare(topology), timeout)

    # Waiting

    async def confirm(self) -> None:
        """Wait until a delivery can be settled.

        Raises:
            BusUnavailable: There was no connection for too long.
        """
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(_CONFIRM_TIMEOUT):
            await self._connected.wait()
        if not self._connected.is_set:
            raise BusUnavailable(f"settling a delivery: not done within {_CONFIRM_TIMEOUT:g} s ({self._trouble})")

    async def _insist(self, what: str, operation: Callable[[], _T], timeout: float) -> _T:
        """Do *operation* when the bus is ready and what it needs, whose lack is a LookupError, is there."""
        await trio.lowlevel.checkpoint()
        trouble = ""
        kind: type[BusUnavailable] = BusUnavailable
        with trio.move_on_after(timeout):
            while True:
                trouble = self._trouble or self._refused
                await self._ready.wait()
                try:
                    return operation()
                except LookupError:
                    trouble, kind = "no such stream, consumer or bucket", NoResponders
                await self.broker.changed.park()
        raise kind(f"{what}: not done within {timeout:g} s ({trouble})")

    def _drop(self, subject: str, error: BusError) -> None:
        self.dropped += 1
        self._say("bus_message_dropped", error=type(error).__name__, subject=subject, count=1, reason=str(error))

    def _say(self, kind: str, **fields: object) -> None:
        if self._emit is not None:
            self._emit(kind, **fields)


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
            await trio.sleep_forever()
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
    return BusMessage(subject, body, dict(headers or {}), reply)
