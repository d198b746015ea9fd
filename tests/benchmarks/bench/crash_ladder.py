"""Where the time of a crash and a restart goes, by subtraction; written in the plainest way, as the others are."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import trio

from agentrt.kernel import Actor, handles
from bench.measure import Pace
from bench.rung import Rung
from contenders.agentrt_kernel import BoomError, child, tree

#: Seconds that a restart is remembered, as in the benchmark, and that a life may take.
WINDOW, LIMIT = 0.001, 60.0
#: Crashes that wait in the mailbox at once, and timers of lives that are over that wait for their sweep.
ROOM, SWEEP_AT = 64, 256

Restart = Callable[[BoomError, float], None]


async def _handle() -> None:
    raise BoomError


async def _serve() -> None:
    await _handle()


async def _live_and_die(
    pace: Pace, *restart: Restart, scope: Callable[[], AbstractContextManager[object]] = nullcontext
) -> None:
    """Crash over and over in one task; what a restart is said to do is done after each crash."""
    for count in pace:
        for _ in range(count):
            error: BoomError | None = None
            with scope():
                try:
                    await _serve()
                except BoomError as raised:
                    error = raised
            assert error is not None
            now = time.perf_counter()
            for step in restart:
                step(error, now)


def _recorded(kept: deque[object]) -> Restart:
    """Keep what the exception said, and where it came from, without its frames."""

    def record(error: BoomError, _: float) -> None:
        step, frames = error.__traceback__, []
        while step is not None:
            frames.append((step.tb_frame.f_code, step.tb_lasti))
            step = step.tb_next
        kept.append((type(error).__name__, str(error), frames[-20:]))

    return record


def _budgeted(window: deque[float]) -> Restart:
    """Count it in a sliding window."""

    def count(_: BoomError, now: float) -> None:
        while window and now - window[0] > WINDOW:
            window.popleft()
        window.append(now)

    return count


def _told() -> Restart:
    """Make three events, each with the one before as its cause."""
    numbers = itertools.count(1)

    def tell(_: BoomError, __: float) -> None:
        before = 0
        for kind in ("crashed", "restarting", "started"):
            event = (next(numbers), kind, "bench/fragile", time.perf_counter(), before)
            before = event[0]

    return tell


def _limited() -> Restart:
    """Give the new life a timer for its limit; those of lives that are over are swept when they are many."""
    heap: list[tuple[float, int, list[bool]]] = []
    numbers = itertools.count()

    def limit(_: BoomError, now: float) -> None:
        heapq.heappush(heap, (now + LIMIT, next(numbers), [True]))
        if len(heap) > SWEEP_AT:
            heap.clear()

    return limit


async def crash_raised(pace: Pace) -> None:
    """Only raise and catch."""
    await _live_and_die(pace)


async def crash_scoped(pace: Pace) -> None:
    """Each life has a scope of its own."""
    await _live_and_die(pace, scope=trio.CancelScope)


async def crash_recorded(pace: Pace) -> None:
    """There is a record with a bounded traceback."""
    await _live_and_die(pace, _recorded(deque(maxlen=10)), scope=trio.CancelScope)


async def crash_budgeted(pace: Pace) -> None:
    """Both budgets count it."""
    budgets = [_budgeted(deque()), _budgeted(deque())]
    await _live_and_die(pace, _recorded(deque(maxlen=10)), *budgets, scope=trio.CancelScope)


async def crash_told(pace: Pace) -> None:
    """Three events tell of it, and the new life has a limit."""
    rest = [_budgeted(deque()), _budgeted(deque()), _told(), _limited()]
    await _live_and_die(pace, _recorded(deque(maxlen=10)), *rest, scope=trio.CancelScope)


async def crash_agentrt(pace: Pace) -> None:
    """The benchmark itself."""

    class Fragile(Actor):
        @handles(int)
        async def crash(self, _: int) -> None:
            raise BoomError

        @handles(trio.Event)
        async def answer(self, done: trio.Event) -> None:
            done.set()

    async with tree(child("fragile", Fragile, ROOM)) as runtime:
        ref = runtime.ref("bench/fragile")
        for count in pace:
            for one in range(count):
                # It waits where the mailbox is full, for one crash after the other.
                await ref.cast(one)
            done = trio.Event()
            await ref.cast(done)
            await done.wait()


CRASH = (
    Rung("an exception, through three coroutines", crash_raised),
    Rung("a fresh cancel scope", crash_scoped),
    Rung("a record with a bounded traceback", crash_recorded),
    Rung("both budgets", crash_budgeted),
    Rung("three events, and a limit for the new life", crash_told),
    Rung("agentrt, all of it", crash_agentrt),
)
