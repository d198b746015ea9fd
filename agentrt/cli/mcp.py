"""``agentrt mcp``: tool servers of any client, kept alive."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agentrt.cli.exits import ExitCode, Failure
from agentrt.config.problems import Invalid
from agentrt.config.units import parse_duration, parse_size

#: The entry point group of programs that stand for themselves.
_GROUP = "agentrt.programs"
#: What starts a server by its name or file, and words of theirs that are neither.
_LAUNCHERS = re.compile(r"python[0-9.]*|node|bun|deno|npx|bunx|pnpx|uvx|uv|pipx")
_LAUNCH = frozenset({"run", "tool", "exec", "x"})

app = typer.Typer(
    name="mcp",
    help="Keep tool servers alive, for any MCP client.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def _mcp() -> None:
    """Keep tool servers alive, for any MCP client."""


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except Invalid as error:
        raise typer.BadParameter(_said(error)) from None


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except Invalid as error:
        raise typer.BadParameter(_said(error)) from None


def _said(error: Invalid) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)


def _name_of(command: list[str]) -> str:
    """Take the program's name, or that of what a launcher launches: four servers called python are no help."""
    program, *words = (Path(command[0]).name, *command[1:])
    if not _LAUNCHERS.fullmatch(program):
        return program
    launched = (word for word in words if not word.startswith("-") and word not in _LAUNCH)
    name = next(launched, program)
    return Path(name).name if Path(name).is_absolute() else name


@app.command(
    context_settings={"allow_interspersed_args": False}, short_help="Wrap a stdio MCP server: its crashes are a pause."
)
def guard(  # noqa: PLR0917 - each is an option by its name.
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="The server, behind --.")],
    name: Annotated[str | None, typer.Option(help="What the server is called in reports; else as its program.")] = None,
    wait: Annotated[
        float, typer.Option(parser=_duration, metavar="DURATION", help="How long a request waits for a server.")
    ] = "30s",  # type: ignore[assignment]  # The parser reads it.
    start_timeout: Annotated[
        float, typer.Option(parser=_duration, metavar="DURATION", help="For a new server to take the handshake.")
    ] = "30s",  # type: ignore[assignment]  # As above, and below.
    call_timeout: Annotated[
        float, typer.Option(parser=_duration, metavar="DURATION", help="After which a call fails; 0s is never.")
    ] = "0s",  # type: ignore[assignment]
    ping_interval: Annotated[
        float, typer.Option(parser=_duration, metavar="DURATION", help="Between looks at an idle server; 0s is never.")
    ] = "30s",  # type: ignore[assignment]
    memory_warn: Annotated[
        int, typer.Option(parser=_size, metavar="SIZE", help="Resident memory to warn at; 0 is none.")
    ] = "0",  # type: ignore[assignment]
    memory_limit: Annotated[
        int, typer.Option(parser=_size, metavar="SIZE", help="Resident memory at which it is replaced; 0 is none.")
    ] = "0",  # type: ignore[assignment]
    restart_every: Annotated[
        float, typer.Option(parser=_duration, metavar="DURATION", help="Age at which it is replaced; 0s is never.")
    ] = "0s",  # type: ignore[assignment]
    warm_spare: Annotated[  # noqa: FBT002 - an option.
        bool, typer.Option("--warm-spare", help="Keep a second server started, which takes over at once.")
    ] = False,
    max_line: Annotated[
        int, typer.Option(parser=_size, metavar="SIZE", help="The longest line that passes.")
    ] = "32MiB",  # type: ignore[assignment]
    status_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the status is kept, as JSON.", dir_okay=False)
    ] = None,
    metrics: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Prometheus metrics on this port of loopback; 0 is any.", min=0, max=65535),
    ] = None,
) -> None:
    """Wrap a stdio MCP server, so that its client notices nothing of its crashes but a pause.

    Put it before the command in any MCP client's configuration: agentrt mcp guard -- COMMAND...

    The session goes on with the next server. A request in flight is sent again where that is safe (it only reads, its
    tool is declared idempotent, or the dead server never read it), else it fails at once: "outcome unknown".
    """
    _become(
        _program("mcp-guard"),
        {
            "name": name or _name_of(command),
            "wait": wait,
            "start_timeout": start_timeout,
            "call_timeout": call_timeout,
            "ping_interval": ping_interval,
            "memory_warn": memory_warn,
            "memory_limit": memory_limit,
            "restart_every": restart_every,
            "warm_spare": warm_spare,
            "max_line": max_line,
            "status_file": str(status_file) if status_file else None,
            "metrics_port": metrics,
        },
        command,
    )


@app.command(short_help="Stand before MCP servers over HTTP, and retry for them.")
def proxy(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A TOML file with [proxy], [backends] and [tenants].")
    ] = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where; else 127.0.0.1:8090.")] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="[TENANT/]NAME=URL[,URL...]", help="A backend and its replicas; may be repeated."),
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Speak TLS: the certificate, as PEM, with those above it.")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="The key of --tls-cert.")] = None,
    tenant_header: Annotated[str | None, typer.Option(metavar="NAME", help="A header that names the tenant.")] = None,
    drain_timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="For calls in hand to finish at the end.")
    ] = None,
    log_level: Annotated[str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = "info",
) -> None:
    """Stand before MCP servers over HTTP, and keep their restarts and bad moments from their clients.

    A client talks to http://HOST:PORT/NAME/mcp, or to /TENANT/NAME/mcp. What failed in passing (502, 503, 504, refused,
    reset) is tried again where that is safe; a session that its server lost is made anew; /health/ready and /metrics
    say how it is. Options win over the file.
    """
    from agentrt.cli.proxy import serve_proxy  # noqa: PLC0415 - it needs more than the guard, which is to be small.

    options = {
        "listen": listen,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tenant_header": tenant_header,
        "drain_timeout": drain_timeout,
    }
    given = {key: value for key, value in options.items() if value is not None}
    raise typer.Exit(serve_proxy(_program("mcp-proxy").load(), config, given, backend or [], log_level))


@app.command(short_help="Log in to a tool server, in a browser.")
def login(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="An agent that uses the server.")],
    server: Annotated[str, typer.Argument(metavar="SERVER", help="The server's name in the configuration.")],
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="The fleet's configuration.", show_default=True)
    ] = Path("config.toml"),
) -> None:
    """Log in to a tool server that wants a person's consent, in a browser, so that sessions can do without one.

    What the server gives for it is kept in the server's oauth.login_file. A fleet that runs picks it up.
    """
    from agentrt.cli.login import ask_person  # noqa: PLC0415 - as above.

    raise typer.Exit(ask_person(_program("mcp-login").load(), config, agent, server))


def _program(name: str) -> EntryPoint:
    for point in entry_points(group=_GROUP, name=name):
        return point
    raise Failure(f"the program {name!r} is not installed; install agentrt again", ExitCode.BROKEN)


def _become(program: EntryPoint, settings: dict[str, object], words: list[str]) -> NoReturn:
    """Go on as a program that is small and stays for days: what read the command line would be most of it."""
    # -P, because the folder that a client starts its servers in is no place to import from. No shell is wanted.
    os.execv(sys.executable, [sys.executable, "-P", "-m", program.module, json.dumps(settings), *words])  # noqa: S606
