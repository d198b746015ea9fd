"""Tool servers over HTTP in processes of their own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import trio

SERVERS = Path(__file__).parents[1] / "integration" / "servers"


class Web:
    """A server in a process of its own, always on the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.effects = folder / "effects"
        self._process: subprocess.Popen[bytes] | None = None
        self._command: list[str] = []

    async def start(self, *options: str) -> None:
        """Start the server that misbehaves and wait until it listens."""
        await self.run("web.py", "--port", str(self.port), "--effects", str(self.effects), *options)

    async def run(self, script: str, *options: str) -> None:
        """Start a server and wait until it listens."""
        self._command = command = [sys.executable, str(SERVERS / script), *options]
        self._process = subprocess.Popen(command)  # noqa: ASYNC220 - it outlives the run of the test that fails.
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            except OSError:
                await trio.sleep(0.02)
            else:
                await stream.aclose()
                return

    async def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        script = Path(self._command[1]).name
        await self.run(script, *self._command[2:])

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def acted_on(self) -> list[str]:
        """What it did, calls alone."""
        return [line for line in self.log() if line != "session ended"]

    def log(self) -> list[str]:
        """What it wrote down."""
        return self.effects.read_text().splitlines() if self.effects.exists() else []
