"""What every bus has in common: which subjects, headers, keys and sizes are taken, and how declarations add up."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from agentrt.ports import BusRefused, Headers, PayloadTooLarge, Topology

#: Bytes of headers and body that a server takes by default.
MAX_PAYLOAD = 1024 * 1024

_T = TypeVar("_T")
_MAX_SUBJECT = 1024
_PLAIN = re.compile(r"[^\s.*>]+(?:\.[^\s.*>]+)*")
_HEADER_KEY = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_KEY = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*")


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
    return len(subject) <= _MAX_SUBJECT and _PLAIN.fullmatch(subject) is not None


def check_subject(subject: str, *, wildcards: bool = False) -> None:
    """Refuse a subject that a server would end the connection for.

    Raises:
        BusRefused: It is empty or too long, has an empty token or whitespace, or a wildcard where none may be.
    """
    if is_plain(subject):
        return
    if len(subject) > _MAX_SUBJECT:
        msg = f"the subject {subject[:40]!r}... has {len(subject)} characters; at most {_MAX_SUBJECT} are taken"
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
        BusRefused: A name is no token, or a value has a line break.
    """
    for key, value in headers.items():
        if not _HEADER_KEY.fullmatch(key) or "\r" in value or "\n" in value:
            msg = f"the header {key!r} has a name that is no token, or a value with a line break"
            raise BusRefused(msg)


def check_keys(pattern: str) -> None:
    """Refuse a pattern that keys of a bucket cannot match.

    Raises:
        BusRefused: A part of it is neither a part of a key nor ``*`` nor a last ``>``.
    """
    check_subject(pattern, wildcards=True)
    check_key(pattern.replace("*", "x").replace(">", "x"))


def check_key(key: str) -> None:
    """Refuse a key that a bucket cannot hold.

    Raises:
        BusRefused: It has other characters than ``-/_=.a-zA-Z0-9``, or a dot at an end or beside another.
    """
    if not _KEY.fullmatch(key):
        msg = f"{key!r} is not a key: it may have letters, digits and -/_=. with no empty part between dots"
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
