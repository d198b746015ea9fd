"""The watchdog: two limits, two verdicts, and the time to look again."""

from __future__ import annotations

import pytest

from agentrt.policy import Limits, LimitVerdict, judge, next_due

TASK = Limits(total=1800.0, progress=300.0)


@pytest.mark.parametrize(
    ("last_progress", "now", "expected"),
    [
        (0.0, 299.9, None),
        (0.0, 300.0, LimitVerdict.STUCK),
        (250.0, 549.9, None),
        (250.0, 550.0, LimitVerdict.STUCK),
        (1790.0, 1799.9, None),
        (1790.0, 1800.0, LimitVerdict.TIMED_OUT),
    ],
)
def test_a_task_has_thirty_minutes_and_five_without_a_step(last_progress, now, expected):
    """Two limits with two different verdicts, each reached at its very moment."""
    assert expected == judge(TASK, 0.0, last_progress, now)


def test_the_total_limit_wins_where_both_are_reached():
    """A task that is out of time is timed out, moving or not."""
    assert LimitVerdict.TIMED_OUT is judge(TASK, 0.0, 0.0, 1800.0)


def test_time_counts_from_the_start():
    """The clock has any origin."""
    assert judge(TASK, 1e6, 1e6, 1e6 + 299.0) is None
    assert LimitVerdict.STUCK is judge(TASK, 1e6, 1e6, 1e6 + 300.0)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(total=None, progress=None), None),
        (Limits(total=100.0, progress=None), LimitVerdict.TIMED_OUT),
        (Limits(total=None, progress=100.0), LimitVerdict.STUCK),
    ],
)
def test_a_limit_of_none_is_never_reached(limits, expected):
    """Each can be switched off by itself."""
    assert expected == judge(limits, 0.0, 0.0, 1e9)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (TASK, 320.0),
        (Limits(total=310.0, progress=300.0), 320.0),
        (Limits(total=305.0, progress=300.0), 315.0),
        (Limits(total=None, progress=300.0), 320.0),
        (Limits(total=1800.0, progress=None), 1810.0),
        (Limits(total=None, progress=None), None),
    ],
)
def test_the_next_look_is_due_when_the_first_limit_is_reached(limits, expected):
    """Whichever comes first, given that nothing moves."""
    assert expected == next_due(limits, 10.0, 20.0)


@pytest.mark.parametrize(
    ("total", "progress"), [(0.0, None), (None, 0.0), (-1.0, None), (300.0, 300.0), (300.0, 301.0)]
)
def test_limits_that_cannot_work_are_refused(total, progress):
    """A progress limit that is not less than the total one could never be the one that is reached."""
    with pytest.raises(ValueError, match="must be"):
        Limits(total, progress)
