"""One server under the guard: its process, and how far it got."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import trio

from actors._stdio import ServerProcess

if TYPE_CHECKING:
    from actors._guard_report import Reports
    from actors.mcp_guard import GuardSettings


class Life:
    """A server from its start to its end.

    Attributes:
        ended: Set when its process is gone.
        is_being_greeted: It was asked to take the client's handshake.
        is_greeted: Set when it took the client's handshake or refused it, or there is none to take.
        is_attached: The session is its own.
        is_proved: It took the handshake, or answered something.
        answered_before: Requests that had been answered when it was started.
    """

    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        self.ended = process.exited
        self.is_being_greeted = False
        self.is_greeted = trio.Event()
        self.took_handshake = False
        self.is_attached = False
        self.is_proved = False
        self.answered_before = 0
        self._why = ""
        self._scope = trio.CancelScope()

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        return self._why or self.process.ending

    def age(self) -> float:
        """Seconds since its start."""
        return trio.current_time() - self.process.started_at

    def greeted(self, works: bool) -> None:  # noqa: FBT001 - a callback's one value.
        """Take note of how it took the handshake."""
        self.took_handshake = works
        self.is_greeted.set()

    def end(self, why: str) -> None:
        """End it in order; *why* for people."""
        self._why = self._why or why
        self._scope.cancel()

    async def run(self) -> None:
        """Keep its process until it is gone."""
        with self._scope:
            await self.process.run()

    # What the session needs of it

    def send(self, line: bytes) -> int:
        """Send a line; one that cannot be sent has a mark that no server has read."""
        try:
            return self.process.send(line)
        except trio.BrokenResourceError:
            return sys.maxsize

    def may_have_read(self, mark: int) -> bool:
        """Whether it may have read a line to its end."""
        return mark != sys.maxsize and self.process.may_have_read(mark)


async def start(nursery: trio.Nursery, settings: GuardSettings, reports: Reports) -> Life:
    """Start a server, and a task in *nursery* that ends it.

    Raises:
        OSError: It cannot be started.
    """
    process = await ServerProcess.spawn(
        settings.command,
        env=settings.env,
        cwd=None,
        log=None,
        grace=settings.stop_grace,
        report=reports.dropped_by_server,
        max_line=settings.max_line,
        on_stderr=reports.stderr,
    )
    life = Life(process)
    nursery.start_soon(life.run)
    return life
