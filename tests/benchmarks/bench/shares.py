"""What a profile is spent on, by whose code it is: this project's modules one by one, all else by library. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from bench.report import table

#: Where a function is, its line and its name; and calls, primitive calls, own time, time with what it called, callers.
Stats = Mapping[tuple[str, int, str], tuple[int, int, float, float, Any]]

#: Libraries by a part of their path, the first that fits.
_LIBRARIES = (
    ("trio_asyncio", "asyncio and the bridge"),
    ("asyncio", "asyncio and the bridge"),
    ("trio", "Trio"),
    ("outcome", "Trio"),
    ("nats", "nats-py"),
    ("contenders", "the benchmark"),
    ("bench", "the benchmark"),
)


def owner_of(path: str, name: str) -> str:
    """Say whose code a function is."""
    if path == "~":
        if "socket" in name:
            return "calls of the system: sockets"
        return "calls of the system: waiting" if "poll" in name else "built-in functions"
    if path.startswith("<attrs generated methods "):
        path = path.removeprefix("<attrs generated methods ").split(">")[0].replace(".", "/")
    parts = PurePath(path).parts
    for ours in ("actors", "agentrt"):
        if ours in parts:
            return "/".join(parts[parts.index(ours) :][:2]).removesuffix(".py")
    return next((owner for part, owner in _LIBRARIES if part in parts), "the rest of Python")


def shares(stats: Stats, least: float = 0.02) -> str:
    """Write each owner's part of all own time, the largest first; what has less than *least* is told together."""
    spent: Counter[str] = Counter()
    for (path, _, name), (_, _, own, _, _) in stats.items():
        spent[owner_of(path, name)] += own
    total = sum(spent.values())
    large = [(owner, time) for owner, time in spent.most_common() if time >= least * total]
    others = total - sum(time for _, time in large)
    rows = [(owner, f"{100 * time / total:.0f} %") for owner, time in [*large, ("all else", others)]]
    return table(("spent on", "part"), rows)
