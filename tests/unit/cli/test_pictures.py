"""What a fleet looks like on a terminal, in a pipe and as JSON."""

from __future__ import annotations

import io
import json
from typing import Any

import attrs
import pytest
from rich.console import Console

from agentrt.cli.pictures import actors_tree, age, agents_table, node_as_json, plain, servers_table, status_as_json
from agentrt.fleet import AgentStatus
from agentrt.kernel import Cause, Exit, ExitKind, Node

EDITOR = AgentStatus(
    name="editor",
    state="running",
    ready=False,
    breaker="half_open",
    tasks_in_hand=1,
    task_age=250.4,
    restarts=2,
    queue_depth=None,
    why="mcp:archive: it [red]restarts[/red]\x1b[2J",
)
CRASHED = Exit("fleet/editor/inbox", 3, ExitKind.CRASHED, cause=Cause("ValueError", "no"))


def node(name: str, state: str = "running", *children: Node, last_exit: Exit | None = None) -> Node:
    return Node(
        name=name,
        path=f"fleet/{name}",
        kind="Inbox",
        state=state,
        generation=3,
        restarts=2 if last_exit else 0,
        waiting=0,
        seconds_since_progress=1.5,
        last_exit=last_exit,
        children=children,
    )


INBOX = node("inbox", "waiting", last_exit=CRASHED)
TREE = node("fleet", "running", node("editor", "running", INBOX, node("guard", last_exit=CRASHED)))


def drawn(picture: Any, *, width: int = 200, terminal: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, color_system="standard" if terminal else None).print(
        picture
    )
    return out.getvalue()


def test_the_columns_of_ps_are_those_that_the_documentation_names() -> None:
    """Scripts cut them out."""
    heading, row = drawn(agents_table([status_as_json(EDITOR)])).splitlines()
    expected = ["AGENT", "STATE", "HEALTH", "BREAKER", "TASK", "AGE", "INBOX", "RESTARTS", "WHY"]
    assert heading.split() == expected
    assert row.startswith("editor  running  not ready  half_open     1  4m10s      ?         2  mcp:archive")


def test_what_agents_say_can_neither_style_nor_move_the_terminal() -> None:
    """A reason may quote a tool server, which may say anything."""
    text = drawn(agents_table([status_as_json(EDITOR)]))
    assert "[red]restarts[/red]" in text
    assert "\x1b" not in text


def test_a_narrow_terminal_keeps_every_agent_s_name_and_state() -> None:
    """Only the reason is wrapped."""
    lines = drawn(agents_table([status_as_json(EDITOR)]), width=80).splitlines()
    assert len(lines) > 2
    assert lines[1].startswith("editor  running  not ready  half_open")


def test_the_tree_says_how_those_ended_that_do_not_run() -> None:
    """And of those that run only that they do."""
    lines = drawn(actors_tree(node_as_json(TREE))).splitlines()
    assert "crashed (generation 3): ValueError: no" in lines[2]
    assert "restarts 2" in lines[2]
    assert lines[0].strip() == "fleet running Inbox"
    assert lines[3].strip().endswith("guard running Inbox restarts 2")


def test_states_are_coloured_on_a_terminal() -> None:
    """What needs attention is not green."""
    text = drawn(actors_tree(node_as_json(TREE)), terminal=True)
    assert "\x1b[32mrunning" in text
    assert "\x1b[33mwaiting" in text


def test_statuses_and_nodes_survive_json() -> None:
    """All of it is plain: it goes over the control socket."""
    assert json.loads(json.dumps(status_as_json(EDITOR))) == attrs.asdict(EDITOR)
    found = json.loads(json.dumps(node_as_json(TREE)))
    inbox = found["children"][0]["children"][0]
    expected = {"kind": "crashed", "generation": 3, "summary": CRASHED.summary()}
    assert inbox["last_exit"] == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0.9, "0s"), (59.9, "59s"), (61, "1m1s"), (3599, "59m59s"), (3661, "1h1m"), (90_000, "1d1h")],
)
def test_an_age_has_the_two_largest_units(seconds: float | None, expected: str) -> None:
    """Beside hours seconds are noise."""
    assert age(seconds) == expected


def test_plain_text_stays_what_it_is() -> None:
    """Other scripts and letters are no control characters."""
    assert plain("Ünïcode ✓ 写") == "Ünïcode ✓ 写"
    assert plain("a\r\n\tb\x9b") == "a   b "


def test_a_reason_that_holds_a_secret_shows_none() -> None:
    """It may be what somebody's library said, with the URL that it could not reach."""
    status = attrs.evolve(EDITOR, why="connection:queue: OSError: cannot reach amqp://me:hunter2@host")
    assert "connection:queue: OSError: cannot reach amqp://***@host" == status_as_json(status)["why"]


@pytest.mark.parametrize(
    ("is_running", "pid", "state"), [(True, 7, "running"), (False, 7, "degraded"), (False, None, "down")]
)
def test_a_server_that_lives_and_cannot_store_is_not_called_down(*, is_running: bool, pid: int | None, state: str):
    """It may serve all else; why it cannot stands behind it."""
    server = {"name": "nats-server", "url": "nats://h", "is_running": is_running, "pid": pid, "reason": "the disk"}
    assert ["nats-server", state, "nats://h", "the", "disk"] == drawn(servers_table([server])).splitlines()[1].split()
