"""What is told to registries of agents and tool servers, and how it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import attrs


@attrs.frozen(kw_only=True)
class RegistryEntry:
    """An agent or a tool server, as it stands in a registry.

    Args:
        kind: What it is.
        name: Its name.
        fleet: Its fleet.
        agent: For a tool server, the agent that uses it; for an agent, its own name.
        instance: Which run of the fleet it belongs to; another one may have an agent of the same name.
        where: Where it is reached: the subject of an agent's tasks, the URL of a server, or ``stdio``.
        tools: Names of its tools; an agent's are those of its servers, as ``server.tool``.
        pid: Its process, where it has one here.
        host: The machine.
        since: Unix time of its start.
        ready: Whether it can do its job now.
        lease_seconds: How long the entry counts without being renewed.
    """

    kind: Literal["agent", "mcp_server"]
    name: str
    fleet: str
    agent: str
    instance: str
    where: str
    tools: tuple[str, ...] = ()
    pid: int | None = None
    host: str = ""
    since: float = 0.0
    ready: bool = True
    lease_seconds: float = 30.0

    @property
    def key(self) -> str:
        """Its name in a registry."""
        place = ("agent", self.name) if self.kind == "agent" else ("mcp", self.agent, self.name)
        return ".".join((*place, self.instance))


#: Gives all entries as they are to be now.
Entries: TypeAlias = Callable[[], Sequence[RegistryEntry]]


class Registration(Protocol):
    """The handle of whoever keeps entries in registries."""

    def checks(self) -> Mapping[str, tuple[bool, str]]:
        """Say of each registry (``registry:nats``, ``registry:agents``, …) whether its entries are there, and why."""
        ...
