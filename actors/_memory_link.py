"""The connection of a memory bus: whether it is there, what waits for it, and what is wrong with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import trio

from actors._flag import Flag
from actors._memory_broker import MemoryBroker
from actors._memory_faults import Faults
from actors._subjects import check_topology, merged, payload_size
from agentrt.ports import (
    BusError,
    BusMessage,
    BusRefused,
    BusUnavailable,
    MessageDropped,
    NoResponders,
    PermissionDenied,
    Topology,
)

if TYPE_CHECKING:
    from agentrt.kernel import Event

_CONFIRM_TIMEOUT = 30.0
# What was deleted is missed by a probe, as with a server; and an acknowledgement that nobody confirms is given up.
_MISSED_AFTER = 1.0
_FORGOTTEN_AFTER = 4.0

_T = TypeVar("_T")


class MemoryLink:
    """Stands between the bus, which asks, and the broker; its actor drives it.

    Args:
        broker: What is shared.
        publish_buffer: Bytes published that may wait for a connection.
        publish_age: Seconds that they may.
    """

    def __init__(self, broker: MemoryBroker, publish_buffer: int, publish_age: float) -> None:
        self.broker = broker
        self.faults = Faults()
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
        check_topology(topology)
        self._topology = merged(self._topology, topology)
        if self._connected.is_set:
            self.ensure()

    # Faults to order; those of one connection are :attr:`faults`

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

    # The driver's side

    def attach(self, emit: Callable[..., Event]) -> None:
        """Connect, on behalf of the actor that drives it."""
        self._emit = emit
        self.broker.attach(self.ensure)
        if not self._is_cut:
            self._open()
            self._say("nats_connected", attempt=1)

    def detach(self) -> None:
        """Disconnect: the actor that drives it ends."""
        self.broker.detach(self.ensure)
        if self._buffer:
            reason = "published while disconnected, and not sent before the connection was stopped"
            self._say("bus_messages_unsent", count=len(self._buffer), bytes=self._buffered, reason=reason)
        self._emit = None
        self._close("stopped")

    def _open(self) -> None:
        self._trouble = ""
        self._connected.turn(on=True)
        self.ensure()
        self._expire()
        waiting, self._buffer, self._buffered = self._buffer, deque(), 0
        for message, _ in waiting:
            self._send(message)

    def _close(self, reason: str) -> None:
        self._trouble = reason
        self._connected.turn(on=False)
        self._ready.turn(on=False)

    async def keep(self) -> None:
        """Make again what is declared and was deleted, until cancelled."""
        while True:
            await self.broker.deleted.park()
            await trio.sleep(_MISSED_AFTER)
            if self._connected.is_set:
                self.ensure()

    def ensure(self) -> None:
        """Make what is declared, where JetStream is there; what was lost and is made again is told."""
        if not self._connected.is_set:
            return
        self._refused = self.broker.jetstream_trouble
        if not self._refused:
            try:
                for what, messages in self.broker.ensure(self._topology):
                    reason = f"deleted; made again, held {messages} messages"
                    self._say("jetstream_asset_lost", what=what, messages=messages, reason=reason)
            except BusRefused as refused:
                self._refused = str(refused)
        self._ready.turn(on=not self._refused)

    # What is published

    def _publish(self, message: BusMessage) -> None:
        if self._connected.is_set:
            self._send(message)
            return
        self._expire()
        size = payload_size(message.body, message.headers)
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
            self.faults.check_publish(message.subject)
            self.broker.publish(message)
        except PermissionDenied as denied:
            # As with a server: nobody waits for an answer to a publish.
            self._say("nats_problem", error="PermissionDenied", subject=message.subject, count=1, reason=str(denied))
        except BusRefused as refused:
            self._drop(message.subject, refused)

    # Waiting

    async def confirm(self) -> None:
        """Wait until a delivery can be settled.

        Raises:
            BusUnavailable: There was no connection for too long.
        """
        with trio.move_on_after(_CONFIRM_TIMEOUT):
            await self.faults.pass_through()
            await self._connected.wait()
        if not self._connected.is_set:
            raise BusUnavailable(f"settling a delivery: not done within {_CONFIRM_TIMEOUT:g} s ({self._trouble})")

    async def forget(self) -> None:
        """Wait for a confirmation that does not come.

        Raises:
            BusUnavailable: It did not come.
        """
        await trio.sleep(_FORGOTTEN_AFTER)
        raise BusUnavailable("settling a delivery: the server does not know it any more; it may come again")

    async def _insist(self, what: str, operation: Callable[[], _T], timeout: float) -> _T:
        """Do *operation* when the bus is ready and what it needs, whose lack is a LookupError, is there."""
        trouble = ""
        kind: type[BusUnavailable] = BusUnavailable
        with trio.move_on_at(trio.current_time() + timeout):
            await self.faults.pass_through()
            while True:
                trouble = self._trouble or self._refused or trouble
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
