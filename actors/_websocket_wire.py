"""One WebSocket connection, from its handshake to its end; nothing else imports trio-websocket."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import trio
import trio_websocket

from actors._websocket_stream import Signs, WatchedStream, tls_failure
from agentrt.policy import judge_close
from agentrt.ports import ConnectionEnded

_PORTS = {"ws": 80, "wss": 443}
_NO_CODE = 1006
# A probe without an answer for so long: nothing is waited for any more when it is thrown away.
_SILENT = 1.0
# The library's own queue; what is bounded for users stands behind it.
_QUEUE = 1
_READ_SIZE = 64 * 1024


@attrs.frozen(kw_only=True)
class Target:
    """Where a connection leads.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: Sent with the handshake.
        subprotocols: Offered, the most wanted one first.
        context: For ``wss://``.
        tls_name: The name in the server's certificate, where it is not the one in *url*.
        max_message: Bytes, or characters, of a message that comes in.
    """

    url: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    subprotocols: Sequence[str] = ()
    context: ssl.SSLContext | None = None
    tls_name: str | None = None
    max_message: int = 1024 * 1024


class Socket:
    """One connection. It never comes back: once it has ended, another one is made.

    Args:
        connection: The library's object.
        stream: What it speaks over.
        nursery: For its tasks.
        signs: Signs of life.
    """

    def __init__(
        self,
        connection: trio_websocket.WebSocketConnection,
        stream: WatchedStream,
        nursery: trio.Nursery,
        signs: Signs,
    ) -> None:
        self.nursery = nursery
        self.sent = 0
        self.confirmed = 0
        self.is_held = False
        #: Whether messages go over it, which begins when it was resumed.
        self.is_flowing = False
        self._connection = connection
        self._stream = stream
        self._signs = signs
        self._pinging = False
        self._is_torn = False
        self._asked_at: float | None = None
        self._end: ConnectionEnded | None = None
        self._ended = trio.Event()

    @property
    def subprotocol(self) -> str | None:
        """What the server chose of what was offered."""
        return self._connection.subprotocol

    @property
    def has_ended(self) -> bool:
        """Whether it can be used no more."""
        return self._end is not None

    @property
    def is_working(self) -> bool:
        """Whether it is worth closing in order: it has not ended, no frame was cut, and no probe is long unanswered."""
        silent = self._asked_at is not None and trio.current_time() > self._asked_at + _SILENT
        return not (self.has_ended or self._is_torn or silent)

    async def send(self, message: str | bytes) -> None:
        """Send a message; return when the system has it.

        A send that is cancelled half way leaves half a frame, so it ends the connection.

        Raises:
            ConnectionEnded: It ended; the message may have been received where it ended meanwhile.
        """
        self.sent += 1
        try:
            await self._connection.send_message(message)
        except Exception as error:
            raise self._over(error) from error
        except BaseException:
            self._is_torn = True
            raise

    async def receive(self) -> str | bytes:
        """Receive the next message.

        Raises:
            ConnectionEnded: It ended, and all that had come in before was received.
        """
        try:
            return await self._connection.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise self._over(error) from error

    def hold(self, *, on: bool) -> None:
        """Say that nothing is read because our own reader is behind: the other side's silence means nothing then."""
        if self.is_held != on:
            self.is_held = on
            self._signs.see()

    async def probe(self) -> None:
        """Ping, and wait for any sign of life."""
        await trio.lowlevel.checkpoint()
        if self.is_held:
            return
        if not self._pinging:
            self._pinging = True
            self.nursery.start_soon(self._ping)
        self._asked_at = trio.current_time()
        await self._signs.wait()
        self._asked_at = None

    async def _ping(self) -> None:
        try:
            await self.flush()
        except ConnectionEnded:
            # It is told of by closed().
            return
        finally:
            self._pinging = False

    async def flush(self) -> None:
        """Ping and wait for the pong: all that was sent before has arrived then.

        Raises:
            ConnectionEnded: It ended.
        """
        sent = self.sent
        try:
            await self._connection.ping()
        except Exception as error:
            raise self._over(error) from error
        self.confirmed = max(self.confirmed, sent)

    async def closed(self) -> str:
        """Wait until it has ended.

        Raises:
            ConnectionEnded: Always, with what that means for the next one.
        """
        await self._ended.wait()
        assert self._end is not None
        raise self._end

    async def close(self) -> None:
        """Close it in order where it still works, and at once where it does not; nothing more is sent on it."""
        is_working = self.is_working
        if self._end is None:
            self._end = ConnectionEnded("it was thrown away")
        try:
            if is_working:
                await self._connection.aclose()
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)

    def _over(self, error: Exception) -> ConnectionEnded:
        """Record the end; the first one counts."""
        if self._end is None:
            self._end = _end_of(self._connection.closed, error)
            self._ended.set()
        return self._end


async def open_socket(nursery: trio.Nursery, target: Target) -> Socket:
    """Connect and shake hands.

    A refused handshake ends the reader, which is in *nursery*, with the reason.

    Raises:
        OSError: The server cannot be reached.
        ConnectionEnded: It can, and there is no WebSocket to be had.
    """
    parts = urlsplit(target.url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    signs = Signs()
    transport: trio.abc.Stream = await trio.open_tcp_stream(host, port)
    try:
        if parts.scheme == "wss":
            transport = await _secured(transport, target, host)
        stream = WatchedStream(transport, signs)
        connection = await trio_websocket.wrap_client_stream(
            nursery,
            # It needs no more of it than any stream has.
            cast("trio.SocketStream", stream),
            _host_header(host, parts.port),
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            subprotocols=target.subprotocols,
            extra_headers=[(name.encode(), value.encode()) for name, value in target.headers.items()],
            message_queue_size=_QUEUE,
            max_message_size=target.max_message,
            receive_buffer_size=_READ_SIZE,
        )
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(transport)
        raise
    return Socket(connection, stream, nursery, signs)


async def _secured(transport: trio.abc.Stream, target: Target, host: str) -> trio.SSLStream[Any]:
    context = target.context or ssl.create_default_context()
    secured = trio.SSLStream(transport, context, server_hostname=target.tls_name or host, https_compatible=True)
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError):
            raise tls_failure(cause) from error
        raise ConnectionEnded(f"the TLS handshake failed: {cause or error}") from error
    return secured


def _host_header(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _end_of(closed: Any, error: Exception) -> ConnectionEnded:
    if closed is None:
        return ConnectionEnded(f"it failed with {type(error).__name__}: {error}", judge_close(_NO_CODE))
    said = f": {closed.reason}" if closed.reason else ""
    what = "it was cut off" if closed.code == _NO_CODE else f"it was closed with {closed.code} {closed.name}{said}"
    return ConnectionEnded(what, judge_close(closed.code))
