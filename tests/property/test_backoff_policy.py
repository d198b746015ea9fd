"""Backoff, for any figures: bounded, never shrinking, and spread."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import Backoff, ReconnectBackoff

jitters = st.floats(0, 1, exclude_max=True)


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    """Draw a backoff in whole seconds with a jitter range in hundredths."""
    initial = draw(st.integers(0, 100))
    low = draw(st.integers(0, 200))
    return Backoff(
        initial=initial,
        factor=draw(st.integers(1, 5)),
        maximum=draw(st.integers(initial, 1000)),
        jitter=(low / 100, draw(st.integers(low, 300)) / 100),
    )


@given(backoffs(), st.integers(1, 200), jitters)
def test_a_delay_is_what_exact_arithmetic_says(backoff, attempt, jitter):
    """Growth to the cap, times the multiplier, to the cap again: in fractions, which neither round nor overflow."""
    low, high = map(Fraction, backoff.jitter)
    grown = min(Fraction(backoff.initial) * Fraction(backoff.factor) ** (attempt - 1), Fraction(backoff.maximum))
    expected = min(grown * (low + (high - low) * Fraction(jitter)), Fraction(backoff.maximum))
    assert float(expected) == pytest.approx(backoff.delay(attempt, jitter), rel=1e-9, abs=1e-12)


@given(backoffs(), st.integers(1, 10**30), jitters)
def test_a_delay_is_never_negative_and_never_above_the_maximum(backoff, attempt, jitter):
    """Also where the jitter lengthens it and the attempt is absurd."""
    assert 0 <= backoff.delay(attempt, jitter) <= backoff.maximum


@given(backoffs(), st.integers(1, 2000), jitters)
def test_the_next_delay_is_never_shorter_for_the_same_jitter(backoff, attempt, jitter):
    """Waiting longer is all that a failure can change."""
    assert backoff.delay(attempt, jitter) <= backoff.delay(attempt + 1, jitter)


@given(st.integers(1, 5000), st.lists(st.integers(0, 999), min_size=2, unique=True))
def test_full_jitter_never_lines_up_two_that_drew_differently(attempt, drawn):
    """However long the outage is, different jitters are different delays."""
    delays = {Backoff().delay(attempt, jitter / 1000) for jitter in drawn}
    assert len(drawn) == len(delays)


@given(st.integers(1, 10_000), st.integers(0, 200), jitters)
def test_reconnecting_changes_from_one_backoff_to_the_other(attempt, elapsed, jitter):
    """By the age of the outage alone."""
    backoff = ReconnectBackoff()
    expected = (Backoff(0.05, 2, 0.5) if elapsed < 60 else Backoff(0.5, 2, 2.0)).delay(attempt, jitter)
    assert expected == backoff.delay(attempt, elapsed, jitter)
