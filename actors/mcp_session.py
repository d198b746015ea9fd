"""A tool server as an agent sees it: a session that survives whatever happens to the server's process."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import trio

from actors._mcp_desk import Desk, RestartRequest, Server
from actors._mcp_owner import Owner, Spawn
from actors._reaped import reaper
from actors._retry import CallFailed, Retrying
from actors._stdio import ServerProcess
from agentrt.config.model import McpServerConfig
from agentrt.kernel import Actor
from agentrt.policy import FailureKind, RetryPolicy
from agentrt.ports import ToolError


class McpToolSession:
    """One MCP server over stdio, as a :class:`~agentrt.ports.ToolSession`.

    The handle stays the same while :class:`McpSession` starts the server, watches it and starts it again. Any number
    of tasks may call at once.

    Args:
        name: The server's name.
        config: Its settings.
        retry: When a call that failed is tried again.
        log: Where the server's stderr is copied to.
    """

    def __init__(
        self, name: str, config: McpServerConfig, *, retry: RetryPolicy | None = None, log: Path | None = None
    ) -> None:
        self.name = name
        self.config = config
        self.log = log
        self.desk = Desk()
        self._retry = retry or RetryPolicy()
        self._actor: Actor | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the server answers and offers all tools that it is expected to."""
        return self.desk.meaning.is_ready

    @property
    def reason(self) -> str:
        """Why it is ready or not, for people."""
        return self.desk.reason

    @property
    def pid(self) -> int | None:
        """The server's process, while there is one."""
        return self.desk.process.pid if self.desk.process is not None else None

    @property
    def started_at(self) -> float | None:
        """When that process was started, in monotonic seconds."""
        return self.desk.process.started_at if self.desk.process is not None else None

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that the server listed last."""
        return self.desk.tools

    def attach(self, actor: Actor) -> None:
        """Let *actor* speak for this session from now on."""
        self._actor = actor

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""
        await self.desk.wait_for(lambda: self.is_ready)

    async def request_restart(self, reason: str, *, finish_within: float = 30.0) -> None:
        """Replace the server: calls in hand may finish, new ones wait, and then it is killed. Wait until it is gone.

        Nothing happens where no server serves, since a new one comes anyway.

        Args:
            reason: For people.
            finish_within: Seconds that the calls in hand have.
        """
        server = self.desk.server
        if server is None:
            return
        if self.desk.request is None:
            self.desk.request = RestartRequest(reason, trio.current_time() + finish_within)
            self.desk.changed()
        await self.desk.wait_for(lambda: self.desk.server is not server)

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> Any:
        """Call a tool: its structured content, else its text, else its content blocks.

        Waits while the server is started again, and tries again what failed in passing. A call that the server may
        have acted on is repeated only where it is idempotent, by argument or by configuration.

        Args:
            tool: The tool's name.
            arguments: Its arguments.
            timeout: Seconds in all, with every wait and every try; the configured limit where None.
            idempotent: Whether doing it twice does no harm.

        Raises:
            ToolError: It did not work; says what kind of failure it was.
        """
        limit = self.config.call_timeout if timeout is None else timeout
        deadline = trio.current_time() + limit
        retrying = Retrying(self._retry, self._random, partial(self._retried, tool), partial(self._recovered, tool))
        attempt = partial(self._attempt, tool, arguments or {}, limit, deadline)
        try:
            return await retrying.call(
                attempt, deadline=deadline, idempotent=idempotent or tool in self.config.idempotent
            )
        except CallFailed as failure:
            raise ToolError(
                f"{self.name}.{tool}: {failure}",
                kind=failure.kind.value,
                server=self.name,
                tool=tool,
                attempts=failure.attempts,
                may_have_happened=failure.may_have_happened,
            ) from failure

    async def _attempt(self, tool: str, arguments: Mapping[str, Any], limit: float, deadline: float) -> Any:
        server = await self._admitted(limit, deadline)
        with self.desk.call_in_hand():
            began = trio.current_time()
            with trio.CancelScope(deadline=deadline):
                try:
                    await self._check_offered(server, tool)
                    answer = await server.connection.call(tool, arguments)
                except CallFailed as failure:
                    if failure.kind is FailureKind.TOOL:
                        self._heard_from(server)
                    raise _explained(failure, server) from failure
                self._heard_from(server)
                return answer
            if server.process.last_heard <= began:
                self.desk.doubt()
            raise CallFailed(f"no answer within {limit:g} s", FailureKind.TIMEOUT, may_have_happened=True)

    async def _admitted(self, limit: float, deadline: float) -> Server:
        with trio.CancelScope(deadline=deadline):
            await self.desk.wait_for(lambda: self.desk.meaning.takes_calls and self.desk.request is None)
            assert self.desk.server is not None
            return self.desk.server
        raise CallFailed(f"no server within {limit:g} s: {self.desk.reason}", FailureKind.TRANSIENT)

    async def _check_offered(self, server: Server, tool: str) -> None:
        if tool not in self.desk.tools:
            # Servers may change their tools while they run.
            self.desk.tools = await server.connection.list_tools()
        if tool not in self.desk.tools:
            offered = ", ".join(self.desk.tools) or "none"
            raise CallFailed(f"no such tool; the server offers {offered}", FailureKind.PERMANENT)

    def _heard_from(self, server: Server) -> None:
        if self.desk.server is server:
            self.desk.answered = True
        if self._actor is not None:
            self._actor.progress("answer")

    @property
    def _random(self) -> random.Random:
        return self._actor.random if self._actor is not None else random.Random()  # noqa: S311 - jitter, no secret.

    def _retried(self, tool: str, failure: CallFailed, attempt: int, wait: float) -> None:
        self._emit("tool_call_retried", tool, error=str(failure), attempt=attempt, wait=round(wait, 3))

    def _recovered(self, tool: str, attempt: int) -> None:
        self._emit("tool_call_recovered", tool, attempt=attempt)

    def _emit(self, kind: str, tool: str, **fields: Any) -> None:
        if self._actor is not None:
            self._actor.emit(kind, server=self.name, tool=tool, **fields)


class McpSession(Actor):
    """Drives one :class:`McpToolSession`: owns the server's process, from its start to its end.

    It never gives up on a server. Its end, ordered or not, ends all that the server started.

    Args:
        session: The handle.
        spawn: How the server's process is started.
    """

    def __init__(self, session: McpToolSession, *, spawn: Spawn = ServerProcess.spawn) -> None:
        self._session = session
        self._spawn = spawn

    @staticmethod
    def open_handle(name: str, config: McpServerConfig, *, retry: RetryPolicy, log: Path) -> McpToolSession:
        """Make the session of one server."""
        return McpToolSession(name, config, retry=retry, log=log)

    async def run(self) -> None:
        """Keep the server running until cancelled."""
        session = self._session
        session.attach(self)
        with reaper.held():
            await Owner(session.name, session.config, session.desk, self, log=session.log, spawn=self._spawn).run()


def _explained(failure: CallFailed, server: Server) -> CallFailed:
    if failure.kind is not FailureKind.TRANSIENT or not server.process.lost.is_set():
        return failure
    return CallFailed(
        f"the server {server.process.ending} during the call",
        failure.kind,
        may_have_happened=failure.may_have_happened,
    )
