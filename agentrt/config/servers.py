"""The configurations of tool servers, and which of them counts for an agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from agentrt.config.model import Config, McpServerConfig
from agentrt.config.problems import KeyPath
from agentrt.config.scalars import Name
from agentrt.policy import Resolved, resolve

#: ``scope`` (``agents.NAME``, ``roles.NAME`` or ``global``), ``value`` and the scopes that it hides.
ResolvedServer: TypeAlias = Resolved[McpServerConfig]


def servers_of(config: Config, agent: Name) -> dict[Name, ResolvedServer]:
    """Resolve each tool server that an agent uses, in the order of its ``mcp``.

    Raises:
        KeyError: There is no such agent.
        NotConfigured: No scope has one of the servers; a configuration that was loaded has them all.
    """
    entry = config.agents[agent]
    return {server: resolve(server, agent, entry.role, config.mcp) for server in entry.mcp}


def path_of(scope: str, server: Name) -> KeyPath:
    """Name the table that configures a server at a scope, as :attr:`Resolved.scope` says it."""
    return ("mcp", *scope.split("."), server)


def all_servers(config: Config) -> Iterator[tuple[KeyPath, McpServerConfig]]:
    """Yield every configuration of a tool server at every scope, with its key path."""
    for name, server in config.mcp.global_.items():
        yield ("mcp", "global", name), server
    for kind, scopes in (("roles", config.mcp.roles), ("agents", config.mcp.agents)):
        for scope, named in scopes.items():
            for name, server in named.items():
                yield ("mcp", kind, scope, name), server
