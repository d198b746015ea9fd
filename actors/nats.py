"""The message bus over NATS: a handle that outlives every connection, and the actor that keeps it connected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import trio

from actors import _jetstream as jetstream
from actors._nats_assets import compare
from actors._nats_client import bridge
from actors._nats_consumer import NatsDelivery, PullConsumer
from actors._nats_driver import Driver
from actors._nats_frames import encode
from actors._nats_keys import Left, NatsKeys
from actors._nats_link import NatsLink
from actors._nats_login import public_nkey
from actors._nats_outbox import Outgoing
from actors._nats_permissions import account, permissions
from actors._nats_requests import ConnectionLost
from actors._nats_settings import Credentials, NatsSettings, NatsStatistics, ignore, no_trouble
from actors._nats_subscription import Subscription
from actors._subjects import (
    check_consumer,
    check_headers,
    check_name,
    check_queue,
    check_size,
    check_subject,
    check_topology,
    is_plain,
    payload_size,
)
from agentrt.config import BusConfig
from agentrt.kernel import Actor
from agentrt.ports import BusError, BusMessage, BusRefused, BusUnavailable, Finding, Headers, Topology

__all__ = ["NatsBus", "NatsConnection", "NatsDelivery", "NatsSettings", "NatsStatistics", "bridge"]

# Messages that are published between two checkpoints: a millisecond or less, after which somebody else's turn comes.
_PAUSE_AFTER = 256
_BROWSE_TIMEOUT = 30.0
_COMPARE_RETRY = 0.2


class NatsBus(NatsKeys):
    """A :class:`agentrt.ports.Bus` over NATS; a :class:`NatsConnection` drives it.

    It keeps what is declared, subscribed and consumed, and opens all of it again on each new connection. A published
    message is kept until the server has it: around a rebuild it may arrive twice, and is not lost.

    Args:
        settings: Where to connect, and how.
        keeper: Another bus, which declares the same and makes it. This one then only looks whether it is there, so
            that its user needs no permission to make it.
    """

    def __init__(self, settings: NatsSettings, keeper: NatsBus | None = None) -> None:
        super().__init__(settings, NatsLink(None if keeper is None else keeper.link, settings.store_trouble))
        self._unpaused = 0

    @property
    def is_ready(self) -> bool:
        """Whether the connection answers and all that was declared exists."""
        return self.link.ready.is_set

    def checks(self) -> Mapping[str, tuple[bool, str]]:
        """``nats_connected`` and ``jetstream``, each with a reason."""
        return self.link.checks()

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""
        await self.link.ready.wait()

    def declare(self, topology: Topology) -> None:
        """Add to what has to exist; the bus is not ready until it does."""
        check_topology(topology)
        self.link.declare(topology)

    # Core

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        """Publish without an answer; see :meth:`agentrt.ports.Bus.publish`.

        While connected a full buffer is waited for, since it empties by itself. A checkpoint only there, and once in
        a while, so that nobody else is held up.

        Raises:
            BusUnavailable: Disconnected, and the buffer is full.
            BusRefused: The subject, a header or the size is not acceptable.
        """
        self._check(subject, body, headers)
        frame = encode(subject, body, headers)
        outbox = self.link.outbox
        # A checkpoint for each message would cost more than all else.
        self._unpaused += 1
        if self._unpaused >= _PAUSE_AFTER:
            self._unpaused = 0
            await trio.lowlevel.checkpoint()
        if outbox.size + len(frame) > self.settings.publish_buffer:
            await self._wait_room(subject, len(frame))
        size = payload_size(body, headers) if headers else len(body)
        outbox.add(Outgoing(subject, frame, size, trio.current_time()))

    async def _wait_room(self, subject: str, size: int) -> None:
        link, limit = self.link, self.settings.publish_buffer
        while link.flowing.is_set and link.outbox.size and link.outbox.size + size > limit:
            await link.room.park()
        if not link.flowing.is_set and link.outbox.size + size > limit:
            trouble, waiting = link.connection_trouble, link.outbox.size
            raise self._counted(
                subject,
                BusUnavailable(f"disconnected ({trouble}), and {waiting} of {limit} bytes wait to be published"),
            )

    async def request(
        self, subject: str, body: bytes, headers: Headers | None = None, *, timeout: float = 5.0
    ) -> BusMessage:
        """Ask whoever subscribes; see :meth:`agentrt.ports.Bus.request`."""
        self._check(subject, body, headers)
        answer = await self.link.request(f"asking {subject!r}", subject, body, headers, timeout=timeout)
        return BusMessage(answer.subject, answer.body, answer.headers)

    @asynccontextmanager
    async def subscribe(self, subject: str, *, queue: str = "") -> AsyncIterator[trio.MemoryReceiveChannel[BusMessage]]:
        """Open a subscription; see :meth:`agentrt.ports.Bus.subscribe`."""
        check_subject(subject, wildcards=True)
        check_queue(queue)
        async with self._subscribed(Subscription(subject, queue)) as subscription:
            if subscription.denied is not None:
                raise subscription.denied
            yield subscription.receive

    def _check(self, subject: str, body: bytes, headers: Headers | None) -> None:
        if not headers and len(body) <= self.link.max_payload and is_plain(subject):
            return
        try:
            check_subject(subject)
            check_headers(headers or {})
            check_size(subject, body, headers, self.link.max_payload)
        except BusRefused as error:
            raise self._counted(subject, error) from None

    def _counted(self, subject: str, error: BusError) -> BusError:
        self.link.ledger.problem(subject, error)
        return error

    def statistics(self) -> NatsStatistics:
        """Return how it is and what happened so far."""
        link, client = self.link, self.link.client
        return NatsStatistics(
            server=str(client.server) if client is not None else None,
            round_trip=link.round_trip if client is not None else None,
            disconnections=link.disconnections,
            reconnections=link.reconnections,
            attempts_failed=link.attempts_failed,
            waiting_messages=link.outbox.count,
            waiting_bytes=link.outbox.size,
            subscriptions=len(link.subscriptions),
            consumers=len(link.consumers),
            problems=dict(link.ledger.problems),
            dropped=dict(link.ledger.dropped),
        )

    # Streams

    async def store(
        self, subject: str, body: bytes, headers: Headers | None = None, *, msg_id: str, timeout: float = 30.0
    ) -> bool:
        """Publish into a stream; see :meth:`agentrt.ports.Bus.store`.

        Returns:
            False where the stream had it already; True also where an earlier try of this call may have stored it.
        """
        headers = {**(headers or {}), jetstream.MSG_ID: msg_id}
        self._check(subject, body, headers)
        answer = await self.link.ask(f"storing to {subject!r}", subject, body, headers, timeout=timeout)
        return not answer.accepted().get("duplicate", False) or answer.repeated

    @asynccontextmanager
    async def consume(self, stream: str, durable: str, *, batch: int = 1) -> AsyncIterator[PullConsumer]:
        """Open a pull; see :meth:`agentrt.ports.Bus.consume`."""
        check_consumer(stream, durable)
        link = self.link
        specs = {(spec.stream, spec.durable): spec for spec in link.topology.consumers}
        spec = specs.get((stream, durable))
        consumer = PullConsumer(
            stream,
            durable,
            batch=batch,
            ack_wait=float("inf") if spec is None else spec.ack_wait,
            settling=link,
            on_missing=link.nudge,
        )
        link.consumers.add(consumer)
        try:
            if link.client is not None and link.flowing.is_set:
                consumer.attach(link.client)
            yield consumer
        finally:
            link.consumers.discard(consumer)
            consumer.close()

    async def depth(self, stream: str, durable: str, *, timeout: float = 5.0) -> int:
        """Messages that wait for this consumer or are in hand."""
        check_consumer(stream, durable)
        answer = await self._api(f"depth of {durable!r}", f"CONSUMER.INFO.{stream}.{durable}", timeout=timeout)
        info = answer.accepted()
        return int(info["num_pending"]) + int(info["num_ack_pending"])

    async def browse(self, stream: str, subject: str, limit: int = 100) -> Sequence[BusMessage]:
        """Read stored messages and leave them there; see :meth:`agentrt.ports.Bus.browse`."""
        check_name("stream", stream)
        check_subject(subject, wildcards=True)
        found: list[BusMessage] = []
        left = Left(_BROWSE_TIMEOUT)
        sequence = 1
        while len(found) < limit:
            request = {"seq": sequence, "next_by_subj": subject}
            stored = await self._stored(f"browsing {stream!r}", stream, request, timeout=left.seconds)
            if stored is None:
                break
            found.append(stored.message)
            sequence = stored.sequence + 1
        return found

    async def compare(self, topology: Topology, *, timeout: float = 30.0) -> Sequence[Finding]:
        """Compare what is declared with what is there; see :meth:`agentrt.ports.Bus.compare`."""
        check_topology(topology)
        what = "comparing what is declared with what is there"
        link = self.link

        async def ask(subject: str, body: bytes) -> jetstream.Answered:
            if link.client is None:
                raise ConnectionLost(link.connection_trouble)
            return await link.client.request(subject, body)

        with trio.move_on_after(timeout):
            while True:
                try:
                    await jetstream.call(ask, "INFO")
                    return await compare(ask, topology)
                except (ConnectionLost, jetstream.ApiError):
                    await trio.sleep(_COMPARE_RETRY)
        trouble = link.connection_trouble or link.jetstream_trouble or "no answer"
        raise self._counted("", BusUnavailable(f"{what}: not done within {timeout:g} s ({trouble})"))


class NatsConnection(Actor):
    """Drives a :class:`NatsBus`: connects it, probes it, and rebuilds its connection from scratch, for ever.

    A rebuild happens inside: it is not a crash, and costs no restart.
    """

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus

    @staticmethod
    def open_handle(
        *,
        url: str,
        credentials: Credentials,
        config: BusConfig,
        name: str,
        inbox: str,
        keeper: NatsBus | None = None,
        store_trouble: Callable[[], str] = no_trouble,
        on_broken: Callable[[str], None] = ignore,
    ) -> NatsBus:
        """Make the bus handle of one connection; see :class:`NatsBus`."""
        return NatsBus(
            NatsSettings(
                url=url,
                credentials=credentials,
                name=name,
                inbox=inbox,
                store_trouble=store_trouble,
                on_broken=on_broken,
                connect_timeout=config.connect_timeout,
                probe_interval=config.probe_interval,
                probe_limit=config.probe_limit,
                publish_buffer=config.publish_buffer,
                publish_age=config.publish_age,
            ),
            keeper,
        )

    #: One asyncio loop around the whole run serves the connections of all agents.
    around = staticmethod(bridge)

    #: What a server has to allow a connection, and the public part of an nkey: for who writes its configuration.
    permissions = staticmethod(permissions)
    account = staticmethod(account)
    public_nkey = staticmethod(public_nkey)

    async def run(self) -> None:
        """Keep the bus connected until a stop is asked for."""
        driver = Driver(self._bus.settings, self._bus.link, self.emit, self.progress, self.random.random)
        await driver.run()
