"""``agentrt ps``, ``agentrt tree`` and ``agentrt stop``: asking a running fleet by its control socket."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from agentrt.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, duration, print_json, read_config, running
from agentrt.cli.common import state_dir as state_dir_of
from agentrt.cli.control import ask
from agentrt.cli.exits import ExitCode, Failure
from agentrt.cli.pictures import actors_tree, agents_table, console, servers_table
from agentrt.cli.statedir import is_held

_LOOK_AGAIN = 0.1


def ps(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:  # noqa: FBT002 - an option.
    """Show the agents of a running fleet, and its bus servers.

    WHY says what keeps an agent from working, where something does.
    """
    found = _ask(config, "ps")
    if as_json:
        print_json(found)
    else:
        console().print(agents_table(found["agents"]))
        if found["servers"]:
            console().print()
            console().print(servers_table(found["servers"]))


def tree(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:  # noqa: FBT002 - an option.
    """Show the actors of a running fleet.

    Those that do not run are shown with the way they ended.
    """
    found = _ask(config, "tree")
    if as_json:
        print_json(found)
    else:
        console().print(actors_tree(found))


def stop(
    config: ConfigOption = DEFAULT_CONFIG,
    timeout: Annotated[
        float, typer.Option(parser=duration, metavar="DURATION", help="How long to wait until it is down.")
    ] = "60s",  # type: ignore[assignment]
) -> None:
    """Stop a running fleet in order and wait for it."""
    loaded = read_config(config)
    info = running(loaded)
    ask(info.control, "stop", health=info.health, pid=info.pid)
    deadline = time.monotonic() + timeout
    while is_held(state_dir_of(loaded)):
        if time.monotonic() > deadline:
            raise Failure(f"the fleet (pid {info.pid}) is still stopping", ExitCode.TRY_LATER)
        time.sleep(_LOOK_AGAIN)


def _ask(config: ConfigOption, what: str) -> Any:
    info = running(read_config(config))
    return ask(info.control, what, health=info.health, pid=info.pid)
