"""What every bus has in common: which subjects, headers, keys and sizes are taken, and how declarations add up."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from agentrt.ports import BusRefused, Headers, PayloadTooLarge, Topology

#: Bytes of headers and body that a server takes by default.
MAX_PAYLOAD = 1024 * 1024

_T = TypeVar("_T")
# Bytes. A server takes 4096 for all that stands on the line of a message or a subscription (max_control_line).
_MAX_SUBJECT = 1024
# Bytes of the name of a stream or a consumer that a server takes; a bucket's is part of its stream's.
_MAX_NAME = 255
_PLAIN = re.compile(r"[^\s.*>]+(?:\.[^\s.*>]+)*")
_HEADER_KEY = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_KEY = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*")
_NAME = re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]+")


def matches(pattern: str, subject: str) -> bool:
    """Whether *pattern*, with ``*`` for one token and a last ``>`` for one or more, takes *subject*."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":  # noqa: S105 - a token of a subject.
            return len(given) > index
        if index >= len(given) or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


def overlap(one: str, other: str) -> bool:
    """Whether there is a subject that both patterns take."""
    first, second = one.split("."), other.split(".")
    for mine, theirs in zip(first, second, strict=False):
        if ">" in (mine, theirs):
            return True
        if mine != theirs and "*" not in (mine, theirs):
            return False
    return len(first) == len(second)


def is_plain(subject: str) -> bool:
    """Whether *subject* is one that can be published to."""
    short = len(subject) <= _MAX_SUBJECT if subject.isascii() else 0 < _bytes(subject) <= _MAX_SUBJECT
    return short and _PLAIN.fullmatch(subject) is not None


def _bytes(text: str) -> int:
    """Count the bytes of a text on the wire; -1 where it has none, as it has half of a character."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1


def check_subject(subject: str, *, wildcards: bool = False) -> None:
    """Refuse a subject that a server would end the connection for.

    Raises:
        BusRefused: It is empty or too long, has an empty token or whitespace, or a wildcard where none may be.
    """
    if is_plain(subject):
        return
    size = _bytes(subject)
    if size < 0:
        msg = f"{subject[:40]!r} is not a subject: it has half of a character (a surrogate)"
        raise BusRefused(msg)
    if size > _MAX_SUBJECT:
        msg = f"the subject {subject[:40]!r}... has {size} bytes; at most {_MAX_SUBJECT} are taken"
        raise BusRefused(msg)
    tokens = subject.split(".")
    for index, token in enumerate(tokens):
        wild = token == "*" or (token == ">" and index == len(tokens) - 1)  # noqa: S105 - a token of a subject.
        plain = token and not any(c.isspace() or c in "*>" for c in token)
        if not plain and not (wild and wildcards):
            msg = f"{subject!r} is not a subject: the token {token!r} is empty, has whitespace or is a wildcard"
            raise BusRefused(msg)


def check_queue(queue: str) -> None:
    """Refuse the name of a queue group that a server would not take; empty is none.

    Raises:
        BusRefused: It is too long, or has whitespace, a wildcard or an empty token.
    """
    if queue and not is_plain(queue):
        msg = f"{queue[:40]!r} is no name of a queue group: it may have no whitespace, wildcard or empty part"
        raise BusRefused(msg)


def check_headers(headers: Headers) -> None:
    """Refuse headers that cannot be written to the wire.

    Raises:
        BusRefused: A name is no token, or a value has a line break or half of a character.
    """
    for key, value in headers.items():
        is_text = value.isascii() or _bytes(value) >= 0
        if not _HEADER_KEY.fullmatch(key) or "\r" in value or "\n" in value or not is_text:
            msg = (
                f"the header {key!r} has a name that is no token, or a value with a line break or half of a character"
                " (a surrogate)"
            )
            raise BusRefused(msg)


def check_name(kind: str, name: str) -> None:
    r"""Refuse the name of a stream, a consumer or a bucket that a server would take for something else.

    It is a token of the subjects that the server is asked on, and a bad one would end the connection.

    Args:
        kind: What it is the name of, for people.
        name: The name.

    Raises:
        BusRefused: It is empty or too long, or has whitespace, a control character, or one of ``.*>/\``.
    """
    if not 0 < _bytes(name) <= _MAX_NAME or not _NAME.fullmatch(name):
        msg = (
            f"{name[:40]!r} is no name of a {kind}: it may have {_MAX_NAME} bytes, and no whitespace, control character"
            " or any of .*>/\\"
        )
        raise BusRefused(msg)


def check_consumer(stream: str, durable: str) -> None:
    """Refuse what cannot be the names of a stream and of its consumer; see :func:`check_name`."""
    check_name("stream", stream)
    check_name("consumer", durable)


def check_topology(topology: Topology) -> None:
    """Refuse a declaration that no server can take.

    Raises:
        BusRefused: A name or a subject of it cannot be one.
    """
    for stream in topology.streams:
        check_name("stream", stream.name)
        for subject in stream.subjects:
            check_subject(subject, wildcards=True)
    for consumer in topology.consumers:
        check_consumer(consumer.stream, consumer.durable)
        check_subject(consumer.filter_subject, wildcards=True)
    for bucket in topology.buckets:
        check_name("bucket", bucket.name)


def check_keys(bucket: str, pattern: str) -> None:
    """Refuse a pattern that keys of a bucket cannot match.

    Raises:
        BusRefused: A part of it is neither a part of a key nor ``*`` nor a last ``>``, or no bucket is called that.
    """
    check_subject(pattern, wildcards=True)
    check_key(bucket, pattern.replace("*", "x").replace(">", "x"))


def check_key(bucket: str, key: str) -> None:
    """Refuse a key that a bucket cannot hold.

    Raises:
        BusRefused: It has other characters than ``-/_=.a-zA-Z0-9``, a dot at an end or beside another, or is too long;
            or no bucket is called that.
    """
    check_name("bucket", bucket)
    if len(key) > _MAX_SUBJECT or not _KEY.fullmatch(key):
        msg = (
            f"{key[:40]!r} is not a key: it may have {_MAX_SUBJECT} letters, digits and -/_=. with no empty part"
            " between dots"
        )
        raise BusRefused(msg)


def check_revision(key: str, revision: int) -> None:
    """Refuse a revision that no key has.

    Raises:
        BusRefused: It is less than 1.
    """
    if revision < 1:
        msg = f"{key!r} cannot be at revision {revision}: they count from 1; create makes a key that is not there"
        raise BusRefused(msg)


def payload_size(body: bytes, headers: Headers | None) -> int:
    """Return the bytes that the server counts: the body and, where there are any, the headers on the wire."""
    if not headers:
        return len(body)
    lines = sum(len(key.encode()) + len(value.encode()) + len(": \r\n") for key, value in headers.items())
    return len(body) + lines + len("NATS/1.0\r\n\r\n")


def check_size(subject: str, body: bytes, headers: Headers | None, limit: int) -> None:
    """Refuse a message that is too large.

    Raises:
        PayloadTooLarge: Headers and body have more than *limit* bytes together.
    """
    size = payload_size(body, headers)
    if size > limit:
        raise PayloadTooLarge(
            f"a message of {size} bytes to {subject!r}, headers included, is larger than the {limit} that the server"
            " takes; send less, or raise max_payload on the server"
        )


def merged(old: Topology, new: Topology) -> Topology:
    """Add *new* to *old*; a later spec of the same name takes the place of the earlier one."""
    return Topology(
        _merged(old.streams, new.streams, lambda spec: spec.name),
        _merged(old.consumers, new.consumers, lambda spec: (spec.stream, spec.durable)),
        _merged(old.buckets, new.buckets, lambda spec: spec.name),
    )


def _merged(old: tuple[_T, ...], new: tuple[_T, ...], key: Callable[[_T], object]) -> tuple[_T, ...]:
    return tuple({key(spec): spec for spec in (*old, *new)}.values())
