"""What is wrong with a configuration, where, and what to do about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TypeAlias

import attrs

#: Where a value stands in the document: keys of tables and indexes of arrays.
KeyPath: TypeAlias = tuple[str | int, ...]

# Characters of a string, or bits of an integer, that a message repeats.
_SHOWN = 100
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Invalid(ValueError):
    """One value is not what its key takes.

    Args:
        message: What is wrong, without the place.
        hint: What to do about it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@attrs.frozen
class Fault:
    """A mistake in the document before its line was looked up.

    Args:
        path: The key that is to be changed.
        message: What is wrong.
        hint: What to do about it.
    """

    path: KeyPath
    message: str
    hint: str = ""


@attrs.frozen
class Problem:
    """A mistake as a person reads it.

    Args:
        file: The file as it was named by the caller, or ``environment``.
        line: Counts from 1; None where there is no line.
        key_path: The key as written in TOML with dots, or the environment variable; empty for the whole file.
        message: What is wrong.
        hint: What to do about it; may be empty.
    """

    file: str
    line: int | None
    key_path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        what = f"{self.message}; {self.hint}" if self.hint else self.message
        return ": ".join(part for part in (place, self.key_path, what) if part)


class ConfigError(Exception):
    """The configuration cannot be used.

    Attributes:
        problems: Every mistake that was found, in the order of the lines; those without a line come last.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort by line, then by key."""
    return tuple(sorted(problems, key=lambda p: (p.line is None, p.line or 0, p.key_path, p.message)))


def dotted(path: KeyPath) -> str:
    """Write a key path the way TOML does, with indexes in brackets: ``agents.editor.mcp[1]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else shown(part)
            text += f".{key}" if text else key
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name the known word that is nearest to *word*, as a hint; empty where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {shown(near[0])}?" if near else ""


def shown(value: object) -> str:
    """Write a scalar as it stands in TOML, cut short where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        # Python refuses to write integers of many thousands of digits.
        return str(value) if value.bit_length() <= _SHOWN else "one of many digits"
    if not isinstance(value, str):
        return str(value)
    text = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in escaped) + '"'
