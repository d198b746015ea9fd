"""What a server's error means for the connection that it came on."""

from __future__ import annotations

import pytest

from agentrt.policy import Complaint, ConnectionVerdict, judge_complaint

#: What nats-server sends, as its source has it.
SENT = {
    'Permissions Violation for Publish to "t.x"': Complaint.PERMISSION,
    'Permissions Violation for Subscription to "t.x" using queue "q"': Complaint.PERMISSION,
    "Invalid Subject": Complaint.SUBJECT,
    "Invalid Publish Subject": Complaint.SUBJECT,
    "maximum subscriptions exceeded": Complaint.SUBSCRIPTIONS,
    "Maximum Payload Violation": Complaint.PAYLOAD,
    "message header size exceeds limit": Complaint.PAYLOAD,
    "maximum control line exceeded": Complaint.PAYLOAD,
    "Slow Consumer": Complaint.SLOW_CONSUMER,
    "Authorization Violation": Complaint.LOGIN,
    "User Authentication Expired": Complaint.LOGIN,
    "Account Authentication Expired": Complaint.LOGIN,
    "User Authentication Revoked": Complaint.LOGIN,
    "Authentication Timeout": Complaint.LOGIN,
    "maximum connections exceeded": Complaint.CONNECTIONS,
    "maximum account active connections exceeded": Complaint.CONNECTIONS,
    "Connection throttling is active": Complaint.CONNECTIONS,
    "Stale Connection": Complaint.STALE,
    "Server Shutdown": Complaint.SHUTDOWN,
    "Secure Connection - TLS Required": Complaint.OTHER,
    "Unknown Protocol Operation": Complaint.OTHER,
    "Failed Account Registration": Complaint.OTHER,
    "something that nobody has seen yet": Complaint.OTHER,
    "": Complaint.OTHER,
}
KEPT = {Complaint.PERMISSION, Complaint.SUBJECT, Complaint.SUBSCRIPTIONS}


@pytest.mark.parametrize("text", SENT)
def test_each_error_of_the_server_is_known(text: str) -> None:
    """In any case and with its quotes; the advice is never empty."""
    for said in (text, text.lower(), f"'{text.upper()}'"):
        judgement = judge_complaint(said)
        assert SENT[text] is judgement.complaint
        assert judgement.advice


@pytest.mark.parametrize("text", SENT)
def test_only_what_the_server_keeps_the_socket_open_for_is_kept(text: str) -> None:
    """Anything else, also what is not known, ends the connection."""
    expected = ConnectionVerdict.KEEP if SENT[text] in KEPT else ConnectionVerdict.REBUILD
    assert expected is judge_complaint(text).verdict
