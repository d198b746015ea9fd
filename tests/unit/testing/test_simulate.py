"""The simulation: the same seed is the same run, a broken promise is found, and cut down to a small plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from agentrt.kernel.leash import Leash
from agentrt.kernel.roster import Roster
from agentrt.kernel.serving import Serving
from agentrt.testing.simulate import Plan, draw, run_plan, shrink, simulate

SEEDS = range(40, 52)


def test_a_seed_is_the_same_run_each_time() -> None:
    """Down to the order of tasks: all that happened has the same digest."""
    assert [simulate(seed).digest for seed in SEEDS] == [simulate(seed).digest for seed in SEEDS]
    assert len({simulate(seed).digest for seed in SEEDS}) == len(SEEDS)


def test_a_seed_is_the_same_run_in_another_process() -> None:
    """Whatever its hashes are salted with."""
    code = f"from agentrt.testing.simulate import simulate\nfor seed in {list(SEEDS)}: print(simulate(seed).digest)"
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": salt},
        ).stdout.split()
        for salt in ("1", "2")
    ]
    assert told == [[simulate(seed).digest for seed in SEEDS]] * 2


def test_a_plan_survives_its_way_through_json() -> None:
    """The command that repeats a failure carries the whole plan."""
    for seed in range(100):
        plan = draw(seed)
        assert Plan.from_json(plan.to_json()) == plan


def test_faults_bite() -> None:
    """A simulation in which nothing happens proves nothing."""
    counters: Counter[str] = Counter()
    for seed in range(60):
        counters.update(simulate(seed).counters)
    for happened in ("actor_restarting", "supervisor_escalated", "call CallTimeout", "call cancelled", "exit killed"):
        assert counters[happened] > 0, happened


@pytest.mark.parametrize(
    ("owner", "name", "stub"),
    [
        (Roster, "tell_stopped", lambda self, child: None),
        (Serving, "lose_in_hand", lambda self, exit_: None),
        (Leash, "_check", lambda self: None),
    ],
    ids=["forgotten waiters", "lost messages", "limits that nobody looks at"],
)
def test_a_bug_in_the_kernel_is_found_and_cut_small(monkeypatch, owner, name, stub) -> None:
    """And what is left of the plan fails in the same way, each time."""
    monkeypatch.setattr(owner, name, stub)
    found = next((report for report in map(simulate, range(400)) if not report.ok), None)
    if found is None:
        pytest.fail("400 seeds did not notice")

    def fails(plan: Plan) -> bool:
        return bool(run_plan(plan).broken & found.broken)

    small = shrink(found.plan, fails, seconds=5.0)
    assert fails(small)
    assert len(small.to_json()) < len(found.plan.to_json())
    assert len(small.actions) <= max(4, len(found.plan.actions) // 2)


def test_a_child_may_be_replaced_after_a_request_that_left_a_doubt_about_it() -> None:
    """A refused restart leaves open what was asked for last; another child of its name is held to its own spec."""
    replaced = {
        "id": "a2",
        "backoff": {"initial": 0.25, "factor": 3.0, "maximum": 6.0, "jitter": [1.0, 1.5]},
    }
    actions = [
        {"at": 26.0, "path": "top", "verb": "restart", "id": "a2", "do": "admin"},
        {"at": 32.0, "path": "top", "verb": "start", "id": "a2", "child": replaced, "do": "admin"},
        {"at": 32.25, "path": "top/a2", "order": {"does": "crash"}, "do": "send"},
    ]
    first = {"id": "a2", "restart": "temporary", "limits": {"total": 30.0, "progress": 3.0}, "is": "actor"}
    plan = {"seed": 1000825, "top": {"id": "top", "children": [first]}, "actions": actions}
    assert run_plan(Plan.from_json(json.dumps(plan))).violations == ()


def test_who_is_asked_for_at_the_moment_in_which_it_is_not_needed_may_come_back() -> None:
    """Whether the request or the ignored start came first is not in the log, so both are right."""
    backoff = {"initial": 1.0, "factor": 1.0, "maximum": 1.0, "jitter": [1.0, 1.0]}
    inner = {"id": "s0", "children": [{"id": "a0", "backoff": backoff, "is": "actor"}], "is": "supervisor"}
    starts = [{"does": "ignore"}, {"does": "shield", "seconds": 0.5}]
    actions = [
        {"at": 0.25, "path": "top/s0/a0", "starts": starts, "do": "arm"},
        {"at": 0.25, "path": "top/s0/a0", "order": {"does": "crash"}, "do": "send"},
        {"at": 1.25, "path": "top/s0", "verb": "restart", "id": "a0", "do": "admin"},
        {"at": 1.25, "path": "top", "order": {"does": "crash"}, "do": "send"},
    ]
    plan = {"seed": 2002519, "top": {"id": "top", "children": [inner]}, "actions": actions}
    assert run_plan(Plan.from_json(json.dumps(plan))).violations == ()
