"""``agentrt run``: run a fleet until it is asked to stop."""

from __future__ import annotations

import os

import typer
from rich.text import Text

from agentrt.agent import Agent
from agentrt.cli.check import public_url
from agentrt.cli.common import DEFAULT_CONFIG, ConfigArgument, config_failure, run_async, state_dir
from agentrt.cli.exits import ExitCode, Failure
from agentrt.cli.pictures import console
from agentrt.cli.serve import Service
from agentrt.cli.statedir import RunInfo, StateDir, hold
from agentrt.cli.stopping import StopSignals
from agentrt.config import ConfigError, Loaded, load
from agentrt.fleet import Fleet
from agentrt.ops import logs


def run(config: ConfigArgument = DEFAULT_CONFIG) -> None:
    """Run a fleet until SIGINT (Ctrl-C), SIGTERM or SIGHUP.

    The first one stops it in order: tasks in hand may end within the drain timeout, and what did not is given back. A
    second one ends it at once.
    """
    try:
        loaded = load(config, os.environ, check_classes=True, base=Agent)
    except ConfigError as error:
        raise config_failure(error) from error
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    logs.configure(loaded.config.log)
    with hold(state_dir(loaded)) as state:
        try:
            code = run_async(_serve, loaded, state)
        except SystemExit as asked:
            told = f"code of yours called sys.exit({asked.code!r}), which ended the fleet in order"
            raise Failure(f"{told}; the log says which: raise an exception instead", ExitCode.BROKEN) from asked
    raise typer.Exit(code)


async def _serve(loaded: Loaded, state: StateDir) -> int:
    service = Service(loaded, state, announce=draw)
    signals = StopSignals(service.stop, service.cancel)
    with signals.listening():
        await service.run()
    return signals.exit_code


def draw(fleet: Fleet, info: RunInfo) -> None:
    """Say on a terminal what runs and where it can be reached."""
    out = console(stderr=True)
    if not out.is_terminal:
        return
    out.print(Text.assemble(("agentrt ", "bold"), info.version, "  fleet ", (fleet.name, "bold")))
    for url in info.bus_url.split(","):
        out.print(Text(f"  bus     {public_url(url.strip())}"))
    out.print(Text(f"  health  http://{info.health}/health/ready"))
    for status in fleet.statuses():
        out.print(Text(f"  agent   {status.name}  {status.state}"))
