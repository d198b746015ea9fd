"""What a running fleet looks like: as JSON on the control socket, and as a table and a tree on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from agentrt.config import format_duration
from agentrt.ops.redact import scrub

if TYPE_CHECKING:
    from agentrt.fleet import AgentStatus
    from agentrt.kernel import Exit, Node

# What is not a terminal gets whole lines, however long, so that they can be searched.
_UNLIMITED = 10_000
_STYLES = {
    "running": "green",
    "ready": "green",
    "closed": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "restarting": "yellow",
    "waiting": "yellow",
    "half_open": "yellow",
    "not ready": "yellow",
    "degraded": "yellow",
    "down": "red",
    "parked": "red",
    "open": "red",
    "zombie": "bold red",
}
_COLUMNS = ("AGENT", "STATE", "HEALTH", "BREAKER", "TASK", "AGE", "INBOX", "RESTARTS", "WHY")
_NUMBERS = frozenset(("TASK", "INBOX", "RESTARTS"))


def console(*, stderr: bool = False) -> Console:
    """Make a console for standard output or standard error."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNLIMITED
    return Console(file=stream, width=width, highlight=False, markup=False, soft_wrap=width is not None)


def status_as_json(status: AgentStatus) -> dict[str, Any]:
    """Write an agent's status as plain values."""
    return {
        "name": status.name,
        "state": str(status.state),
        "ready": status.ready,
        "breaker": str(status.breaker),
        "tasks_in_hand": status.tasks_in_hand,
        "task_age": status.task_age,
        "queue_depth": status.queue_depth,
        "restarts": status.restarts,
        "why": scrub(status.why),
    }


def node_as_json(node: Node) -> dict[str, Any]:
    """Write an actor and all below it as plain values."""
    return {
        "name": node.name,
        "path": node.path,
        "kind": node.kind,
        "state": node.state,
        "generation": node.generation,
        "restarts": node.restarts,
        "waiting": node.waiting,
        "seconds_since_progress": node.seconds_since_progress,
        "last_exit": None if node.last_exit is None else _exit_as_json(node.last_exit),
        "children": [node_as_json(child) for child in node.children],
    }


def _exit_as_json(exit_: Exit) -> dict[str, Any]:
    return {"kind": exit_.kind.value, "generation": exit_.generation, "summary": exit_.summary()}


def agents_table(agents: Iterable[Mapping[str, Any]]) -> RenderableType:
    """Draw the agents, one a line, from what :func:`status_as_json` wrote."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in _NUMBERS else "left", no_wrap=column != "WHY")
    for agent in agents:
        depth = agent["queue_depth"]
        table.add_row(
            shown(agent["name"]),
            _coloured(agent["state"]),
            _coloured("ready" if agent["ready"] else "not ready"),
            _coloured(agent["breaker"]),
            str(agent["tasks_in_hand"]),
            age(agent["task_age"]),
            "?" if depth is None else str(depth),
            str(agent["restarts"]),
            shown(agent["why"]),
        )
    return table


def servers_table(servers: Iterable[Mapping[str, Any]]) -> RenderableType:
    """Draw the bus servers that a fleet brings along, one a line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("SERVER", "STATE", "URL", "WHY"):
        table.add_column(column, no_wrap=column != "WHY")
    for server in servers:
        # One that has a process and cannot store may serve all else.
        state = "running" if server["is_running"] else "down" if server["pid"] is None else "degraded"
        table.add_row(shown(server["name"]), _coloured(state), shown(server["url"]), shown(server["reason"]))
    return table


def actors_tree(root: Mapping[str, Any]) -> RenderableType:
    """Draw the tree of actors from what :func:`node_as_json` wrote."""
    tree = Tree(_line(root), guide_style="dim")
    _grow(tree, root)
    return tree


def _grow(tree: Tree, node: Mapping[str, Any]) -> None:
    for child in node["children"]:
        _grow(tree.add(_line(child)), child)


def _line(node: Mapping[str, Any]) -> Text:
    line = Text.assemble(shown(node["name"]), " ", _coloured(node["state"]))
    if node["kind"]:
        line.append(f" {plain(node['kind'])}", style="dim")
    if node["restarts"]:
        line.append(f" restarts {node['restarts']}", style="yellow")
    if node["waiting"]:
        line.append(f" waiting {node['waiting']}")
    if node["state"] != "running" and node["last_exit"] is not None:
        line.append(f"  {plain(node['last_exit']['summary'])}", style="red")
    return line


def age(seconds: float | None) -> str:
    """Write seconds for people: whole ones, the two largest units."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    # Beside hours seconds are noise, and beside days minutes.
    for limit, step in ((86_400, 3_600), (3_600, 60)):
        if whole >= limit:
            whole -= whole % step
            break
    return format_duration(float(whole))


def shown(text: str) -> Text:
    """Make text that comes from agents fit for a terminal."""
    return Text(plain(text))


def plain(text: str) -> str:
    """Put what could move a terminal's cursor, or end a line, out of *text*."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def _coloured(word: str) -> Text:
    return Text(plain(word), style=_STYLES.get(word, ""))
