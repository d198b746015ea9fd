"""The MCP SDK, wrapped: handshake, tool calls and pings over a server process. Nothing else here imports it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, Self

import anyio
import attrs
import trio
from mcp.client import Client
from mcp.client.stdio import get_default_environment
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    DiscoverResult,
    TextContent,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from actors._retry import CallFailed
from agentrt.config import Secret, resolve_secret
from agentrt.policy import FailureKind

#: JSON-RPC leaves these to the server's implementation: its own trouble, and not the tool's.
_SERVER_ERRORS = range(-32019, -31999)
_PERMANENT = frozenset({PARSE_ERROR, *range(-32099, -32019), INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS})

#: Where a call notes how far into the server's input its requests reach.
_marks: ContextVar[list[int] | None] = ContextVar("_marks", default=None)


class Lines(Protocol):
    """What a connection needs of a server process."""

    def send(self, line: bytes) -> int: ...
    async def receive(self) -> bytes | None: ...
    def stop_listening(self) -> None: ...
    def may_have_read(self, mark: int) -> bool: ...


class HandshakeFailed(Exception):
    """The server did not agree on a protocol, or went away before it could."""


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


def server_environment(configured: Mapping[str, str]) -> dict[str, str]:
    """Return what a server finds in its environment: the few variables that are safe to inherit, and its own.

    A configured value that is a reference (``env:NAME``, ``file:PATH``) is read now.

    The folder of this Python comes first on its ``PATH``: ``python -m some_server`` is then the one that the server is
    installed beside, also where the virtual environment is not activated.
    """
    inherited = get_default_environment()
    inherited["PATH"] = os.pathsep.join(filter(None, (str(Path(sys.executable).parent), inherited.get("PATH"))))
    return inherited | {name: _resolved(value) for name, value in configured.items()}


def _resolved(value: str) -> str:
    is_reference = value.startswith(("env:", "file:"))
    return resolve_secret(Secret(value), os.environ, Path()) if is_reference else value


class Connection:
    """A server with which the handshake is done. Any task may call; each call ends when the server is gone."""

    def __init__(self, client: Client, lines: Lines) -> None:
        self._client = client
        self._lines = lines

    @property
    def era(self) -> Era:
        """What to hand to :func:`connect` next time."""
        discovered = self._client.session.discover_result
        return LEGACY if discovered is None else Era(self._client.protocol_version, discovered)

    async def list_tools(self) -> tuple[str, ...]:
        """Ask for the names of all tools.

        Raises:
            CallFailed: It did not work.
        """
        names: list[str] = []
        cursor: str | None = None
        with _failures(self._lines):
            seen: set[str] = set()
            while True:
                page = await self._client.list_tools(cursor=cursor)
                names += [tool.name for tool in page.tools]
                cursor = page.next_cursor
                # A server that repeats itself would be asked for ever.
                if cursor is None or cursor in seen:
                    return tuple(names)
                seen.add(cursor)

    async def ping(self) -> None:
        """Return when the server answered anything at all; an error is an answer too."""
        session = self._client.session
        with suppress(MCPError, ValidationError):
            if session.discover_result is None:
                await session.send_ping()
            else:
                await session.send_discover(self._client.protocol_version)

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Any:
        """Call a tool: its structured content, else its text, else its content blocks.

        Raises:
            CallFailed: It did not work.
        """
        with _failures(self._lines):
            result = await self._client.call_tool(tool, dict(arguments))
        texts = [block.text for block in result.content if isinstance(block, TextContent)]
        if result.is_error:
            reason = "\n".join(texts) or "the tool gave no reason"
            raise CallFailed(reason, FailureKind.TOOL, may_have_happened=True)
        if result.structured_content is not None:
            return result.structured_content
        if len(texts) == len(result.content):
            return "\n".join(texts)
        return [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]


@asynccontextmanager
async def connect(lines: Lines, era: Era, *, ignored: Callable[[bytes], object]) -> AsyncIterator[Connection]:
    """Do the handshake over *lines*.

    Args:
        lines: The server process.
        era: What its last start found out, else :data:`UNKNOWN`.
        ignored: Called with each line that is no message; such a line does no harm.

    Raises:
        HandshakeFailed: It did not work. It has no time limit of its own.
    """
    transport = _Transport(lines, ignored)
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(
                Client(transport, mode=era.mode, prior_discover=era.discovered, cache=None)
            )
        except Exception as error:
            raise HandshakeFailed("; ".join(str(one) or type(one).__name__ for one in _flat(error))) from error
        yield Connection(client, lines)


@contextmanager
def _failures(lines: Lines) -> Iterator[None]:
    marks: list[int] = []
    token = _marks.set(marks)
    try:
        yield
    except MCPError as error:
        raise _failed(error, lines, marks) from error
    except (ValidationError, RuntimeError) as error:
        # The SDK's ways to say that a result does not fit the protocol, or the tool's own schema.
        raise CallFailed(f"bad answer: {error}", FailureKind.PERMANENT, may_have_happened=True) from error
    finally:
        _marks.reset(token)


def _failed(error: MCPError, lines: Lines, marks: list[int]) -> CallFailed:
    if error.code == INTERNAL_ERROR or error.code in _SERVER_ERRORS:
        # The SDK reports a server that is gone with a code that servers use too; only the process itself knows.
        happened = bool(marks) and lines.may_have_read(marks[0])
        return CallFailed(error.message, FailureKind.TRANSIENT, may_have_happened=happened)
    if error.code in _PERMANENT:
        return CallFailed(error.message, FailureKind.PERMANENT)
    return CallFailed(error.message, FailureKind.TOOL, may_have_happened=True)


def _flat(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _flat(one)]
    return [error]


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
