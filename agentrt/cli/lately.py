"""What is known on this machine about a task that has no outcome yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentrt.cli.control import ask
from agentrt.cli.exits import Failure
from agentrt.cli.statedir import EVENTS, find_run

# Bytes at the end of the event file that are looked at: some thousand events.
_TAIL = 1024 * 1024


def said_lately(state_dir: Path, task: str, agent: str | None = None) -> str:
    """Say how the last attempt failed and what keeps the agent from working; empty where nothing is known.

    The attempt is the task's own, or one of what other agents were asked for its sake.

    Args:
        state_dir: The fleet's state directory. A fleet on another machine has none here.
        task: The task's id.
        agent: Who is to do it, where that is known.
    """
    return "".join(f"; {one}" for one in (_attempt(state_dir, task), _unready(state_dir, agent)) if one)


def _attempt(state_dir: Path, task: str) -> str:
    for event in _backwards(state_dir / EVENTS):
        fields = event.get("fields") or {}
        if event.get("kind") == "task_attempt_failed" and task in {fields.get("task"), fields.get("conversation")}:
            whose = "" if fields["task"] == task else f"{event['path'].split('/')[-2]}: "
            failed = f"{whose}attempt {fields['attempt']} failed: {fields['reason']}"
            if fields["again_in"] is None:
                return failed
            since = datetime.now(UTC) - datetime.fromisoformat(event["wall"])
            return f"{failed}; tried again in {max(0.0, fields['again_in'] - since.total_seconds()):.0f} s"
    return ""


def _backwards(path: Path) -> Iterator[dict[str, Any]]:
    """Give the events at the end of the file, the last one first; one that was cut off is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _unready(state_dir: Path, agent: str | None) -> str:
    try:
        info = find_run(state_dir)
        if info is None or agent is None:
            return ""
        agents = ask(info.control, "ps", health=info.health, pid=info.pid)["agents"]
    except Failure:
        # That there is no outcome is what was asked.
        return ""
    return next((f"{agent} is not ready: {one['why']}" for one in agents if one["name"] == agent and one["why"]), "")
