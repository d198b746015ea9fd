"""The memory guard: each verdict once, its equality cases, and no restart loop."""

from __future__ import annotations

import pytest

from agentrt.policy import MemoryGuardPolicy, MemoryVerdict

OK, WARN, RESTART, REPORT = MemoryVerdict
MB = 1_000_000


def samples(policy, *megabytes, since=300.0, start=0.0):
    """Take a sample every 30 s, the first *since* seconds after *start*."""
    return [policy.sample(rss * MB, start, start + since + 30.0 * n) for n, rss in enumerate(megabytes)]


@pytest.fixture
def policy() -> MemoryGuardPolicy:
    """Return the limits of a tool server: 100 MB and 140 MB."""
    return MemoryGuardPolicy(100 * MB, 140 * MB)


def test_the_first_limit_warns_once(policy):
    """At exactly 100 MB, and not again with each sample."""
    assert samples(policy, 99, 100, 120, 139) == [OK, WARN, OK, OK]


def test_the_warning_is_repeated_only_after_it_fell_below_the_limit(policy):
    """At exactly 100 MB it has not fallen below."""
    assert samples(policy, 120, 100, 120, 99, 100) == [WARN, OK, OK, OK, WARN]


def test_the_second_limit_restarts_once(policy):
    """At exactly 140 MB; while the restart is under way more samples ask for nothing."""
    assert samples(policy, 50, 139, 140, 150) == [OK, WARN, RESTART, OK]


def test_a_restart_is_asked_for_once_per_start_also_after_it_fell(policy):
    """The restart is under way, whatever the memory does meanwhile."""
    assert samples(policy, 140, 50, 140) == [RESTART, OK, OK]


def test_a_restart_stands_for_the_warning(policy):
    """Falling from the second limit to the first says nothing new."""
    assert samples(policy, 150, 120) == [RESTART, OK]


@pytest.mark.parametrize(("age", "expected"), [(0.0, REPORT), (59.9, REPORT), (60.0, RESTART)])
def test_over_the_limit_within_a_minute_of_its_start_is_reported(policy, age, expected):
    """At exactly 60 s it has settled."""
    assert [expected] == samples(policy, 150, since=age)


def test_a_server_that_needs_that_much_is_not_restarted_in_a_loop(policy):
    """It was over the limit before it settled and never fell below, so it is reported once and left alone."""
    assert samples(policy, 150, 150, 150, 150, since=10.0) == [REPORT, OK, OK, OK]


def test_a_server_that_fell_below_the_limit_can_be_restarted_later(policy):
    """A peak at the start excuses no leak."""
    assert samples(policy, 150, 120, 120, 150, since=10.0) == [REPORT, OK, OK, RESTART]


def test_two_peaks_before_it_settled_are_reported_once(policy):
    """Once per start."""
    assert samples(MemoryGuardPolicy(100 * MB, 140 * MB, settle=600.0), 150, 50, 150, since=10.0) == [REPORT, OK, OK]


def test_another_start_begins_anew(policy):
    """Each process has its own warning, its own report and its own restart."""
    assert samples(policy, 120, 140) == [WARN, RESTART]
    assert samples(policy, 120, 140, start=1000.0) == [WARN, RESTART]
    assert samples(policy, 140, start=2000.0, since=10.0) == [REPORT]
    assert samples(policy, 140, start=3000.0, since=10.0) == [REPORT]
    assert samples(policy, 140, start=4000.0) == [RESTART]


def test_without_a_time_to_settle_there_is_no_report():
    """settle=0 restarts at any age."""
    assert samples(MemoryGuardPolicy(1 * MB, 1 * MB, settle=0.0), 1, since=0.0) == [RESTART]


@pytest.mark.parametrize(("warn", "limit", "settle"), [(0, 1, 60.0), (1, 0, 60.0), (2, 1, 60.0), (1, 1, -1.0)])
def test_impossible_figures_are_refused(warn, limit, settle):
    """Such as a warning above the limit."""
    with pytest.raises(ValueError, match=r"must (not )?be"):
        MemoryGuardPolicy(warn, limit, settle)
