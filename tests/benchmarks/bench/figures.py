"""What is made of the rounds: medians, ratios to the control of the same round, verdicts. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import attrs

from bench.workloads import Against, Figure

#: The contenders that everything is compared with and about.
CONTROL = "control"
OURS = "agentrt"


@attrs.frozen
class Outcome:
    """One contender's one round of one workload: figures, or why there are none."""

    figures: dict[str, float] = attrs.field(factory=dict)
    why_not: str = ""


@attrs.frozen
class Spread:
    """The median of several rounds, with the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Say it of *values*; None where there are none."""
        known = list(values)
        return cls(statistics.median(known), min(known), max(known)) if known else None


@attrs.frozen
class Standing:
    """What one contender reached in one figure.

    Args:
        value: The figure itself, over the rounds.
        ratio: Its ratio to the control of the same round.
        why_not: Why there is no value.
    """

    value: Spread | None
    ratio: Spread | None
    why_not: str = ""


def standing(key: str, rounds: Sequence[Outcome], control: Sequence[Outcome]) -> Standing:
    """Say what the *rounds* of a contender come to, against the *control*'s, in the same order.

    A round that failed counts for nothing, and its partner for no ratio.
    """
    value = Spread.of(one.figures[key] for one in rounds if key in one.figures)
    ratio = Spread.of(
        one.figures[key] / base.figures[key]
        for one, base in zip(rounds, control, strict=False)
        if key in one.figures and base.figures.get(key)
    )
    reasons = [one.why_not for one in rounds if one.why_not]
    return Standing(value, ratio, reasons[0] if reasons else "" if value is not None else "gives no such figure")


def is_met(figure: Figure, ours: Standing) -> bool | None:
    """Say whether the goal of *figure* is met; None where it has none or there is nothing to judge."""
    if figure.goal is None:
        return None
    judged = ours.ratio if figure.goal.against is Against.CONTROL else ours.value
    return figure.goal.is_met(judged.median) if judged is not None else None


def is_ahead(figure: Figure, ours: Standing, peer: Standing) -> bool | None:
    """Say whether *ours* is ahead of *peer*, by their ratios to the control; None where one of them has none."""
    if ours.ratio is None or peer.ratio is None:
        return None
    difference = ours.ratio.median - peer.ratio.median
    return difference > 0 if figure.more_is_better else difference < 0
