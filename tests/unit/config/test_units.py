"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest

from agentrt.config import Invalid, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1d", 86400),
        ("1.5s", 1.5),
        ("0s", 0),
        ("1m0.1s", 60.1),
    ],
)
def test_a_duration_is_read(text, seconds):
    """Units may be left out, not put in another order."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (30, "30s"), (5400, "1h30m"), (0.25, "250ms"), (86461.5, "1d1m1s500ms"), (1e-4, "0.1ms")],
)
def test_a_duration_is_written_with_the_units_that_it_needs(seconds, text):
    """The largest first."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize("text", ["", "5", "5 m", "5M", "m", "1s1m", "1s1s", "+5s", "5s ", "٣s", "1e3s", ".5s", "5.s"])
def test_anything_else_is_no_duration(text):
    """Nor are digits of other scripts."""
    with pytest.raises(Invalid):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("64MiB", 67108864), ("100MB", 100_000_000), ("1.5kB", 1500), ("1KiB", 1024), ("0B", 0)],
)
def test_a_size_is_read(text, size):
    """Units of 1000 and of 1024."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1, "1B"), (1000, "1kB"), (67108864, "64MiB"), (100_000_000, "100MB"), (1500, "1500B")],
)
def test_a_size_is_written_with_the_largest_unit_that_divides_it(size, text):
    """No figure is rounded."""
    assert format_size(size) == text


@pytest.mark.parametrize("text", ["", "MB", "5mb", "5 MB", "-5", "5Mb", "5M", "1.5", "٣", "5MB\n"])
def test_anything_else_is_no_size(text):
    """Mb may be megabits, and M is either."""
    with pytest.raises(Invalid):
        parse_size(text)
