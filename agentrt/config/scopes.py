"""Tool servers that are configured outside of ``config.toml``: in a folder, as a ConfigMap is, or a variable."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from agentrt.config.environment import ENVIRONMENT
from agentrt.config.lines import line_numbers
from agentrt.config.problems import KeyPath, Problem, dotted

#: ``AGENTRT_MCP__GLOBAL__ARCHIVE``, ``AGENTRT_MCP__ROLES__MANAGER__ARCHIVE``, ``AGENTRT_MCP__AGENTS__EDITOR__ARCHIVE``.
PREFIX = "AGENTRT_MCP__"
_NAMED_SCOPES = {"global": 2, "roles": 3, "agents": 3}
_FILES = "name it global.SERVER.toml, roles.ROLE.SERVER.toml or agents.AGENT.SERVER.toml"
_VARIABLES = f"name it {PREFIX}GLOBAL__SERVER, {PREFIX}ROLES__ROLE__SERVER or {PREFIX}AGENTS__AGENT__SERVER"


@attrs.frozen
class Origin:
    """Where the configuration of one tool server stands, if not in ``config.toml``.

    Args:
        file: The file, or ``environment``.
        key: The variable's name; None for a file.
        lines: On which line of the file each of its keys stands, by the path below the server's table.
    """

    file: str
    key: str | None
    lines: Mapping[KeyPath, int]

    def line_of(self, below: KeyPath) -> int | None:
        """On which line a key stands, or the nearest table around it; None for a variable."""
        if self.key is not None:
            return None
        around = (below[:length] for length in range(len(below), 0, -1))
        return next((self.lines[path] for path in around if path in self.lines), 1)


@attrs.define
class Scattered:
    """What was found outside of the document.

    Args:
        origins: By the path of the server's table.
        problems: What cannot be used.
    """

    origins: dict[KeyPath, Origin] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)

    def origin_of(self, path: KeyPath) -> tuple[Origin, KeyPath] | None:
        """Find where a key stands, and its path below its server's table; None where it is in the document."""
        for length in range(len(path), 2, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]], path[length:]
        return None


def gather(document: dict[str, Any], folder: Path, environ: Mapping[str, str]) -> Scattered:
    """Put tool servers from ``[mcp] folder`` and from the environment into *document*.

    What stands in a file wins over the environment. A server that two files configure at one scope is a mistake.

    Args:
        document: What ``tomllib`` read; tables are added to it.
        folder: Where a relative ``[mcp] folder`` begins.
        environ: The environment.
    """
    found = Scattered()
    mcp = document.get("mcp", {})
    if not isinstance(mcp, dict):
        return found
    where = mcp.get("folder")
    if isinstance(where, str) and where:
        _from_folder(document, folder / where, found)
    for name in sorted(environ):
        if name.startswith(PREFIX) and environ[name].strip():
            _from_variable(document, name, environ[name], found)
    return found


def _from_folder(document: dict[str, Any], folder: Path, found: Scattered) -> None:
    try:
        # A mounted ConfigMap keeps its versions in folders whose names begin with two dots.
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        found.problems.append(Problem(str(folder), None, "mcp.folder", message, "make it, or leave the key out"))
        return
    for file in files:
        path = _path_of(file.name.removesuffix(".toml").split("."))
        if path is None or file.suffix != ".toml":
            found.problems.append(Problem(str(file), None, "", "its name says no scope and server", _FILES))
            continue
        try:
            text = file.read_bytes().decode()
            table = tomllib.loads(text)
        except (OSError, ValueError) as error:
            found.problems.append(Problem(str(file), None, dotted(path), f"not usable: {error}"))
            continue
        if not _put(document, path, table):
            message = f"[{dotted(path)}] stands in another file, too"
            found.problems.append(Problem(str(file), None, dotted(path), message, "leave one of them out"))
            continue
        found.origins[path] = Origin(str(file), None, line_numbers(text))


def _from_variable(document: dict[str, Any], name: str, value: str, found: Scattered) -> None:
    words = name.removeprefix(PREFIX).lower().replace("_", "-").split("--")
    path = _path_of(words)
    if path is None:
        found.problems.append(Problem(ENVIRONMENT, None, name, "its name says no scope and server", _VARIABLES))
        return
    try:
        table = tomllib.loads(f"server = {value}")["server"]
    except ValueError:
        # The value is not repeated: it may hold what it should not.
        hint = 'write { command = ["python", "-m", "archive_server"] }'
        found.problems.append(Problem(ENVIRONMENT, None, name, "not a table in TOML", hint))
        return
    if _put(document, path, table):
        found.origins[path] = Origin(ENVIRONMENT, name, {})


def _path_of(words: list[str]) -> KeyPath | None:
    if not words or _NAMED_SCOPES.get(words[0]) != len(words) or not all(words):
        return None
    return ("mcp", *words)


def _put(document: dict[str, Any], path: KeyPath, table: Any) -> bool:
    """Put a table where nothing stands yet; what is no table on the way has a fault of its own."""
    around: Any = document
    for key in path[:-1]:
        around = around.setdefault(key, {})
        if not isinstance(around, dict):
            return True
    if path[-1] in around:
        return False
    around[path[-1]] = table
    return True
