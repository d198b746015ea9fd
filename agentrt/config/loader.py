"""Reading ``config.toml``: from a path to a configuration, or to every mistake in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from agentrt.config.checks import cross_check, unused
from agentrt.config.classes import check_classes as check_agent_classes
from agentrt.config.environment import ENVIRONMENT, Merged, Source, merge
from agentrt.config.lines import line_numbers
from agentrt.config.model import Config
from agentrt.config.problems import ConfigError, Fault, KeyPath, Problem, dotted, in_order
from agentrt.config.scopes import Scattered, gather
from agentrt.config.structure import structure

_SYNTAX_ERROR = re.compile(
    r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL
)
_BARE_UNIT = re.compile(r"=\s*(?P<value>[0-9][0-9.]*[A-Za-z]+)")


@attrs.frozen
class Places:
    """Says where a key stands, and so where a fault is to be mended.

    Args:
        file: The document.
        lines: On which of its lines each key stands.
        variables: The environment variable that a key is from, by its path.
        scattered: The tool servers that stand elsewhere.
    """

    file: str
    lines: Mapping[KeyPath, int]
    variables: Mapping[KeyPath, str]
    scattered: Scattered

    def place(self, path: KeyPath) -> tuple[str, int | None]:
        """The file and the line where a key stands, or the variable and None."""
        if path in self.variables:
            return self.variables[path], None
        elsewhere = self.scattered.origin_of(path)
        if elsewhere is not None:
            origin, below = elsewhere
            return origin.key or origin.file, origin.line_of(below)
        # What is missing has no line of its own: the table that it belongs in has one.
        around = (path[:length] for length in range(len(path), 0, -1))
        return self.file, next((self.lines[one] for one in around if one in self.lines), 1)

    def problem(self, fault: Fault) -> Problem:
        """Put a fault where it is to be mended."""
        file, line = self.place(fault.path)
        elsewhere = self.scattered.origin_of(fault.path)
        is_variable = fault.path in self.variables or (elsewhere is not None and elsewhere[0].key is not None)
        if is_variable:
            return Problem(ENVIRONMENT, None, file, fault.message, fault.hint)
        return Problem(file, line, dotted(fault.path), fault.message, fault.hint)


@attrs.frozen
class Loaded:
    """A configuration without mistakes.

    Args:
        config: The configuration.
        file: Where it was read from.
        folder: The file's folder, absolute: relative paths begin here, and users' modules are found here.
        warnings: What is not wrong and probably not meant either.
        sources: For each key that has an environment variable (``bus.url``, ``memory.server_warn``, ...), whether the
            file, the environment or the default counted.
        places: Where each key stands, for people.
    """

    config: Config
    file: Path
    folder: Path
    warnings: tuple[Problem, ...]
    sources: Mapping[str, Source]
    places: Places = attrs.field(factory=lambda: Places("", {}, {}, Scattered()), repr=False)


def load(path: Path, environ: Mapping[str, str], *, check_classes: bool = False, base: type = object) -> Loaded:
    """Read a configuration and check all of it.

    Secrets are not read: whether a reference leads anywhere shows when it is used.

    Args:
        path: The TOML file.
        environ: The environment, usually ``os.environ``.
        check_classes: Import the agents' classes too, which runs users' code and appends the folder to ``sys.path``.
        base: With *check_classes*, what each class must be a subclass of.

    Raises:
        ConfigError: The file cannot be read, or there are mistakes in it; the error holds every one of them.
    """
    # Not resolved: a mounted ConfigMap is a link into a folder that goes away with the next change.
    folder = path.absolute().parent
    document, lines = _parse(path, _read(path))
    merged = merge(document, environ)
    scattered = gather(document, folder, environ)
    draft = structure(document)
    # A malformed variable is not in the document, and what stands for it there is a default.
    draft = attrs.evolve(draft, damaged=draft.damaged | _malformed(merged))
    written = {*lines, *merged.variables, *_written(scattered)}
    faults = [*draft.faults, *cross_check(draft, written)]
    if check_classes:
        faults += check_agent_classes(draft, folder, base)
    places = Places(str(path), lines, merged.variables, scattered)
    if faults or merged.problems or scattered.problems:
        raise ConfigError([*merged.problems, *scattered.problems, *map(places.problem, faults)])
    warnings = in_order(map(places.problem, unused(draft.config)))
    return Loaded(draft.config, path, folder, warnings, merged.sources, places)


def _written(scattered: Scattered) -> set[KeyPath]:
    return {path + below for path, origin in scattered.origins.items() for below in origin.lines}


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise _unreadable(path, "this is a directory", "name the file in it, usually config.toml") from None
    except FileNotFoundError:
        raise _unreadable(path, "there is no such file", "write one, or name another") from None
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror or error}", "") from error
    try:
        # Some editors begin a file with a byte order mark.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: the byte 0x{data[error.start]:02x} at offset {error.start}"
        raise _unreadable(path, message, "save the file as UTF-8", line) from None


def _unreadable(path: Path, message: str, hint: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem(str(path), line, "", message, hint)])


def _parse(path: Path, text: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    try:
        return tomllib.loads(text), line_numbers(text)
    except RecursionError:
        raise _unreadable(path, "not usable TOML: arrays or tables are nested too deeply", "") from None
    except ValueError as error:  # Also for a number of thousands of digits, which is no TOMLDecodeError.
        raise _syntax_error(path, text, str(error)) from None


def _syntax_error(path: Path, text: str, said: str) -> ConfigError:
    match = _SYNTAX_ERROR.fullmatch(said)
    if match is None:
        return _unreadable(path, f"not valid TOML: {said}", "")
    rows = text.split("\n")
    if match["line"] is None:
        last = text.count("\n", 0, len(text.rstrip())) + 1
        return _unreadable(path, f"not valid TOML: {match['what']} (at the end of the file)", "", last)
    line = int(match["line"])
    unit = _BARE_UNIT.search(rows[line - 1])
    hint = f'durations and sizes are strings: write "{unit["value"]}"' if unit else ""
    return _unreadable(path, f"not valid TOML: {match['what']} (column {match['column']})", hint, line)


def _malformed(merged: Merged) -> set[KeyPath]:
    names = {problem.key_path for problem in merged.problems}
    return {path for path, name in merged.variables.items() if name in names}
