"""What a configuration names and this machine has not: no mistakes, since it may be there where the fleet runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from agentrt.config import Loaded, McpServerConfig, Problem, Secret, SecretError, resolve_secret
from agentrt.config.hooks import key_of
from agentrt.config.problems import Fault, KeyPath, in_order, shown
from agentrt.config.servers import all_servers
from agentrt.fleet.batteries import Batteries
from agentrt.ports import BatteryMissing

_REFERENCE = re.compile(r"env:|file:")


def missing_here(loaded: Loaded, environ: Mapping[str, str], state_dir: Path) -> tuple[Problem, ...]:
    """Find the secrets, programs and folders that are not here, and a nats-server where the fleet brings its own.

    Args:
        loaded: The configuration.
        environ: Where ``env:NAME`` is looked up.
        state_dir: The fleet's state directory; nothing is written to it.
    """
    config = loaded.config
    faults = [*_secrets(config, (), environ, loaded.folder)]
    for path, server in all_servers(config):
        faults += _server(path, server, environ, loaded.folder)
    if config.bus.url is None:
        try:
            Batteries()["nats-server"].open_handle(state_dir, int(config.bus.max_store), config.bus.embedded_nodes)
        except BatteryMissing as error:
            faults.append(Fault(("bus",), str(error)))
    return in_order(map(loaded.places.problem, faults))


def _secrets(value: Any, path: KeyPath, environ: Mapping[str, str], folder: Path) -> Iterator[Fault]:
    if isinstance(value, str) and _REFERENCE.match(value):
        try:
            resolve_secret(Secret(value), environ, folder)
        except SecretError as error:
            yield Fault(path, str(error))
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _secrets(below, (*path, key), environ, folder)
    elif attrs.has(type(value)):
        for attribute in attrs.fields(type(value)):
            # An agent's own options are nobody else's to read.
            if attribute.name != "options":
                yield from _secrets(getattr(value, attribute.name), (*path, key_of(attribute)), environ, folder)


def _server(path: KeyPath, server: McpServerConfig, environ: Mapping[str, str], folder: Path) -> Iterator[Fault]:
    if not server.command:
        return
    cwd = folder / server.cwd if server.cwd is not None else folder
    if not cwd.is_dir():
        yield Fault((*path, "cwd"), f"there is no folder {shown(str(cwd))}")
        return
    program = server.command[0]
    # As the system looks for it: a name on PATH, and a path from where the server runs.
    found = cwd / program if "/" in program else shutil.which(program, path=server.env.get("PATH", environ.get("PATH")))
    if found is None or shutil.which(found) is None:
        yield Fault((*path, "command"), f"there is no program {shown(program)}", "install it, or write its path")
