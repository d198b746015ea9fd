"""What waits for an answer on one connection."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import trio

_T = TypeVar("_T")


class ConnectionLost(Exception):
    """The incarnation ended before it did what was asked; it may have been done."""


class NotSent(ConnectionLost):
    """The incarnation had ended before it was asked."""


class Unanswered(Exception):
    """Nothing came within the time that it was given."""


class Request(Generic[_T]):
    """One question, and the task that waits for its answer: woken by it, without an event or a scope of its own.

    Args:
        subject: What was asked.
        due: When it is given up, by whoever looks after the connection, within its tick.
    """

    __slots__ = ("_outcome", "_task", "due", "subject")

    def __init__(self, subject: str, due: float = math.inf) -> None:
        self.subject = subject
        self.due = due
        self._outcome: _T | Exception | None = None
        self._task: trio.lowlevel.Task | None = None

    def settle(self, outcome: _T | Exception) -> None:
        """Take the answer, or why there is none; only the first counts."""
        if self._outcome is None:
            self._outcome = outcome
            if self._task is not None:
                task, self._task = self._task, None
                trio.lowlevel.reschedule(task)

    async def wait(self) -> _T:
        """Wait for the answer, and raise where it is an error."""
        if self._outcome is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)
        else:
            await trio.lowlevel.checkpoint()
        assert self._outcome is not None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def _abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
