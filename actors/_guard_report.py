"""What the guard tells: lines on stderr, a status file, and metrics."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from agentrt.policy.memory import MemoryVerdict
from agentrt.policy.server_restart import RestartDelay

if TYPE_CHECKING:
    from actors._guard_session import GuardSession

_MIB = 1024 * 1024
#: Bytes that may wait for whoever reads stderr; who does not read it misses the rest.
_MAX_UNREAD = 1024 * 1024
_LAST_WRITE = 0.5


@attrs.define
class Status:
    """The guard in one look; what is written to the status file.

    Args:
        name: The server's name.
        state: ``starting`` (until the server has answered something), ``ready``, ``restarting`` or ``stopped``.
        pid: The server's process; None while there is none.
        since: Unix time of the last change of state.
        restarts: How often a server was started again.
        last_ending: How the last server ended, for people.
        answered: Requests that were answered.
        resent: Requests that were sent to the next server.
        unknown: Requests that failed because nobody knows whether they were done.
        refused: Requests that failed without having been sent.
        in_flight: Requests that the server works on.
        waiting: Requests that wait for a server.
        memory: Resident bytes at the last sample; 0 where none is taken.
    """

    name: str
    state: str = "starting"
    pid: int | None = None
    since: float = attrs.field(factory=time.time)
    restarts: int = 0
    last_ending: str = ""
    answered: int = 0
    resent: int = 0
    unknown: int = 0
    refused: int = 0
    in_flight: int = 0
    waiting: int = 0
    memory: int = 0


class Reports:
    """Tells of one guarded server.

    Args:
        name: What the server is called.
        status_file: Where the status is kept as JSON; replaced as a whole at each change.
        stderr: The descriptor to write to.
    """

    def __init__(self, name: str, *, status_file: Path | None = None, stderr: int = 2) -> None:
        self.status = Status(name)
        self._file = status_file
        self._written: dict[str, Any] = {}
        self._stderr = stderr
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._news = trio.Event()
        self._writing = trio.CancelScope()
        self._is_over = False

    async def run(self) -> None:
        """Write to stderr until :meth:`stopped`, from a thread: who does not read it must not hold up the session."""
        with self._writing:
            while self._unread or not self._is_over:
                await self._news.wait()
                self._news = trio.Event()
                while self._unread:
                    await self._write_some()

    async def _write_some(self) -> None:
        chunk = self._unread[0]
        await trio.to_thread.run_sync(_write_all, self._stderr, chunk, abandon_on_cancel=True)
        self._unread.popleft()
        self._unread_bytes -= len(chunk)

    # What happens

    def starting(self, command: str) -> None:
        """Tell what is guarded."""
        self.say(f"guards {command}")

    def attached(self, pid: int, ended_at: float | None, *, is_proved: bool) -> None:
        """Take note that a server has the session; one that has answered nothing yet may still be none."""
        self._become("ready" if is_proved else "starting", pid)
        if ended_at is not None:
            self.status.restarts += 1
            what = "ready again" if is_proved else "started again"
            self.say(f"{what} after {(trio.current_time() - ended_at) * 1000:.0f} ms (pid {pid})")

    def proved(self) -> None:
        """Take note that the server that has the session answered for the first time."""
        self._become("ready", self.status.pid)

    def ended(self, ending: str, last_words: str, verdict: RestartDelay, delay: float) -> None:
        """Take note that a server ended, and when the next one comes."""
        self.status.last_ending = ending
        self._become("restarting", None)
        when = "at once" if not delay else f"in {delay:.1f} s"
        last_line = f" ({last_words.splitlines()[-1]})" if last_words else ""
        self.say(f"the server {ending}{last_line}; started again {when}, attempt {verdict.attempt}")
        if verdict.probably_permanent:
            self.say(f"it fails in the same way each time, which is probably permanent: {ending}; look at its command")
        elif verdict.extended:
            self.say(f"it ended {verdict.attempt} times in a row; it is tried every few minutes from now on")

    def replaced(self, ending: str) -> None:
        """Take note that a server was replaced on purpose."""
        self.status.last_ending = ending
        self._become("restarting", None)
        self.say(f"the server {ending}")

    def stopped(self) -> None:
        """Take note of the end; what is unread by then is written within a moment, or not at all."""
        self._become("stopped", None)
        self._is_over = True
        self._writing.deadline = trio.current_time() + _LAST_WRITE
        self._news.set()

    def heavy(self, verdict: MemoryVerdict, rss: int, limit: int) -> None:
        """Tell of a server that grows."""
        what = {
            MemoryVerdict.WARN: "which is above the warning",
            MemoryVerdict.RESTART: "which is above the limit: it is replaced",
            MemoryVerdict.REPORT: "which is above the limit so soon after its start that a restart would not help",
        }
        self.say(f"the server holds {rss // _MIB} MiB, {what[verdict]} of {limit // _MIB} MiB")

    def noise(self, line: bytes) -> None:
        """Pass on what a server printed beside the protocol."""
        self.stderr(line + b"\n")

    def dropped(self, who: str, limit: int, size: int) -> None:
        """Tell of a line that is too long."""
        self.say(f"{who} sent a line of more than {limit // _MIB} MiB ({size} bytes so far), which is dropped")

    def dropped_by_server(self, _kind: str, *, size: int, limit: int) -> None:
        """Tell of a line of the server that is too long."""
        self.dropped("the server", limit, size)

    def refresh(self, session: GuardSession) -> None:
        """Bring the counts up to date."""
        status, counts = self.status, session.counts
        status.answered, status.resent = counts.answered, counts.resent
        status.unknown, status.refused = counts.unknown, counts.refused
        status.in_flight, status.waiting = session.calls, session.waiting
        self._keep()

    def say(self, text: str) -> None:
        """Write one line to stderr."""
        self.stderr(f"agentrt mcp guard: {self.status.name}: {text}\n".encode())

    def stderr(self, chunk: bytes) -> None:
        """Pass on what a server wrote to its stderr."""
        if self._unread_bytes + len(chunk) <= _MAX_UNREAD:
            self._unread.append(chunk)
            self._unread_bytes += len(chunk)
            self._news.set()

    def _become(self, state: str, pid: int | None) -> None:
        self.status.state, self.status.pid, self.status.since = state, pid, time.time()
        self._keep()

    def _keep(self) -> None:
        if self._file is None:
            return
        found = attrs.asdict(self.status)
        if found == self._written:
            return
        self._written = found
        beside = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(found, indent=1) + "\n")
            beside.replace(self._file)
        except OSError as error:
            self.say(f"cannot write {self._file}, and does not try again: {error.strerror}")
            self._file = None


def _write_all(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        # Nobody reads it any more, which harms nobody.
        return
