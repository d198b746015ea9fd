"""A bulkhead to wait at: carries out what the policy counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import trio

from agentrt.policy import Admission, Bulkhead
from agentrt.resilience.errors import BulkheadFull


@attrs.define(eq=False)
class _Waiter:
    size: int
    promoted: trio.Event = attrs.field(factory=trio.Event)


class BulkheadGate:
    """Lets a bounded number of calls through at once, first come, first served.

    Args:
        name: Whose calls, for people.
        policy: Counts.
        max_wait: Seconds that a call may wait for its turn.
    """

    def __init__(self, name: str, policy: Bulkhead, max_wait: float = 60.0) -> None:
        self._name = name
        self._policy = policy
        self._max_wait = max_wait
        self._waiters: deque[_Waiter] = deque()

    @property
    def running(self) -> int:
        """Calls in hand."""
        return self._policy.running

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return self._policy.queued

    def slot(self, size: Callable[[], int], deadline: float | None = None) -> Slot:
        """Hold a slot for as long as an ``async with``.

        Args:
            size: Says how many bytes the call holds while it waits; asked only where it has to.
            deadline: When the caller stops waiting, in Trio's time.

        Raises:
            BulkheadFull: No slot, and no room to wait or no time.
        """
        return Slot(self, size, deadline)

    async def enter(self, size: Callable[[], int], deadline: float | None) -> None:
        """Take a slot, as :meth:`slot` does."""
        if self._policy.has_room:
            self._policy.enter()
        else:
            await self._queue(size(), deadline)

    def leave(self) -> None:
        """Give a slot back."""
        self._policy.leave()
        if self._waiters:
            waiter = self._waiters.popleft()
            self._policy.promote(waiter.size)
            waiter.promoted.set()

    async def _queue(self, size: int, deadline: float | None) -> None:
        match self._policy.enter(size):
            case Admission.FULL:
                raise BulkheadFull(f"{self._name} has {self.running} calls in hand and {self.queued} waiting: too many")
            case Admission.TOO_LARGE:
                raise BulkheadFull(f"{self.queued} calls wait for {self._name} with as many bytes as may wait")
            case Admission.RUN:
                return
            case Admission.QUEUE:
                pass
        waiter = _Waiter(size)
        self._waiters.append(waiter)
        limit = trio.current_time() + self._max_wait
        is_in = False
        try:
            with trio.CancelScope(deadline=limit if deadline is None else min(limit, deadline)):
                await waiter.promoted.wait()
            is_in = waiter.promoted.is_set()
        finally:
            if not is_in:
                self._give_back(waiter)
        if not is_in:
            raise BulkheadFull(f"no turn in time: {self._name} has {self.running} calls in hand")

    def _give_back(self, waiter: _Waiter) -> None:
        if waiter.promoted.is_set():
            # Its turn came together with a cancellation.
            self.leave()
        else:
            self._waiters.remove(waiter)
            self._policy.abandon(waiter.size)


class Slot:
    """One slot of a bulkhead, held by ``async with``; a class, since each call has one and a generator costs more."""

    __slots__ = ("_deadline", "_gate", "_size")

    def __init__(self, gate: BulkheadGate, size: Callable[[], int], deadline: float | None) -> None:
        self._gate = gate
        self._size = size
        self._deadline = deadline

    async def __aenter__(self) -> None:
        await self._gate.enter(self._size, self._deadline)

    async def __aexit__(self, *_: object) -> None:
        self._gate.leave()
