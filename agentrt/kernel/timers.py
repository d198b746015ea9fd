"""One timer for everything: backoffs, graces, call deadlines and watchdogs share a heap and one sleeping task."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any, Protocol

import trio

#: Cancelled timers stay in the heap until they are many and the majority.
_SWEEP_AT = 256


class Due(Protocol):
    """What can be due: it says whether it still is, and is fired once."""

    @property
    def is_pending(self) -> bool:
        """Whether it will still fire."""
        ...

    def fire(self) -> None:
        """Do what was due; it is not pending any more."""
        ...


class Timer:
    """A callback that is due at a time; :meth:`cancel` takes it back, also when it fired already."""

    __slots__ = ("_args", "_callback", "_timers")

    def __init__(self, timers: Timers, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._timers = timers
        self._callback: Callable[..., None] | None = callback
        self._args = args

    @property
    def is_pending(self) -> bool:
        """Whether it will still fire."""
        return self._callback is not None

    def cancel(self) -> None:
        """Do not fire; nothing happens where it fired or was cancelled."""
        if self._callback is not None:
            self._callback = None
            self._args = ()
            self._timers.one_cancelled()

    def fire(self) -> None:
        """Call the callback."""
        callback, args = self._callback, self._args
        if callback is not None:
            self._callback = None
            self._args = ()
            callback(*args)


class Timers:
    """A heap of what is due and the task that serves it in due order.

    What fires is synchronous and short; it runs in the timers' task.

    Args:
        on_failed: Called with what one that fires raises; the others fire all the same.
    """

    def __init__(self, on_failed: Callable[[Exception], None]) -> None:
        #: Read Trio's clock, at a third of what ``trio.current_time`` costs.
        self.now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self._on_failed = on_failed
        self._heap: list[tuple[float, int, Due]] = []
        self._count = 0
        self._cancelled = 0
        self._scope: trio.CancelScope | None = None
        self._wakes_at = math.inf

    @property
    def pending(self) -> int:
        """How many will still fire."""
        return sum(due.is_pending for _, _, due in self._heap)

    def at(self, when: float, callback: Callable[..., None], *args: Any) -> Timer:
        """Call *callback* when Trio's clock reads *when*; at once (but never inside this call) where that is past."""
        timer = Timer(self, callback, args)
        self.push(when, timer)
        return timer

    def push(self, when: float, due: Due) -> None:
        """Fire *due* when Trio's clock reads *when*; where it is not pending any more, say :meth:`one_cancelled`."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, due))
        if when < self._wakes_at and self._scope is not None:
            self._scope.deadline = self._wakes_at = when

    def one_cancelled(self) -> None:
        """Take down that something in the heap is not pending any more."""
        self._cancelled += 1
        if self._cancelled > _SWEEP_AT and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].is_pending]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def _fire_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            _, _, due = heapq.heappop(self._heap)
            if due.is_pending:
                try:
                    due.fire()
                except Exception as error:  # noqa: BLE001 - all that is timed in this run stands on this task.
                    self._on_failed(error)
            else:
                self._cancelled -= 1

    async def run(self) -> None:
        """Serve the heap until cancelled."""
        while True:
            self._fire_due(self.now())
            self._wakes_at = self._heap[0][0] if self._heap else math.inf
            with trio.CancelScope(deadline=self._wakes_at) as self._scope:
                await trio.sleep_forever()
