"""Checks across keys: references that lead nowhere and combinations that cannot work."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping

import attrs

from agentrt.config.connections import connection_faults
from agentrt.config.hooks import key_of
from agentrt.config.login import login_faults
from agentrt.config.model import AgentConfig, Config
from agentrt.config.orders import orders
from agentrt.config.problems import Fault, KeyPath, did_you_mean, dotted, shown
from agentrt.config.scalars import Name
from agentrt.config.servers import all_servers
from agentrt.config.structure import Draft
from agentrt.config.tool_servers import tool_server_faults

#: The policies that a tool server names: by its key, the table that they stand in.
_SERVER_POLICIES = {"retry": "retry", "breaker": "breaker", "bulkhead": "bulkhead", "restart": "server_restart"}


def cross_check(draft: Draft, written: Collection[KeyPath]) -> Iterator[Fault]:
    """Find what is wrong between keys that are each valid by themselves.

    A check is left out where one of its values is damaged: that one has its own fault.

    Args:
        draft: The configuration.
        written: The key paths that the document or the environment gives; the others are defaults.
    """
    for order in orders(draft.config):
        yield from order.check(draft, written)
    for reference in _references(draft.config):
        yield from reference.check(draft)
    yield from _fallbacks(draft.config)
    yield from _roles(draft)
    yield from tool_server_faults(draft)
    yield from login_faults(draft)
    yield from connection_faults(draft, written)


def unused(config: Config) -> Iterator[Fault]:
    """Find tool servers, connections and policies that are defined and that nobody uses."""
    for path, _ in all_servers(config):
        agents = [agent for name, agent in config.agents.items() if _covers(path, name, agent)]
        if not any(path[-1] in agent.mcp for agent in agents):
            yield Fault(path, "no agent uses this tool server", f"add {shown(path[-1])} to the mcp of an agent")
    wanted = {name for agent in config.agents.values() for name in agent.connections}
    for name in config.connections:
        if name not in wanted:
            hint = f"add {shown(name)} to the connections of an agent"
            yield Fault(("connections", name), "no agent uses this connection", hint)
    used = {(reference.table, reference.name) for reference in _references(config)}
    for kind in map(key_of, attrs.fields(type(config.policies))):
        for name in getattr(config.policies, kind):
            if (("policies", kind), name) not in used:
                yield Fault(("policies", kind, name), "nothing refers to this policy")


def _covers(server: KeyPath, name: str, agent: AgentConfig) -> bool:
    scope = server[1:-1]
    return scope in {("global",), ("roles", agent.role), ("agents", name)}


@attrs.frozen
class _Reference:
    """A key that names an entry of a table."""

    path: KeyPath
    name: str
    what: str
    table: KeyPath
    entries: Mapping[Name, object]

    def check(self, draft: Draft) -> Iterator[Fault]:
        if self.name in self.entries or draft.is_damaged((*self.table, self.name)):
            return
        hint = did_you_mean(self.name, self.entries) or f"add [{dotted((*self.table, self.name))}]"
        yield Fault(self.path, f"there is no {self.what} {shown(self.name)}", hint)


def _references(config: Config) -> Iterator[_Reference]:
    policies = config.policies
    agents: KeyPath = ("agents",)
    for name, agent in config.agents.items():
        path: KeyPath = ("agents", name)
        for key, other in (("manager", agent.manager), ("fallback", agent.fallback)):
            if other is not None:
                yield _Reference((*path, key), other, "agent", agents, config.agents)
        if agent.breaker is not None:
            table = ("policies", "breaker")
            yield _Reference((*path, "breaker"), agent.breaker, "breaker policy", table, policies.breaker)
    for name in config.mcp.agents:
        yield _Reference(("mcp", "agents", name), name, "agent", agents, config.agents)
    yield from _of_servers(config)
    for attribute in attrs.fields(type(config.actors)):
        policy = getattr(config.actors, attribute.name)
        if policy is not None:
            table = ("policies", "restart")
            yield _Reference(("actors", attribute.name), policy, "restart policy", table, policies.restart)


def _of_servers(config: Config) -> Iterator[_Reference]:
    for server_path, server in all_servers(config):
        for key, kind in _SERVER_POLICIES.items():
            named = getattr(server, key)
            if named is not None:
                what = f"{kind.replace('_', ' ')} policy"
                yield _Reference((*server_path, key), named, what, ("policies", kind), getattr(config.policies, kind))


def _fallbacks(config: Config) -> Iterator[Fault]:
    known_cycles: set[frozenset[str]] = set()
    for start in config.agents:
        # Each agent has one fallback at most, so the way from it is a line that may run into a ring.
        way = list(itertools.islice(_way(config, start), len(config.agents) + 1))
        if start not in way[1:]:
            continue
        ring = way[: way.index(start, 1)]
        if frozenset(ring) in known_cycles:
            continue
        known_cycles.add(frozenset(ring))
        path = ("agents", start, "fallback" if config.agents[start].fallback is not None else "manager")
        if len(ring) == 1:
            yield Fault(path, f"an agent cannot be its own {path[-1]}", "name another agent, or leave it out")
        else:
            message = f"the fallbacks form a cycle: {' -> '.join([*ring, start])}"
            managed = any(config.agents[Name(name)].fallback is None for name in ring)
            hint = (
                "name another fallback: where there is none it is the manager" if managed else "leave one of them out"
            )
            yield Fault(path, message, hint)


def _way(config: Config, start: Name) -> Iterator[Name]:
    name: Name | None = start
    while name is not None and name in config.agents:
        yield name
        name = config.agents[name].stand_in


def _roles(draft: Draft) -> Iterator[Fault]:
    """Check that somebody has each role that tool servers are given to."""
    in_agents = [path[1:] for path in draft.damaged if path[0] == "agents"]
    if any(rest == () or rest[1:] in {(), ("role",)} for rest in in_agents):
        return  # The role may be that of an agent that was not understood.
    roles = {agent.role for agent in draft.config.agents.values() if agent.role is not None}
    for role in draft.config.mcp.roles:
        if role not in roles:
            hint = did_you_mean(role, roles) or f"add role = {shown(role)} to an agent, or leave this out"
            yield Fault(("mcp", "roles", role), f"no agent has the role {shown(role)}", hint)
