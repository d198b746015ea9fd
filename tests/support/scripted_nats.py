"""A listener that speaks NATS as a script wants it to: what a real server does too seldom, or at the wrong moment."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

INFO = {"server_id": "SCRIPTED", "version": "2.15.1", "max_payload": 1048576, "headers": True, "proto": 1}


class Peer:
    """One client, as the script sees it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def say(self, line: str) -> None:
        await self.stream.send_all(line.encode() + b"\r\n")

    async def hear(self) -> str:
        """Return the client's next line.

        Raises:
            EOFError: It is gone.
        """
        while b"\r\n" not in self._buffer:
            chunk = await self.stream.receive_some()
            if not chunk:
                raise EOFError
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode()

    async def hear_verb(self, verb: str) -> str:
        """Skip to the next line that begins with *verb*."""
        while not (line := await self.hear()).startswith(verb):
            pass
        return line

    async def greet(self, **info: object) -> None:
        """Do the handshake as a server does."""
        await self.say(f"INFO {json.dumps({**INFO, **info})}")
        await self.hear_verb("CONNECT")
        await self.hear_verb("PING")
        await self.say("PONG")

    async def serve(self) -> None:
        """Answer each PING, and nothing else, for as long as the client stays."""
        while True:
            await self.hear_verb("PING")
            await self.say("PONG")


class ScriptedServer:
    """Where it listens, in the shape of a real one."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"nats://127.0.0.1:{port}"
        self.clients = 0

    def credentials(self) -> dict[str, str]:
        return {}


@asynccontextmanager
async def scripted(script: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[ScriptedServer]:
    """Listen; each client gets *script*, and its connection is closed where that returns."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = ScriptedServer(listeners[0].socket.getsockname()[1])

    async def handle(stream: trio.SocketStream) -> None:
        server.clients += 1
        try:
            await script(Peer(stream))
        except (EOFError, trio.BrokenResourceError):
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield server
        nursery.cancel_scope.cancel()
