"""The nats-servers that a fleet brings along: processes with JetStream, on loopback, kept alive."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from pathlib import Path

import attrs
import psutil
import trio

from actors._nats_binary import find_binary
from actors._nats_node import EmbeddedServer, EmbeddedServers, StoreMismatch
from actors._nats_room import look_at_room
from actors._reaped import ReapedProcess, reaper
from agentrt.kernel import Actor
from agentrt.policy import Backoff

__all__ = ["EmbeddedServer", "EmbeddedServers", "NatsServer", "ServerFailed", "StoreMismatch", "find_binary"]

#: Seconds between two looks at a server that runs, and how many it may leave unanswered.
_LOOK, _SILENT_LOOKS = 2.0, 3
#: Seconds that one that starts may do nothing at all; one that reads a large store takes longer, and has much to do.
_IDLE_START = 30.0
# For the first start: below the kernel's start timeout, which would end a mute server without a word of why.
_START_LIMIT = 25.0
_STOP_GRACE = 4.0
_KILL_GRACE = 1.0
# One that ran for so long is taken to have been well: the next restart is at once again.
_GOOD_RUN = 30.0
_BACKOFF = Backoff(initial=0.25, factor=2.0, maximum=10.0, jitter=(0.8, 1.0))


class ServerFailed(RuntimeError):
    """The server ended before it ever answered; has the last line of its log."""


@attrs.frozen
class _Ended:
    """How a process ended: with which code, and in words."""

    exit_code: int | None
    how: str


class NatsServer(Actor):
    """Runs the process behind an :class:`EmbeddedServer`, and starts it again whenever it ends.

    The first restart is at once. The process has a session of its own, so that Ctrl-C reaches us and not it: the
    fleet drains while its bus still works. It is ended with this actor, and by its keeper where this process is killed;
    one that a killed run left all the same is ended first.
    """

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._announced = trio.Event()
        # Why the present process was ended from here; empty where it was not.
        self._useless = ""
        # A disk that hangs costs one thread, and not one more with each look.
        self._looks = trio.CapacityLimiter(1)

    @staticmethod
    def open_handle(state_dir: Path, max_store: int, nodes: int) -> EmbeddedServers:
        """Make the handle of a fleet's servers."""
        return EmbeddedServers(state_dir, max_store, nodes)

    async def on_start(self) -> None:
        """End what a killed run left, write the configuration, and wait until the server answers.

        Raises:
            ServerFailed: Its folder cannot be written to, it ended before it ever answered, or it does not answer, so
                that something is wrong that a person has to mend.
            StoreMismatch: There is a store of another number of nodes.
        """
        server = self._server
        await trio.to_thread.run_sync(_end_leftover, server)
        try:
            server.prepare()
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise ServerFailed(f"{server.folder} cannot be written to: {error.strerror or error}{where}") from error
        self.spawn(self._keep_running)
        if server.has_answered:
            return
        with trio.move_on_after(_START_LIMIT):
            await self._announced.wait()
            return
        said = f"runs (pid {server.pid}) and did not answer at {server.url} for {_START_LIMIT:g} s"
        raise ServerFailed(f"{server.name} {said}: {server.last_words()}")

    async def run(self) -> None:
        """Live until a stop is asked for."""
        await trio.sleep_forever()

    async def _keep_running(self) -> None:
        server, failures = self._server, 0
        with reaper.held():
            while True:
                began = trio.current_time()
                ended = await self._serve()
                # On a full disk its last words may not be in its log.
                await self._is_full()
                why = f"{ended.how}: {server.store_trouble or server.last_words()}"
                if not server.has_answered:
                    raise ServerFailed(f"{server.name} {why}")
                server.trouble = why
                failures = 1 if trio.current_time() - began >= _GOOD_RUN else failures + 1
                delay = 0.0 if failures == 1 else _BACKOFF.delay(failures - 1, self.random.random())
                self.emit("nats_server_exited", exit_code=ended.exit_code, failures=failures, delay=round(delay, 3))
                await trio.sleep(delay)

    async def _serve(self) -> _Ended:
        """Start the process, announce it when it answers, and say how it ended."""
        server = self._server
        try:
            process = await reaper.spawn([server.binary, "-c", str(server.config_path)], env=os.environ, cwd=None)
        except OSError as error:
            # It was there when the fleet started, and may be there again.
            return _Ended(None, f"cannot be started: {error.strerror or error}")
        try:
            server.pid = process.pid
            self._useless = server.broken = ""
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, process)
                for stream in (process.stdout, process.stderr):
                    nursery.start_soon(_append, stream, server.log_path)
                exit_code = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            server.pid = None
            server.trouble = "not running"
            await _end(process)  # noqa: ASYNC102 - it shields itself, with a deadline.
        how = f"was ended ({self._useless})" if self._useless else f"exited with code {exit_code}"
        return _Ended(exit_code, how)

    async def _watch(self, process: ReapedProcess) -> None:
        """Announce the process when it answers, and kill it when it lives and is of no use."""
        server, began = self._server, trio.current_time()
        self._useless = await self._wait_started(process.pid)
        if not self._useless:
            server.has_answered, server.trouble = True, ""
            self._announced.set()
            milliseconds = round((trio.current_time() - began) * 1000)
            self.emit("nats_server_started", pid=process.pid, port=server.port, milliseconds=milliseconds)
            self._useless = await self._wait_useless(began)
        self.emit("nats_server_unresponsive", pid=process.pid, reason=self._useless)
        process.signal(signal.SIGKILL)

    async def _wait_started(self, pid: int) -> str:
        """Wait until it answers, and return nothing; or that it does not, and does nothing else either."""
        server, used = self._server, -1.0
        while True:
            with trio.move_on_after(_IDLE_START):
                await server.wait_ready(pid)
                return ""
            before, used = used, _used(pid)
            if used <= before:
                return f"it does not answer, and has done nothing for {_IDLE_START:g} s"

    async def _wait_useless(self, began: float) -> str:
        """Wait until it does not answer, or goes on refusing what it once could not write to its disk."""
        silent, was_full = 0, await self._is_full()
        while True:
            await trio.sleep(_LOOK)
            silent = 0 if await self._server.answers() else silent + 1
            if silent >= _SILENT_LOOKS:
                return f"no answer {silent} times in a row"
            is_full = await self._is_full()
            if was_full and not is_full:
                return "the disk was full and has room again"
            was_full = is_full
            # Where its disk is broken for good, others may use it for what needs none most of the time.
            if self._server.broken and not is_full and trio.current_time() - began >= _GOOD_RUN:
                return self._server.broken

    async def _is_full(self) -> bool:
        """Look whether the disk is full, and tell of it where it was not; a disk that hangs is not waited for."""
        server, before = self._server, self._server.room
        was_full = before is not None and before.is_full
        with trio.move_on_after(_LOOK):
            look = partial(look_at_room, server.store, server.max_store, was_full=was_full)
            server.room = await trio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=self._looks)
        is_full = server.room is not None and server.room.is_full
        if is_full and not was_full:
            self.emit("nats_server_disk_full", reason=server.store_trouble)
        return is_full


async def _append(stream: trio.lowlevel.FdStream, path: Path) -> None:
    """Write what it says outside of its log, as where its configuration is wrong, into the log."""
    async for chunk in stream:
        # On a full disk its words are lost, and no more than these.
        with contextlib.suppress(OSError), path.open("ab") as log:
            log.write(chunk)


def _used(pid: int) -> float:
    """Return the seconds of a processor that a process has used; 0 where it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


async def _end(process: ReapedProcess) -> None:
    for number, grace in ((signal.SIGTERM, _STOP_GRACE), (signal.SIGKILL, _KILL_GRACE)):
        process.signal(number)
        with trio.move_on_after(grace, shield=True):
            await process.wait()
            break
    with trio.CancelScope(shield=True):
        await process.aclose()


def _end_leftover(server: EmbeddedServer) -> None:
    """End the server of a run that was killed; a process that only has its old number is left alone."""
    try:
        process = psutil.Process(int(server.pid_path.read_text()))
        command = process.cmdline()
    except (OSError, ValueError, psutil.Error):
        return
    if not server.is_started_by(command):
        return
    # Whoever was its keeper may end it meanwhile.
    with contextlib.suppress(psutil.NoSuchProcess):
        try:
            process.terminate()
            process.wait(_STOP_GRACE)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(_KILL_GRACE)
