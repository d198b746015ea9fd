"""``agentrt mcp login``, composed: which server is meant, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from agentrt.cli.common import read_config, run_async
from agentrt.cli.exits import ExitCode, Failure
from agentrt.config import McpServerConfig, Name, servers_of
from agentrt.fleet.member import placed_server


def ask_person(program: Any, config: Path, agent: str, server: str) -> int:
    """Ask the person at this machine; return the exit status.

    Args:
        program: Asks.
        config: The fleet's configuration.
        agent: Whose server it is: that decides on the scope.
        server: Its name.

    Raises:
        Failure: It did not work, for a reason that a person can mend.
    """
    found = find(config, agent, server)
    try:
        tools = run_async(program, found, lambda line: typer.echo(line, err=True))
    except Exception as error:
        # The battery's own error is not known here.
        if type(error).__name__ != "LoginFailed":
            raise
        raise Failure(f"not logged in: {error}", ExitCode.UNAVAILABLE) from error
    assert found.oauth is not None
    typer.echo(f"logged in: {server} has {tools} tools; kept in {found.oauth.login_file}")
    return ExitCode.OK


def find(config: Path, agent: str, server: str) -> McpServerConfig:
    """Find a server that keeps a person's login.

    Raises:
        Failure: There is none.
    """
    loaded = read_config(config)
    if agent not in loaded.config.agents:
        known = ", ".join(loaded.config.agents)
        raise Failure(f"no agent {agent!r} in {config} (there are: {known})", ExitCode.NO_SUCH_AGENT)
    servers = servers_of(loaded.config, Name(agent))
    if server not in servers:
        known = ", ".join(servers) or "none"
        raise Failure(f"agent {agent!r} has no tool server {server!r} (it has: {known})", ExitCode.CONFIG)
    found = servers[Name(server)].value
    if found.oauth is None or found.oauth.login_file is None:
        hint = f"add login_file to the oauth of {server!r}"
        raise Failure(f"the tool server {server!r} has no place for a person's login; {hint}", ExitCode.CONFIG)
    return placed_server(found, loaded.folder)
