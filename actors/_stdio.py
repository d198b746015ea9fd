"""A tool server as a child process: lines in and out, its last words, and an end that leaves no orphan."""

from __future__ import annotations

import array
import fcntl
import math
import os
import signal
import termios
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import trio

from actors._cgroup import OomKills
from actors._reaped import ReapedProcess, reaper

#: A line longer than this is dropped: one answer must not eat the fleet's memory.
MAX_LINE = 32 * 1024 * 1024
_CHUNK = 64 * 1024
#: Bytes that may wait for a server that does not read them.
MAX_UNWRITTEN = 64 * 1024 * 1024
_TAIL_LINES = 20
_TAIL_BYTES = 8 * 1024
_MAX_LOG = 1024 * 1024
#: After an exit, for output that is still in the pipe. Used up only where a process outside the group holds the pipe.
_DRAIN = 0.25
#: The longest wait for an ordered exit after the end of stdin, and again after SIGTERM; as in the SDK.
_PATIENCE = 2.0

Report = Callable[..., object]


class LineSplitter:
    """Cut a stream of bytes into lines, without reading a long line twice.

    Args:
        limit: The longest line in bytes; a longer one is skipped up to its end, and reported.
        dropped: Called with the size so far of a line that is skipped, once a line.
    """

    def __init__(self, limit: int, dropped: Callable[[int], object]) -> None:
        self._limit = limit
        self._dropped = dropped
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Add *chunk* and return the lines that it completed, without their newlines."""
        *complete, rest = chunk.split(b"\n")
        lines = []
        for piece in complete:
            self._add(piece)
            if not self._skipping:
                lines.append(b"".join(self._parts))
            self._parts, self._size, self._skipping = [], 0, False
        self._add(rest)
        return lines

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._skipping:
            return
        if self._size > self._limit:
            self._skipping, self._parts = True, []
            self._dropped(self._size)
        else:
            self._parts.append(piece)


class LastWords:
    """Keep the end of what a server wrote to stderr, and copy all of it to a log file.

    The log is bounded: past 1 MiB it becomes ``NAME.1`` and a new one begins. A log that cannot be written is given
    up for this run of the server; the server does not suffer for it.
    """

    def __init__(self, log: Path | None, copy: Callable[[bytes], object] | None = None) -> None:
        self._path = log
        self._copy = copy
        self._file: BinaryIO | None = None
        self._lines: deque[bytes] = deque(maxlen=_TAIL_LINES)
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Add what was read from stderr."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._lines.extend(line[-_TAIL_BYTES:] for line in lines)
        self._rest = rest[-_TAIL_BYTES:]
        if self._copy is not None:
            self._copy(chunk)
        try:
            self._write(chunk)
        except OSError:
            self.close()
            self._path = None

    def text(self) -> str:
        """The last lines: 20 at most, and 8 KiB at most."""
        lines = [*self._lines, self._rest] if self._rest else [*self._lines]
        return b"\n".join(lines[-_TAIL_LINES:])[-_TAIL_BYTES:].decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Close the log file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _write(self, chunk: bytes) -> None:
        if self._path is None:
            return
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
        self._file.write(chunk)
        if self._file.tell() > _MAX_LOG:
            self.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))


_oom_kills = OomKills()


class ServerProcess:
    """A server in a process group of its own, spoken to in lines.

    Made by :meth:`spawn`; :meth:`run` must be started at once, in a nursery, without a checkpoint between. Death is
    seen by the process's exit and not by the end of its output, which a grandchild can hold open. Whatever it left
    behind is killed at that moment, and also where this process is killed; see :mod:`actors._reaper`.
    """

    def __init__(
        self,
        process: ReapedProcess,
        *,
        log: Path | None,
        grace: float,
        report: Report,
        max_line: int = MAX_LINE,
        on_stderr: Callable[[bytes], object] | None = None,
    ) -> None:
        #: Set when the process is gone.
        self.exited = trio.Event()
        #: Set when it is gone, or closed its output although it lives.
        self.lost = trio.Event()
        self.started_at = trio.current_time()
        #: When it last wrote anything, else when it was started.
        self.last_heard = self.started_at
        self._process = process
        self._patience = min(_PATIENCE, grace / 3)
        self._last_words = LastWords(log, on_stderr)
        self._splitter = LineSplitter(max_line, lambda size: report("mcp_line_dropped", size=size, limit=max_line))
        # Bounded in bytes, by send: a writer that blocks would hang each call beyond its deadline.
        self._outgoing, self._to_write = trio.open_memory_channel[bytes](math.inf)
        self._parsed, self._incoming = trio.open_memory_channel[bytes](0)
        self._queued = 0
        self._written = 0
        self._writing = 0
        self._unread = 0
        self._discard = False
        self._is_input_over = False
        self._is_oom = False
        self._was_killed = False
        _oom_kills.look()

    @classmethod
    async def spawn(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None,
        log: Path | None,
        grace: float,
        report: Report,
        max_line: int = MAX_LINE,
        on_stderr: Callable[[bytes], object] | None = None,
    ) -> ServerProcess:
        """Start *command*; what it writes to stderr is handed to *on_stderr* too.

        Raises:
            OSError: It cannot be started.
        """
        process = await reaper.spawn(command, env=env, cwd=cwd)
        return cls(process, log=log, grace=grace, report=report, max_line=max_line, on_stderr=on_stderr)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.returncode

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        if self.returncode is None:
            return "closed its output" if self.lost.is_set() else "runs"
        if self._is_oom:
            return "was killed by the kernel, out of memory (SIGKILL)"
        return f"was killed by {self.signal}" if self.signal else f"exited with code {self.returncode}"

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it, where one did."""
        if self.returncode is None or self.returncode >= 0:
            return None
        try:
            return signal.Signals(-self.returncode).name
        except ValueError:
            return f"signal {-self.returncode}"

    @property
    def last_words(self) -> str:
        """The end of its stderr."""
        return self._last_words.text()

    async def run(self) -> None:
        """Move lines until the process is gone and reaped.

        A cancellation ends the server in order: end of input, patience, SIGTERM to its group, patience, SIGKILL to its
        group. That part is shielded and takes no more than the grace.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump)
                try:
                    await self._process.wait()
                finally:
                    with trio.CancelScope(shield=True):
                        await self._end()
        finally:
            with trio.CancelScope(shield=True):
                await self._close()

    def kill(self) -> None:
        """Kill the whole group now, without waiting on finalizers; :meth:`run` returns soon after."""
        self._was_killed = True
        self._process.signal(signal.SIGKILL)

    def send(self, line: bytes) -> int:
        """Queue *line* for the server and return the mark to ask :meth:`may_have_read` about.

        Raises:
            trio.BrokenResourceError: The server is gone.
        """
        if self.lost.is_set() or self._is_input_over:
            msg = "the server is gone"
            raise trio.BrokenResourceError(msg)
        if self._queued - self._written > MAX_UNWRITTEN:
            msg = f"the server does not read: {self._queued - self._written} bytes wait for it"
            raise trio.BrokenResourceError(msg)
        line += b"\n"
        is_idle = self._queued == self._written
        self._queued += len(line)
        if is_idle:
            # Nothing waits, so most lines can go at once, which saves the writer's turn.
            sent = self._write_now(line)
            self._written += sent
            line = line[sent:]
        if line:
            self._outgoing.send_nowait(line)
        return self._queued

    def _write_now(self, line: bytes) -> int:
        try:
            return os.write(self._process.stdin_fd, line)
        except OSError:
            # It is full, or the server is gone: the writer sees to either.
            return 0

    async def receive(self) -> bytes | None:
        """Wait for the server's next line; None when there will be no more."""
        try:
            return await self._incoming.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            return None

    def stop_listening(self) -> None:
        """Throw away what it writes from now on: it must not block on a full pipe while it ends."""
        self._incoming.close()

    def may_have_read(self, mark: int) -> bool:
        """Whether the server may have read a line to its end, or may still read it.

        What a dead server left in its stdin pipe it never saw, so that can be sent again without a risk.
        """
        if not self.exited.is_set():
            return True
        return mark <= self._written + self._writing - self._unread

    async def _pump(self) -> None:
        # Shielded, because a server that ends in order may have to flush its output before it can.
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._read)
                nursery.start_soon(self._listen)
                await self.exited.wait()
                # The group is dead, so the pipes end by themselves, but for whoever left the group.
                nursery.cancel_scope.deadline = trio.current_time() + _DRAIN

    async def _write(self) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for line in self._to_write:
                self._writing = len(line)
                await self._process.stdin.send_all(line)
                self._written += len(line)
                self._writing = 0

    async def _read(self) -> None:
        async with self._parsed:
            while chunk := await _receive_some(self._process.stdout):
                self.last_heard = trio.current_time()
                for line in self._splitter.feed(chunk):
                    await self._hand_over(line)
            # Usually its exit is seen a moment later, and tells more than the end of its output.
            with trio.move_on_after(_DRAIN):
                await self.exited.wait()
            self.lost.set()

    async def _hand_over(self, line: bytes) -> None:
        if self._discard or not line.strip():
            return
        try:
            await self._parsed.send(line)
        except trio.BrokenResourceError:
            # Nobody listens any more; reading on lets the server flush its output and exit by itself.
            self._discard = True

    async def _listen(self) -> None:
        try:
            while chunk := await _receive_some(self._process.stderr):
                self._last_words.feed(chunk)
        finally:
            self._last_words.close()

    async def _end(self) -> None:
        if self._process.returncode is None:
            await self._stop()
        else:
            self._unread = _unread(self._process.stdin_fd)
            is_killed = self._process.returncode == -signal.SIGKILL and not self._was_killed
            self._is_oom = _oom_kills.look() and is_killed
        self._outgoing.close()
        self.exited.set()
        self.lost.set()

    async def _stop(self) -> None:
        self.stop_listening()
        # From now on the number of its file may be another file's.
        self._is_input_over = True
        await self._process.stdin.aclose()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self._process.signal(number)
            with trio.move_on_after(self._patience):
                await self._process.wait()
                return

    async def _close(self) -> None:
        self._incoming.close()
        await self._process.aclose()


async def _receive_some(stream: Any) -> bytes:
    try:
        return bytes(await stream.receive_some(_CHUNK))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return b""


def _unread(stdin_fd: int) -> int:
    waiting = array.array("i", [0])
    try:
        fcntl.ioctl(stdin_fd, termios.FIONREAD, waiting)
    except OSError:
        return 0
    return waiting[0]
