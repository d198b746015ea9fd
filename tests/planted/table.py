"""The table of bugs: each is a snippet of the code, what it is replaced by, and the tests that must find it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import attrs

TABLES = Path(__file__).parent


@attrs.frozen
class Bug:
    """A small mistake in one file.

    Args:
        name: A sentence that says what is broken.
        file: The file, from the project's root.
        snippet: What stands there, exactly once.
        replacement: What stands there instead.
        tests: Paths for pytest; few, so that it is found quickly.
    """

    name: str
    file: str
    snippet: str
    replacement: str
    tests: tuple[str, ...]

    def misfit(self, root: Path) -> str | None:
        """Say why it cannot be planted in the project at *root*; None where it can."""
        path = root / self.file
        if not path.is_file():
            return f"there is no {self.file}"
        if (found := path.read_text().count(self.snippet)) != 1:
            return f"the snippet stands {found} times in {self.file}"
        if self.snippet == self.replacement:
            return "the replacement is the snippet"
        if missing := [test for test in self.tests if not (root / test.partition("::")[0]).exists()]:
            return f"there is no {', '.join(missing)}"
        return None


def load(folder: Path = TABLES) -> tuple[Bug, ...]:
    """Read the tables of *folder*, by the name of the file and then in order.

    Raises:
        ValueError: Two bugs have the same name.
    """
    bugs = [_bug(entry) for path in sorted(folder.glob("*.toml")) for entry in tomllib.loads(path.read_text())["bug"]]
    names = [bug.name for bug in bugs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two bugs have the same name: {', '.join(sorted(twice))}")
    return tuple(bugs)


def _bug(entry: dict[str, str | list[str]]) -> Bug:
    # A multi-line string ends with the line break before its closing quotes, which is not meant.
    texts = {key: value.removesuffix("\n") for key, value in entry.items() if isinstance(value, str)}
    return Bug(**texts, tests=tuple(entry["tests"]))
