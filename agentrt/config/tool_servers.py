"""Checks of tool servers: each has one transport, one configuration that counts, and one owner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from agentrt.config.model import Config, McpServerConfig
from agentrt.config.oauth import IDENTITY, PROOFS, oauth_faults
from agentrt.config.problems import Fault, KeyPath, did_you_mean, dotted, shown
from agentrt.config.scalars import Name
from agentrt.config.servers import all_servers, path_of
from agentrt.config.structure import Draft
from agentrt.policy import NotConfigured, Resolved, resolve

#: Keys that mean something over one transport only.
_ONLY_WITH = {"command": ("env", "cwd"), "url": ("headers", "token", "oauth")}


def tool_server_faults(draft: Draft) -> Iterator[Fault]:
    """Find what is wrong with tool servers and with who uses them."""
    for path, settings in all_servers(draft.config):
        if not any(draft.is_damaged((*path, key)) for key in _ONLY_WITH):
            yield from _transport(path, settings)
            login: KeyPath = (*path, "oauth")
            if settings.oauth is not None and not any(draft.is_damaged((*login, key)) for key in (*IDENTITY, *PROOFS)):
                yield from oauth_faults(login, settings.oauth)
    owners: dict[KeyPath, Name] = {}
    for name, agent in draft.config.agents.items():
        found: dict[Name, Resolved[McpServerConfig]] = {}
        for index, server in enumerate(agent.mcp):
            place: KeyPath = ("agents", name, "mcp", index)
            if server in found:
                message = f"{shown(server)} stands here twice: one server cannot have two owners"
                yield Fault(place, message, "leave it out once")
                continue
            try:
                resolved = resolve(server, name, agent.role, draft.config.mcp)
            except NotConfigured as error:
                yield from _not_configured(draft, name, place, error)
                continue
            yield from _second_owner(place, found, server, resolved)
            yield from _second_agent(place, owners, name, server, resolved)
            found[server] = resolved


def _transport(path: KeyPath, server: McpServerConfig) -> Iterator[Fault]:
    hint = 'write command = ["python", "-m", "archive_server"] or url = "http://host:8000/mcp"'
    if server.command is None and server.url is None:
        yield Fault(path, "neither command nor url says what this tool server is", hint)
    elif server.command is not None and server.url is not None:
        yield Fault((*path, "url"), "command and url exclude each other", "leave one of them out")
    else:
        used, other = ("url", "command") if server.url is not None else ("command", "url")
        for key in _ONLY_WITH[other]:
            if getattr(server, key):
                yield Fault((*path, key), f"means nothing for a server that is given by {used}", "leave it out")
    if server.oauth is not None and (server.token is not None or "authorization" in map(str.lower, server.headers)):
        message = "there are two ways to log in: with oauth, and with a token of one's own"
        yield Fault((*path, "oauth"), message, "leave one of them out")
    if server.command is not None and _is_guard(server.command):
        message = "the server would have two owners: the guard restarts it, and so does the agent's session"
        yield Fault((*path, "command"), message, "leave out the guard: write the command that stands behind it")


def _is_guard(command: tuple[str, ...]) -> bool:
    words = [PurePath(word).name for word in command]
    return any(words[at : at + 3] == ["agentrt", "mcp", "guard"] for at in range(len(words)))


def _not_configured(draft: Draft, agent: Name, place: KeyPath, error: NotConfigured) -> Iterator[Fault]:
    config = draft.config
    tables = [("mcp", *scope.split("."), error.server) for scope in error.searched]
    if any(map(draft.is_damaged, [*tables, ("agents", agent, "role")])):
        return
    message = f"the tool server {shown(error.server)} is not configured at any scope; searched"
    known = {str(path[-1]) for path, _ in all_servers(config)}
    hint = did_you_mean(error.server, known) or f"add [{dotted(tables[-1])}]"
    yield Fault(place, f"{message} {_searched(agent, config)}", hint)


def _searched(agent: Name, config: Config) -> str:
    role = config.agents[agent].role
    by_role = "mcp.roles (the agent has no role)" if role is None else f"mcp.roles.{role}"
    return f"mcp.agents.{agent}, {by_role} and mcp.global"


def _second_owner(
    place: KeyPath, found: dict[Name, Resolved[McpServerConfig]], server: Name, resolved: Resolved[McpServerConfig]
) -> Iterator[Fault]:
    for other, one in found.items():
        if _identity(one.value) == _identity(resolved.value):
            message = f"{shown(server)} is the same server as {shown(other)}: one server cannot have two owners"
            yield Fault(place, message, "leave one of them out, or give them different commands or environments")


def _identity(server: McpServerConfig) -> object:
    return (
        server.command,
        server.url,
        server.cwd,
        server.token,
        server.oauth,
        tuple(sorted(server.env.items())),
        tuple(sorted(server.headers.items())),
    )


def _second_agent(
    place: KeyPath, owners: dict[KeyPath, Name], agent: Name, server: Name, resolved: Resolved[McpServerConfig]
) -> Iterator[Fault]:
    if not resolved.value.exclusive:
        return
    path = path_of(resolved.scope, server)
    owner = owners.setdefault(path, agent)
    if owner != agent:
        message = f"[{dotted(path)}] is exclusive and agent {shown(owner)} has it already: it cannot have two owners"
        yield Fault(place, message, "take it from one of them, or give each its own configuration")
