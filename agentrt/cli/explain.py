"""``agentrt config explain``: which configuration of its tool servers an agent gets, from where, and what it hides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import attrs
import typer

from agentrt.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, read_config
from agentrt.cli.exits import ExitCode, Failure
from agentrt.config import Loaded, McpServerConfig, Name, ResolvedServer, path_of, servers_of

#: Values that may be secrets: of these only references are shown.
_HIDDEN = ("env", "headers")

app = typer.Typer(
    name="config", help="Look at the configuration.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)


@app.callback()
def _config() -> None:
    """Look at the configuration."""


@app.command(short_help="Say which tool servers an agent has, and from where.")
def explain(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,  # noqa: FBT002 - an option.
) -> None:
    """Say which configuration of each tool server counts for an agent, where it stands, and what it hides.

    An agent's own wins over its role's, and that over the global one; the one that wins counts whole.
    """
    loaded = read_config(config)
    if agent not in loaded.config.agents:
        known = ", ".join(loaded.config.agents)
        raise Failure(f"no agent {agent!r} in {config} (there are: {known})", ExitCode.NO_SUCH_AGENT)
    if as_json:
        print_json(as_data(loaded, Name(agent)))
        return
    for line in lines(loaded, Name(agent)):
        typer.echo(line)


def as_data(loaded: Loaded, agent: Name) -> dict[str, Any]:
    """Explain an agent's tool servers as data."""
    return {
        "agent": agent,
        "role": loaded.config.agents[agent].role,
        "servers": [_server(loaded, name, found) for name, found in servers_of(loaded.config, agent).items()],
        "from_environment": [key for key, source in loaded.sources.items() if source == "environment"],
    }


def lines(loaded: Loaded, agent: Name) -> Iterator[str]:
    """Explain them for people."""
    data = as_data(loaded, agent)
    role = f", role {data['role']}" if data["role"] else ""
    yield f"agent {agent}{role}"
    for server in data["servers"]:
        yield f"  {server['server']}: [mcp.{server['scope']}.{server['server']}] {_place(server)}"
        settings = server["settings"]
        yield f"    {settings['url'] or ' '.join(settings['command'])}"
        for hidden in server["hides"]:
            yield f"    hides [mcp.{hidden['scope']}.{server['server']}] {_place(hidden)}"
    if not data["servers"]:
        yield "  no tool servers"
    for key in data["from_environment"]:
        yield f"{key} is from the environment"


def _server(loaded: Loaded, name: Name, found: ResolvedServer) -> dict[str, Any]:
    return {
        "server": name,
        "scope": found.scope,
        **_where(loaded, found.scope, name),
        "hides": [{"scope": scope, **_where(loaded, scope, name)} for scope in found.hidden],
        "settings": _settings(found.value),
    }


def _where(loaded: Loaded, scope: str, name: Name) -> dict[str, Any]:
    file, line = loaded.places.place(path_of(scope, name))
    return {"file": file, "line": line}


def _place(where: dict[str, Any]) -> str:
    return where["file"] if where["line"] is None else f"{where['file']}:{where['line']}"


def _settings(config: McpServerConfig) -> dict[str, Any]:
    settings = attrs.asdict(config, value_serializer=lambda _, __, value: _plain(value))
    for key in _HIDDEN:
        settings[key] = {
            name: value if value.startswith(("env:", "file:")) else "***" for name, value in settings[key].items()
        }
    return settings


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if attrs.has(type(value)):
        # A table of its own, of which each value comes here too.
        return value
    return value if value is None or isinstance(value, bool | int | float | str | list | dict) else str(value)
