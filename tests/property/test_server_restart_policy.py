"""Server restart against a model that looks at the whole history."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import ServerRestart

#: None is a good start; a failure is its signature, "" where the server had started.
outcomes = st.sampled_from([None, "y", *[""] * 6, *["x"] * 12])
histories = st.lists(outcomes, max_size=60)
jitters = st.floats(0, 1, exclude_max=True)


@given(histories, jitters)
def test_each_verdict_follows_from_the_failures_since_the_last_good_start(history, jitter):
    """Their number gives the delay, and the last of them say whether it is permanent."""
    restart = ServerRestart()
    for index, outcome in enumerate(history):
        if outcome is None:
            restart.succeeded()
            continue
        in_a_row = list(takewhile(lambda earlier: earlier is not None, reversed(history[: index + 1])))
        alike = len(list(takewhile(lambda earlier, last=outcome: earlier == last, in_a_row)))
        attempt = len(in_a_row)
        is_permanent = outcome != "" and alike >= 3
        if attempt >= 10 or is_permanent:
            delay = 300 * (0.8 + 0.4 * jitter)
        else:
            delay = 0 if attempt == 1 else min(60, 2 ** (attempt - 1)) * (0.8 + 0.2 * jitter)
        verdict = restart.failed(jitter, outcome or None)
        assert delay == pytest.approx(verdict.delay)
        assert (attempt, attempt >= 10 or is_permanent) == (verdict.attempt, verdict.extended)
        assert is_permanent == verdict.probably_permanent


@given(st.lists(jitters, min_size=1, max_size=60))
def test_no_ordinary_delay_exceeds_a_minute_and_no_extended_one_six(drawn):
    """Whatever the jitter; and only the first restart is at once."""
    restart = ServerRestart()
    verdicts = [restart.failed(jitter) for jitter in drawn]
    assert all(verdict.delay <= (360 if verdict.extended else 60) for verdict in verdicts)
    assert [verdict.delay == 0 for verdict in verdicts] == [True] + [False] * (len(verdicts) - 1)
