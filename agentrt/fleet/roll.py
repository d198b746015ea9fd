"""The roll of a fleet: what of it is told to registries."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from typing import Any, Literal

import trio

from agentrt.config import Name, servers_of
from agentrt.fleet.manager import FleetDesk
from agentrt.fleet.member import Member
from agentrt.ports import RegistryEntry, ToolSession


class Roll:
    """Names the agents that are up, and their tool servers, as they are at the moment.

    Args:
        desk: The fleet.
    """

    def __init__(self, desk: FleetDesk) -> None:
        self._desk = desk
        self._instance = secrets.token_hex(4)
        self._host = socket.gethostname()
        #: Unix time at which each agent was seen up first.
        self._since: dict[str, float] = {}
        #: When each server began, on the monotonic clock and in Unix time, by its agent and its name.
        self._began: dict[tuple[str, str], tuple[float, float]] = {}

    def entries(self) -> tuple[RegistryEntry, ...]:
        """Return an entry for each agent that is up and each of its servers; one that is parked has none."""
        up = [member for name, member in self._desk.members.items() if name in self._desk.up]
        self._since = {one.name: self._since.get(one.name, self._desk.shared.wall()) for one in up}
        return tuple(entry for member in up for entry in self._of(member))

    def _of(self, member: Member) -> Iterator[RegistryEntry]:
        tools = [f"{server}.{tool}" for server, session in member.sessions.items() for tool in session.tools]
        names = self._desk.shared.names
        yield self._entry(
            "agent",
            member.name,
            member,
            where=f"{names.fleet}.tasks.{member.name}.>",
            tools=tuple(tools),
            pid=os.getpid(),
            since=self._since[member.name],
            ready=not member.unready(),
        )
        for server, session in member.sessions.items():
            yield self._server(member, server, session)

    def _server(self, member: Member, server: str, session: ToolSession) -> RegistryEntry:
        config = servers_of(self._desk.shared.config, Name(member.name))[Name(server)].value
        return self._entry(
            "mcp_server",
            server,
            member,
            where=config.url or "stdio",
            tools=session.tools,
            pid=session.pid,
            since=self._since_of((member.name, server), session.started_at),
            ready=session.is_ready,
        )

    def _since_of(self, server: tuple[str, str], began: float | None) -> float:
        """Say in Unix time when a server began; the same each time, though the two clocks do not go alike."""
        if began is None:
            return 0.0
        known = self._began.get(server)
        if known is None or known[0] != began:
            wall = self._desk.shared.wall() - (trio.current_time() - began)
            known = self._began[server] = (began, round(wall, 3))
        return known[1]

    def _entry(self, kind: Literal["agent", "mcp_server"], name: str, member: Member, **more: Any) -> RegistryEntry:
        return RegistryEntry(
            kind=kind,
            name=name,
            fleet=self._desk.shared.names.fleet,
            agent=member.name,
            instance=self._instance,
            host=self._host,
            lease_seconds=self._desk.shared.config.registry.lease,
            **more,
        )
