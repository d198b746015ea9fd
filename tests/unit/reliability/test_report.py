"""The document of the failure matrix says of each client what came of it."""

from __future__ import annotations

from rig.faults import FAULTS
from rig.play import Result
from rig.report import Row, document


def result(lost: int = 0, **back: float) -> Result:
    return Result(back, stored=100, lost=lost, destroyed=0, again=0, failures={})


def written(*rows: Row, headline: tuple[Row, ...] = ()) -> list[str]:
    text = document(["a", "b"], rows, headline, versions={"a": "1"}, machine="here", limit=10)
    return text.splitlines()


def test_the_slowest_sign_is_the_time_to_recover_and_what_stays_dead_is_never():
    """Who recovered in part is told with the part that did not."""
    row = Row(FAULTS["reset"], {"a": result(tasks=0.1, core=0.2, watch=0.3), "b": result(lost=2, core=0.2)})
    assert "| connection reset | 0.30 s | **never**: tasks, watch, 2 lost |" in written(row)


def test_who_never_came_back_and_who_was_not_played_are_told_apart():
    """A rig that failed says nothing about the client."""
    row = Row(FAULTS["reset"], {"a": result(), "b": "not played: OSError"})
    assert "| connection reset | **never** | not played: OSError |" in written(row)


def test_the_headline_is_a_median_that_does_not_hide_who_stayed_away():
    """The lowest and the highest stand beside it."""
    rows = tuple(
        Row(FAULTS["reset"], {"a": result(tasks=seconds), "b": result(tasks=seconds) if seconds > 1 else result()})
        for seconds in (1.0, 2.0, 3.0)
    )
    lines = written(headline=rows)
    assert "| a | **2.00 s** (1.00–3.00) |" in lines
    assert "| b | **2.50 s** (2.00–3.00), and never in 1 of them |" in lines
