"""Complaints: what an error that a bus server sent means for the connection that it came on."""

from __future__ import annotations

import enum

import attrs


class Complaint(enum.StrEnum):
    """What a server complains about."""

    LOGIN = "login"
    PERMISSION = "permission"
    SUBJECT = "subject"
    SUBSCRIPTIONS = "subscriptions"
    PAYLOAD = "payload"
    SLOW_CONSUMER = "slow_consumer"
    CONNECTIONS = "connections"
    STALE = "stale"
    SHUTDOWN = "shutdown"
    OTHER = "other"


class ConnectionVerdict(enum.StrEnum):
    """What becomes of the connection."""

    KEEP = "keep"
    REBUILD = "rebuild"


@attrs.frozen
class Judgement:
    """What an error means, and what a person can do about it."""

    complaint: Complaint
    verdict: ConnectionVerdict
    advice: str


@attrs.frozen
class _Row:
    phrases: tuple[str, ...]
    judgement: Judgement


def _row(complaint: Complaint, verdict: ConnectionVerdict, advice: str, *phrases: str) -> _Row:
    return _Row(phrases, Judgement(complaint, verdict, advice))


_KEEP, _REBUILD = ConnectionVerdict.KEEP, ConnectionVerdict.REBUILD
# The phrases are those of nats-server's own source, in lower case; the first row that has one counts. It keeps the
# socket open after the errors of the rows with KEEP, and closes it after all others.
_TABLE = (
    _row(
        Complaint.PERMISSION,
        _KEEP,
        "allow the subject in the server's permissions for this user",
        "permissions violation",
    ),
    _row(Complaint.SUBJECT, _KEEP, "correct the subject", "invalid subject", "invalid publish subject"),
    _row(
        Complaint.SUBSCRIPTIONS,
        _KEEP,
        "raise max_subscriptions on the server, or subscribe to less",
        "maximum subscriptions exceeded",
    ),
    _row(
        Complaint.PAYLOAD,
        _REBUILD,
        "send less, or raise max_payload on the server",
        "maximum payload violation",
        "message header size exceeds",
        "maximum control line exceeded",
    ),
    _row(Complaint.SLOW_CONSUMER, _REBUILD, "read faster, or subscribe to less", "slow consumer"),
    _row(
        Complaint.LOGIN,
        _REBUILD,
        "correct the credentials; they are read anew at each attempt",
        "authorization violation",
        "authentication expired",
        "authentication revoked",
        "authentication timeout",
    ),
    _row(
        Complaint.CONNECTIONS,
        _REBUILD,
        "raise max_connections on the server, or for the account",
        "maximum connections exceeded",
        "maximum account active connections exceeded",
        "connection throttling",
    ),
    _row(Complaint.STALE, _REBUILD, "nothing: a new connection is made", "stale connection"),
    _row(Complaint.SHUTDOWN, _REBUILD, "nothing: a new connection is made", "server shutdown"),
)
_UNKNOWN = Judgement(Complaint.OTHER, _REBUILD, "see the server's log")


def judge_complaint(text: str) -> Judgement:
    """Say what an error of a server means for the connection.

    An error that is not known ends it: a new connection costs milliseconds, one that is half dead costs messages.

    Args:
        text: What the server sent behind ``-ERR``, in any case, with or without quotes.
    """
    lowered = text.lower()
    for row in _TABLE:
        if any(phrase in lowered for phrase in row.phrases):
            return row.judgement
    return _UNKNOWN
