"""Watches the event loop from a thread outside it: whether it turns, and who blocks it where it does not."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, TypeAlias

import attrs
import structlog
import trio

from agentrt.ops.interrupt import Interrupt
from agentrt.ops.looptasks import Loop, describe, stack_of

if TYPE_CHECKING:
    from agentrt.ops.board import SnapshotBoard

_log = structlog.get_logger()

#: In place of a stack, where the loop turned again before this thread could run.
UNSEEN = "not seen: it was over at once, or it held the interpreter itself, as a regular expression or native code can"


@attrs.frozen
class Blocked:
    """The loop has not turned for so many seconds; *over* where it turned again before anyone could look."""

    seconds: float
    over: bool = False


@attrs.frozen
class Unblocked:
    """The loop turns again, after so many seconds."""

    seconds: float


@attrs.frozen
class Suspended:
    """The process as a whole did not run for so many seconds, so the loop is not to blame."""

    seconds: float


Finding: TypeAlias = Blocked | Unblocked | Suspended


@attrs.define
class Judge:
    """Tell a blocked event loop from one that turns and from a process that did not run at all.

    Looks are meant to come every *interval* seconds. One that comes late says that the watcher did not run either.
    Where the process spent no processor time meanwhile, it was suspended, and the loop's silence counts from its
    return. Where it did, some code held the interpreter's lock, and that is a block like any other.

    Pure: it reads no clock and logs nothing.

    Args:
        limits: Seconds of silence, ascending; each is reported once per block.
        interval: Seconds between two looks.
    """

    limits: tuple[float, ...]
    interval: float
    _looked: float
    _beat: float
    _cpu: float
    _since: float = attrs.field(init=False)
    _reported: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        """Count silence from the last beat."""
        self._since = self._beat

    def look(self, now: float, beat: float, cpu: float) -> list[Finding]:
        """Return what is new.

        Args:
            now: Monotonic seconds.
            beat: When the loop turned last, on the same clock.
            cpu: Processor seconds that the process has used.
        """
        findings: list[Finding] = []
        late = now - self._looked - self.interval
        # A tenth is far more than a suspended process uses and far less than code that holds the lock.
        if late > self.limits[0] / 2 and cpu - self._cpu < late / 10:
            findings.append(Suspended(late))
            self._since = now
        self._looked, self._cpu = now, cpu
        turned = beat > self._beat
        silence = (beat if turned else now) - self._since
        crossed = sum(limit <= silence for limit in self.limits)
        if crossed > self._reported:
            findings.append(Blocked(silence, over=turned))
            self._reported = crossed
        if turned:
            if self._reported:
                findings.append(Unblocked(beat - self._beat))
            self._reported = 0
            self._since = max(self._since, beat)
            self._beat = beat
        return findings


class LoopWatch:
    """Beats in the event loop, and watches the beat from a daemon thread, which logs also while the loop stands.

    It logs ``event_loop_blocked`` with the task that runs, the actor that it belongs to and its stack, first after
    *warn_after* seconds and again at the stall limit, then with where all others wait; ``event_loop_unblocked`` when
    the loop turns again; and ``process_suspended`` when neither ran. With *interrupt_after*, an actor that blocks is
    crashed with :class:`~agentrt.kernel.ActorHung` where that is safe; see :class:`~agentrt.ops.interrupt.Interrupt`.

    Start it before :meth:`beat_forever` and stop it after; it judges only while that runs.

    Args:
        board: Where the beats go, and whose ``beat_interval`` is kept.
        stall_limit: When the health server calls the process dead, in seconds.
        warn_after: First report, in seconds; at most half the stall limit is used.
        interrupt_after: Seconds that one step of an actor may hold the loop, counted from when it is first seen to,
            which is some beats later; None never interrupts.
    """

    def __init__(
        self,
        board: SnapshotBoard,
        stall_limit: float,
        warn_after: float = 1.0,
        *,
        interrupt_after: float | None = None,
    ) -> None:
        first = min(warn_after, stall_limit / 2)
        if first < 2 * board.beat_interval:
            message = (
                f"the event loop beats every {board.beat_interval:g} s, so a block of {first:g} s cannot be told from "
                "its rhythm: raise the stall limit, or lower the beat interval to half of that"
            )
            raise ValueError(message)
        self._board = board
        self._limits = (first, stall_limit)
        self._interval = first / 4
        self._interrupt = Interrupt(interrupt_after) if interrupt_after is not None else None
        self._beating: Loop | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<LoopWatch limits={self._limits} lag={self._board.lag:.3f}>"

    async def beat_forever(self) -> None:
        """Stamp the board once per beat interval; run it in the loop that is to be watched, until it is cancelled."""
        # The first beat comes before the watch begins: it would count the time since an earlier run.
        self._board.beat()
        self._beating = Loop.current()
        try:
            if self._interrupt is not None and (reason := await self._interrupt.arm()):
                _log.warning("event_loop_interrupt_unavailable", reason=reason)
            while True:
                await trio.sleep(self._board.beat_interval)
                self._board.beat()
        finally:
            self._beating = None
            if self._interrupt is not None:
                self._interrupt.disarm()

    def start(self) -> None:
        """Start the thread."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._watch, name="agentrt-loopwatch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; nothing happens where it does not run."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        judge: Judge | None = None
        judged: Loop | None = None
        while not self._stopping.wait(self._interval):
            beating = self._beating
            if beating is None:
                continue
            # The beat is read before the clock: the other way round it could lie in the future.
            beat, cpu = self._board.last_beat, time.process_time()
            now = self._board.now()
            if judge is None or judged is not beating:
                judge, judged = Judge(self._limits, self._interval, now, beat, cpu), beating
            findings = judge.look(now, beat, cpu)
            for finding in findings:
                # Nothing that goes wrong in telling may end the watch, and there is nobody else to tell.
                with contextlib.suppress(Exception):
                    self._tell(finding, beating)
            if self._interrupt is not None:
                with contextlib.suppress(Exception):
                    self._watch_step(self._interrupt, beating, now, silent_for=now - beat, findings=findings)

    def _watch_step(
        self, interrupt: Interrupt, loop: Loop, now: float, *, silent_for: float, findings: list[Finding]
    ) -> None:
        interrupt.tell()
        if silent_for < 2 * self._board.beat_interval or any(isinstance(one, Suspended) for one in findings):
            interrupt.forget()
        else:
            interrupt.look(loop, now)

    def _tell(self, finding: Finding, loop: Loop) -> None:
        seconds = round(finding.seconds, 3)
        match finding:
            case Blocked(over=True):
                _log.warning("event_loop_blocked", seconds=seconds, stack=UNSEEN)
            case Blocked():
                task = loop.running()
                others = {"others": loop.waiting()} if finding.seconds >= self._limits[-1] else {}
                _log.warning(
                    "event_loop_blocked",
                    seconds=seconds,
                    task=describe(task) if task is not None else None,
                    stack=stack_of(loop.thread),
                    **others,
                )
            case Unblocked():
                _log.warning("event_loop_unblocked", seconds=seconds)
            case Suspended():
                _log.warning("process_suspended", seconds=seconds)
