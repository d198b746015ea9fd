"""What contenders measure with: the same pace, tally and percentiles for all; the standard library only."""

from __future__ import annotations

import gc
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

now = time.perf_counter

#: A chunk takes at least this long, so that what its start and its end cost does not count.
CHUNK_SECONDS = 0.05
#: Latencies thrown away at the beginning.
WARM_UP = 100


class Pace:
    """Says how many messages to move next, and times it, for a synchronous contender as well as for an async one.

    ``for n in pace: await move(n)``. The chunks grow until one takes long enough; those are the warm-up. Then chunks of
    that size follow until they took *seconds*.

    Args:
        seconds: How long it measures.
        first: Messages in the first chunk.
        clock: What it measures by; by default the time that goes by.
    """

    def __init__(self, seconds: float, first: int = 64, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or now
        self._seconds = seconds
        self._first = first
        self._moved = 0
        self._took = 0.0

    def __iter__(self) -> Iterator[int]:
        """Give the sizes of the chunks."""
        chunk, took = self._first, 0.0
        enough = min(CHUNK_SECONDS, self._seconds)
        while took < enough:
            began = self._clock()
            yield chunk
            took = self._clock() - began
            chunk = chunk if took >= enough else chunk * 2
        while self._took < self._seconds:
            began = self._clock()
            yield chunk
            self._took += self._clock() - began
            self._moved += chunk

    @property
    def rate(self) -> float:
        """Messages a second, without the warm-up."""
        return self._moved / self._took


class Latencies:
    """Collects times of single operations, in seconds; says them in microseconds."""

    def __init__(self, seconds: float, warm_up: int = WARM_UP) -> None:
        self._seconds = seconds
        self._warm_up = warm_up
        self._until = math.inf
        self._samples: list[float] = []

    def __bool__(self) -> bool:
        """Whether there is still something to measure: ``while latencies: latencies.add(...)``."""
        return now() < self._until or not self._samples

    def add(self, seconds: float) -> None:
        """Take down one time."""
        if self._warm_up:
            self._warm_up -= 1
            if not self._warm_up:
                self._until = now() + self._seconds
            return
        self._samples.append(seconds)

    def percentile(self, part: float) -> float:
        """Say the time that *part* (0 to 1) of all do not exceed, in microseconds."""
        ordered = sorted(self._samples)
        return 1e6 * ordered[math.ceil(part * len(ordered)) - 1]

    def figures(self) -> dict[str, float]:
        """Say the median, the 99th percentile and the longest."""
        return {"p50_us": self.percentile(0.5), "p99_us": self.percentile(0.99), "max_us": self.percentile(1.0)}


class Tally:
    """Counts down what is still to be handled, and tells when it is all there."""

    __slots__ = ("done", "left")

    def __init__(self, left: int, done: Callable[[], None]) -> None:
        self.left = left
        self.done = done

    def one(self) -> None:
        """Count one."""
        self.left -= 1
        if self.left == 0:
            self.done()


class Cpu:
    """The processor's time of this process, as a part of the time that went by."""

    def __init__(self) -> None:
        self._wall = now()
        self._used = time.process_time()

    @property
    def percent(self) -> float:
        """Per cent of one core since it was made."""
        return 100.0 * (time.process_time() - self._used) / (now() - self._wall)


def burn(seconds: float) -> None:
    """Work for *seconds* without giving way."""
    until = now() + seconds
    while now() < until:
        pass


def resident_kib() -> float:
    """Memory of this process in KiB: what is resident now; where the system does not say, the most that ever was."""
    gc.collect()
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / 1024 if sys.platform == "darwin" else most
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1024


def require_beats(beats: float, seconds: float, count: int) -> None:
    """Fail where the actors did not do in time what they idle with, as their load would then say nothing."""
    expected = int(seconds) * count
    if beats < 0.9 * expected:
        raise RuntimeError(f"{beats:g} beats in {seconds:g} s, where {expected} were due")
