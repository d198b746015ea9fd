"""Real WebSocket servers for tests: in the same loop, to be told what to do, and in a process, to be killed."""

from __future__ import annotations

import functools
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio_websocket
from wsproto.utilities import LocalProtocolError

SCRIPT = Path(__file__).parents[1] / "integration" / "servers" / "websocket.py"
Headers = list[tuple[bytes, bytes]]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class WebServer:
    """Serves on one port: remembers what came in, and does what the test says with each connection."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}/feed"
        self.requests: list[dict[str, str]] = []
        self.received: list[str | bytes] = []
        self.nurseries: dict[trio_websocket.WebSocketConnection, trio.Nursery] = {}
        self.open: list[trio_websocket.WebSocketConnection] = []
        #: Refuses a handshake with a status and headers where it gives some.
        self.refuse: Callable[[dict[str, str]], tuple[int, Headers] | None] = lambda _: None
        #: What it does with a connection beyond remembering what comes in.
        self.greet: Callable[[trio_websocket.WebSocketConnection], Awaitable[None]] | None = None
        self.subprotocol: str | None = None

    @property
    def newest(self) -> trio_websocket.WebSocketConnection:
        return self.open[-1]

    def end(self, code: int, reason: str | None = None) -> None:
        """Close the newest connection. It is not waited for: see below what a ping does meanwhile."""
        self.nurseries[self.newest].start_soon(self.newest.aclose, code, reason)

    async def handle(self, request: trio_websocket.WebSocketRequest, nursery: trio.Nursery) -> None:
        headers = {name.decode(): value.decode() for name, value in request.headers}
        self.requests.append(headers)
        if (refused := self.refuse(headers)) is not None:
            await request.reject(refused[0], extra_headers=refused[1])
            return
        connection = await request.accept(subprotocol=self.subprotocol)
        self.nurseries[connection] = nursery
        self.open.append(connection)
        try:
            if self.greet is not None:
                await self.greet(connection)
            while True:
                self.received.append(await connection.get_message())
        except trio_websocket.ConnectionClosed:
            return
        finally:
            self.open.remove(connection)
            del self.nurseries[connection]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of; the test's deadline bounds it."""
    while not condition():  # noqa: ASYNC110 - see above.
        await trio.sleep(0.005)


@asynccontextmanager
async def serving(port: int = 0, context: ssl.SSLContext | None = None) -> AsyncIterator[WebServer]:
    """Run a server in this loop; at the end of the block its connections are cut."""
    server = WebServer(port or free_port(), "ws" if context is None else "wss")

    async def serve(stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        # The library's own server ends as a whole where a ping comes in while it closes one connection.
        try:
            async with trio.open_nursery() as nursery:
                await server.handle(await trio_websocket.wrap_server_stream(nursery, stream), nursery)
                nursery.cancel_scope.cancel()
        except* (LocalProtocolError, trio.BrokenResourceError):
            pass
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    listen = functools.partial(trio.serve_tcp, serve, server.port, host="127.0.0.1")
    if context is not None:
        listen = functools.partial(trio.serve_ssl_over_tcp, serve, server.port, context, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(listen)
        yield server
        nursery.cancel_scope.cancel()


class WebProcess:
    """An echoing server in a process of its own, always on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}/"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it listens."""
        # It outlives the run of the test that fails.
        self._process = subprocess.Popen([sys.executable, str(SCRIPT), str(self.port)])  # noqa: ASYNC220
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            except OSError:
                await trio.sleep(0.02)
            else:
                await stream.aclose()
                return

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None
