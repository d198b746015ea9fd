"""Many simulations, one after the other or in several processes at once, and what they met."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice
from multiprocessing import get_context

import attrs

from agentrt.testing.simulate.plan import Plan
from agentrt.testing.simulate.report import COVERED, Report, run_plan, simulate
from agentrt.testing.simulate.shrink import shrink

#: Simulations after which everything in :data:`COVERED` was met, if faults bite as they should.
ENOUGH_TO_COVER = 3000


@attrs.define
class Tally:
    """What came of many simulations.

    Args:
        seeds: How many there were.
        seconds: How long they took, by the real clock.
        failure: The first one that broke a promise.
        counters: How often what happened in all of them.
    """

    seeds: int = 0
    seconds: float = 0.0
    failure: Report | None = None
    counters: Counter[str] = attrs.field(factory=Counter)

    @property
    def missing(self) -> frozenset[str]:
        """What should have been met by now and was not: a fault of the simulator."""
        if self.seeds < ENOUGH_TO_COVER:
            return frozenset()
        return COVERED - {name for name, times in self.counters.items() if times}

    @property
    def ok(self) -> bool:
        """Whether all promises were kept, and tried."""
        return self.failure is None and not self.missing

    def __str__(self) -> str:
        """Say it in some lines."""
        speed = self.seeds / self.seconds if self.seconds else 0.0
        lines = [f"{self.seeds} simulations in {self.seconds:.1f} s, {speed:.0f} a second"]
        lines += [f"  {times:>10}  {name}" for name, times in sorted(self.counters.items())]
        if self.missing:
            lines.append(f"never met, so the simulator is at fault: {', '.join(sorted(self.missing))}")
        return "\n".join(lines)


def run_many(*, start: int = 0, seeds: float = math.inf, seconds: float = math.inf, jobs: int = 1) -> Tally:
    """Run simulations, from seed *start* on, until one breaks a promise.

    Args:
        start: The first seed.
        seeds: How many, at most.
        seconds: For how long, at most; by the real clock.
        jobs: In how many processes; each of them ends at its own first failure.
    """
    if jobs == 1:
        return _run(start, 1, seeds, seconds)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        shares = [_share(seeds, job, jobs) for job in range(jobs)]
        running = [pool.submit(_run, start + job, jobs, shares[job], seconds) for job in range(jobs)]
        tallies = [one.result() for one in running]
    failures = [tally.failure for tally in tallies if tally.failure is not None]
    return Tally(
        sum(tally.seeds for tally in tallies),
        max(tally.seconds for tally in tallies),
        min(failures, key=lambda report: report.plan.seed, default=None),
        sum((tally.counters for tally in tallies), Counter()),
    )


def _share(seeds: float, job: int, jobs: int) -> float:
    return seeds if seeds == math.inf else (int(seeds) - job + jobs - 1) // jobs


def _run(start: int, step: int, seeds: float, seconds: float) -> Tally:
    begun = time.monotonic()
    # What is there already stays: to look through it again and again costs a tenth of the time.
    gc.collect()
    gc.freeze()
    tally = Tally()
    for seed in _first(count(start, step), seeds):
        if time.monotonic() - begun >= seconds:
            break
        report = simulate(seed)
        tally.seeds += 1
        tally.counters.update(report.counters)
        if not report.ok:
            tally.failure = report
            break
    gc.unfreeze()
    tally.seconds = time.monotonic() - begun
    return tally


def _first(seeds: Iterator[int], limit: float) -> Iterator[int]:
    return seeds if limit == math.inf else islice(seeds, int(limit))


def smallest(report: Report, *, seconds: float = 30.0) -> Report:
    """Cut the plan of a failed simulation smaller, and run what is left of it.

    Args:
        report: What came of it.
        seconds: How long that may take, by the real clock.
    """

    def fails_alike(plan: Plan) -> bool:
        try:
            return bool(run_plan(plan).broken & report.broken)
        except ValueError:
            # What was left does not go together.
            return False

    return run_plan(shrink(report.plan, fails_alike, seconds=seconds))
