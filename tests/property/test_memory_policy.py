"""The memory guard against a model that looks at all samples of one start each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import MemoryGuardPolicy, MemoryVerdict

OK, WARN, RESTART, REPORT = MemoryVerdict

#: Seconds since the sample before, memory, and whether the process was started since.
samples = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(0, 3).map(lambda n: n == 0)))


def model(
    history: list[tuple[int, int]], verdicts: list[MemoryVerdict], figures: tuple[int, int, int]
) -> MemoryVerdict:
    """Return the verdict on the last sample, given (age, memory) of all samples of this start and earlier verdicts."""
    warn, limit, settle = figures
    age, rss = history[-1]
    if rss >= limit:
        stay = []
        for earlier_age, earlier_rss in reversed(history):
            if earlier_rss < limit:
                break
            stay.append(earlier_age)
        if age < settle:
            return OK if REPORT in verdicts else REPORT
        return OK if min(stay) < settle or RESTART in verdicts else RESTART
    was_above = len(history) > 1 and history[-2][1] >= warn
    return WARN if rss >= warn and not was_above else OK


@given(st.integers(1, 15), st.integers(0, 10), st.integers(0, 25), samples)
def test_each_verdict_follows_from_the_samples_of_this_start(warn, above, settle, steps):
    """What is remembered between samples is a shortcut, nothing else."""
    policy = MemoryGuardPolicy(warn, warn + above, settle)
    now = started = 0
    history: list[tuple[int, int]] = []
    verdicts: list[MemoryVerdict] = []
    for gap, rss, restarted in steps:
        now += gap + 1
        if restarted:
            started, history, verdicts = now - gap, [], []
        history.append((now - started, rss))
        expected = model(history, verdicts, (warn, warn + above, settle))
        assert expected is policy.sample(rss, started, now)
        verdicts.append(expected)


@given(st.integers(0, 59), st.integers(140, 200))
def test_a_server_too_large_from_the_start_is_never_restarted_in_a_loop(age, rss):
    """Sampled every 30 s for an hour it is reported once, whatever its size and when it is first looked at."""
    policy = MemoryGuardPolicy(100, 140)
    verdicts = [policy.sample(rss, 0.0, age + 30.0 * n) for n in range(120)]
    assert verdicts == [REPORT] + [OK] * 119
