"""A fleet in a process of its own, run by the command line, and watched from outside as an operator would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

COMMAND = (sys.executable, "-c", "from agentrt.cli.main import app; app()")


def until(what: Callable[[], T], limit: float = 60.0) -> tuple[T, float]:
    """Look until it is so; return what was found and after how many seconds."""
    began = time.monotonic()
    while not (found := what()):
        assert time.monotonic() - began < limit, f"it did not come to be within {limit:g} s"
        time.sleep(0.05)
    return found, time.monotonic() - began


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all below it. It is stopped first, or it would start again what is killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait(30)


class FleetProcess:
    """``agentrt run`` in a folder that has a ``config.toml``."""

    def __init__(self, folder: Path, prefix: Sequence[str] = (), **environ: str) -> None:
        self.folder = folder
        self.log = folder / "run.log"
        self._environ = {**os.environ, "NATS_URL": "", **environ}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, *COMMAND, "run", "config.toml"], cwd=folder, stdout=log, stderr=log, env=self._environ
            )

    def info(self) -> dict[str, Any]:
        """What ``run.json`` says, once it is there."""

        def read() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.log.read_text()
            try:
                found: dict[str, Any] = json.loads((self.folder / ".agentrt" / "run.json").read_text())
            except FileNotFoundError:
                return None
            return found if found["pid"] == self.process.pid else None

        found, _ = until(read)
        assert found is not None
        return found

    def health(self, path: str) -> tuple[int, dict[str, Any]]:
        """Ask the health server."""
        address = self.info()["health"].removeprefix("http://")
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read())

    def wait_ready(self) -> float:
        """Wait until it says that it is ready; return after how many seconds."""
        _, seconds = until(lambda: self.health("/health/ready")[0] == 200)
        return seconds

    def wait_unready(self, check: str) -> float:
        """Wait until it says that *check* fails; return after how many seconds."""

        def is_named() -> bool:
            status, report = self.health("/health/ready")
            return status == 503 and any(name.endswith(check) for name in report["failed"])

        _, seconds = until(is_named)
        return seconds

    def send(self, *args: str) -> subprocess.Popen[str]:
        """Run ``agentrt send`` beside it."""
        return self.run("send", *args)

    def run(self, *args: str) -> subprocess.Popen[str]:
        """Run a command beside it."""
        return subprocess.Popen(
            [*COMMAND, *args],
            cwd=self.folder,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        """Leave nothing behind, whatever came of it."""
        kill_family(self.process)
