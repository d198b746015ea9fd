"""A tool server as an agent sees it: a session that survives whatever happens to the server."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import trio

from actors._mcp_call import Call
from actors._mcp_desk import Desk, RestartRequest, Server
from actors._mcp_launch import Spawn, launcher_of, spawn_process
from actors._mcp_owner import Owner
from actors._reaped import reaper
from agentrt.config import ServerPolicies
from agentrt.config.model import McpServerConfig
from agentrt.kernel import Actor
from agentrt.policy import BreakerState, Transition
from agentrt.ports import ToolDefinition, ToolError
from agentrt.resilience import BreakerGate, BulkheadGate, CallFailed, Retrying, classify

_BREAKER_EVENTS = {
    BreakerState.OPEN: "tool_breaker_opened",
    BreakerState.HALF_OPEN: "tool_breaker_half_opened",
    BreakerState.CLOSED: "tool_breaker_closed",
}


class McpToolSession:
    """One MCP server, over stdio or HTTP, as a :class:`~agentrt.ports.ToolSession`.

    The handle stays the same while :class:`McpSession` starts the server, watches it and starts it again. Any number
    of tasks may call at once; how many of them the server has in hand is bounded.

    Args:
        name: The server's name.
        config: Its settings.
        policies: What decides about its calls and its restarts.
        log: Where the stderr of its process is copied to.
    """

    def __init__(
        self,
        name: str,
        config: McpServerConfig,
        *,
        policies: ServerPolicies | None = None,
        log: Path | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.log = log
        self.policies = policies or ServerPolicies()
        self.desk = Desk()
        self._breaker = BreakerGate(name, self.policies.breaker, self._breaker_changed)
        self._bulkhead = BulkheadGate(name, self.policies.bulkhead, self.policies.max_wait)
        self._actor: Actor | None = None
        # A server that was started again deserves another try, however long the breaker would have waited.
        self.desk.on_ready = self._breaker.hint

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
        """The server's process, while there is one here."""
        return self.desk.peer.pid if self.desk.peer is not None else None

    @property
    def started_at(self) -> float | None:
        """When that process was started, in monotonic seconds."""
        return self.desk.peer.started_at if self.desk.peer is not None else None

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that the server listed last."""
        return tuple(self.desk.tools)

    @property
    def definitions(self) -> tuple[ToolDefinition, ...]:
        """What the server said of each of them: what a model has to know to call it."""
        return tuple(offered.definition for offered in self.desk.tools.values())

    @property
    def is_idle(self) -> bool:
        """Whether its server has no call in hand."""
        return self.desk.calls == 0

    @property
    def breaker(self) -> BreakerState:
        """Whether its breaker lets calls through."""
        return self._breaker.state

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

        Waits while the server is started again, unless it is configured to fail at once then, and tries again what
        failed in passing. A call that the server may have acted on is repeated only where it is idempotent: by
        argument, by configuration, or because the server says so of its tool.

        Args:
            tool: The tool's name.
            arguments: Its arguments.
            timeout: Seconds in all, with every wait and every try; the configured limit where None.
            idempotent: Whether doing it twice does no harm.

        Raises:
            ToolError: It did not work; says what kind of failure it was.
        """
        call = Call(
            self.desk,
            self._breaker,
            tool,
            arguments or {},
            limit=self.config.call_timeout if timeout is None else timeout,
            waits=self.config.when_down == "wait",
            heard=self._heard_from,
        )
        retrying = Retrying(
            self.policies.retry,
            self.policies.budget,
            classify,
            partial(self._report, tool),
            self._actor.random if self._actor is not None else random.Random(),  # noqa: S311 - jitter, no secret.
        )
        try:
            async with self._bulkhead.slot(call.size, call.deadline):
                return await retrying.call(
                    call.attempt,
                    deadline=call.deadline,
                    idempotent=lambda: idempotent or self._is_repeatable(tool),
                    tries=call.tries,
                )
        except CallFailed as error:
            raise self._tool_error(call, error) from error

    def _tool_error(self, call: Call, error: CallFailed) -> ToolError:
        failure = call.tries.failure or error.failure
        return ToolError(
            f"{self.name}.{call.tool}: {error}",
            kind=failure.kind.value,
            server=self.name,
            tool=call.tool,
            attempt=call.tries.attempt,
            sent=failure.sent,
            retry_after=failure.retry_after,
            cause=error.__cause__ or error,
        )

    def _is_repeatable(self, tool: str) -> bool:
        if tool in self.config.idempotent:
            return True
        offered = self.desk.tools.get(tool)
        return self.config.trust_annotations and offered is not None and offered.repeatable

    def _report(self, tool: str, kind: str, fields: Mapping[str, Any]) -> None:
        if self._actor is not None:
            self._actor.emit(f"tool_{kind}", server=self.name, tool=tool, **fields)

    def _breaker_changed(self, transition: Transition, reason: str) -> None:
        if self._actor is not None:
            kind = _BREAKER_EVENTS[transition.new]
            self._actor.emit(kind, server=self.name, was=transition.old.value, reason=reason)

    def _heard_from(self, server: Server) -> None:
        if self.desk.server is server:
            self.desk.answered = True
        if self._actor is not None:
            self._actor.progress("answer")


class McpSession(Actor):
    """Drives one :class:`McpToolSession`: owns the server, from its start to its end.

    It never gives up on a server. Its end, ordered or not, ends all that a server started that was started here.

    Args:
        session: The handle.
        spawn: How a server's process is started.
    """

    def __init__(self, session: McpToolSession, *, spawn: Spawn = spawn_process) -> None:
        self._session = session
        self._spawn = spawn

    @staticmethod
    def open_handle(name: str, config: McpServerConfig, *, policies: ServerPolicies, log: Path) -> McpToolSession:
        """Make the session of one server."""
        return McpToolSession(name, config, policies=policies, log=log)

    async def run(self) -> None:
        """Keep the server running until cancelled."""
        session = self._session
        session.attach(self)
        launcher = launcher_of(session.config, log=session.log, spawn=self._spawn)
        restart = session.policies.restart
        # A server elsewhere has no processes here.
        with reaper.held() if session.config.command is not None else nullcontext():
            await Owner(session.name, session.config, session.desk, self, launcher=launcher, restart=restart).run()
