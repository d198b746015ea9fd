"""One timer for everything: backoffs, graces, call deadlines and watchdogs share a heap and one sleeping task."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

import trio

#: Cancelled timers stay in the heap until they are many and the majority.
_SWEEP_AT = 256


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
            self._timers._one_cancelled()  # noqa: SLF001 - a timer is a part of its heap.

    def _fire(self) -> None:
        callback, args = self._callback, self._args
        if callback is not None:
            self._callback = None
            self._args = ()
            callback(*args)


class Timers:
    """A heap of timers and the task that serves it in due order.

    Callbacks are synchronous and short; they run in the timer's task and must not raise.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._cancelled = 0
        self._scope: trio.CancelScope | None = None

    def at(self, when: float, callback: Callable[..., None], *args: Any) -> Timer:
        """Call *callback* when Trio's clock reads *when*; at once (but never inside this call) where that is past."""
        timer = Timer(self, callback, args)
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, timer))
        if self._scope is not None and when < self._scope.deadline:
            self._scope.deadline = when
        return timer

    def _one_cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled > _SWEEP_AT and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].is_pending]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def _fire_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            _, _, timer = heapq.heappop(self._heap)
            if timer.is_pending:
                timer._fire()  # noqa: SLF001 - a timer is a part of its heap.
            else:
                self._cancelled -= 1

    async def run(self) -> None:
        """Serve the heap until cancelled."""
        while True:
            self._fire_due(trio.current_time())
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf) as self._scope:
                await trio.sleep_forever()
