"""What JetStream's errors mean for whoever asked."""

from __future__ import annotations

import pytest

from actors._jetstream import ApiError


@pytest.mark.parametrize(
    ("code", "number", "is_transient"),
    [
        (503, 0, True),  # nobody answers
        (404, 10059, True),  # no such stream
        (404, 10014, True),  # no such consumer
        (503, 10008, True),  # JetStream has no leader
        (409, 10158, True),  # a cluster is about to store the message that this one repeats
        (503, 10163, True),  # the last revision of a key is not known yet
        (500, 10047, True),  # no room
        (503, 10077, False),  # the stream takes no more
        (400, 10071, False),  # another revision
        (400, 10164, False),  # the same, from a cluster
        (400, 10058, False),  # the name is taken
    ],
)
def test_only_what_passes_by_itself_is_asked_for_again(code: int, number: int, is_transient: bool) -> None:  # noqa: FBT001
    """A repetition of anything else would wait for its timeout, and say less in the end."""
    assert is_transient is ApiError(code, number, "for people").is_transient
