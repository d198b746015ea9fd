"""What is declared to exist on a bus, and how what is there differs."""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs
from attrs import validators

Json: TypeAlias = "dict[str, Any] | list[Any] | str | int | float | bool | None"


@attrs.frozen
class StreamSpec:
    """A stream as it is declared.

    Args:
        name: The stream's name.
        subjects: What it stores.
        work_queue: True: a message goes when it is acknowledged. False: it stays until a limit removes it.
        max_age: Seconds a message is kept; 0 is for ever.
        max_bytes: Bytes the stream holds; -1 is no bound. When full it refuses new messages (never drops old ones).
        duplicate_window: Seconds in which a repeated ``msg_id`` is recognised.
        replicas: Servers of a cluster that each keep it; None leaves that to the operator, who begins with one.
    """

    name: str
    subjects: tuple[str, ...]
    work_queue: bool = False
    max_age: float = 0.0
    max_bytes: int = -1
    duplicate_window: float = 120.0
    replicas: int | None = None


@attrs.frozen
class ConsumerSpec:
    """A durable pull consumer with explicit acknowledgement, as it is declared.

    Args:
        stream: Its stream's name.
        durable: Its own name.
        filter_subject: What it delivers of what the stream stores.
        ack_wait: Seconds after which a message that nobody settled is delivered again.
        max_ack_pending: Messages that may be in hand at once.
        max_deliver: Deliveries of one message at most; -1 is no bound. Beyond it the bus leaves the message behind in
            the stream, invisible to the consumer; so the inbox has no bound here, and counts by itself.
    """

    stream: str
    durable: str
    filter_subject: str
    ack_wait: float = attrs.field(default=60.0, validator=validators.gt(0))
    max_ack_pending: int = attrs.field(default=1000, validator=validators.ge(1))
    max_deliver: int = attrs.field(default=-1, validator=validators.or_(validators.in_({-1}), validators.ge(1)))


@attrs.frozen
class BucketSpec:
    """A key-value bucket as it is declared.

    Args:
        name: The bucket's name.
        ttl: Seconds a key is kept; 0 is for ever.
        write_once: Whether the bus lets nobody change a key that is there; deleting it takes a right of its own.
        replicas: As of a stream.
    """

    name: str
    ttl: float = 0.0
    write_once: bool = False
    replicas: int | None = None


@attrs.frozen
class Topology:
    """All that has to exist on the bus before it counts as ready; ensured again after each rebuild."""

    streams: tuple[StreamSpec, ...] = ()
    consumers: tuple[ConsumerSpec, ...] = ()
    buckets: tuple[BucketSpec, ...] = ()


@attrs.frozen
class Difference:
    """One setting that is not as declared.

    Args:
        field: Its name, as the bus has it.
        declared: What is declared.
        actual: What is there.
        fixable: Whether running the fleet sets it right; False where the bus changes it in nothing that exists.
    """

    field: str
    declared: Json
    actual: Json
    fixable: bool


@attrs.frozen
class Finding:
    """A stream, consumer or bucket that is declared, beside what is there.

    Args:
        kind: ``stream``, ``consumer`` or ``bucket``.
        name: Its name; a consumer's with its stream's before it.
        state: ``ok``, ``missing``, ``differs``, or ``unknown`` where the bus would not say.
        differences: What is not as declared.
        reason: Why it is not known, for people.
    """

    kind: str
    name: str
    state: str
    differences: tuple[Difference, ...] = ()
    reason: str = ""
