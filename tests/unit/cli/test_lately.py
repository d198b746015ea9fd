"""What is known on this machine about a task that has no outcome yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentrt.cli.lately import said_lately
from agentrt.cli.statedir import EVENTS
from agentrt.kernel import Event
from agentrt.ops.eventlog import EventLog


def told(folder: Path, *events: tuple[str, dict[str, Any]]) -> None:
    log = EventLog(folder / EVENTS)
    for number, (kind, fields) in enumerate(events, 1):
        log.append(Event(number, kind, "fleet/agents/editor/inbox", 0.0, fields=fields))
    log.close()


def failed(task: str, attempt: int, reason: str, again_in: float | None, root: str = "") -> tuple[str, dict[str, Any]]:
    what = {"task": task, "conversation": root or task, "attempt": attempt, "reason": reason, "again_in": again_in}
    return "task_attempt_failed", what


def test_the_last_attempt_of_that_task_is_told(tmp_path: Path) -> None:
    """Not an earlier one, not another's; with the time that is left, which is never below nothing."""
    told(tmp_path, failed("a", 1, "no", 1), failed("a", 2, "still no", 300), failed("b", 1, "other", 0), ("noise", {}))
    assert said_lately(tmp_path, "a").startswith("; attempt 2 failed: still no; tried again in ")
    assert "; attempt 1 failed: other; tried again in 0 s" == said_lately(tmp_path, "b")
    assert "" == said_lately(tmp_path, "c")


def test_an_agent_that_was_asked_for_its_sake_is_told_by_name(tmp_path: Path) -> None:
    """What a person waits for may wait for another agent, whose attempt it is that failed."""
    told(tmp_path, failed("b", 1, "no", 0, root="a"))
    assert "; editor: attempt 1 failed: no; tried again in 0 s" == said_lately(tmp_path, "a")


def test_the_last_of_all_attempts_is_followed_by_none(tmp_path: Path) -> None:
    """Its outcome is about to be stored."""
    told(tmp_path, failed("a", 4, "no", None))
    assert "; attempt 4 failed: no" == said_lately(tmp_path, "a")


def test_nothing_is_said_where_no_fleet_was(tmp_path: Path) -> None:
    """As where the fleet runs on another machine."""
    assert "" == said_lately(tmp_path / "gone", "a", "editor")


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    """A full disk leaves such lines, and the look begins in the middle of one."""
    told(tmp_path, failed("a", 1, "no", None))
    with (tmp_path / EVENTS).open("ab") as file:
        file.write(b'{"kind": "task_att\n[1]\n\xff')
    assert "; attempt 1 failed: no" == said_lately(tmp_path, "a")
