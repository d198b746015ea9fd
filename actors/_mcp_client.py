"""The MCP SDK's session, wrapped: handshake, tool calls, pings, and what a server asks in the middle of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import Token
from typing import Any

import attrs
import trio
from mcp.client import Client
from mcp.client.session import ElicitationFnT
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp_types import (
    DiscoverResult,
    ElicitRequestFormParams,
    ElicitRequestParams,
    ElicitResult,
    TextContent,
    Tool,
    ToolListChangedNotification,
)
from pydantic import ValidationError

from actors._mcp_http import failure_of
from actors._mcp_wire import Wire, reached
from agentrt.policy import Failure, FailureKind, SendState
from agentrt.ports import ToolDefinition
from agentrt.resilience import CallFailed

#: Seconds after which a subscription that was lost is opened again.
_LISTEN_AGAIN = 5.0
#: Kinds of failure of a ping after which nobody knows whether the server lives.
_SILENT = frozenset({FailureKind.TRANSIENT, FailureKind.TIMEOUT})


#: Answers a server's form, given its message and its schema (None where it is a web page instead); None declines.
Fill = Callable[[str, Mapping[str, Any] | None], dict[str, Any] | None]


class HandshakeFailed(Exception):
    """The server did not agree on a protocol, or went away before it could.

    Attributes:
        failure: What kind of failure it was, where the server or the network said so.
    """

    def __init__(self, message: str, failure: Failure | None) -> None:
        super().__init__(message)
        self.failure = failure


@attrs.frozen
class OfferedTool:
    """A tool as the server lists it.

    Args:
        definition: What it is called with.
        repeatable: Whether the server says that calling it twice does no more than calling it once.
    """

    definition: ToolDefinition
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
                    # What happened before it listened was not told.
                    changed()
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
async def connect(
    wire: Wire, era: Era, *, tools_changed: Callable[[], object], fill: Fill | None = None
) -> AsyncIterator[Connection]:
    """Do the handshake over *wire*.

    Args:
        wire: How messages get to the server.
        era: What its last start found out, else :data:`UNKNOWN`.
        tools_changed: Called when the server says by itself that its tools changed.
        fill: Answers the server's forms; where there is none, it is told that nobody does.

    Raises:
        HandshakeFailed: It did not work. It has no time limit of its own.
    """

    async def note(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            tools_changed()

    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(
                Client(
                    wire.transport(),
                    mode=era.mode,
                    prior_discover=era.discovered,
                    cache=None,
                    message_handler=note,
                    elicitation_callback=None if fill is None else _answering(fill),
                )
            )
            if era == MODERN:
                # Nobody has asked yet what it can do. One that does not say so is taken to tell of nothing by itself.
                with suppress(MCPError, ValidationError):
                    said = await client.session.send_discover(era.mode)
                    client.session.adopt(DiscoverResult.model_validate(said))
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
    definition = ToolDefinition(tool.name, tool.description or "", tool.input_schema)
    return OfferedTool(definition, hints is not None and bool(hints.read_only_hint or hints.idempotent_hint))


def _answering(fill: Fill) -> ElicitationFnT:
    async def answer(context: object, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG001 - as the SDK calls it.
        content = fill(params.message, params.requested_schema if isinstance(params, ElicitRequestFormParams) else None)
        return ElicitResult(action="decline" if content is None else "accept", content=content)

    return answer


class _Failures:
    """Notes how far the call reaches, and turns the SDK's errors into what they say about it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._marks: list[int] = []
        self._token: Token[list[int] | None] | None = None

    def __enter__(self) -> None:
        self._token = reached.set(self._marks)

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        assert self._token is not None
        reached.reset(self._token)
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
