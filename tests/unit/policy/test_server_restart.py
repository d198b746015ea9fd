"""Server restart: the ladder of delays, and when to be loud."""

from __future__ import annotations

import pytest

from agentrt.policy import RestartDelay, ServerRestart


def test_a_killed_server_is_restarted_at_once():
    """The first restart does not wait, whatever the jitter."""
    first = ServerRestart().failed(0.9)
    assert RestartDelay(delay=0.0, attempt=1, extended=False, probably_permanent=False) == first


def test_delays_double_from_two_seconds_to_sixty_and_then_to_five_minutes():
    """At once, 2 s doubling to 60 s, and from the tenth failure in a row on 300 s, give or take."""
    restart = ServerRestart()
    delays = [restart.failed(1.0).delay for _ in range(9)]
    assert delays == [0.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert [restart.failed(0.5).delay for _ in range(2)] == [300.0, 300.0]


def test_ordinary_delays_are_shortened_by_up_to_a_fifth():
    """So none is longer than 60 s, and a fleet still spreads at the cap."""
    restart = ServerRestart()
    delays = [restart.failed(0.0).delay for _ in range(9)]
    assert pytest.approx([0.0, 1.6, 3.2, 6.4, 12.8, 25.6, 48.0, 48.0, 48.0]) == delays


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, 240.0), (0.5, 300.0), (1.0, 360.0)])
def test_the_extended_delay_varies_by_a_fifth_both_ways(jitter, expected):
    """300 s, 20 % less or more."""
    restart = ServerRestart()
    verdicts = [restart.failed(jitter) for _ in range(10)]
    assert expected == pytest.approx(verdicts[-1].delay)


def test_it_says_when_ordinary_backoff_did_not_help():
    """The ninth failure in a row is ordinary, the tenth is extended."""
    restart = ServerRestart()
    verdicts = [restart.failed(0.5) for _ in range(11)]
    assert [(v.attempt, v.extended) for v in verdicts[8:]] == [(9, False), (10, True), (11, True)]


def test_it_never_gives_up():
    """After a thousand failures there is still a next restart, and within six minutes."""
    restart = ServerRestart()
    verdicts = [restart.failed(1.0) for _ in range(1_000)]
    assert RestartDelay(delay=360.0, attempt=1_000, extended=True, probably_permanent=False) == verdicts[-1]


def test_a_good_start_begins_anew():
    """Count, delay and flags are those of a first failure."""
    restart = ServerRestart()
    for _ in range(12):
        restart.failed(0.5, "exit 1")
    restart.succeeded()
    assert RestartDelay(delay=0.0, attempt=1, extended=False, probably_permanent=False) == restart.failed(0.5, "exit 1")


def test_three_equal_failures_to_start_are_probably_permanent():
    """A wrong path fails in the same way each time; from the third on it is said, and tried every five minutes."""
    restart = ServerRestart()
    verdicts = [restart.failed(0.5, "ENOENT") for _ in range(4)]
    assert [False, False, True, True] == [verdict.probably_permanent for verdict in verdicts]
    assert [0.0, 1.8, 300.0, 300.0] == [verdict.delay for verdict in verdicts]
    assert [False, False, True, True] == [verdict.extended for verdict in verdicts]


@pytest.mark.parametrize("between", ["exit 2", None])
def test_a_different_failure_in_between_starts_the_comparison_again(between):
    """What varies may pass."""
    restart = ServerRestart()
    signatures = ["exit 1", "exit 1", between, "exit 1", "exit 1", "exit 1"]
    flags = [restart.failed(0.5, signature).probably_permanent for signature in signatures]
    assert flags == [False, False, False, False, False, True]


def test_ends_of_a_server_that_had_started_are_never_permanent():
    """Without a signature there is nothing to compare."""
    restart = ServerRestart()
    assert {False} == {restart.failed(0.5).probably_permanent for _ in range(5)}


@pytest.mark.parametrize("figures", [{"extended_after": 1}, {"same_failures": 1}])
def test_impossible_figures_are_refused(figures):
    """One failure is not a row."""
    with pytest.raises(ValueError, match="must be"):
        ServerRestart(**figures)
