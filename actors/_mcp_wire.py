"""What carries the SDK's messages: lines to a process or requests to a server elsewhere; what errors mean there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar
from typing import Any, Protocol, Self

import anyio
import trio
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse, jsonrpc_message_adapter

from actors._mcp_http import MAX_BODY, HttpLink, failure_of
from agentrt.policy import Failure, FailureKind, SendState
from agentrt.policy.failures import INTERNAL_ERROR, SERVER_ERRORS, classify_rpc

#: Where a call notes how far into the server's input its requests reach.
reached: ContextVar[list[int] | None] = ContextVar("reached", default=None)


class Lines(Protocol):
    """What a connection needs of a server process."""

    def send(self, line: bytes) -> int: ...
    async def receive(self) -> bytes | None: ...
    def stop_listening(self) -> None: ...
    def may_have_read(self, mark: int) -> bool: ...


class Wire(Protocol):
    """How messages get to a server and back, and what its errors mean there."""

    def transport(self) -> Any:
        """Make the SDK's transport."""
        ...

    def failure(self, code: int, message: str, data: object, marks: Sequence[int]) -> Failure:
        """Say what an error means; *marks* say how far into the server's input the call's requests reach."""
        ...


class StdioWire:
    """Lines to a process and back.

    Args:
        lines: The process.
        ignored: Called with each line that is no message; such a line does no harm.
    """

    def __init__(self, lines: Lines, ignored: Callable[[bytes], object]) -> None:
        self._lines = lines
        self._ignored = ignored

    def transport(self) -> Any:
        """Make the SDK's transport."""
        return _Transport(self._lines, self._ignored)

    def failure(self, code: int, message: str, _data: object, marks: Sequence[int]) -> Failure:
        """Say what an error means: the SDK reports a server that is gone with codes that servers use too.

        Only the process knows, and also whether it had read the call.
        """
        if code == INTERNAL_ERROR or code in SERVER_ERRORS:
            was_read = bool(marks) and self._lines.may_have_read(marks[0])
            return Failure(FailureKind.TRANSIENT, SendState.SENT if was_read else SendState.NOT_SENT, message)
        return classify_rpc(code, message)


class HttpWire:
    """Requests to a server elsewhere."""

    def __init__(self, link: HttpLink) -> None:
        self._link = link

    def transport(self) -> Any:
        """Make the SDK's transport."""
        return self._open()

    def failure(self, code: int, message: str, data: object, _marks: Sequence[int]) -> Failure:
        """Say what an error means: the fault of the network or the status that it was made of, else the code."""
        failure = failure_of(data) or classify_rpc(code, message, has_session=True)
        if failure.session_lost:
            self._link.lose(failure.reason)
        return failure

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[tuple[_Answers, Any]]:
        opened = streamable_http_client(self._link.url, http_client=self._link.client, max_sse_event_size=MAX_BODY)
        async with opened as (reads, writes):
            yield _Answers(reads), writes


class _Transport:
    """The SDK's idea of a transport: two streams, and nothing to start or to stop, since the process has an owner."""

    def __init__(self, lines: Lines, ignored: Callable[[bytes], object]) -> None:
        self._streams = _Incoming(lines, ignored), _Outgoing(lines)

    async def __aenter__(self) -> tuple[_Incoming, _Outgoing]:
        return self._streams

    async def __aexit__(self, *_: object) -> None:
        await self._streams[0].aclose()


class _Reads:
    """What the SDK reads from, by :meth:`receive`."""

    async def receive(self) -> SessionMessage | Exception:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Incoming(_Reads):
    def __init__(self, lines: Lines, ignored: Callable[[bytes], object]) -> None:
        self._lines = lines
        self._ignored = ignored

    async def receive(self) -> SessionMessage | Exception:
        while (line := await self._lines.receive()) is not None:
            try:
                # One bad byte costs a character, and not the session.
                message = jsonrpc_message_adapter.validate_json(line.decode("utf-8", "replace"), by_name=False)
            except ValueError:
                self._ignored(line)
            else:
                return _typed(SessionMessage(message))
        raise anyio.EndOfStream

    async def aclose(self) -> None:
        self._lines.stop_listening()


class _Answers(_Reads):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def last_context(self) -> Context | None:
        """Where the message that came last was asked for."""
        context: Context | None = getattr(self._stream, "last_context", None)
        return context

    async def receive(self) -> SessionMessage | Exception:
        return _typed(await self._stream.receive())

    async def aclose(self) -> None:
        await self._stream.aclose()


def _typed(message: SessionMessage | Exception) -> SessionMessage | Exception:
    """Say of a result without a type that it is complete, as the protocol has it; the SDK takes it for no result."""
    if isinstance(message, SessionMessage) and isinstance(message.message, JSONRPCResponse):
        message.message.result.setdefault("resultType", "complete")
    return message


class _Outgoing:
    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def send(self, item: SessionMessage, /) -> None:
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode("utf-8", "replace")
        try:
            mark = self._lines.send(line)
        except trio.BrokenResourceError as error:
            raise anyio.BrokenResourceError from error
        if (marks := reached.get()) is not None:
            marks.append(mark)

    async def aclose(self) -> None:
        """Do nothing: whoever owns the process ends it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
