"""The proxy as an ASGI application: who is let in, where a request goes, and how its answer gets back."""

from __future__ import annotations

import json
import traceback
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import trio
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from actors._proxy_backend import Backend
from actors._proxy_call import Incoming, Outgoing, exchange
from actors._proxy_desk import NotRouted, ProxyDesk, Refused
from actors._proxy_metrics import CONTENT_TYPE
from actors._proxy_wire import Headers, header, parse, request_of, rpc_error
from agentrt.config.units import format_size
from agentrt.policy.origin import OriginPolicy
from agentrt.resilience import CallFailed

_FORBIDDEN, _NOT_FOUND, _NOT_ALLOWED, _TIMEOUT, _TOO_LARGE = 403, 404, 405, 408, 413
_BAD_REQUEST, _ERROR, _UNAVAILABLE, _LOOP = 400, 500, 503, 508
_METHODS = ("POST", "GET", "DELETE")
#: What a client that is a page needs to see, beside what browsers show it anyway.
_READ_BY_PAGES = ("Mcp-Session-Id", "MCP-Protocol-Version", "Retry-After", "WWW-Authenticate")
#: Seconds that a client has to send its request.
_PATIENCE = 60.0

Report = Callable[[str, dict[str, Any]], object]


class _Gone(Exception):
    """The client is gone."""


def make_app(desk: ProxyDesk, report: Report) -> ASGIApp:
    """Make the application.

    Args:
        desk: The proxy.
        report: Told of what is refused, and of mistakes of ours.
    """
    entrance = _Pages(_Entrance(desk, report), desk.origins)
    routes = [
        Route("/health/live", _Said(lambda: (200, {"ok": True}))),
        Route("/health/ready", _Said(lambda: _ready(desk))),
        Route("/metrics", _Metrics(desk)),
        Route("/mcp", entrance),
        Route("/{backend}/mcp", entrance),
        Route("/{tenant}/{backend}/mcp", entrance),
    ]
    return Router(routes, redirect_slashes=False, default=_Elsewhere(desk))


def _ready(desk: ProxyDesk) -> tuple[int, dict[str, Any]]:
    found = desk.health()
    return (200 if found["ok"] else _UNAVAILABLE), found


class _Said:
    def __init__(self, read: Callable[[], tuple[int, dict[str, Any]]]) -> None:
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, value = self._read()
        body = json.dumps(value, indent=1).encode() + b"\n"
        await Response(body, status, media_type="application/json")(scope, receive, send)


class _Metrics:
    def __init__(self, desk: ProxyDesk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Response(self._desk.metrics.text(), media_type=CONTENT_TYPE)(scope, receive, send)


class _Elsewhere:
    """Says what there is, where nothing is."""

    def __init__(self, desk: ProxyDesk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        paths = [
            "/health/live",
            "/health/ready",
            "/metrics",
            *(one.path for one in self._desk.backends if not one.tenant),
        ]
        reason = f"there is no {scope['path']}; there are: {', '.join(paths)}"
        body = rpc_error(None, reason, kind="not_found")
        await Response(body, _NOT_FOUND, media_type="application/json")(scope, receive, send)


class _Pages(CORSMiddleware):
    """Tells browsers which pages may talk to it, and may read what it answers: those that are let in anyway."""

    def __init__(self, app: ASGIApp, origins: OriginPolicy) -> None:
        super().__init__(
            app,
            allow_methods=_METHODS,
            allow_headers=("*",),
            expose_headers=_READ_BY_PAGES,
            allow_private_network=True,
        )
        self._origins = origins

    def is_allowed_origin(self, origin: str) -> bool:
        """Say whether a page may."""
        return self._origins.is_known(origin)


class _Entrance:
    """Takes requests to backends."""

    def __init__(self, desk: ProxyDesk, report: Report) -> None:
        self._desk = desk
        self._report = report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request from its beginning to the end of its answer, or to the end of its client."""
        request = _Request(self._desk, scope, receive, send)
        try:
            await request.serve()
        except _Gone:
            request.count("disconnected")
        except CallFailed:
            # A stream that was cut within an event: what tells the client is a connection that is, too.
            request.count("failed")
        except Exception as error:  # noqa: BLE001 - one request's mistake is no other's.
            self._report("proxy_request_failed", {"error": repr(error), "traceback": traceback.format_exc()})
            if request.has_begun:
                request.count("failed")
            else:
                await request.refuse(_ERROR, "the proxy made a mistake, see its log", "failed")
        finally:
            request.let_go()


class _Request:
    def __init__(self, desk: ProxyDesk, scope: Scope, receive: Receive, send: Send) -> None:
        self._desk = desk
        self._scope = scope
        self._receive = receive
        self._send = send
        self._headers: Headers = [(name.lower(), value) for name, value in scope["headers"]]
        self._backend: Backend | None = None
        self._method = str(scope["method"])
        self._id: Any = None
        self._held = 0
        self._is_done = False
        self.has_begun = False

    def count(self, outcome: str) -> None:
        """Count it, once."""
        if self._is_done:
            return
        self._desk.metrics.counted(self._backend, self._method, outcome)

    async def serve(self) -> None:
        """Read it, pass it on, and pass the answer back."""
        try:
            self._let_in()
            body = await self._read()
            message = parse(body) if body else None
            method, _, self._id = request_of(message)
            self._method = method or self._method
            self._backend = self._route()
        except Refused as refusal:
            await self._beside_the_client(self.refuse, refusal.status, str(refusal), "refused")
            return
        except NotRouted as error:
            await self._beside_the_client(self.refuse, _NOT_FOUND, str(error), "not_found")
            return
        query = self._scope["query_string"]
        incoming = Incoming(self._scope["method"], self._headers, query, body, message)
        await self._beside_the_client(self._pass_on, self._backend, incoming)

    def let_go(self) -> None:
        """Hold nothing of it any more."""
        self._desk.let_go(self._held)
        self._held = 0

    async def refuse(self, status: int, reason: str, outcome: str) -> None:
        """Answer it here."""
        headers: Headers = [(b"content-type", b"application/json")]
        if status == _NOT_ALLOWED:
            headers.append((b"allow", ", ".join(_METHODS).encode()))
        await self._answer(Outgoing(status, headers, rpc_error(self._id, reason, kind=outcome), is_own=True))

    def _let_in(self) -> None:
        refusal = self._desk.origins.refusal(header(self._headers, b"origin"), header(self._headers, b"host"))
        if refusal is not None:
            raise Refused(_FORBIDDEN, refusal)
        if self._scope["method"] not in _METHODS:
            raise Refused(_NOT_ALLOWED, f"an MCP endpoint takes {', '.join(_METHODS)}")
        if self._desk.via in (header(self._headers, b"via") or ""):
            raise Refused(_LOOP, "a backend of this proxy is this proxy itself; look at its url")
        if self._desk.is_draining:
            raise Refused(_UNAVAILABLE, "the proxy stops")

    async def _read(self) -> bytes:
        limit = self._desk.config.max_request
        body = bytearray()
        with trio.move_on_after(_PATIENCE):
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                part = message.get("body", b"")
                self._desk.hold(len(part))
                self._held += len(part)
                body += part
                if len(body) > limit:
                    raise Refused(_TOO_LARGE, f"the request is larger than {format_size(limit)}")
                if not message.get("more_body", False):
                    return bytes(body)
        raise Refused(_TIMEOUT, f"the request was not sent within {_PATIENCE:g} s")

    def _route(self) -> Backend:
        found = self._scope["path_params"]
        name = self._desk.config.tenant_header
        said = header(self._headers, name.lower().encode()) if name is not None else None
        return self._desk.find(found.get("tenant", ""), found.get("backend", ""), said)

    async def _beside_the_client(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Do something while the client is there; what it still sends is read, so that it never waits for us."""
        is_gone = False

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal is_gone
            while (await self._receive())["type"] != "http.disconnect":
                pass
            # The server says so after the last part, too.
            if not self._is_done:
                is_gone = True
                scope.cancel(reason="agentrt: the client is gone")

        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            try:
                await function(*args)
            except Exception as error:  # noqa: BLE001 - raised below, without the nursery's group around it.
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if is_gone:
            raise _Gone

    async def _pass_on(self, backend: Backend, incoming: Incoming) -> None:
        if not incoming.is_stream:
            await self._exchange(backend, incoming)
            return
        with self._desk.streaming():
            await self._exchange(backend, incoming)
        if not self._is_done:
            # The proxy stops.
            if self.has_begun:
                await self._finish(b"", "answered")
            else:
                await self.refuse(_UNAVAILABLE, "the proxy stops", "refused")

    async def _exchange(self, backend: Backend, incoming: Incoming) -> None:
        began = trio.current_time()
        async with exchange(backend, self._desk.client, incoming, self._desk.via) as outgoing:
            self._desk.metrics.answered(backend, trio.current_time() - began)
            await self._answer(outgoing)

    async def _answer(self, outgoing: Outgoing) -> None:
        await self._begin(outgoing)
        if outgoing.events is not None:
            while (part := await outgoing.events.next()) is not None:
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
        await self._finish(outgoing.body, _outcome(outgoing))

    async def _finish(self, body: bytes, outcome: str) -> None:
        self.count(outcome)
        self._is_done = True
        # With the last part the server lets go of the request, and to cut it off there would cost the connection.
        with trio.CancelScope(shield=True):
            await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _begin(self, outgoing: Outgoing) -> None:
        self.has_begun = True
        headers = list(outgoing.headers)
        if header(headers, b"date") is None:
            headers.append((b"date", formatdate(usegmt=True).encode()))
        if outgoing.events is None and outgoing.status not in {202, 204} and header(headers, b"content-length") is None:
            headers.append((b"content-length", str(len(outgoing.body)).encode()))
        await self._send({"type": "http.response.start", "status": outgoing.status, "headers": headers})


def _outcome(outgoing: Outgoing) -> str:
    if outgoing.status == _NOT_FOUND and outgoing.is_own:
        return "not_found"
    if outgoing.failure is not None or outgoing.status >= _ERROR:
        return "failed"
    return "refused" if outgoing.status >= _BAD_REQUEST else "answered"
