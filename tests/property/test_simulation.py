"""The kernel under simulation: random trees under random faults keep every promise."""

from __future__ import annotations

import itertools
import os
import time

import pytest

from agentrt.testing.simulate import simulate
from agentrt.testing.simulate.cli import explain

#: Three parts, which may run at the same time, make a minute.
SECONDS = float(os.environ.get("AGENTRT_SIMULATION_SECONDS", "20"))


@pytest.mark.parametrize("part", range(3))
def test_every_promise_is_kept(part: int) -> None:
    """As many seeds as fit into the time; a failure is cut smaller and prints the command that repeats it."""
    until = time.monotonic() + SECONDS
    for seed in itertools.count(part * 1_000_000):
        report = simulate(seed)
        assert report.ok, explain(report, seconds=30.0)
        if time.monotonic() > until:
            return
