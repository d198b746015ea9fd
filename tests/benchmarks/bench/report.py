"""The tables, in Markdown, and the same as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from bench.figures import CONTROL, OURS, Spread, Standing, is_ahead, is_met, standing
from bench.rounds import Rounds
from bench.workloads import Against, Figure, Workload

#: How figures are told that have more digits than mean something: from where on, of which unit, divided by what.
_LARGE = {
    "µs": ((1_000_000, "s", 1_000_000), (10_000, "ms", 1000)),
    "": ((1_000_000, "M", 1_000_000), (10_000, "k", 1000)),
}


def figure_text(value: float, unit: str) -> str:
    """Write a figure with its unit and three digits; what never came to be is infinite."""
    if math.isinf(value):
        return "never"
    for least, prefix, divisor in _LARGE.get(unit, _LARGE[""]):
        if abs(value) >= least:
            return f"{_three_digits(value / divisor)} {prefix if unit == 'µs' else f'{prefix} {unit}'}".rstrip()
    return f"{_three_digits(value)} {unit}".rstrip()


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def spread(ratio: Spread | None) -> str:
    """Write a ratio with its lowest and highest round."""
    if ratio is None:
        return "–"
    median, lowest, highest = (figure_text(one, "") for one in (ratio.median, ratio.lowest, ratio.highest))
    return f"**{median} ×** ({lowest}–{highest})"


def goals_table(workloads: Iterable[Workload], results: Rounds) -> str:
    """Write agentrt against the control, with what is to be reached."""
    rows = [_goal_row(figure, results[workload.name]) for workload in workloads for figure in workload.figures]
    return table(("workload", CONTROL, OURS, "ratio (rounds)", "goal", ""), rows)


def _goal_row(figure: Figure, rounds: dict[str, list[Any]]) -> tuple[str, ...]:
    base, ours = (standing(figure.key, rounds[name], rounds[CONTROL]) for name in (CONTROL, OURS))
    met = is_met(figure, ours)
    return (
        figure.title,
        figure_text(base.value.median, figure.unit) if base.value else base.why_not,
        figure_text(ours.value.median, figure.unit) if ours.value else ours.why_not,
        spread(ours.ratio) if figure.is_relative else "–",
        str(figure.goal) if figure.goal is not None else "–",
        {True: "met", False: "**not met**", None: ""}[met],
    )


def peers_table(workloads: Iterable[Workload], peers: Sequence[str], results: Rounds) -> str:
    """Write everybody's ratio to the control; where a peer is ahead of agentrt, in bold."""
    rows, missing = [], {}
    for workload in workloads:
        rounds = results[workload.name]
        for figure in workload.figures:
            if not figure.is_compared:
                continue
            ours = standing(figure.key, rounds[OURS], rounds[CONTROL])
            cells = [figure.title, figure_text(ours.ratio.median, "") if ours.ratio else "–"]
            for peer in peers:
                theirs = standing(figure.key, rounds[peer], rounds[CONTROL])
                cells.append(_peer_cell(figure, ours, theirs))
                if theirs.why_not:
                    missing.setdefault((peer, theirs.why_not), []).append(figure.title)
            rows.append(tuple(cells))
    written = table(("× control", OURS, *peers), rows)
    notes = [f"- {peer} ({'; '.join(titles)}): {reason}" for (peer, reason), titles in missing.items()]
    return written + ("\n\nWhat has no figure:\n\n" + "\n".join(sorted(notes)) if notes else "")


def figures_table(workload: Workload, names: Sequence[str], results: Rounds) -> str:
    """Write everybody's own figures, with the lowest and the highest round; for what has no control to be held to."""
    rounds = results[workload.name]
    rows, missing = [], {}
    for figure in workload.figures:
        cells = [figure.title]
        for name in names:
            reached = standing(figure.key, rounds[name], rounds[CONTROL])
            cells.append(_figure_cell(figure, reached))
            if reached.why_not:
                missing[name] = reached.why_not
        rows.append(tuple(cells))
    notes = [f"- {name}: {reason}" for name, reason in missing.items()]
    return table(("", *names), rows) + ("\n\nWhat has no figure:\n\n" + "\n".join(notes) if notes else "")


def _figure_cell(figure: Figure, reached: Standing) -> str:
    if reached.value is None:
        return "–"
    median, lowest, highest = (figure_text(one, figure.unit) for one in attrs.astuple(reached.value))
    return f"**{median}** ({lowest} – {highest})" if lowest != highest else f"**{median}**"


def _peer_cell(figure: Figure, ours: Standing, theirs: Standing) -> str:
    if theirs.ratio is None or theirs.value is None:
        return "–"
    told = f"{figure_text(theirs.ratio.median, '')} ({figure_text(theirs.value.median, figure.unit)})"
    return f"**{told}**" if is_ahead(figure, ours, theirs) is False else told


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Write a table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_data(workloads: Iterable[Workload], names: Sequence[str], results: Rounds) -> list[dict[str, Any]]:
    """Say the same as plain data: one entry for each figure and contender, with every round."""
    entries = []
    for workload in workloads:
        rounds = results[workload.name]
        for figure in workload.figures:
            for name in names:
                if not rounds[name]:
                    continue
                reached = standing(figure.key, rounds[name], rounds[CONTROL])
                entry: dict[str, Any] = {
                    "workload": workload.name,
                    "figure": figure.key,
                    "unit": figure.unit,
                    "contender": name,
                    "rounds": [one.figures.get(figure.key) for one in rounds[name]],
                    "median": reached.value.median if reached.value else None,
                    "ratio": reached.ratio.median if reached.ratio else None,
                    "why_not": reached.why_not or None,
                }
                if name == OURS and figure.goal is not None:
                    entry["goal"] = {
                        "bound": figure.goal.bound,
                        "at_least": figure.goal.at_least,
                        "of": "ratio" if figure.goal.against is Against.CONTROL else "median",
                        "met": is_met(figure, reached),
                    }
                entries.append(entry)
    return entries
