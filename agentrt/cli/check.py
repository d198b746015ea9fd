"""``agentrt check``: is the configuration right, and what would it run?"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

import attrs
import typer

from agentrt.agent import Agent
from agentrt.cli import check_bus, here
from agentrt.cli.common import (
    DEFAULT_CONFIG,
    ConfigArgument,
    JsonOption,
    config_failure,
    duration,
    print_json,
    state_dir,
)
from agentrt.cli.exits import ExitCode, Failure
from agentrt.config import Config, ConfigError, Loaded, load, servers_of
from agentrt.config.problems import in_order


def check(
    config: ConfigArgument = DEFAULT_CONFIG,
    bus: Annotated[  # noqa: FBT002 - an option, and below.
        bool, typer.Option("--bus", help="Compare what it declares with what its bus has, and change nothing.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(parser=duration, metavar="DURATION", help="How long the bus may take.")
    ] = "10s",  # type: ignore[assignment]
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Validate a configuration without running it.

    The agents' classes are imported, which runs their modules. Secrets, programs and folders that are not on this
    machine are warnings: they may be where the fleet runs.
    """
    try:
        # What modules print while they are imported is no part of the answer.
        with contextlib.redirect_stdout(sys.stderr):
            loaded = load(config, os.environ, check_classes=True, base=Agent)
    except ConfigError as error:
        if not as_json:
            raise config_failure(error) from error
        print_json({"ok": False, "problems": [attrs.asdict(problem) for problem in error.problems], "warnings": []})
        raise typer.Exit(ExitCode.CONFIG) from error
    missing = here.missing_here(loaded, os.environ, state_dir(loaded))
    loaded = attrs.evolve(loaded, warnings=in_order((*loaded.warnings, *missing)))
    if bus:
        _check_bus(loaded, timeout, as_json=as_json)
        return
    if as_json:
        print_json(_answer(loaded))
        return
    _say(loaded)


def _check_bus(loaded: Loaded, timeout: float, *, as_json: bool) -> None:
    try:
        found = check_bus.compare_bus(loaded, timeout)
    except Failure as error:
        if as_json:
            print_json({**_answer(loaded), "ok": False, "bus": {"reachable": False, "reason": str(error)}})
            raise typer.Exit(error.code) from error
        raise
    ok = check_bus.agrees(found)
    if as_json:
        print_json({**_answer(loaded), "ok": ok, "bus": {"reachable": True, "found": check_bus.as_json(found)}})
    else:
        _say(loaded)
        for line in check_bus.lines(found):
            typer.echo(line)
    if not ok:
        raise typer.Exit(ExitCode.DIFFERS)


def _answer(loaded: Loaded) -> dict[str, Any]:
    return {"ok": True, "problems": [], "warnings": _warnings(loaded), "fleet": _summary(loaded)}


def _say(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for line in lines(loaded):
        typer.echo(line)


def lines(loaded: Loaded) -> Iterator[str]:
    """Say in a few lines what a configuration runs."""
    found = _summary(loaded)
    yield f"{loaded.file} is right"
    yield f"fleet    {found['name']}, state in {found['state_dir']}"
    yield f"bus      {found['bus']}"
    yield f"health   http://{found['health']}/health/ready"
    for name, agent in found["agents"].items():
        tools = ", ".join(f"{server} ({scope})" for server, scope in agent["tools"].items())
        connections = ", ".join(agent["connections"])
        yield (
            f"agent    {name}: {agent['class']}"
            + (f", tools {tools}" if tools else "")
            + (f", connections {connections}" if connections else "")
        )


def bus_name(config: Config) -> str:
    """Name the bus that a configuration means, without what is secret in its URL."""
    if config.bus.url is None:
        return "a nats-server of its own" if config.bus.embedded_nodes == 1 else "a cluster of nats-servers of its own"
    return ", ".join(public_url(url.strip()) for url in config.bus.url.split(","))


def public_url(url: str) -> str:
    """Take user and password out of a URL."""
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _summary(loaded: Loaded) -> dict[str, Any]:
    config = loaded.config
    return {
        "name": config.fleet.name,
        "state_dir": str(state_dir(loaded)),
        "bus": bus_name(config),
        "health": config.health.listen,
        "agents": {
            name: {
                "class": agent.class_,
                "tools": {server: found.scope for server, found in servers_of(config, name).items()},
                "connections": list(agent.connections),
            }
            for name, agent in config.agents.items()
        },
    }


def _warnings(loaded: Loaded) -> list[dict[str, Any]]:
    return [attrs.asdict(warning) for warning in loaded.warnings]
