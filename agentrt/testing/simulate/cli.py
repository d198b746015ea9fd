"""The command line of the simulation."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence

from agentrt.testing.simulate.draw import draw
from agentrt.testing.simulate.many import run_many, smallest
from agentrt.testing.simulate.plan import Plan
from agentrt.testing.simulate.report import Report, run_plan

COMMAND = "python -m agentrt.testing.simulate"
#: Simulations where nobody says how many.
SEEDS = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what *arguments* ask for; return 0 where all promises were kept and tried, else 1."""
    options = _parser().parse_args(arguments)
    if options.plan is not None or options.seed is not None:
        return _run_one(options)
    seeds = options.seeds if options.seeds is not None else SEEDS if options.seconds is None else math.inf
    seconds = options.seconds if options.seconds is not None else math.inf
    tally = run_many(start=options.start, seeds=seeds, seconds=seconds, jobs=options.jobs)
    if not options.quiet or tally.missing:
        _say(str(tally))
    if tally.failure is not None:
        _say(explain(tally.failure, seconds=options.shrink))
    return 0 if tally.ok else 1


def explain(report: Report, *, seconds: float) -> str:
    """Say which promises were broken, by which plan, and by how small a one.

    Args:
        report: What came of a simulation that broke some.
        seconds: How long the plan may be cut smaller; 0 leaves it as it is.
    """
    lines = [f"seed {report.plan.seed} broke a promise", *_told(report)]
    lines += [f"again: {COMMAND} --seed {report.plan.seed}"]
    if seconds > 0:
        small = smallest(report, seconds=seconds)
        lines += ["", "cut smaller:", small.plan.describe(), *_told(small)]
        lines += [f"again: {COMMAND} --plan {shlex.quote(small.plan.to_json())}"]
    if not report.is_reproducible:
        lines += ["(With this Trio the order of tasks cannot be drawn from the seed, so it may not happen again.)"]
    return "\n".join(lines)


def _run_one(options: argparse.Namespace) -> int:
    report = run_plan(options.plan if options.plan is not None else draw(options.seed))
    if not options.quiet:
        _say(report.plan.describe())
        _say("\n".join([*_told(report), f"digest {report.digest}"]))
    return 0 if report.ok else 1


def _told(report: Report) -> list[str]:
    return [f"  {violation}" for violation in report.violations] or ["  all promises were kept"]


def _plan(text: str) -> Plan:
    try:
        plan = Plan.from_json(text)
        plan.check()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return plan


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Simulate random trees under random faults.")
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--seeds", type=int, metavar="N", help=f"how many simulations ({SEEDS})")
    much.add_argument("--seconds", type=float, metavar="S", help="for how long")
    much.add_argument("--seed", type=int, metavar="K", help="this one alone")
    much.add_argument("--plan", type=_plan, metavar="JSON", help="this plan alone")
    parser.add_argument("--start", type=int, default=0, metavar="K", help="the first seed (0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="in how many processes (1)")
    parser.add_argument("--shrink", type=float, default=30.0, metavar="S", help="seconds to cut a failure smaller (30)")
    parser.add_argument("--quiet", action="store_true", help="say only what failed")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
