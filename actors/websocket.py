"""A WebSocket connection: a handle that outlives every connection, and the actor that keeps it connected."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

import attrs
import trio
from attrs import validators

from actors._environment import server_headers
from actors._tls import BadTls, client_context
from actors._websocket_buffers import Buffer, Message, size_of
from actors._websocket_wire import Socket, Target, open_socket
from actors.client import ClientActor, ClientSettings, ClientStatistics, ManagedClient, client_settings
from agentrt.config import ConnectionConfig, SecretError, load_function
from agentrt.policy import Pace, Setback
from agentrt.ports import (
    AdapterSetup,
    ClientAdapter,
    ConnectionEnded,
    ConnectionUnavailable,
    MessageRefused,
)

__all__ = ["Session", "WebSocket", "WebSocketActor", "WebSocketSettings", "WebSocketStatistics"]

_TICK = 1.0
_LAST_FLUSH = 1.0
_LOCAL = Setback(Pace.RARELY, advice="correct it; it is read anew at each attempt")


class Session(Protocol):
    """A new connection in the hands of a resume hook, which alone reads and writes it."""

    @property
    def subprotocol(self) -> str | None:
        """What the server chose of what was offered."""
        ...

    async def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            ConnectionEnded: The connection ended.
        """

    async def receive(self) -> Message:
        """Receive the next message.

        Raises:
            ConnectionEnded: The connection ended.
        """
        ...


Resume = Callable[[Session], Awaitable[object]]


def _no_headers() -> Mapping[str, str]:
    return {}


def _trusting_the_system() -> ssl.SSLContext:
    return ssl.create_default_context()


@attrs.frozen(kw_only=True)
class WebSocketSettings:
    """Where to connect, and what may wait; seconds and bytes.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: Returns what is sent with the handshake; called at each attempt, so that rotated secrets are read.
        tls: Returns the context for ``wss://``; called at each attempt.
        tls_name: The name in the server's certificate, where it is not the one in *url*.
        subprotocols: Offered, the most wanted one first.
        max_message: Of a message that comes in; a larger one ends the connection with 1009.
        send_buffer: Of messages that wait to be sent.
        send_age: Seconds that a message may wait for a connection.
        receive_buffer: Of messages that wait to be read; beyond it nothing is read from the network.
        client: How patient to be. A probe is a ping, and any sign of life answers it.
    """

    url: str = attrs.field(repr=False)
    headers: Callable[[], Mapping[str, str]] = _no_headers
    tls: Callable[[], ssl.SSLContext] = _trusting_the_system
    tls_name: str | None = None
    subprotocols: tuple[str, ...] = ()
    max_message: int = attrs.field(default=1024 * 1024, validator=validators.gt(0))
    send_buffer: int = attrs.field(default=16 * 1024 * 1024, validator=validators.ge(0))
    send_age: float = attrs.field(default=60.0, validator=validators.gt(0))
    receive_buffer: int = attrs.field(default=1024 * 1024, validator=validators.gt(0))
    client: ClientSettings = attrs.field(factory=lambda: ClientSettings(probe_timeout=5.0))

    @url.validator
    def _check_url(self, _attribute: object, url: str) -> None:
        if not url.startswith(("ws://", "wss://")):
            # Never the whole URL: it may hold a secret.
            raise ValueError("a WebSocket URL must begin with ws:// or wss://")


@attrs.frozen(kw_only=True)
class WebSocketStatistics:
    """How a WebSocket is, and what happened so far.

    Args:
        client: How its connection is.
        subprotocol: What the server chose; None without a connection.
        sent: Messages that were handed to the system.
        received: Messages that were read from the network.
        waiting_messages: Messages that wait to be sent.
        waiting_bytes: Their bytes.
        unread_messages: Messages that wait to be read.
        dropped: Messages that waited too long for a connection.
        in_doubt: Messages sent on a connection that ended before a pong proved that they had arrived.
    """

    client: ClientStatistics
    subprotocol: str | None
    sent: int
    received: int
    waiting_messages: int
    waiting_bytes: int
    unread_messages: int
    dropped: int
    in_doubt: int


class WebSocket:
    """Sends and receives messages, over one connection after the other; a :class:`WebSocketActor` drives it.

    What is sent while there is no connection waits, up to a bound, and goes out on the next one. A message is sent
    once: what a connection had taken when it ended may have arrived or not, which is counted and told, not repeated.

    Args:
        name: For events and errors.
        settings: Where to connect.
        resume: See :meth:`resume_with`.
    """

    def __init__(self, name: str, settings: WebSocketSettings, resume: Resume | None = None) -> None:
        self.name = name
        self.settings = settings
        self.resume = resume
        self.outgoing = Buffer(settings.send_buffer)
        self.incoming = Buffer(settings.receive_buffer)
        self.managed: ManagedClient[Socket] = ManagedClient(name, _Adapter(self), settings.client)
        self.sent = self.received = self.dropped = self.in_doubt = 0

    @property
    def is_ready(self) -> bool:
        """Whether it is connected, resumed, and answers."""
        return self.managed.is_ready

    @property
    def reason(self) -> str:
        """Why it is ready or not, for people."""
        return self.managed.reason

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""
        await self.managed.wait_ready()

    def resume_with(self, resume: Resume | None) -> None:
        """Have *resume* called with each new connection, before anything else is sent and before it is ready.

        It may log in, subscribe, ask for what was missed, and read the answers. What it raises fails the attempt. A
        connection that there is already is replaced, so that it is resumed, too.
        """
        self.resume = resume
        self.managed.replace("it is made anew with another resume hook")

    async def send(self, message: Message) -> None:
        """Send a message, or have it wait for a connection.

        While connected a full buffer is waited for, since it empties by itself.

        Raises:
            ConnectionUnavailable: There is no connection, and the buffer is full.
            MessageRefused: It is neither bytes nor text that has a UTF-8.
        """
        await trio.lowlevel.checkpoint()
        if not isinstance(message, str | bytes):
            raise MessageRefused(f"connection {self.name!r}: a message is str or bytes, not {type(message).__name__}")
        try:
            size, buffer = size_of(message), self.outgoing
        except UnicodeEncodeError as error:
            raise MessageRefused(f"connection {self.name!r}: the text is no valid Unicode: {error.reason}") from None
        while not buffer.has_room(size) and self.managed.has_client:
            await buffer.change()
        if not buffer.has_room(size):
            raise ConnectionUnavailable(
                f"connection {self.name!r}: not connected ({self.reason}), and {buffer.size} of {buffer.limit} bytes "
                "wait to be sent already"
            )
        buffer.add(message)

    async def receive(self) -> Message:
        """Give the next message; wait for it as long as that takes, over rebuilds of the connection.

        While the buffer of unread messages is full nothing more is read from the network, so that the sender waits.
        """
        await trio.lowlevel.checkpoint()
        while not self.incoming:
            await self.incoming.change()
        return self.incoming.pop()

    def __aiter__(self) -> WebSocket:
        """Give the messages as they come; this never ends by itself."""
        return self

    async def __anext__(self) -> Message:
        """Give the next message."""
        return await self.receive()

    def statistics(self) -> WebSocketStatistics:
        """Return how it is and what happened so far."""
        managed = self.managed
        return WebSocketStatistics(
            client=managed.statistics(),
            subprotocol=managed.client_nowait().subprotocol if managed.is_ready else None,
            sent=self.sent,
            received=self.received,
            waiting_messages=len(self.outgoing),
            waiting_bytes=self.outgoing.size,
            unread_messages=len(self.incoming),
            dropped=self.dropped,
            in_doubt=self.in_doubt,
        )

    def __repr__(self) -> str:
        """Name and reason."""
        return f"<{type(self).__name__} {self.name!r}: {self.reason}>"


class _Adapter(ClientAdapter[Socket]):
    """One WebSocket connection as a client like any other."""

    def __init__(self, web: WebSocket) -> None:
        super().__init__(AdapterSetup(name=web.name))
        self._web = web

    async def connect(self, nursery: trio.Nursery) -> Socket:
        """Read the secrets as they are now, connect and shake hands."""
        settings = self._web.settings
        try:
            headers = _checked(settings.headers())
            context = settings.tls() if settings.url.startswith("wss://") else None
        except (SecretError, BadTls) as error:
            raise ConnectionEnded(str(error), _LOCAL) from error
        target = Target(
            url=settings.url,
            headers=headers,
            subprotocols=settings.subprotocols,
            context=context,
            tls_name=settings.tls_name,
            max_message=settings.max_message,
        )
        return await open_socket(nursery, target)

    async def probe(self, client: Socket) -> None:
        """Wait for a sign of life."""
        await client.probe()

    async def closed(self, client: Socket) -> str:
        """Wait for its end."""
        return await client.closed()

    async def restore(self, client: Socket) -> None:
        """Run the resume hook, and only then let messages through."""
        resume = self._web.resume
        if resume is not None:
            await resume(client)
        if self._web.resume is not resume:
            raise ConnectionEnded("another resume hook was set", Setback(Pace.AT_ONCE))
        client.is_flowing = True
        client.nursery.start_soon(self._read, client)
        client.nursery.start_soon(self._write, client)

    async def close(self, client: Socket) -> None:
        """Send what waits, as far as that goes at once, and close it."""
        web = self._web
        if client.is_working and client.is_flowing:
            with trio.move_on_after(_LAST_FLUSH):
                while web.outgoing:
                    await web.outgoing.change()
                await client.flush()
        try:
            await client.close()
        finally:
            web.in_doubt += client.sent - client.confirmed
            # Whoever waits for room finds now that there is no connection.
            web.outgoing.wake()

    async def _read(self, client: Socket) -> None:
        web = self._web
        try:
            while True:
                # Room first: a message in hand would be lost with the connection.
                while not web.incoming.has_room():
                    client.hold(on=True)
                    await web.incoming.change()
                client.hold(on=False)
                web.incoming.add(await client.receive())
                web.received += 1
        except ConnectionEnded:
            # It is told of by closed().
            return

    async def _write(self, client: Socket) -> None:
        web = self._web
        try:
            while not client.has_ended:
                while not web.outgoing:
                    await web.outgoing.change()
                if not client.has_ended:
                    await client.send(web.outgoing.pop())
                    web.sent += 1
        except ConnectionEnded:
            return


class WebSocketActor(ClientActor):
    """Drives a :class:`WebSocket`: keeps it connected, and tells of messages that were given up."""

    def __init__(self, web: WebSocket) -> None:
        super().__init__(web.managed)
        self._web = web
        self._told = (web.dropped, web.in_doubt)

    @staticmethod
    def open_handle(name: str, config: ConnectionConfig, folder: Path) -> WebSocket:
        """Make the handle of one connection of a configuration."""
        resume = None if config.resume is None else load_function(config.resume, folder)
        return WebSocket(name, websocket_settings(config, folder), resume)

    async def run(self) -> None:
        """Keep it connected until a stop is asked for."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_house)
                await super().run()
        finally:
            self._tell()
            if waiting := len(self._web.outgoing):
                reason = "it stopped before they could be sent; they go out if it is started again, and else never"
                self.emit("connection_messages_unsent", connection=self._web.name, count=waiting, reason=reason)

    async def _keep_house(self) -> None:
        web = self._web
        while True:
            await trio.sleep(_TICK)
            if not web.managed.has_client:
                web.dropped += web.outgoing.expire(trio.current_time() - web.settings.send_age)
            self._tell()

    def _tell(self) -> None:
        web, (dropped, in_doubt) = self._web, self._told
        self._told = (web.dropped, web.in_doubt)
        if web.dropped > dropped:
            reason = f"waited {web.settings.send_age:g} s for a connection; see send_age"
            self.emit("connection_messages_dropped", connection=web.name, count=web.dropped - dropped, reason=reason)
        if web.in_doubt > in_doubt:
            reason = "sent on a connection that ended before it was proved that they had arrived; not sent again"
            self.emit("connection_messages_in_doubt", connection=web.name, count=web.in_doubt - in_doubt, reason=reason)


def websocket_settings(config: ConnectionConfig, folder: Path) -> WebSocketSettings:
    """Read ``[connections.NAME]``; relative paths begin at *folder*."""
    authority, certificate, key = (
        None if path is None else str(folder / path) for path in (config.tls_ca, config.tls_cert, config.tls_key)
    )
    client = client_settings(config)
    return WebSocketSettings(
        url=config.url or "",
        headers=lambda: server_headers(config.headers, config.token, folder),
        tls=lambda: client_context(authority, certificate, key),
        tls_name=config.tls_name,
        subprotocols=config.subprotocols,
        max_message=config.max_message,
        send_buffer=config.send_buffer,
        send_age=config.send_age,
        receive_buffer=config.receive_buffer,
        # A ping that was sent is not taken back, so each has as long as the connection has.
        client=attrs.evolve(client, probe_timeout=client.probe_limit),
    )


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Check what secrets were read for headers, whose values no error may repeat."""
    stripped = {name: value.strip() for name, value in headers.items()}
    for name, value in stripped.items():
        if not value.isascii() or not value.isprintable():
            raise ConnectionEnded(f"the header {name!r} must be one line of ASCII", _LOCAL)
    return stripped
