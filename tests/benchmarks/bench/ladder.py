"""Where the time of a message goes, by subtraction: each rung does a little more, and the last is agentrt.

The rungs are written here, in the plainest way, and not taken from the kernel: they say what a thing costs, so that the
last step says what the kernel adds to it.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import outcome
import trio

from bench.crash_ladder import CRASH
from bench.measure import Pace, Tally, now
from bench.report import table
from bench.rung import Rung
from contenders.agentrt_kernel import Counter, Echo, child, tree

#: What a sender may be ahead of the reader, and what the reader handles between two checkpoints.
ROOM, BATCH = 256, 64
#: Seconds that each rung is measured for, and how often.
SECONDS, ROUNDS = 0.3, 5
#: Where a message is.
QUEUED, IN_HAND, SETTLED = "queued", "in hand", "settled"

Move = Callable[[int], Awaitable[None]]


class Note:
    """What an envelope has at the least."""

    __slots__ = ("caller", "deadline", "message", "parent", "stage", "target")

    def __init__(self, message: object, target: object, caller: trio.lowlevel.Task | None = None) -> None:
        self.message = message
        self.target = target
        self.parent = None
        self.deadline = float("inf")
        self.caller = caller
        self.stage = QUEUED


class Parked:
    """One task that waits until it is woken."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None

    def wake(self) -> None:
        """Let it go on, if it waits."""
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Wait."""
        self.task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)


async def _handle(tally: Tally) -> None:
    tally.one()


async def _move(pace: Pace, tally: Tally, send_all: Move) -> None:
    """Have all messages of each chunk sent, and wait until they are handled."""
    for count in pace:
        done = trio.Event()
        tally.left, tally.done = count, done.set
        await send_all(count)
        await done.wait()


async def _with_reader(read: Callable[[], Awaitable[None]], move: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await move()
        nursery.cancel_scope.cancel()


async def tell_handler(pace: Pace) -> None:
    """Only call the handler."""
    tally = Tally(0, lambda: None)

    async def send_all(count: int) -> None:
        for _ in range(count):
            await _handle(tally)

    await _move(pace, tally, send_all)


class Queue:
    """A deque with room for a few: a sender that finds none waits until half of it is free."""

    __slots__ = ("answered", "in_hand", "items", "reader", "sender", "taken_at", "tally")

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.items: deque[Any] = deque()
        self.reader = Parked()
        self.sender = Parked()
        self.in_hand: Note | None = None
        self.taken_at = 0.0
        self.answered = 0

    async def send(self, item: object) -> None:
        """Put it in, or wait for room."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if len(self.items) >= ROOM:
            await self.sender.wait()
        self.items.append(item)
        if self.reader.task is not None:
            self.reader.wake()

    async def read(self) -> None:
        """Handle what comes."""
        items, tally = self.items, self.tally
        while True:
            for _ in range(BATCH):
                if not items:
                    await self.reader.wait()
                items.popleft()
                if self.sender.task is not None and len(items) <= ROOM // 2:
                    self.sender.wake()
                await _handle(tally)
            await trio.lowlevel.checkpoint()

    async def read_watched(self) -> None:
        """Handle what comes, and say what is in hand, since when, and what came of it."""
        items, tally = self.items, self.tally
        while True:
            for _ in range(BATCH):
                if not items:
                    await self.reader.wait()
                note = items.popleft()
                if self.sender.task is not None and len(items) <= ROOM // 2:
                    self.sender.wake()
                self.taken_at = now()
                self.in_hand = note
                note.stage = IN_HAND
                await _handle(tally)
                if note.stage is not SETTLED:
                    note.stage = SETTLED
                    self.answered += 1
                self.in_hand = None
            await trio.lowlevel.checkpoint()


async def _tell(pace: Pace, send_all: Callable[[Queue, int], Awaitable[None]], *, is_watched: bool = False) -> None:
    queue = Queue(Tally(0, lambda: None))
    read = queue.read_watched if is_watched else queue.read
    await _with_reader(read, lambda: _move(pace, queue.tally, lambda count: send_all(queue, count)))


async def _send_directly(queue: Queue, count: int) -> None:
    for one in range(count):
        if len(queue.items) >= ROOM:
            await queue.sender.wait()
        queue.items.append(one)
        if queue.reader.task is not None:
            queue.reader.wake()


async def _send_each(queue: Queue, count: int) -> None:
    for one in range(count):
        await queue.send(one)


async def _send_notes(queue: Queue, count: int) -> None:
    for one in range(count):
        await queue.send(Note(one, queue))


async def tell_queue(pace: Pace) -> None:
    """A bounded queue between two tasks; the reader gives way once per batch."""
    await _tell(pace, _send_directly)


async def tell_awaited(pace: Pace) -> None:
    """Each message is sent by a coroutine that heeds a cancellation."""
    await _tell(pace, _send_each)


async def tell_envelope(pace: Pace) -> None:
    """An envelope for each message."""
    await _tell(pace, _send_notes)


async def tell_watched(pace: Pace) -> None:
    """What is in hand and since when, for whoever watches, and what came of it."""
    await _tell(pace, _send_notes, is_watched=True)


async def call_handler(pace: Pace) -> None:
    """Only call the handler."""
    tally = Tally(-1, lambda: None)
    for count in pace:
        for _ in range(count):
            await _handle(tally)


async def _call(pace: Pace, *, has_deadline: bool) -> None:
    queue, reader, tally = deque[Note](), Parked(), Tally(-1, lambda: None)
    due: list[tuple[float, int, Note]] = []

    async def read() -> None:
        while True:
            if not queue:
                await reader.wait()
            note = queue.popleft()
            await _handle(tally)
            trio.lowlevel.reschedule(note.caller, outcome.Value(note.message))

    async def ask(one: int) -> None:
        note = Note(one, None, trio.lowlevel.current_task())
        await trio.lowlevel.checkpoint_if_cancelled()
        queue.append(note)
        reader.wake()
        if has_deadline:
            heapq.heappush(due, (trio.current_time() + 60, one, note))
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if has_deadline and len(due) > ROOM:
            # Those that are over are thrown away together, many at a time.
            due.clear()

    async def move() -> None:
        for count in pace:
            for one in range(count):
                await ask(one)

    await _with_reader(read, move)


async def call_switches(pace: Pace) -> None:
    """Park the caller, wake the reader, and wake the caller with the answer: two switches of task."""
    await _call(pace, has_deadline=False)


async def call_deadline(pace: Pace) -> None:
    """A deadline for each, in a heap that one task serves."""
    await _call(pace, has_deadline=True)


async def tell_agentrt(pace: Pace) -> None:
    """The benchmark itself."""
    tally = Tally(0, lambda: None)
    async with tree(child("sink", lambda: Counter(tally), ROOM)) as runtime:
        ref = runtime.ref("bench/sink")

        async def send_all(count: int) -> None:
            for one in range(count):
                await ref.cast(one)

        await _move(pace, tally, send_all)


async def call_agentrt(pace: Pace) -> None:
    """The benchmark itself."""
    async with tree(child("echo", Echo, ROOM)) as runtime:
        ref = runtime.ref("bench/echo")
        for count in pace:
            for one in range(count):
                await ref.call(one)


LADDERS: Mapping[str, tuple[Rung, ...]] = {
    "tell": (
        Rung("the handler", tell_handler),
        Rung("a bounded queue, 64 messages a checkpoint", tell_queue),
        Rung("sending is awaited and heeds a cancellation", tell_awaited),
        Rung("an envelope each", tell_envelope),
        Rung("in hand, since when, and what came of it", tell_watched),
        Rung("agentrt, all of it", tell_agentrt),
    ),
    "call": (
        Rung("the handler", call_handler),
        Rung("two switches of task, and an envelope", call_switches),
        Rung("a deadline", call_deadline),
        Rung("agentrt, all of it", call_agentrt),
    ),
    "crash": CRASH,
}


def climb(workload: str) -> str:
    """Measure the rungs of *workload* in interleaved rounds, and write what each step costs.

    By the time of the processor, so that what else the machine does counts for less.

    Args:
        workload: A name in :data:`LADDERS`.
    """
    rungs = LADDERS[workload]
    rounds: list[list[float]] = []
    for _ in range(ROUNDS):
        paces = [Pace(SECONDS, clock=time.process_time) for _ in rungs]
        for rung, pace in zip(rungs, paces, strict=True):
            trio.run(rung.run, pace)
        rounds.append([1e9 / pace.rate for pace in paces])
    rows, before = [], 0.0
    for rung, column in zip(rungs, zip(*rounds, strict=True), strict=True):
        cost = statistics.median(column)
        rows.append((rung.title, f"{cost:.0f}", f"{cost - before:+.0f}"))
        before = cost
    return table((f"{workload}, one to one", "ns each", "step"), rows)
