"""The demo as a person runs it: the whole fleet, all incidents, and what is left afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import psutil

NEWSROOM = Path(__file__).parents[2] / "examples" / "newsroom"
INCIDENTS = 6
#: Far more than it takes, so that only a demo that hangs is ended by it.
LIMIT = 240.0


@attrs.frozen
class Demo:
    """A demo that runs, and all that it started."""

    process: subprocess.Popen[str]
    mark: str
    output: list[str] = attrs.field(factory=list)

    def read_until(self, what: str) -> None:
        """Read its output up to the line that has *what* in it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if what in line:
                return
        raise AssertionError("".join(self.output))

    def rest(self) -> str:
        """Wait for its end; return all of its output."""
        assert self.process.stdout is not None
        self.output.extend(self.process.stdout)
        self.process.wait()
        return "".join(self.output)

    def alive(self) -> set[str]:
        """Name the processes that carry its mark: tool servers inherit the PATH and little else."""
        found = set()
        for process in psutil.process_iter():
            try:
                if self.mark in process.environ().get("PATH", "") and process.status() != psutil.STATUS_ZOMBIE:
                    found.add(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found


@contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    """Start the demo with *folder* for its temporary files."""
    mark = str(folder / "mark")
    environment = {
        **os.environ,
        "PATH": f"{os.environ['PATH']}{os.pathsep}{mark}",
        "TMPDIR": str(folder),
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("FORCE_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, str(NEWSROOM / "demo.py")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # Its tool servers end when it is gone; of nats-server the assert on what is alive will tell.
    limit = threading.Timer(LIMIT, process.kill)
    limit.start()
    try:
        yield Demo(process, mark)
    finally:
        limit.cancel()
        process.kill()
        process.communicate()


def test_every_incident_heals_and_no_task_is_lost(tmp_path):
    """The exit status says that all healed; each incident says what noticed it and what healed it."""
    with demo(tmp_path) as running:
        running.read_until("-- ready")
        # So that the last assert of this test can fail.
        started = running.alive()
        assert all(any(what in one for one in started) for what in ("nats-server", "mcp_server_git", "leaky_server"))
        output = running.rest()
        assert running.process.returncode == 0, output
        assert INCIDENTS == len(re.findall(r"^\[ *[\d.]+s\] >> injected +\S.*$", output, re.MULTILINE))
        assert INCIDENTS == len(re.findall(r"^\[ *[\d.]+s\] !! noticed +\S+: .+ \(\d+ ms\)$", output, re.MULTILINE))
        assert INCIDENTS == len(re.findall(r"^\[ *[\d.]+s\] OK healed +\S.* \(\d+ ms\)$", output, re.MULTILINE))
        tally = re.search(r"^tasks: (\d+) sent, (\d+) answered, (.*)$", output, re.MULTILINE)
        assert tally is not None, output
        assert tally[3] == "0 failed, 0 expired, 1 refused, 1 dead-lettered, 0 lost"
        assert int(tally[1]) == int(tally[2]) + 2
        assert running.alive() == set()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_demo_in_order(tmp_path):
    """In the middle of an incident: the fleet stops, and neither a process nor a file stays."""
    with demo(tmp_path) as running:
        running.read_until(">> injected")
        running.process.send_signal(signal.SIGINT)
        output = running.rest()
        assert running.process.returncode == 128 + signal.SIGINT, output
        assert "-- stopped" in output
        assert "Traceback" not in output
        assert running.alive() == set()
    assert list(tmp_path.iterdir()) == []


def test_the_archive_is_the_same_on_every_machine(tmp_path):
    """Whatever the user's git is told, and by whatever hook the demo is run."""
    head = []
    for name, environment in (
        ("plain", {}),
        ("told", {"GIT_DIR": "/nowhere", "GIT_AUTHOR_NAME": "Nobody", "GIT_CONFIG_COUNT": "1"}),
    ):
        code = f"from history import write_history; from pathlib import Path; write_history(Path({name!r}))"
        paths = os.pathsep.join(filter(None, [str(NEWSROOM), os.environ.get("PYTHONPATH")]))
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths, **environment},
            check=True,
        )
        log = subprocess.run(
            ["git", "-C", str(tmp_path / name), "log", "--format=%H"], capture_output=True, text=True, check=True
        )
        head.append(log.stdout.split())
    assert head[0] == head[1]
    assert len(head[0]) == 30
