"""Subjects: what a pattern takes, and whether two patterns have anything in common."""

from __future__ import annotations

import itertools

import pytest

from actors._subjects import check_subject, is_plain, matches, overlap
from agentrt.ports import BusRefused

TOKENS = ("a", "b", "*", ">")
PATTERNS = [
    ".".join(tokens)
    for length in (1, 2, 3)
    for tokens in itertools.product(TOKENS, repeat=length)
    if ">" not in tokens[:-1]
]
SUBJECTS = [".".join(tokens) for length in (1, 2, 3, 4) for tokens in itertools.product("ab", repeat=length)]


def test_two_patterns_overlap_where_some_subject_is_taken_by_both():
    """Held against every subject of two words and up to four tokens."""
    taken = {pattern: {subject for subject in SUBJECTS if matches(pattern, subject)} for pattern in PATTERNS}
    for one, other in itertools.product(PATTERNS, repeat=2):
        assert bool(taken[one] & taken[other]) is overlap(one, other), (one, other)


@pytest.mark.parametrize("subject", ["a", "a.b", "$JS.API.INFO", "_INBOX.x-y_z.1", "ä.ö", "x" * 1024])
def test_what_is_plain_is_a_subject(subject: str):
    """The quick look and the one that says what is wrong agree."""
    assert is_plain(subject)
    check_subject(subject)


@pytest.mark.parametrize(
    "subject", ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\u2028b", "*", "a.>", "a*", "x" * 1025]
)
def test_what_is_not_plain_is_none(subject: str):
    """Empty tokens, whitespace of any kind, wildcards, and what is too long."""
    assert not is_plain(subject)
    with pytest.raises(BusRefused):
        check_subject(subject)
