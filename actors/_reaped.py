"""A child process that leaves nothing behind, also where this process is killed: started by way of the reaper."""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import attrs
import trio

from actors import _reaper

#: Seconds that a child has to end by itself, and again after SIGTERM, where this process is gone.
_PATIENCE = 2.0
#: Seconds for the reaper to start a child; one that takes longer is stopped, or gone.
_START_LIMIT = 15.0
#: Two, because the first may find a reaper that was killed a moment ago.
_TRIES = 2


class ReapedProcess:
    """A child with pipes for its stdin, stdout and stderr, in a session of its own.

    Its parent is a small process, its keeper, which ends all that the child started as soon as the child is gone, or
    this process is. That holds for who left the child's group or session as well (on Linux). Made by
    :meth:`Reaper.spawn`; close it with :meth:`aclose`.
    """

    def __init__(self, control: trio.SocketStream, pipes: Sequence[int]) -> None:
        #: The child's number, and that of its group and session.
        self.pid = 0
        #: None while it runs, as far as :meth:`wait` was told; negative for a signal.
        self.returncode: int | None = None
        self.stdin_fd = pipes[0]
        self.stdin, self.stdout, self.stderr = (trio.lowlevel.FdStream(pipe) for pipe in pipes)
        self._control = control
        self._told = bytearray()

    async def started(self) -> None:
        """Wait until it runs.

        Raises:
            OSError: It cannot be started.
            ConnectionError: Its keeper is gone.
        """
        told = await self._line()
        if told is None:
            raise ConnectionError("the keeper ended before it started the process")
        if "pid" not in told:
            raise OSError(told["errno"], told["strerror"])
        self.pid = told["pid"]

    async def wait(self) -> int:
        """Wait until it is gone, and what it left behind with it; for one task at a time."""
        while self.returncode is None:
            told = await self._line()
            if told is None:
                # Its keeper was killed. The reaper above does the same, for all that fell to it.
                self._kill_group(signal.SIGKILL)
            self.returncode = -signal.SIGKILL if told is None else told["returncode"]
        return self.returncode

    def signal(self, number: int) -> None:
        """Send a signal to its group, and SIGKILL to all that it started; nothing happens where it is gone."""
        if self.returncode is not None:
            return
        try:
            os.write(self._control.socket.fileno(), bytes([number]))
        except OSError:
            self._kill_group(number)

    async def aclose(self) -> None:
        """Let go of it: a child that still runs then ends as if this process had ended."""
        # Each is closed at once; a cancellation would only be heeded between them.
        with trio.CancelScope(shield=True):
            for stream in (self.stdin, self.stdout, self.stderr, self._control):
                await stream.aclose()

    async def _line(self) -> dict[str, int] | None:
        while b"\n" not in self._told:
            try:
                chunk = await self._control.receive_some()
            except trio.BrokenResourceError:
                return None
            if not chunk:
                return None
            self._told += chunk
        line, _, self._told = self._told.partition(b"\n")
        told: dict[str, int] = json.loads(line)
        return told

    def _kill_group(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


@attrs.define
class Reaper:
    """The one reaper of this process: started when it is first needed, gone when nobody holds it any more.

    Where it was killed, the next start starts another; the children of the first have keepers of their own.
    """

    _process: subprocess.Popen[bytes] | None = None
    _requests: trio.socket.SocketType | None = None
    _lock: trio.Lock = attrs.field(factory=trio.Lock)
    _holders: int = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep it, so that the next start of a child need not wait for its own."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._close()

    async def spawn(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None) -> ReapedProcess:
        """Start *command*; no cancellation interrupts that, so that no child can be lost.

        Raises:
            OSError: It cannot be started.
        """
        order = {"command": [*command], "env": {**env}, "cwd": str(cwd) if cwd else None, "patience": _PATIENCE}
        body = json.dumps(order).encode()
        with self.held(), trio.CancelScope(shield=True):
            for attempt in range(1, _TRIES + 1):
                try:
                    with trio.fail_after(_START_LIMIT):
                        return await self._try(body)
                except (ConnectionError, trio.TooSlowError) as error:
                    self._close()
                    if attempt == _TRIES:
                        raise OSError(f"the reaper does not start it: {error!r}") from error
        raise AssertionError

    async def _try(self, body: bytes) -> ReapedProcess:
        mine, theirs = socket.socketpair()
        pipes = [os.pipe() for _ in range(3)]
        (stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = pipes
        process = ReapedProcess(
            trio.SocketStream(trio.socket.from_stdlib_socket(mine)), (to_stdin, from_stdout, from_stderr)
        )
        try:
            try:
                await self._ask(body, (stdin, stdout, stderr, theirs.fileno()))
            finally:
                theirs.close()
                for descriptor in (stdin, stdout, stderr):
                    os.close(descriptor)
            await process.started()
        except BaseException:
            await process.aclose()
            raise
        return process

    async def _ask(self, body: bytes, descriptors: Sequence[int]) -> None:
        request = _reaper.HEADER.pack(len(body)) + body
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        # One request after the other; what is sent in part is of no use to whoever comes next.
        async with self._lock:
            requests = self._requests or self._start()
            sent = await requests.sendmsg([request], rights)
            while sent < len(request):
                sent += await requests.send(request[sent:])

    def _start(self) -> trio.socket.SocketType:
        mine, theirs = socket.socketpair()
        with theirs:
            # In a session of its own, where a terminal's Ctrl-C does not reach it.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _reaper.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._requests = trio.socket.from_stdlib_socket(mine)
        return self._requests

    def _close(self) -> None:
        requests, self._requests = self._requests, None
        process, self._process = self._process, None
        if requests is not None:
            requests.close()
        if process is not None:
            # It ends at the end of its socket; somebody has to take note of that.
            threading.Thread(target=process.wait, daemon=True, name="agentrt-reaper-end").start()


#: The reaper of this process.
reaper = Reaper()
