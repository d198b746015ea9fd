"""Streamable HTTP before a tool server over stdio: one process for each session, one for all requests without one.

What passes is not looked at beyond what HTTP needs to know: whose answer it is, and which stream it belongs to.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODERN = "2026-07-28"
#: Versions whose requests belong to a session.
SESSIONS = {"2025-03-26", "2025-06-18", "2025-11-25"}
VERSION, CAPABILITIES, SUBSCRIPTION = (
    f"io.modelcontextprotocol/{name}" for name in ("protocolVersion", "clientCapabilities", "subscriptionId")
)
HEADER_MISMATCH = -32020
#: Errors that have a status of their own over HTTP, as 2026-07-28 has it.
STATUSES = {-32601: 404, -32602: 400, -32700: 400, HEADER_MISMATCH: 400, -32021: 400, -32022: 400}
#: What a request is about, by its method; its header says the same.
NAMES = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
#: What a server says and asks while it works on a request; all else it says of its own accord.
WITHIN_A_CALL = {"notifications/message", "sampling/createMessage", "elicitation/create"}
LOCAL = {"127.0.0.1", "localhost", "::1", None}

Json = dict[str, Any]


@attrs.define(eq=False)
class Stream:
    """A request that waits for its answer, or the stream of a whole session."""

    id: Any = None
    token: Any = None
    sent_as: Any = None
    unsaid: Json | None = None
    items: tuple[trio.MemorySendChannel[Json], trio.MemoryReceiveChannel[Json]] = attrs.field(
        factory=lambda: trio.open_memory_channel[Json](1000)
    )

    def put(self, message: Json) -> None:
        self.items[0].send_nowait(message)

    async def take(self) -> Json:
        return await self.items[1].receive()


class Child:
    """A server's process, and who waits for what of it.

    Args:
        shared: Whether requests of several clients go to it, so that they need ids of their own here.
    """

    def __init__(self, process: trio.Process, *, shared: bool) -> None:
        self.process = process
        self.waiting: dict[str, Stream] = {}
        self.standing = Stream()
        self.is_shared = shared
        self._numbers = 0
        self._sending = trio.Lock()

    async def listen(self) -> None:
        """Take what the server says, to its end."""
        read = b""
        assert self.process.stdout is not None
        async for chunk in self.process.stdout:
            *lines, read = (read + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b"{"):
                    self._route(json.loads(line))

    async def send(self, message: Json) -> None:
        """Give the server a message."""
        assert self.process.stdin is not None
        async with self._sending:
            await self.process.stdin.send_all(json.dumps(message).encode() + b"\n")

    async def ask(self, message: Json) -> Stream:
        """Give the server a request; all that belongs to it comes by its stream, the answer last."""
        self._numbers += 1
        stream = Stream(message["id"], ((message.get("params") or {}).get("_meta") or {}).get("progressToken"))
        stream.sent_as = self._numbers if self.is_shared else message["id"]
        self.waiting[json.dumps(stream.sent_as)] = stream
        await self.send({**message, "id": stream.sent_as})
        return stream

    async def forget(self, stream: Stream) -> None:
        """Tell the server that nobody waits for an answer any more, where it did not give it."""
        if self.waiting.pop(json.dumps(stream.sent_as), None) is not None:
            params = {"requestId": stream.sent_as}
            await self.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})

    def _route(self, message: Json) -> None:
        if "method" not in message:
            stream = self.waiting.pop(json.dumps(message.get("id")), None)
            if stream is not None:
                stream.put({**message, "id": stream.id})
            return
        params = message.get("params") or {}
        meta = params.get("_meta") or {}
        if SUBSCRIPTION in meta:
            stream = self.waiting.get(json.dumps(meta[SUBSCRIPTION]))
            if stream is not None:
                stream.put({**message, "params": {**params, "_meta": {**meta, SUBSCRIPTION: stream.id}}})
            return
        by_token = (one for one in self.waiting.values() if one.token is not None)
        stream = next((one for one in by_token if one.token == params.get("progressToken")), None)
        if stream is None and message["method"] in WITHIN_A_CALL:
            # Lines do not say to which request they belong: the latest one is as good a guess as any.
            stream = next(reversed(self.waiting.values()), None)
        (stream or self.standing).put(message)


class Bridge:
    """All sessions with one server's command."""

    def __init__(self, command: Sequence[str], nursery: trio.Nursery) -> None:
        self._command = command
        self._nursery = nursery
        self._sessions: dict[str, Child] = {}
        self._shared: Child | None = None
        self._starting = trio.Lock()

    async def post(self, request: Request) -> Response:
        """Take one message."""
        if not _is_local(request):
            return Response("not from here", 403)
        try:
            message = json.loads(await request.body())
        except ValueError:
            return _error(None, -32700, "Parse error")
        version, session = request.headers.get("mcp-protocol-version"), request.headers.get("mcp-session-id")
        is_modern = VERSION in ((message.get("params") or {}).get("_meta") or {})
        if session is not None and version in {*SESSIONS, None}:
            child = self._sessions.get(session)
            return Response("no such session", 404) if child is None else await _answer(child, message)
        if message.get("method") == "initialize" and not is_modern:
            session = secrets.token_hex()
            child = self._sessions[session] = await self._start(shared=False)
            return await _answer(child, message, session)
        if version in SESSIONS:
            return Response("a session is needed", 400)
        if (mismatch := _mismatch(request, message)) is not None:
            return _error(message.get("id"), HEADER_MISMATCH, mismatch)
        async with self._starting:
            self._shared = self._shared or await self._start(shared=True)
        return await _answer(self._shared, message)

    async def get(self, request: Request) -> Response:
        """Open the stream of a session."""
        child = self._sessions.get(request.headers.get("mcp-session-id", ""))
        if child is None:
            return Response("no such session", 405)
        return StreamingResponse(_events(child, child.standing), media_type="text/event-stream")

    async def delete(self, request: Request) -> Response:
        """End a session."""
        child = self._sessions.pop(request.headers.get("mcp-session-id", ""), None)
        if child is None:
            return Response("no such session", 404)
        child.process.terminate()
        return Response(status_code=200)

    async def _start(self, *, shared: bool) -> Child:
        process = await trio.lowlevel.open_process(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        child = Child(process, shared=shared)
        self._nursery.start_soon(self._live, child)
        return child

    async def _live(self, child: Child) -> None:
        try:
            await child.listen()
        finally:
            with trio.CancelScope(shield=True):
                assert child.process.stdin is not None
                await child.process.stdin.aclose()
                with trio.move_on_after(10):
                    await child.process.wait()
                child.process.kill()


def _is_local(request: Request) -> bool:
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname
    origin = request.headers.get("origin")
    return host in LOCAL and (origin is None or urlsplit(origin).hostname in LOCAL)


def _mismatch(request: Request, message: Json) -> str | None:
    """Say which header is missing or contradicts the message; None where none does."""
    params = message.get("params") or {}
    version = (params.get("_meta") or {}).get(VERSION, request.headers.get("mcp-protocol-version"))
    said = {"mcp-method": message.get("method"), "mcp-protocol-version": version}
    if (key := NAMES.get(str(message.get("method")))) is not None:
        said["mcp-name"] = params.get(key)
    for header, value in said.items():
        found = request.headers.get(header)
        if found is None or found.strip() != value:
            return f"Header mismatch: {header} is {found!r}, the message says {value!r}"
    return None


async def _answer(child: Child, message: Json, session: str | None = None) -> Response:
    if "id" not in message or "method" not in message:
        await child.send(message)
        return Response(status_code=202)
    headers = {} if session is None else {"mcp-session-id": session}
    stream = await child.ask(message)
    first = await stream.take()
    if "method" in first:
        stream.unsaid = first
        return StreamingResponse(_events(child, stream), media_type="text/event-stream", headers=headers)
    status = STATUSES.get(first["error"]["code"], 200) if child.is_shared and "error" in first else 200
    return JSONResponse(first, status, headers)


async def _events(child: Child, stream: Stream) -> AsyncIterator[str]:
    try:
        while True:
            message, stream.unsaid = stream.unsaid or await stream.take(), None
            yield f"event: message\ndata: {json.dumps(message)}\n\n"
            if "method" not in message:
                return
    finally:
        with trio.CancelScope(shield=True):
            await child.forget(stream)


def _error(identity: Any, code: int, message: str) -> JSONResponse:
    return JSONResponse({"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message}}, STATUSES[code])


@asynccontextmanager
async def bridged(command: Sequence[str]) -> AsyncIterator[str]:
    """Serve a command over HTTP for as long as an ``async with``; gives its address."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.graceful_timeout = 0.5
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        bridge = Bridge(command, nursery)
        routes = [Route("/mcp", getattr(bridge, name), methods=[name.upper()]) for name in ("post", "get", "delete")]
        start = partial(serve, Starlette(routes=routes), config, shutdown_trigger=stop.wait)
        (address,) = await nursery.start(start)
        yield f"{address}/mcp"
        stop.set()
        nursery.cancel_scope.cancel()
