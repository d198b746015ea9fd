"""``agentrt init``: a small fleet to begin with, that runs as it stands."""

from __future__ import annotations

import re
import shlex
import string
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from agentrt.cli.exits import ExitCode, Failure

#: What is written, by the name of the template that it is made from.
TEMPLATES = {
    "config.toml": "config.toml",
    "greeting.py.txt": "greeting.py",
    "test_greeting.py.txt": "test_greeting.py",
    "pytest.ini": "pytest.ini",
    "README.md": "README.md",
    "gitignore": ".gitignore",
}
#: The fleet's name where the folder's is none.
_DEFAULT_NAME = "my-fleet"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; made where it is not there.")],
) -> None:
    """Write a small fleet that runs as it stands.

    A configuration, two agents, a test of them, and a README.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Failure(f"{folder} is not empty; name a folder that is, or a new one", ExitCode.EXISTS)
        name = fleet_name(folder)
        source = files("agentrt.cli") / "template"
        for template, target in TEMPLATES.items():
            text = (source / template).read_text(encoding="utf-8")
            # Only the name: everything else with a dollar in it is not ours.
            filled = string.Template(text).safe_substitute(name=name)
            (folder / target).write_text(filled, encoding="utf-8")
    except (FileExistsError, NotADirectoryError):
        raise Failure(f"{folder} is a file; name a folder", ExitCode.EXISTS) from None
    except OSError as error:
        message = f"cannot write {error.filename or folder}: {(error.strerror or str(error)).lower()}"
        raise Failure(message, ExitCode.SYSTEM) from error
    typer.echo(f"wrote {', '.join(TEMPLATES.values())} to {folder}")
    typer.echo(f"now: cd {shlex.quote(str(folder))} && agentrt run config.toml")


def fleet_name(folder: Path) -> str:
    """Make a fleet's name of a folder's: lower-case letters, digits and hyphens, a letter first, 63 at most."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower())
    return name.lstrip("-0123456789")[:63].strip("-") or _DEFAULT_NAME
