"""Failures: the matrix of what a status, an error of JSON-RPC or a fault of the network says about a call."""

from __future__ import annotations

import pytest

from agentrt.policy.failures import Phase, classify_network, classify_rpc, classify_status, parse_retry_after


@pytest.mark.parametrize(
    ("status", "kind", "sent"),
    [
        (301, "permanent", "not_sent"),
        (400, "permanent", "not_sent"),
        (401, "auth", "not_sent"),
        (403, "auth", "not_sent"),
        (404, "permanent", "not_sent"),
        (405, "permanent", "not_sent"),
        (407, "auth", "not_sent"),
        (408, "transient", "unknown"),
        (410, "permanent", "not_sent"),
        (422, "permanent", "not_sent"),
        (425, "transient", "not_sent"),
        (429, "throttled", "not_sent"),
        (500, "transient", "unknown"),
        (501, "permanent", "not_sent"),
        (502, "transient", "unknown"),
        (503, "transient", "unknown"),
        (504, "transient", "unknown"),
        (505, "permanent", "not_sent"),
        (520, "transient", "unknown"),
        (529, "throttled", "not_sent"),
    ],
)
def test_a_status_has_a_kind_and_says_whether_the_call_got_there(status, kind, sent):
    """What is refused was not acted on; after a failure of the server or of a gateway nobody knows."""
    failure = classify_status(status)
    assert (kind, sent, False) == (failure.kind, failure.sent, failure.session_lost)
    assert f"HTTP {status}" == failure.reason


@pytest.mark.parametrize(
    ("status", "text", "lost"),
    [
        (404, "", True),
        (410, "", True),
        (404, "Session not found", True),
        (400, "Bad Request: No valid session ID provided", True),
        (400, "Invalid session", True),
        (400, "bad arguments", False),
        (500, "Session not found", False),
    ],
)
def test_a_session_is_lost_by_status_or_by_what_is_said(status, text, lost):
    """Only where there was one; the call was not acted on, and a new session helps."""
    failure = classify_status(status, text=text, has_session=True)
    assert lost == failure.session_lost
    assert not classify_status(status, text=text).session_lost
    if lost:
        assert ("transient", "not_sent") == (failure.kind, failure.sent)


def test_what_the_server_asks_for_is_kept():
    """Retry-After counts for what was throttled, and for what is transient."""
    assert [7.0, 7.0, None] == [classify_status(one, retry_after=7.0).retry_after for one in (429, 503, 401)]


@pytest.mark.parametrize(
    ("code", "kind", "sent"),
    [
        (-32700, "permanent", "not_sent"),
        (-32600, "permanent", "not_sent"),
        (-32601, "permanent", "not_sent"),
        (-32602, "permanent", "not_sent"),
        (-32603, "transient", "sent"),
        (-32000, "transient", "sent"),
        (-32019, "transient", "sent"),
        (-32020, "permanent", "not_sent"),
        (-32022, "permanent", "not_sent"),
        (-32099, "permanent", "not_sent"),
        (-32100, "tool", "sent"),
        (7, "tool", "sent"),
    ],
)
def test_an_error_of_the_protocol_has_a_kind(code, kind, sent):
    """The server's own trouble passes, a refusal does not, and any other code is the tool's."""
    failure = classify_rpc(code, "as you wish")
    assert (kind, sent) == (failure.kind, failure.sent)


@pytest.mark.parametrize("code", [-32600, -32000, -32001])
def test_a_session_that_is_not_found_is_lost(code):
    """Servers use several codes for it, so the words count; without a session they mean nothing."""
    assert classify_rpc(code, "Session not found", has_session=True).session_lost
    assert not classify_rpc(code, "Session not found").session_lost
    assert not classify_rpc(7, "Session not found", has_session=True).session_lost


@pytest.mark.parametrize(
    ("phase", "sent"), [(Phase.CONNECTING, "not_sent"), (Phase.WRITING, "unknown"), (Phase.WAITING, "sent")]
)
def test_how_far_a_request_came_says_whether_it_may_have_happened(phase, sent):
    """Refused: no. Broken while it was written: nobody knows. Broken after that: the server had it."""
    failure = classify_network(phase, "reset")
    assert ("transient", sent) == (failure.kind, failure.sent)
    assert (sent != "not_sent") == failure.may_have_happened
    assert "timeout" == classify_network(phase, "silence", is_timeout=True).kind


def test_a_certificate_that_is_not_trusted_stays_so():
    """It looks like a failed connection, and is none that passes."""
    assert "permanent" == classify_network(Phase.CONNECTING, "[SSL: CERTIFICATE_VERIFY_FAILED] ...").kind


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    """A date that is past means now; anything else says nothing."""
    assert seconds == parse_retry_after(header, unix_now=1000.0)
