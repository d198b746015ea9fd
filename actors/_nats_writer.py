"""Writes to connections what was said on them in one pass of Trio's scheduler, all at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

_writer: trio.lowlevel.RunVar[Writer] = trio.lowlevel.RunVar("agentrt_nats_writer")


class Writer:
    """One task for all connections: a call of the system for each message would cost more than all else.

    Nobody who writes waits for it. It runs before whoever is woken by what it wrote.
    """

    def __init__(self) -> None:
        self._due: list[Callable[[], None]] = []
        self._task: trio.lowlevel.Task | None = None
        self._closed = False

    def soon(self, write: Callable[[], None]) -> None:
        """Call *write*, which must not raise, in the next pass."""
        self._due.append(write)
        self._wake()

    def close(self) -> None:
        """End when all is written."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    async def run(self) -> None:
        """Write until closed; a cancellation does not end it, as connections say something until their end."""
        with trio.CancelScope(shield=True):
            while self._due or not self._closed:
                if not self._due:
                    self._task = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._abandon)
                due, self._due = self._due, []
                for write in due:
                    write()

    def _abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


@asynccontextmanager
async def open_writer() -> AsyncIterator[None]:
    """Let connections write inside."""
    writer = Writer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        _writer.set(writer)
        try:
            yield
        finally:
            writer.close()


def current_writer() -> Writer:
    """Return the writer of this run; LookupError where there is none."""
    return _writer.get()
