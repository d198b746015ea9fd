"""A tool server over HTTP: requests whose faults cost one call each, and a session that can be lost and made anew."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import attrs
import httpx2
import trio

from agentrt.config import SecretError
from agentrt.policy import Failure, FailureKind, SendState
from agentrt.policy.failures import classify_status, parse_retry_after, says_session_lost
from agentrt.resilience import CallFailed
from agentrt.resilience.classify import network_failure

#: An answer larger than this fails its call: one answer must not eat the fleet's memory.
MAX_BODY = 32 * 1024 * 1024
#: Of a body that is no answer, this much is kept for the message.
_SAID = 300
#: Seconds that a goodbye, or a message that nobody waits for the answer of, may take.
_COURTESY = 2.0
#: Such messages that may be under way; a server that does not take them loses the others.
_MAX_COURTESIES = 64
#: Where a fault's description stands in the error that is made of it. A server cannot know it, so it cannot forge one.
_MARK = f"agentrt-{secrets.token_hex(8)}"
_FAULT_CODE = -32010
_BAD_REQUEST, _UNAUTHORIZED = 400, 401
_SESSION_HEADER = "mcp-session-id"

Headers = Callable[[], Mapping[str, str]]


class Login(Protocol):
    """Where the access token comes from, such as :class:`actors._mcp_login.Login`."""

    @property
    def authorization(self) -> str | None: ...
    def is_wanted(self, refusal: httpx2.Response) -> bool: ...
    async def renew(self, request: httpx2.Request, refusal: httpx2.Response) -> None: ...


class HttpLink:
    """What stands for the process of a server that runs elsewhere: when it was heard of, and when its session is lost.

    Made by :meth:`open`; :meth:`run` must be started at once, in a nursery, without a checkpoint between.

    Args:
        url: The server's endpoint.
        headers: Reads what goes with each request, secrets included; read again when the server says 401.
        connect_timeout: Seconds for one connection to be made.
        login: Where the access token comes from, where there is one.
        proxy: The HTTP proxy on the way there, where there is one.
    """

    pid: None = None
    returncode: None = None
    signal: None = None
    last_words = ""

    def __init__(
        self,
        url: str,
        headers: Headers,
        connect_timeout: float,
        *,
        login: Login | None = None,
        proxy: str | None = None,
    ) -> None:
        self.url = url
        #: Set when nothing uses it any more.
        self.exited = trio.Event()
        #: Set when the server does not know the session any more, too.
        self.lost = trio.Event()
        self.started_at = trio.current_time()
        #: When the server last said anything, else when this was opened.
        self.last_heard = self.started_at
        self._ending = "ended"
        self._killed = trio.Event()
        self._courtesies = 0
        self._nursery: trio.Nursery | None = None
        self._transport = _FaultTransport(self, headers, login, proxy)
        # No limit on reading: a call has a deadline of its own, and a stream may be silent for long.
        timeout = httpx2.Timeout(None, connect=connect_timeout)
        self.client = httpx2.AsyncClient(transport=self._transport, timeout=timeout)

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        return self._ending

    async def run(self) -> None:
        """Carry what nobody waits for, until it is killed or cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._killed.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            with trio.move_on_after(_COURTESY, shield=True):
                if not self.lost.is_set():
                    # The SDK does so too, but not where it is cancelled, as at each stop.
                    await self._transport.end_session(self.url)
            with trio.move_on_after(_COURTESY, shield=True):
                await self.client.aclose()
            self.exited.set()
            self.lost.set()

    def kill(self) -> None:
        """Let go of all connections; :meth:`run` returns soon after."""
        self._killed.set()

    def lose(self, reason: str) -> None:
        """Say that the server does not know the session any more."""
        if not self.lost.is_set():
            self._ending = f"lost its session ({reason})"
            self.lost.set()

    def heard(self) -> None:
        """Note that the server said something."""
        self.last_heard = trio.current_time()

    def send_apart(self, send: Callable[[], Any]) -> None:
        """Do what nobody waits for beside everything else; beyond a bound it is left undone."""
        if self._nursery is not None and self._courtesies < _MAX_COURTESIES:
            self._courtesies += 1
            self._nursery.start_soon(self._courtesy, send)

    async def _courtesy(self, send: Callable[[], Any]) -> None:
        try:
            with trio.move_on_after(_COURTESY):
                await send()
        finally:
            self._courtesies -= 1


def failure_of(data: object) -> Failure | None:
    """Read the fault that an error of JSON-RPC was made of; None where the error is the server's own."""
    if not isinstance(data, dict) or _MARK not in data:
        return None
    found = data[_MARK]
    return Failure(
        FailureKind(found["kind"]),
        SendState(found["sent"]),
        found["reason"],
        found["retry_after"],
        session_lost=found["session_lost"],
    )


class _FaultTransport(httpx2.AsyncBaseTransport):
    """Turns whatever goes wrong with one POST into an answer to it, so that no other call suffers.

    The SDK's transport dies of a network fault with all that is under way, and loses the status of a refusal. Here both
    come back as an error of JSON-RPC, with the fault in its data.
    """

    def __init__(self, link: HttpLink, headers: Headers, login: Login | None, proxy: str | None) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30.0)
        self._inner = httpx2.AsyncHTTPTransport(limits=limits, proxy=proxy)
        self._link = link
        self._read_headers = headers
        self._headers = dict(headers())
        self._login = login
        self._session: str | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Carry one request."""
        if request.method == "POST":
            return await self._post(request)
        if request.method == "DELETE":
            self._session = None
            with trio.move_on_after(_COURTESY), suppress(httpx2.TransportError, CallFailed):
                return await self._send(request)
            return httpx2.Response(204)
        try:
            return await self._send(request)
        except CallFailed:
            return httpx2.Response(_UNAUTHORIZED)

    async def end_session(self, url: str) -> None:
        """Tell the server that its session is not used any more, where there is one and it was not told yet."""
        if self._session is not None:
            request = httpx2.Request("DELETE", url, headers={_SESSION_HEADER: self._session})
            with suppress(httpx2.TransportError, CallFailed):
                await (await self._send(request)).aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def _post(self, request: httpx2.Request) -> httpx2.Response:
        message = json.loads(await request.aread())
        if "id" not in message or "method" not in message:
            return await self._deliver(request, message.get("method"))
        try:
            return await self._ask(request)
        except CallFailed as error:
            failure = error.failure
        except Exception as error:  # noqa: BLE001 - whatever it is, raised into the SDK it would end all other calls too.
            failure = network_failure(error) or Failure(FailureKind.PERMANENT, SendState.UNKNOWN, repr(error))
        if failure.session_lost:
            self._link.lose(failure.reason)
        return _answer(message["id"], failure)

    async def _deliver(self, request: httpx2.Request, method: str | None) -> httpx2.Response:
        """Send what has no answer: before all else where the order matters, else beside it."""
        if method != "notifications/initialized":
            self._link.send_apart(lambda: self._dispatch(request))
            return httpx2.Response(202)
        with trio.move_on_after(_COURTESY):
            await self._dispatch(request)
        return httpx2.Response(202)

    async def _dispatch(self, request: httpx2.Request) -> None:
        with suppress(httpx2.TransportError, CallFailed):
            response = await self._send(request)
            await response.aclose()

    async def _ask(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._send(request)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code >= _BAD_REQUEST:
            return await self._refused(request, response, kind)
        if kind == "application/json" and not response.is_redirect:
            return _whole(response, await self._read(response))
        response.stream = _Heard(response.stream, self._link.heard)
        return response

    async def _refused(self, request: httpx2.Request, response: httpx2.Response, kind: str) -> httpx2.Response:
        body = await self._read(response)
        error = _rpc_error(body) if kind == "application/json" else None
        text = str(error.get("message", "")) if error is not None else _text(body, kind)
        has_session = _SESSION_HEADER in request.headers
        failure = classify_status(
            response.status_code,
            text=text,
            retry_after=parse_retry_after(response.headers.get("retry-after"), time.time()),
            has_session=has_session,
        )
        # What the server says in the protocol's own words counts, but for what only the status tells.
        is_method_missing = failure.session_lost and error is not None and not says_session_lost(text)
        if error is None or (failure.kind is not FailureKind.PERMANENT and not is_method_missing):
            raise CallFailed(failure)
        return _whole(response, body)

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._try(request)
        if response.status_code == _UNAUTHORIZED:
            # A secret that was rotated is read anew; a call that was not let in was not acted on.
            renewed = self._headers
            with suppress(SecretError):
                renewed = dict(self._read_headers())
            if renewed != self._headers:
                self._headers = renewed
                await response.aclose()
                response = await self._try(request)
        if self._login is not None and self._login.is_wanted(response):
            await response.aclose()
            await self._login.renew(request, response)
            response = await self._try(request)
        return response

    async def _try(self, request: httpx2.Request) -> httpx2.Response:
        request.headers.update(self._headers)
        if self._login is not None:
            # What has expired by the clock is not sent: nobody gets to see it who might keep it.
            request.headers.pop("authorization", None)
            if (authorization := self._login.authorization) is not None:
                request.headers["authorization"] = authorization
        response = await self._inner.handle_async_request(request)
        response.request = request
        self._session = response.headers.get(_SESSION_HEADER, self._session)
        self._link.heard()
        return response

    async def _read(self, response: httpx2.Response) -> bytes:
        parts, size = [], 0
        try:
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > MAX_BODY:
                    reason = f"the answer is larger than {MAX_BODY} bytes"
                    raise CallFailed(Failure(FailureKind.PERMANENT, SendState.SENT, reason))
        except httpx2.DecodingError as error:
            raise CallFailed(Failure(FailureKind.PERMANENT, SendState.SENT, f"bad answer: {error}")) from error
        finally:
            with trio.CancelScope(shield=True):
                await response.aclose()
        return b"".join(parts)


class _Heard(httpx2.AsyncByteStream):
    """A stream of events that notes when something came."""

    def __init__(self, stream: Any, heard: Callable[[], None]) -> None:
        self._stream = stream
        self._parts = aiter(stream)
        self._heard = heard

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part: bytes = await anext(self._parts)
        self._heard()
        return part

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()


def _answer(id_: object, failure: Failure) -> httpx2.Response:
    fault = attrs.asdict(failure) | {"kind": failure.kind.value, "sent": failure.sent.value}
    error = {"code": _FAULT_CODE, "message": failure.reason, "data": {_MARK: fault}}
    return httpx2.Response(200, json={"jsonrpc": "2.0", "id": id_, "error": error})


def _whole(response: httpx2.Response, body: bytes) -> httpx2.Response:
    """Make a response of what was read; the encoding of the transfer is undone already."""
    kept = {name: response.headers[name] for name in ("content-type", _SESSION_HEADER) if name in response.headers}
    return httpx2.Response(response.status_code, headers=kept, content=body)


def _rpc_error(body: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(body)
    except ValueError:
        return None
    error = message.get("error") if isinstance(message, dict) else None
    return error if isinstance(error, dict) and isinstance(error.get("code"), int) else None


def _text(body: bytes, kind: str) -> str:
    """What a body says, for people; a page of HTML says nothing."""
    if kind not in {"text/plain", "application/json", ""}:
        return ""
    return " ".join(body[:_SAID].decode("utf-8", "replace").split())
