"""What all NATS connections of a run share: one task that writes, and one that looks after them all in time.

A task for each would cost a connection more memory than all else, and each of its timers a wakeup of the process.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from agentrt.kernel.timers import Timer, Timers

_logger = logging.getLogger(__name__)
_shared: trio.lowlevel.RunVar[Shared] = trio.lowlevel.RunVar("agentrt_nats_shared")

# What happens once a second or less often happens together with all else in so many seconds.
_TOGETHER = 0.02
_RARELY = 1.0

# So many connect at once, and for so many seconds the others wait for that at most.
_AT_ONCE = 16
_PATIENCE = 0.25


class Writer:
    """Writes what was said on connections in one pass of Trio's scheduler at once, right after it.

    A call of the system for each message would cost more than all else.
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


class Beat:
    """Calls something over and over, until it is cancelled; first after one interval.

    Args:
        timers: The heap that it is an entry of.
        interval: Seconds; with one or more, each may be a little late, so that those of many connections come together.
        callback: Synchronous and short.
    """

    def __init__(self, timers: Timers, interval: float, callback: Callable[[], None]) -> None:
        self._timers = timers
        self._interval = interval
        self._callback = callback
        self._timer: Timer = self._again()

    def cancel(self) -> None:
        """Call it no more."""
        self._timer.cancel()

    def _again(self) -> Timer:
        due = self._timers.now() + self._interval
        if self._interval >= _RARELY:
            due = math.ceil(due / _TOGETHER) * _TOGETHER
        return self._timers.at(due, self._fire)

    def _fire(self) -> None:
        self._timer = self._again()
        self._callback()


class Turns:
    """Lets so many connect at once: what a handshake needs for a moment would be needed hundreds of times else.

    Nobody waits long for a turn, as those who have one may be waiting for a server that never answers.
    """

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(_AT_ONCE)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, or for as long as one waits at most."""
        who = object()
        has_turn = False
        with trio.move_on_after(_PATIENCE):
            await self._limiter.acquire_on_behalf_of(who)
            has_turn = True
        try:
            yield
        finally:
            if has_turn:
                self._limiter.release_on_behalf_of(who)


@attrs.define
class Shared:
    """What connections find here.

    Args:
        writer: Who writes.
        timers: Who looks after them.
        turns: Who connects now.
        names: What makes names that nobody else uses: the first connection's.
    """

    writer: Writer
    timers: Timers
    turns: Turns = attrs.field(factory=Turns)
    names: object = None


@asynccontextmanager
async def open_shared() -> AsyncIterator[None]:
    """Let connections live inside."""
    shared = Shared(Writer(), Timers(_log_failure))
    # What connections still do in a run that is cancelled has its deadlines too.
    scope = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shared.writer.run)
        nursery.start_soon(_run_timers, shared.timers, scope)
        _shared.set(shared)
        try:
            yield
        finally:
            shared.writer.close()
            scope.cancel()


async def _run_timers(timers: Timers, scope: trio.CancelScope) -> None:
    with scope:
        await timers.run()


def current_shared() -> Shared:
    """Return what is shared in this run; LookupError where no bridge is open."""
    return _shared.get()


def _log_failure(error: Exception) -> None:
    _logger.error("what was due for a NATS connection failed", exc_info=error)
