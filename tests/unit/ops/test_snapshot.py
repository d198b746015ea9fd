"""Liveness, readiness and progress as pure questions about a snapshot."""

from __future__ import annotations

import json

import pytest

from agentrt.ops.snapshot import AgentSnapshot, Check, FleetSnapshot, Report, liveness, progress, readiness

GOOD = Check("nats_connected", ok=True, reason="127.0.0.1:4222")
BAD = Check("mcp:archive", ok=False, reason="exit status 1, restarted in 2 s")


def fleet_of(*agents: AgentSnapshot, checks: tuple[Check, ...] = (), stopping: bool = False) -> FleetSnapshot:
    return FleetSnapshot(fleet="newsroom", agents=agents, checks=checks, stopping=stopping, taken_at=100.0)


@pytest.mark.parametrize(("now", "ok"), [(100.0, True), (130.0, True), (130.001, False), (99.0, True)])
def test_liveness_fails_only_beyond_the_stall_limit(now: float, *, ok: bool) -> None:
    """A loop that turned exactly the limit ago is alive; a beat that looks like the future is no failure."""
    assert ok == liveness(100.0, now, 30.0).ok


def test_a_dead_loop_is_named_with_its_seconds() -> None:
    """Whoever reads the 503 sees which check failed and by how much."""
    report = liveness(100.0, 142.5, 30.0)
    assert report.failed == ("event_loop",)
    assert report.process[0].reason == "has not turned for 42.5 s, the limit is 30 s"


def test_readiness_needs_every_check_of_every_agent() -> None:
    """One bad check of one agent is enough, and the failure names both."""
    well, ill = (
        AgentSnapshot(name="writer", state="running", checks=(GOOD,)),
        AgentSnapshot(name="editor", state="running", checks=(GOOD, BAD)),
    )
    assert readiness(fleet_of(well), 100.0, 30.0).ok
    assert readiness(fleet_of(well, ill), 100.0, 30.0).failed == ("editor/mcp:archive",)


def test_readiness_needs_the_checks_of_the_process() -> None:
    """What holds for the process as a whole counts although no agent reports it."""
    check = Check("memory_below_limit", ok=False, reason="93 % of 4 GiB")
    assert readiness(fleet_of(checks=(check,)), 100.0, 30.0).failed == ("memory_below_limit",)


def test_a_stopping_fleet_is_not_ready() -> None:
    """It takes no new work, however well it is."""
    assert readiness(fleet_of(stopping=True), 100.0, 30.0).failed == ("not_stopping",)


@pytest.mark.parametrize(("now", "failed"), [(130.0, ()), (130.001, ("snapshot_fresh",))])
def test_an_old_snapshot_is_not_ready(now: float, failed: tuple[str, ...]) -> None:
    """What was good longer than the stall limit ago says nothing about now."""
    assert failed == readiness(fleet_of(), now, 30.0).failed
    assert failed == progress(fleet_of(), now, 30.0, 600.0).failed


def test_a_fleet_that_published_nothing_is_neither_ready_nor_known_to_move() -> None:
    """While it starts, nothing is claimed."""
    assert readiness(None, 0.0, 30.0).failed == ("snapshot_fresh",)
    assert progress(None, 0.0, 30.0, 600.0).failed == ("snapshot_fresh",)


@pytest.mark.parametrize(
    ("in_hand", "since", "now", "ok"),
    [
        (0, None, 100.0, True),
        # Left over from a task that ended: an idle agent is not stuck.
        (0, 5000.0, 100.0, True),
        (1, 600.0, 100.0, True),
        (1, 600.5, 100.0, False),
        # The age of the snapshot counts as well.
        (1, 595.0, 110.0, False),
        (1, None, 100.0, True),
    ],
)
def test_only_a_task_in_hand_that_does_not_move_is_stuck(
    in_hand: int, since: float | None, now: float, *, ok: bool
) -> None:
    """Beyond the progress limit, counted from the task's last mark to the moment of the question."""
    agent = AgentSnapshot(name="editor", state="running", tasks_in_hand=in_hand, seconds_since_progress=since)
    report = progress(fleet_of(agent), now, 30.0, 600.0)
    assert ok == report.ok
    assert (() if ok else ("editor/progress",)) == report.failed


def test_the_json_has_every_check_with_name_result_and_reason() -> None:
    """Also the good ones, grouped by process and agent."""
    report = Report((GOOD,), (("editor", (GOOD, BAD)),))
    good = {"name": "nats_connected", "ok": True, "reason": "127.0.0.1:4222"}
    bad = {"name": "mcp:archive", "ok": False, "reason": "exit status 1, restarted in 2 s"}
    expected = {"ok": False, "failed": ["editor/mcp:archive"], "process": [good], "agents": {"editor": [good, bad]}}
    assert expected == json.loads(json.dumps(report.as_json()))


def test_two_checks_of_one_name_are_both_seen() -> None:
    """A good one does not hide a bad one of the same name."""
    report = Report((Check("disk", ok=False), Check("disk", ok=True)))
    assert [check["ok"] for check in report.as_json()["process"]] == [False, True]
    assert not report.ok


@pytest.mark.parametrize(
    ("checks", "breaker", "healthy"),
    [((GOOD,), "closed", True), ((GOOD,), "half_open", True), ((GOOD,), "open", False), ((GOOD, BAD), "closed", False)],
)
def test_an_agent_is_healthy_when_its_checks_are_good_and_its_breaker_lets_work_in(
    checks: tuple[Check, ...], breaker: str, *, healthy: bool
) -> None:
    """A parked agent is not healthy, whatever its checks say."""
    assert healthy == AgentSnapshot(name="editor", state="running", checks=checks, breaker=breaker).healthy


def test_a_reason_that_holds_a_secret_shows_none() -> None:
    """Whoever may ask the health server sees it, and it may be what somebody's library said."""
    check = Check("connection:queue", ok=False, reason="OSError: cannot reach amqp://me:hunter2@host")
    shown = readiness(fleet_of(checks=(check,)), 100.0, 30.0).as_json()
    assert "hunter2" not in str(shown)
    assert {"name": check.name, "ok": False, "reason": "OSError: cannot reach amqp://***@host"} in shown["process"]
