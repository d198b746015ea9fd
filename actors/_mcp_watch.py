"""The watch over a server that serves: whether it still answers, and which tools it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

import attrs
import trio

from actors._mcp_desk import Desk, Peer, Server, State
from agentrt.resilience import CallFailed

if TYPE_CHECKING:
    import random

    from actors._mcp_client import OfferedTool
    from agentrt.config.model import McpServerConfig
    from agentrt.kernel import Event

#: Unanswered in a row.
_MISSED_PINGS = 2
#: Seconds after which the tools are listed anew although nobody said that they changed.
_LIST_AGAIN = 60.0


class Reporter(Protocol):
    """The actor, as far as the owner knows it."""

    def emit(self, kind: str, /, *, cause: Event | int | None = None, **fields: object) -> Event: ...
    def progress(self, what: str = "") -> None: ...
    @property
    def random(self) -> random.Random: ...


@attrs.frozen
class Watch:
    """Watches one server, as long as it serves.

    Args:
        name: The server's name.
        config: Its settings.
        desk: Where its state stands.
        reporter: The actor that speaks for it.
    """

    name: str
    config: McpServerConfig
    desk: Desk
    reporter: Reporter

    async def until_unresponsive(self, server: Server) -> tuple[str, Event]:
        """Ping it, and return when it is silent for good: the reason, and the event that tells more.

        It is judged by nothing but pings, and never while a call runs inside its deadline: a server that works on one
        may be too busy for a ping.
        """
        missed = 0
        while missed < _MISSED_PINGS:
            if not missed:
                await self._pause()
            if server.calls:
                await server.wait_idle()
                # It answered them, or they are over; either way the pings begin anew.
                missed = 0
            asked = trio.current_time()
            if await self._ping(server):
                missed = 0
                self.desk.believe()
                if self.desk.state is State.SILENT:
                    self.judge_tools(self.desk.tools)
            elif not server.calls:
                missed += 1
                self._went_silent(server.peer)
                # A refused connection is told at once; it gets as much time as a ping without an answer.
                await trio.sleep_until(asked + self.config.ping_interval)
        silence = self._silence(server.peer)
        event = self.reporter.emit(
            "mcp_server_unresponsive", server=self.name, pid=server.peer.pid, silence=silence, calls=server.calls
        )
        return f"no answer to ping for {silence:.1f} s", event

    async def keep_tools(self, server: Server) -> NoReturn:
        """List the tools anew when the server says that they changed, while some are missing, and now and then."""
        while True:
            wait = self.config.ping_interval if self.desk.state is State.INCOMPLETE else _LIST_AGAIN
            with trio.move_on_after(wait):
                await self.desk.wait_for(lambda: self.desk.tools_changed)
            if server.calls and not self.desk.tools_changed:
                continue
            self.desk.tools_changed = False
            with trio.move_on_after(self.config.ping_interval):
                try:
                    tools = await server.connection.list_tools()
                except CallFailed:
                    continue
                if self.desk.server is server:
                    self.judge_tools(tools)

    def judge_tools(self, tools: dict[str, OfferedTool]) -> None:
        """Take up a list of tools: ready, or not because of those that are missing."""
        desk = self.desk
        desk.tools = tools
        if desk.state not in (State.STARTING, State.READY, State.INCOMPLETE, State.SILENT):
            return
        missing = [tool for tool in self.config.expect_tools if tool not in desk.tools]
        if not missing:
            desk.become(State.READY, "ready")
            return
        reason = f"does not offer the tools {', '.join(missing)}"
        if desk.state is not State.INCOMPLETE or desk.reason != reason:
            self.reporter.emit("mcp_tools_missing", server=self.name, missing=missing, offered=list(desk.tools))
        desk.become(State.INCOMPLETE, reason)

    async def _pause(self) -> None:
        with trio.move_on_after(self.config.ping_interval):
            await self.desk.wait_for(lambda: self.desk.doubted)

    async def _ping(self, server: Server) -> bool:
        asked = trio.current_time()
        try:
            with trio.move_on_after(self.config.ping_interval):
                await server.connection.ping()
                self.reporter.progress("answer")
                return True
        except CallFailed:
            return False
        return server.peer.last_heard > asked

    def _went_silent(self, peer: Peer) -> None:
        if self.desk.state is not State.DRAINING:
            self.desk.become(State.SILENT, f"no answer to ping for {self._silence(peer):.1f} s")

    def _silence(self, peer: Peer) -> float:
        return round(trio.current_time() - peer.last_heard, 1)
