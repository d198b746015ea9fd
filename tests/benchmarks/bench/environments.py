"""The peers, each with an environment of its own: what is installed there, and with which Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

from bench.rounds import ROOT, Contender
from bench.workloads import ACTORS, GUARDS

#: Where the environments are.
ENVIRONMENTS = ROOT / ".venv" / "benchmarks"

Version = tuple[int, int]


@attrs.frozen
class Peer:
    """A library to compare with.

    Args:
        name: What the tables call it.
        module: Its file in ``contenders``.
        requirements: What is installed, pinned.
        oldest, newest: The Pythons that it runs on.
        environment: Whose environment it shares; by default it has its own.
        npm: What is installed from npm besides.
        group: Which workloads it takes part in.
    """

    name: str
    module: str
    requirements: tuple[str, ...]
    oldest: Version = (3, 11)
    newest: Version = (3, 13)
    environment: str = ""
    npm: tuple[str, ...] = ()
    group: str = ACTORS

    @property
    def folder(self) -> Path:
        """Its environment."""
        return ENVIRONMENTS / (self.environment or self.name)

    @property
    def python(self) -> Path:
        """The interpreter there."""
        return self.folder / "bin" / "python"


_PEERS = (
    Peer("mode", "mode_services", ("mode-streaming==0.7.1",)),
    Peer("pykka", "pykka_actors", ("pykka==4.5.0",)),
    Peer("triotp", "triotp_servers", ("triotp==0.3.1", "trio==0.35.0"), oldest=(3, 13)),
    Peer("xoscar", "xoscar_actors", ("xoscar==0.12.2",), newest=(3, 12)),
    Peer("thespian", "thespian_processes", ("thespian==4.0.1",), newest=(3, 12)),
    Peer("thespian-simple", "thespian_simple", ("thespian==4.0.1",), newest=(3, 12), environment="thespian"),
    Peer("autogen-core", "autogen_agents", ("autogen-core==0.7.5",)),
    Peer(
        "tractor",
        "tractor_actors",
        ("tractor @ git+https://github.com/goodboy/tractor@3690e43abc2f593750c60fef0dfc0b8defce3457", "trio==0.35.0"),
        oldest=(3, 13),
    ),
    Peer("ray", "ray_actors", ("ray==2.60.0",)),
    Peer("fastmcp", "guard_fastmcp", ("fastmcp==4.1.2",), group=GUARDS),
    Peer("mcp-proxy", "guard_mcp_proxy", ("mcp-proxy==0.13.0",), group=GUARDS),
    Peer("supergateway", "guard_supergateway", (), npm=("supergateway@4.0.0",), group=GUARDS),
)

PEERS = {one.name: one for one in _PEERS}


def contender_of(peer: Peer) -> Contender:
    """Say how *peer* takes part, or why it cannot."""
    if _is_installed(peer):
        return Contender(peer.name, peer.module, str(peer.python), group=peer.group)
    return Contender(peer.name, peer.module, None, _why_not(peer), peer.group)


def _is_installed(peer: Peer) -> bool:
    stamp = peer.folder / "installed"
    return stamp.exists() and stamp.read_text(encoding="utf-8") == _stamp(peer)


def _why_not(peer: Peer) -> str:
    failure = peer.folder / "failed"
    if failure.exists():
        return failure.read_text(encoding="utf-8")
    return "not installed here (--install does it)"


def _stamp(peer: Peer) -> str:
    return "\n".join((*peer.requirements, *peer.npm))


def install(peer: Peer) -> str:
    """Make the environment of *peer*, unless it is there; return why it failed, if it did."""
    if _is_installed(peer):
        return ""
    python = find_python(peer.oldest, peer.newest)
    if python is None:
        return _fail(peer, f"no Python from {_dotted(peer.oldest)} to {_dotted(peer.newest)} found")
    shutil.rmtree(peer.folder, ignore_errors=True)
    for command in _installing(peer, python):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return _fail(peer, f"cannot be installed: there is no {command[0]}")
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith(("ERROR", "error", "npm error"))]
            return _fail(peer, f"cannot be installed: {(errors or ['no reason given'])[0].removeprefix('ERROR: ')}")
    (peer.folder / "installed").write_text(_stamp(peer), encoding="utf-8")
    return ""


def _installing(peer: Peer, python: str) -> Iterator[tuple[str, ...]]:
    yield python, "-m", "venv", str(peer.folder)
    if peer.requirements:
        yield str(peer.python), "-m", "pip", "install", "--quiet", *peer.requirements
    if peer.npm:
        yield "npm", "install", "--prefix", str(peer.folder), "--ignore-scripts", "--no-audit", "--no-fund", *peer.npm


def _fail(peer: Peer, reason: str) -> str:
    peer.folder.mkdir(parents=True, exist_ok=True)
    (peer.folder / "failed").write_text(reason, encoding="utf-8")
    return reason


def find_python(oldest: Version, newest: Version) -> str | None:
    """Find an interpreter: this one's version where that will do, so that the language is no part of the ratio."""
    own = sys.version_info[:2]
    if oldest <= own <= newest:
        return sys.executable
    versions = [(3, minor) for minor in range(newest[1], oldest[1] - 1, -1)]
    for version in versions:
        for candidate in _candidates(version):
            if _version_of(candidate) == version:
                return candidate
    return None


def _candidates(version: Version) -> Iterator[str]:
    if found := shutil.which(f"python{_dotted(version)}"):
        yield found
    managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from (str(folder / "bin" / "python") for folder in sorted(managed.glob(f"{_dotted(version)}.*")))


def _version_of(python: str) -> Version | None:
    # A name on the PATH may be a shim for a version that is not chosen, so it is asked.
    command = (python, "-c", "import sys; print(*sys.version_info[:2])")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        major, minor = map(int, done.stdout.split())
    except (OSError, ValueError):
        return None
    return major, minor


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
