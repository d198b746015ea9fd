"""Close codes and refused handshakes: what comes back at once, what is backed off from, what needs a person."""

from __future__ import annotations

import pytest

from agentrt.policy import Pace, Setback, judge_close, judge_handshake


@pytest.mark.parametrize("code", [1000, 1005, 1006, 3008])
def test_an_end_that_says_nothing_against_the_next_is_come_back_from_at_once(code):
    """In order, cut off, or a timeout."""
    assert judge_close(code).pace is Pace.AT_ONCE


@pytest.mark.parametrize(
    "code", [1001, 1002, 1003, 1004, 1007, 1009, 1011, 1012, 1014, 1016, 2999, 3999, 4000, 4408, 4999]
)
def test_what_passes_by_itself_or_is_not_known_is_backed_off_from(code):
    """A restart of the server among it: all of a fleet must not come back at one moment."""
    assert judge_close(code).pace is Pace.BACKOFF


@pytest.mark.parametrize("code", [1008, 1010, 1015, 3000, 3003, 4401, 4403, 4404])
def test_what_needs_a_person_is_tried_rarely_and_says_what_to_do(code):
    """Policy, login, certificates, and what servers say in the words of HTTP."""
    assert judge_close(code).pace is Pace.RARELY
    assert judge_close(code).advice


def test_a_busy_server_is_left_alone_for_a_while():
    """1013, and what HTTP calls too many requests."""
    assert (2.0, 2.0) == (judge_close(1013).after, judge_close(4429).after)


@pytest.mark.parametrize("code", [1003, 1007, 1009])
def test_an_end_for_a_message_says_so(code):
    """The connection comes back, and the message is not sent again."""
    assert "message" in judge_close(code).advice


@pytest.mark.parametrize("status", [401, 403, 407])
def test_a_refused_login_is_tried_rarely(status):
    """Credentials may be rotated, so it is tried for ever."""
    found = judge_handshake(status, 7.0)
    assert (Pace.RARELY, 7.0) == (found.pace, found.after)
    assert "credentials" in found.advice


@pytest.mark.parametrize("status", [200, 204, 301, 308, 400, 404, 410, 426, 501, 505])
def test_where_there_is_no_websocket_it_is_tried_rarely(status):
    """The URL is wrong, or nobody deployed the server yet."""
    assert judge_handshake(status).pace is Pace.RARELY
    assert "URL" in judge_handshake(status).advice


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504, 520])
def test_a_server_in_trouble_is_backed_off_from(status):
    """As long as it asks for, where it does."""
    assert Setback() == judge_handshake(status)
    assert Setback(after=12.0) == judge_handshake(status, 12.0)


def test_too_many_connections_wait_as_long_as_the_server_says():
    """Two seconds where it does not; that it says 0 counts."""
    assert [2.0, 30.0, 0.0] == [judge_handshake(429, after).after for after in (None, 30.0, 0.0)]
