"""Restart intensity and the running clock against naive models, in integer seconds."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import RestartIntensity, RunningClock, Verdict

gaps = st.lists(st.integers(0, 8), max_size=60)


@given(st.integers(0, 5), st.integers(1, 12), gaps)
def test_the_window_is_all_restarts_not_older_than_it(max_restarts, max_seconds, between):
    """The model looks at the whole history each time."""
    intensity = RestartIntensity(max_restarts, max_seconds)
    history: list[int] = []
    for now in accumulate(between):
        history.append(now)
        in_window = [then for then in history if now - then <= max_seconds]
        expected = Verdict.GIVE_UP if len(in_window) > max_restarts else Verdict.RESTART
        assert expected is intensity.record(now)
        assert max(0, max_restarts - len(in_window)) == intensity.restarts_left(now)


@given(st.integers(0, 5), st.integers(1, 12), gaps, st.integers(0, 20))
def test_restarts_left_is_how_many_more_are_tolerated(max_restarts, max_seconds, between, later):
    """Recording just so many at once restarts each time, and one more gives up; asking changes nothing."""
    intensity = RestartIntensity(max_restarts, max_seconds)
    now = 0
    for now in accumulate(between):
        intensity.record(now)
    now += later
    left = intensity.restarts_left(now)
    assert left == intensity.restarts_left(now)
    assert [Verdict.RESTART] * left + [Verdict.GIVE_UP] == [intensity.record(now) for _ in range(left + 1)]


@given(st.lists(st.tuples(st.integers(0, 10), st.sampled_from(["pause", "resume", "read"]))))
def test_running_time_is_the_sum_of_the_seconds_without_a_pause(steps):
    """The model counts second by second; readings never go back."""
    clock = RunningClock()
    now = pauses = expected = last = 0
    for gap, step in steps:
        expected += sum(1 for _ in range(gap) if not pauses)
        now += gap
        if step == "pause":
            clock.pause(now)
            pauses += 1
        elif step == "resume" and pauses:
            clock.resume(now)
            pauses -= 1
        assert expected == clock.read(now)
        assert clock.read(now) >= last
        last = clock.read(now)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), min_size=1))
def test_readings_never_go_back_whatever_is_rounded(steps):
    """A window needs a clock that is monotonic to the last bit, also right after a pause."""
    clock = RunningClock()
    now, paused, readings = 0.0, False, []
    for gap, toggle in steps:
        now += gap
        readings.append(clock.read(now))
        if toggle:
            (clock.resume if paused else clock.pause)(now)
            paused = not paused
        readings.append(clock.read(now))
    assert sorted(readings) == readings


@given(st.integers(1, 5), st.integers(1, 60), st.integers(1, 300))
def test_a_crash_loop_always_spends_its_budget_in_running_time(max_restarts, max_seconds, pause):
    """However long each stop and backoff takes, max_restarts + 1 crashes at once give up."""
    intensity, clock = RestartIntensity(max_restarts, max_seconds), RunningClock()
    verdicts = []
    for cycle in range(max_restarts + 1):
        verdicts.append(intensity.record(clock.read(cycle * pause)))
        clock.pause(cycle * pause)
        clock.resume((cycle + 1) * pause)
    assert [Verdict.RESTART] * max_restarts + [Verdict.GIVE_UP] == verdicts
