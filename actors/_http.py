"""HTTP requests of our own: what goes wrong says how far it had come, and an answer is read as it comes."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import httpx2
import trio

from agentrt.policy import Failure, FailureKind, SendState
from agentrt.policy.failures import classify_status, parse_retry_after
from agentrt.resilience import CallFailed
from agentrt.resilience.classify import network_failure

Headers = Sequence[tuple[bytes, bytes]]

#: Seconds that closing a connection in order may take.
_COURTESY = 2.0


class HttpAnswer:
    """The answer to one request, of which the body has not been read; it must be closed.

    Attributes:
        status: Its status.
        headers: Its headers as they came.
    """

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.headers: Headers = response.headers.raw
        self._response = response
        self._parts: AsyncIterator[bytes] | None = None

    def header(self, name: bytes) -> str | None:
        """The first header of this name, in lower case; None where there is none."""
        found = (value for key, value in self.headers if key.lower() == name)
        value = next(found, None)
        return None if value is None else value.decode("latin-1")

    @property
    def kind(self) -> str:
        """What the body is, such as ``application/json``."""
        return (self.header(b"content-type") or "").partition(";")[0].strip().lower()

    def failure(self, text: str = "", *, has_session: bool = False) -> Failure:
        """Say what a status that is no success means."""
        retry_after = parse_retry_after(self.header(b"retry-after"), time.time())
        return classify_status(self.status, text=text, retry_after=retry_after, has_session=has_session)

    async def part(self) -> bytes | None:
        """Read what came next, as it is on the wire; None at the end.

        Raises:
            CallFailed: The connection broke.
        """
        if self._parts is None:
            self._parts = aiter(self._response.stream)  # type: ignore[arg-type]
        with _classified():
            return await anext(self._parts, None)

    async def read(self, limit: int) -> bytes:
        """Read the whole body.

        Raises:
            CallFailed: The connection broke, or the body is larger than *limit* bytes.
        """
        body = bytearray()
        while (part := await self.part()) is not None:
            body += part
            if len(body) > limit:
                reason = f"the answer is larger than {limit} bytes"
                raise CallFailed(Failure(FailureKind.PERMANENT, SendState.SENT, reason))
        return bytes(body)

    async def aclose(self) -> None:
        """Let go of it; where it was not read to its end, the other side sees the connection close."""
        with trio.move_on_after(_COURTESY, shield=True), suppress(httpx2.TransportError):
            if isinstance(self._parts, AsyncGenerator):
                await self._parts.aclose()
            await self._response.aclose()


class HttpClient:
    """Makes requests, each with its own limit on connecting; the caller bounds everything else.

    It follows no redirect, adds no header but ``Host`` and the length of a body, and undoes no encoding.
    """

    def __init__(self) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30.0)
        self._transport = httpx2.AsyncHTTPTransport(limits=limits)

    async def open(
        self, method: str, url: str, headers: Headers = (), body: bytes | None = None, *, connect_timeout: float = 5.0
    ) -> HttpAnswer:
        """Make a request, and return its answer when it begins.

        Raises:
            CallFailed: There was none.
        """
        timeout = {"connect": connect_timeout, "read": None, "write": None, "pool": None}
        request = httpx2.Request(method, url, headers=list(headers), content=body, extensions={"timeout": timeout})
        with _classified():
            return HttpAnswer(await self._transport.handle_async_request(request))

    async def aclose(self) -> None:
        """Close all connections."""
        with trio.move_on_after(_COURTESY, shield=True):
            await self._transport.aclose()


@asynccontextmanager
async def open_client() -> AsyncIterator[HttpClient]:
    """Have a client for as long as an ``async with``."""
    client = HttpClient()
    try:
        yield client
    finally:
        await client.aclose()


class _classified:  # noqa: N801 - used as a function.
    """Turns errors of the client into failures of the call."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, (httpx2.TransportError, httpx2.InvalidURL)):
            failure = network_failure(error) or Failure(FailureKind.PERMANENT, SendState.UNKNOWN, repr(error))
            raise CallFailed(failure) from error
