"""The MCP SDK, wrapped: handshake, tool calls and pings over stdio and HTTP. Nothing else here imports it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar, Token
from typing import Any, Protocol, Self

import anyio
import attrs
import trio
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import (
    DiscoverResult,
    TextContent,
    Tool,
    ToolListChangedNotification,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from actors._mcp_http import MAX_BODY, HttpLink, failure_of
from agentrt.policy import Failure, FailureKind, SendState
from agentrt.policy.failures import INTERNAL_ERROR, SERVER_ERRORS, classify_rpc
from agentrt.resilience import CallFailed

#: Seconds after which a subscription that was lost is opened again.
_LISTEN_AGAIN = 5.0
#: Kinds of failure of a ping after which nobody knows whether the server lives.
_SILENT = frozenset({FailureKind.TRANSIENT, FailureKind.TIMEOUT})
#: Where a call notes how far into the server's input its requests reach.
_marks: ContextVar[list[int] | None] = ContextVar("_marks", default=None)


class Lines(Protocol):
    """What a connection needs of a server process."""

    def send(self, line: bytes) -> int: ...
    async def receive(self) -> bytes | None: ...
    def stop_listening(self) -> None: ...
    def may_have_read(self, mark: int) -> bool: ...


class HandshakeFailed(Exception):
    """The server did not agree on a protocol, or went away before it could.

    Attributes:
        failure: What kind of failure it was, where the server or the network said so.
    """

    def __init__(self, message: str, failure: Failure | None) -> None:
        super().__init__(message)
        self.failure = failure


class Wire(Protocol):
    """How messages get to a server and back, and what its errors mean there."""

    def transport(self) -> Any:
        """Make the SDK's transport."""
        ...

    def failure(self, code: int, message: str, data: object, marks: Sequence[int]) -> Failure:
        """Say what an error means; *marks* say how far into the server's input the call's requests reach."""
        ...


@attrs.frozen
class OfferedTool:
    """A tool as the server lists it.

    Args:
        name: Its name.
        repeatable: Whether the server says that calling it twice does no more than calling it once.
    """

    name: str
    repeatable: bool


@attrs.frozen
class Era:
    """How a server wants to be spoken to, as found out at its last start: no need to probe it again.

    Args:
        mode: ``auto`` where it is not known, ``legacy``, or a protocol version.
        discovered: What the server said of itself, where *mode* is a version.
    """

    mode: str = "auto"
    discovered: DiscoverResult | None = None


#: Ask the server with ``server/discover``, which some servers ignore (it costs them 10 s) or die of.
UNKNOWN = Era()
#: Begin with ``initialize``, as servers before 2026-07-28 expect.
LEGACY = Era("legacy")
MODERN = Era("2026-07-28")
#: What a configuration says of the protocol.
ERAS = {"auto": UNKNOWN, "2025-11-25": LEGACY, "2026-07-28": MODERN}


class Connection:
    """A server with which the handshake is done. Any task may call; each call ends when the server is gone."""

    def __init__(self, client: Client, wire: Wire) -> None:
        self._client = client
        self._wire = wire

    @property
    def era(self) -> Era:
        """What to hand to :func:`connect` next time."""
        discovered = self._client.session.discover_result
        return LEGACY if discovered is None else Era(self._client.protocol_version, discovered)

    async def list_tools(self) -> dict[str, OfferedTool]:
        """Ask for all tools, by name.

        Raises:
            CallFailed: It did not work.
        """
        found: dict[str, OfferedTool] = {}
        cursor: str | None = None
        with _Failures(self._wire):
            seen: set[str] = set()
            while True:
                page = await self._client.list_tools(cursor=cursor)
                found |= {tool.name: _offered(tool) for tool in page.tools}
                cursor = page.next_cursor
                # A server that repeats itself would be asked for ever.
                if cursor is None or cursor in seen:
                    return found
                seen.add(cursor)

    async def listen(self, changed: Callable[[], object]) -> None:
        """Call *changed* whenever the server says that its tools did, until cancelled."""
        tools = self._client.server_capabilities.tools
        if self._client.session.discover_result is None or tools is None or not tools.list_changed:
            # In the era of the handshake it says so by itself.
            await trio.sleep_forever()
        while True:
            try:
                async with self._client.listen(tools_list_changed=True) as subscription:
                    async for _ in subscription:
                        changed()
            except SubscriptionLost:
                pass
            except MCPError as error:
                failure = self._wire.failure(error.code, error.message, error.error.data, ())
                if failure.kind is FailureKind.PERMANENT:
                    # It does not know the subscription that it speaks of; the tools are listed now and then anyway.
                    await trio.sleep_forever()
            await trio.sleep(_LISTEN_AGAIN)
            # What happened meanwhile was not told.
            changed()

    async def ping(self) -> None:
        """Return when the server answered anything at all; an error of its own is an answer too.

        Raises:
            CallFailed: It cannot be reached, or does not know the session.
        """
        session = self._client.session
        try:
            if session.discover_result is None:
                await session.send_ping()
            else:
                await session.send_discover(self._client.protocol_version)
        except ValidationError:
            return
        except MCPError as error:
            failure = self._wire.failure(error.code, error.message, error.error.data, ())
            if failure.session_lost or (failure_of(error.error.data) is not None and failure.kind in _SILENT):
                raise CallFailed(failure) from error

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Any:
        """Call a tool: its structured content, else its text, else its content blocks.

        Raises:
            CallFailed: It did not work.
        """
        with _Failures(self._wire):
            result = await self._client.call_tool(tool, dict(arguments))
        texts = [block.text for block in result.content if isinstance(block, TextContent)]
        if result.is_error:
            reason = "\n".join(texts) or "the tool gave no reason"
            raise CallFailed(Failure(FailureKind.TOOL, SendState.SENT, reason))
        if result.structured_content is not None:
            return result.structured_content
        if len(texts) == len(result.content):
            return "\n".join(texts)
        return [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]


@asynccontextmanager
async def connect(wire: Wire, era: Era, *, tools_changed: Callable[[], object]) -> AsyncIterator[Connection]:
    """Do the handshake over *wire*.

    Args:
        wire: How messages get to the server.
        era: What its last start found out, else :data:`UNKNOWN`.
        tools_changed: Called when the server says by itself that its tools changed.

    Raises:
        HandshakeFailed: It did not work. It has no time limit of its own.
    """

    async def note(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            tools_changed()

    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(
                Client(wire.transport(), mode=era.mode, prior_discover=era.discovered, cache=None, message_handler=note)
            )
        except Exception as error:
            raise _handshake_failed(error, wire) from error
        yield Connection(client, wire)


def _handshake_failed(error: Exception, wire: Wire) -> HandshakeFailed:
    leaves = _flat(error)
    errors = [leaf for leaf in leaves if isinstance(leaf, MCPError)]
    failure = wire.failure(errors[0].code, errors[0].message, errors[0].error.data, ()) if errors else None
    return HandshakeFailed("; ".join(str(one) or type(one).__name__ for one in leaves), failure)


def _offered(tool: Tool) -> OfferedTool:
    hints = tool.annotations
    return OfferedTool(tool.name, hints is not None and bool(hints.read_only_hint or hints.idempotent_hint))


class _Failures:
    """Notes how far the call reaches, and turns the SDK's errors into what they say about it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._marks: list[int] = []
        self._token: Token[list[int] | None] | None = None

    def __enter__(self) -> None:
        self._token = _marks.set(self._marks)

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        assert self._token is not None
        _marks.reset(self._token)
        if isinstance(error, MCPError):
            failure = self._wire.failure(error.code, error.message, error.error.data, self._marks)
            raise CallFailed(failure) from error
        if isinstance(error, ValidationError | RuntimeError):
            # The SDK's ways to say that a result does not fit the protocol, or the tool's own schema.
            raise CallFailed(Failure(FailureKind.PERMANENT, SendState.SENT, f"bad answer: {error}")) from error


def _flat(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _flat(one)]
    return [error]


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
        return streamable_http_client(self._link.url, http_client=self._link.client, max_sse_event_size=MAX_BODY)

    def failure(self, code: int, message: str, data: object, _marks: Sequence[int]) -> Failure:
        """Say what an error means: the fault of the network or the status that it was made of, else the code."""
        failure = failure_of(data) or classify_rpc(code, message, has_session=True)
        if failure.session_lost:
            self._link.lose(failure.reason)
        return failure


class _Transport:
    """The SDK's idea of a transport: two streams, and nothing to start or to stop, since the process has an owner."""

    def __init__(self, lines: Lines, ignored: Callable[[bytes], object]) -> None:
        self._streams = _Incoming(lines, ignored), _Outgoing(lines)

    async def __aenter__(self) -> tuple[_Incoming, _Outgoing]:
        return self._streams

    async def __aexit__(self, *_: object) -> None:
        await self._streams[0].aclose()


class _Incoming:
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
                return SessionMessage(message)
        raise anyio.EndOfStream

    async def aclose(self) -> None:
        self._lines.stop_listening()

    def __aiter__(self) -> _Incoming:
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


class _Outgoing:
    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def send(self, item: SessionMessage, /) -> None:
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode("utf-8", "replace")
        try:
            mark = self._lines.send(line)
        except trio.BrokenResourceError as error:
            raise anyio.BrokenResourceError from error
        if (marks := _marks.get()) is not None:
            marks.append(mark)

    async def aclose(self) -> None:
        """Do nothing: whoever owns the process ends it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
