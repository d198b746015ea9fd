"""A tool server in process, for tests in virtual time: any object, its public async methods are the tools."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from agentrt.policy import SendState
from agentrt.ports import ToolDefinition, ToolError


class InProcessSession:
    """A :class:`~agentrt.ports.ToolSession` over an object, with the faults of a real server on demand.

    It behaves like a session over a process: while it is crashed, calls wait until their deadline; a call that it was
    busy with when it crashed may have happened, and is repeated only where it is idempotent.

    Args:
        server: Each of its public async methods is a tool.
        name: The server's name.
        call_timeout: Seconds in all for a call that names no limit.
    """

    def __init__(self, server: object, *, name: str = "tools", call_timeout: float = 60.0) -> None:
        self.name = name
        self._call_timeout = call_timeout
        self._tools: dict[str, Callable[..., Awaitable[Any]]] = {
            tool: method
            for tool, method in inspect.getmembers(server, inspect.iscoroutinefunction)
            if not tool.startswith("_")
        }
        self._up = trio.Event()
        self._up.set()
        self._started_at = trio.current_time()
        self._in_hand: set[trio.CancelScope] = set()

    @property
    def is_ready(self) -> bool:
        """Whether it is not crashed."""
        return self._up.is_set()

    @property
    def reason(self) -> str:
        """Why it is ready or not, for people."""
        return "ready" if self.is_ready else "crashed by a test"

    @property
    def pid(self) -> None:
        """None: it has no process of its own."""

    @property
    def started_at(self) -> float:
        """When it came up last."""
        return self._started_at

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools, sorted."""
        return tuple(self._tools)

    @property
    def definitions(self) -> tuple[ToolDefinition, ...]:
        """Each tool by its signature and its docstring; any value will do for an argument."""
        return tuple(_definition(tool, method) for tool, method in self._tools.items())

    def crash(self) -> None:
        """Go down: calls in hand end as they do when a server dies, later ones wait."""
        if self.is_ready:
            self._up = trio.Event()
        for scope in self._in_hand:
            scope.cancel()

    def restore(self) -> None:
        """Come up again."""
        if not self.is_ready:
            self._started_at = trio.current_time()
        self._up.set()

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""
        await self._up.wait()

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> Any:
        """Call a tool; see :meth:`agentrt.ports.ToolSession.call`.

        Raises:
            ToolError: It did not work; says what kind of failure it was.
        """
        limit = self._call_timeout if timeout is None else timeout
        attempts = 0
        with trio.move_on_after(limit):
            while True:
                await self.wait_ready()
                attempts += 1
                with trio.CancelScope() as scope:
                    return await self._run(tool, arguments or {}, scope, attempts)
                if not idempotent:
                    raise self._error("the server crashed during the call", "transient", tool, attempts, happened=True)
        if attempts and self.is_ready:
            raise self._error(f"no answer within {limit:g} s", "timeout", tool, attempts, happened=True)
        raise self._error(f"no server within {limit:g} s", "transient", tool, attempts, happened=attempts > 0)

    async def _run(self, tool: str, arguments: Mapping[str, Any], scope: trio.CancelScope, attempts: int) -> Any:
        method = self._tools.get(tool)
        if method is None:
            offered = ", ".join(self._tools) or "none"
            raise self._error(f"no such tool; the server offers {offered}", "permanent", tool, attempts)
        try:
            inspect.signature(method).bind(**arguments)
        except TypeError as error:
            raise self._error(f"wrong arguments: {error}", "permanent", tool, attempts) from error
        self._in_hand.add(scope)
        try:
            return await method(**arguments)
        except Exception as error:
            raise self._error(str(error) or type(error).__name__, "tool", tool, attempts, happened=True) from error
        finally:
            self._in_hand.discard(scope)

    def _error(self, message: str, kind: str, tool: str, attempts: int, *, happened: bool = False) -> ToolError:
        return ToolError(
            f"{self.name}.{tool}: {message}",
            kind=kind,
            server=self.name,
            tool=tool,
            attempt=max(attempts, 1),
            sent=SendState.SENT if happened else SendState.NOT_SENT,
        )


def _definition(tool: str, method: Callable[..., Awaitable[Any]]) -> ToolDefinition:
    parameters = inspect.signature(method).parameters.values()
    schema = {
        "type": "object",
        "properties": {parameter.name: {} for parameter in parameters},
        "required": [parameter.name for parameter in parameters if parameter.default is parameter.empty],
    }
    return ToolDefinition(tool, inspect.getdoc(method) or "", schema)
