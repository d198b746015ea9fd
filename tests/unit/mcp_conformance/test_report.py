"""What the runs of the official suite are made into: a table, and a verdict."""

from __future__ import annotations

import pytest
from mcpsuite.report import Guarded, Table, document, reason_of
from mcpsuite.suite import ERAS, Check, Result


def result(*statuses: str) -> Result:
    checks = tuple(Check(f"id-{at}", f"Check{at}", status) for at, status in enumerate(statuses))
    return Result(checks, is_passed=not {"FAILURE", "WARNING"} & set(statuses))


GOOD, BAD = result("SUCCESS", "SUCCESS", "SKIPPED"), result("SUCCESS", "FAILURE")


@pytest.mark.parametrize(
    ("scenario", "found", "cell", "reason"),
    [
        ("tools_call", GOOD, "2", None),
        ("tools_call", BAD, "**failed**: Check1", "tools_call at 2026-07-28 failed"),
        ("tools_call", result("SKIPPED"), "nothing to check", None),
        ("auth/dpop", BAD, "not offered", None),
        ("auth/dpop", GOOD, "2", "auth/dpop at 2026-07-28 is offered now"),
    ],
)
def test_a_session_passes_what_it_offers(scenario, found, cell, reason):
    """What is not offered may fail; where it does not, the list of that is out of date."""
    table = Table(sessions={(scenario, ERAS[1]): found})
    assert f"| `{scenario}` | – | {cell} |" in document(table)
    assert reason == reason_of(table)


@pytest.mark.parametrize(
    ("bare", "guarded", "cell"),
    [
        (GOOD, GOOD, "2 of 2, the same"),
        (BAD, BAD, "1 of 2, the same"),
        (BAD, GOOD, "**differs**: Check1: FAILURE, Check1: SUCCESS with the guard, Check2: SKIPPED with the guard"),
        (GOOD, result("SUCCESS"), "**differs**: Check1: SUCCESS, Check2: SKIPPED"),
    ],
)
def test_a_guard_changes_no_check(bare, guarded, cell):
    """Neither for the worse nor for the better, and none is missing."""
    table = Table(servers={("ping", "fixture", ERAS[0]): Guarded(bare, guarded)})
    assert f"| `ping` | {cell} | – | – |" in document(table)
    assert (reason_of(table) is None) == (bare == guarded)
