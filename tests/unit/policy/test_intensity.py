"""Restart intensity and the clock that its window is measured by."""

from __future__ import annotations

import pytest

from agentrt.policy import RestartIntensity, RunningClock, Verdict


def test_one_restart_more_than_allowed_gives_up():
    """Three restarts within five seconds are tolerated, the fourth is not."""
    intensity = RestartIntensity(max_restarts=3, max_seconds=5.0)
    verdicts = [intensity.record(now) for now in (0.0, 1.0, 2.0, 3.0)]
    assert verdicts == [Verdict.RESTART, Verdict.RESTART, Verdict.RESTART, Verdict.GIVE_UP]


def test_a_restart_exactly_as_old_as_the_window_still_counts():
    """The window is inclusive, as in OTP."""
    intensity = RestartIntensity(max_restarts=1, max_seconds=5.0)
    intensity.record(0.0)
    assert Verdict.GIVE_UP is intensity.record(5.0)


def test_a_restart_older_than_the_window_is_forgotten():
    """Restarts slower than the intensity never give up."""
    intensity = RestartIntensity(max_restarts=1, max_seconds=5.0)
    assert {Verdict.RESTART} == {intensity.record(now * 5.5) for now in range(1_000)}


def test_no_restarts_allowed_means_never_restart():
    """max_restarts=0 gives up at the first failure."""
    assert Verdict.GIVE_UP is RestartIntensity(max_restarts=0).record(0.0)


def test_restarts_left_counts_down_and_comes_back():
    """What is left is the budget less what the window holds, and never negative."""
    intensity = RestartIntensity(max_restarts=2, max_seconds=5.0)
    left = [intensity.restarts_left(0.0)]
    for now in (0.0, 1.0, 2.0):
        intensity.record(now)
        left.append(intensity.restarts_left(now))
    assert left == [2, 1, 0, 0]
    assert [intensity.restarts_left(now) for now in (6.0, 6.5, 7.5)] == [0, 1, 2]


def test_a_caller_that_goes_on_after_too_many_costs_no_memory():
    """One restart more than is tolerated is all that is ever remembered, and enough to go on giving up."""
    intensity = RestartIntensity(max_restarts=3, max_seconds=1e6)
    verdicts = [intensity.record(float(now)) for now in range(1_000)]
    assert {Verdict.GIVE_UP} == set(verdicts[3:])
    assert 4 == len(intensity._restarts)


@pytest.mark.parametrize("figures", [{"max_restarts": -1}, {"max_seconds": 0}])
def test_impossible_figures_are_refused(figures):
    """A window of nothing and a negative budget are mistakes."""
    with pytest.raises(ValueError, match="must be"):
        RestartIntensity(**figures)


def test_a_clock_never_paused_reads_what_it_is_told():
    """Without a pause, running time is the caller's time."""
    assert [RunningClock().read(now) for now in (0.0, 7.5, 1e9)] == [0.0, 7.5, 1e9]


def test_a_paused_clock_stands_still():
    """Ten seconds with a pause of four are six."""
    clock = RunningClock()
    clock.pause(2.0)
    assert (clock.read(2.0), clock.read(6.0)) == (2.0, 2.0)
    clock.resume(6.0)
    assert (clock.read(6.0), clock.read(10.0)) == (2.0, 6.0)


def test_pauses_nest():
    """Backing off while a sibling is stopped is two pauses; the clock runs again when both are over."""
    clock = RunningClock()
    clock.pause(1.0)
    clock.pause(2.0)
    clock.resume(3.0)
    assert clock.read(4.0) == 1.0
    clock.resume(5.0)
    assert clock.read(6.0) == 2.0


def test_resuming_a_running_clock_is_an_error():
    """Each resume takes back one pause."""
    clock = RunningClock()
    clock.pause(1.0)
    clock.resume(2.0)
    with pytest.raises(RuntimeError, match="not paused"):
        clock.resume(3.0)


def test_a_loop_with_slow_stops_still_spends_its_budget():
    """In OTP 3 restarts in 5 s never trip when each cycle stops siblings for 2 s; running time sees the loop."""
    clock = RunningClock()
    by_wall, by_running = RestartIntensity(max_restarts=3, max_seconds=5.0), RestartIntensity(3, 5.0)
    wall, running = [], []
    for cycle in range(50):
        crash = cycle * 2.0
        wall.append(by_wall.record(crash))
        running.append(by_running.record(clock.read(crash)))
        clock.pause(crash)
        clock.resume(crash + 2.0)
    assert {Verdict.RESTART} == set(wall)
    assert running.index(Verdict.GIVE_UP) == 3
