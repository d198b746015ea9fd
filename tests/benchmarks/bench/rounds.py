"""The rounds: every contender in turn, each in a fresh process, so that what the machine does meets all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from bench.figures import CONTROL, OURS, Outcome
from bench.worker import MARK
from bench.workloads import ACTORS, Workload

HERE = Path(__file__).parents[1]
ROOT = HERE.parents[1]

#: Seconds after which a contender's round is given up.
PATIENCE = 120.0

#: Rounds by workload and contender, in the order in which they ran.
Rounds = dict[str, dict[str, list[Outcome]]]


@attrs.frozen
class Contender:
    """Who takes part.

    Args:
        name: What the tables call it.
        module: Its file in ``contenders``.
        python: The interpreter that it runs in; None where it cannot take part.
        why_not: Why it cannot.
        group: Which workloads a peer takes part in.
    """

    name: str
    module: str
    python: str | None
    why_not: str = ""
    group: str = ACTORS


def run_one(contender: Contender, workload: Workload, parameters: Mapping[str, float]) -> Outcome:
    """Run one workload once, in a process of its own."""
    if contender.python is None:
        return Outcome(why_not=contender.why_not)
    command = worker_command(contender, workload, parameters)
    process = subprocess.Popen(
        command,
        env=environment_of(contender),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        # With all the processes that it started: they would go on, and disturb the next.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Outcome(why_not=f"took longer than {PATIENCE:g} s")
    return read_outcome(output, process.returncode, errors)


def worker_command(contender: Contender, workload: Workload, parameters: Mapping[str, float]) -> list[str]:
    """Say what is run."""
    assert contender.python is not None
    worker = HERE / "bench" / "worker.py"
    return [contender.python, str(worker), contender.module, workload.method, json.dumps(dict(parameters))]


def environment_of(contender: Contender) -> dict[str, str]:
    """Say what it is run with: this checkout is measured, unless PYTHONPATH names another; a peer sees neither.

    Also what a contender starts finds its file.
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    named = environment.get("PYTHONPATH", "")
    path = (named, str(ROOT), str(HERE)) if contender.name == OURS else (str(HERE),)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    return environment


def read_outcome(output: str, status: int, errors: str) -> Outcome:
    """Make an outcome of what a worker printed."""
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        last = (errors.strip().splitlines() or ["without a word"])[-1]
        return Outcome(why_not=f"ended with status {status}: {last}")
    told = json.loads(lines[-1].removeprefix(MARK))
    if "figures" in told:
        return Outcome(figures=told["figures"])
    return Outcome(why_not=told.get("cannot") or told["failed"])


def run_rounds(
    workloads: Iterable[Workload],
    contenders: Sequence[Contender],
    parameters_for: Callable[[Workload], dict[str, float]],
    rounds: int,
    tell: Callable[[str], None],
) -> Rounds:
    """Run them interleaved: each round is every contender once, and the rounds of a workload follow each other.

    A contender that said that it cannot, or failed, is not asked again. Peers are only asked for what is compared.
    """
    results: Rounds = {}
    for workload in workloads:
        by_name: dict[str, list[Outcome]] = {one.name: [] for one in contenders}
        parameters = parameters_for(workload)
        for count in range(1, rounds + 1):
            for contender in contenders:
                told = by_name[contender.name]
                if not _takes_part(contender, workload) or (told and told[-1].why_not):
                    continue
                told.append(run_one(contender, workload, parameters))
                tell(f"{workload.name} {count}/{rounds} {contender.name}: {_brief(told[-1])}")
        results[workload.name] = by_name
    return results


def _takes_part(contender: Contender, workload: Workload) -> bool:
    return contender.name in (CONTROL, OURS) or (workload.is_compared and contender.group == workload.group)


def _brief(outcome: Outcome) -> str:
    return outcome.why_not or " ".join(f"{key} {value:.5g}" for key, value in outcome.figures.items())
