"""What agents use of a message bus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import attrs

from agentrt.ports.topology import Finding, Topology

if TYPE_CHECKING:
    import trio

Headers: TypeAlias = Mapping[str, str]


@attrs.frozen
class KeyChange:
    """A key of a bucket as it is now; *value* is None where it was deleted.

    A key that is gone because its bucket was made anew has no revision: 0.
    """

    key: str
    value: bytes | None
    revision: int


@attrs.frozen
class BusMessage:
    """A message of core publish/subscribe.

    Args:
        subject: Where it was published.
        body: What it says.
        headers: What is said about it; whitespace around a value does not arrive.
        reply: Where who asks waits for an answer, which is published there; empty where nobody does.
    """

    subject: str
    body: bytes
    headers: Headers = attrs.field(factory=dict)
    reply: str = ""


class Delivery(Protocol):
    """A message from a durable consumer, in hand until it is acknowledged in one of the four ways.

    Its methods work across a rebuild of the connection, and raise :class:`BusUnavailable` when the bus stays away
    longer than the operation's limit.
    """

    @property
    def subject(self) -> str:
        """Where it was published."""
        ...

    @property
    def body(self) -> bytes:
        """What it says."""
        ...

    @property
    def headers(self) -> Headers:
        """What is said about it."""
        ...

    @property
    def attempt(self) -> int:
        """How often it was delivered, this time included; counts from 1."""
        ...

    @property
    def sequence(self) -> int:
        """Its number in the stream."""
        ...

    async def ack(self) -> None:
        """Say that it is done."""

    def ack_nowait(self) -> None:
        """Say that it is done, and do not wait until the bus has heard it.

        For many short tasks that may be done twice: where the connection dies over it, or there is none, the message
        comes again after its ack wait. It never raises.
        """

    async def nak(self, delay: float = 0.0) -> None:
        """Ask for it again after *delay* seconds."""

    async def term(self, reason: str) -> None:
        """Take it out of the stream without having done it."""

    async def in_progress(self) -> None:
        """Say that it is still worked on: the ack wait begins anew."""


class Consumer(Protocol):
    """An open pull on one durable consumer; survives rebuilds of the connection."""

    async def next(self) -> Delivery:
        """Wait for the next message, however long that takes.

        A cancelled ``next`` loses nothing: a message that arrived stays for the next call.
        """
        ...


class Watch(Protocol):
    """A watch over keys of a bucket; survives rebuilds of the connection, and a bucket that is made anew."""

    async def next(self) -> KeyChange:
        """Wait for the next change, the keys that are there at first included; cancelled, it loses nothing.

        A key that changes faster than it is read is given with its last value only. Of a bucket that was deleted or
        wiped and made anew, the keys that are gone are given as deleted, and then what it has. A key that went by its
        age or by a purge leaves no mark, and is not given; nor is one that is deleted where keys are written once.

        Raises:
            BusRefused: The server does not allow reading the bucket.
        """
        ...


@runtime_checkable
class Bus(Protocol):
    """What agents use of a message bus.

    A handle that stays the same over any number of rebuilds of the connection behind it. Whoever drives the
    connection (an actor) makes it ready and not ready.
    """

    @property
    def is_ready(self) -> bool:
        """Whether the connection answers and all that was declared exists."""
        ...

    def checks(self) -> Mapping[str, tuple[bool, str]]:
        """Named checks with a result and a reason: ``nats_connected`` and ``jetstream``."""
        ...

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""

    def declare(self, topology: Topology) -> None:
        """Add to what has to exist; ensured before the bus becomes ready (again).

        Raises:
            BusRefused: No stream, consumer or bucket can be called that, or a subject is none.
        """

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        """Publish without an answer. While disconnected it is buffered, up to a bound in bytes.

        What waits longer than a limit is given up, and told by an event.

        Raises:
            BusUnavailable: The buffer is full.
            BusRefused: The subject, a header or the size is not acceptable.
        """

    async def request(
        self, subject: str, body: bytes, headers: Headers | None = None, *, timeout: float = 5.0
    ) -> BusMessage:
        """Ask whoever subscribes to *subject*, and wait for the first answer, published to the message's ``reply``.

        Sent once, when there is a connection: who was asked may have done it even where no answer comes. A *timeout* of
        5 s or more may be kept a second late.

        Raises:
            NoResponders: Nobody subscribes to *subject*; said at once.
            BusUnavailable: No answer within *timeout* seconds, or the connection was lost after it was sent.
            BusRefused: The subject, a header or the size is not acceptable, or the server does not allow it.
        """
        ...

    async def store(
        self, subject: str, body: bytes, headers: Headers | None = None, *, msg_id: str, timeout: float = 30.0
    ) -> bool:
        """Publish into a stream and wait until it is stored; repeated with the same *msg_id* until then.

        Returns:
            False where the stream had it already.

        Raises:
            BusUnavailable: Not acknowledged within *timeout* seconds.
            BusRefused: The server said no.
        """
        ...

    def subscribe(
        self, subject: str, *, queue: str = ""
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[BusMessage]]:
        """Open a subscription to core messages; bounded, and it says by an event when it had to drop.

        Args:
            subject: What to listen to, with ``*`` for one token and a last ``>`` for the rest.
            queue: A queue group: each message goes to one of those that are subscribed with the same name, so that
                replicas share what is published or asked. Empty: to this one as to all others.

        Raises:
            BusRefused: No subject or queue group can be called that.
            PermissionDenied: The server does not allow it.
        """
        ...

    def consume(self, stream: str, durable: str, *, batch: int = 1) -> AbstractAsyncContextManager[Consumer]:
        """Open a pull on a durable consumer that asks for at most *batch* messages ahead.

        Raises:
            BusRefused: No stream or consumer can be called that.
        """
        ...

    async def create(self, bucket: str, key: str, value: bytes, *, timeout: float = 30.0) -> int:
        """Create a key; return its revision.

        Raises:
            KeyExists: It is there already.
            BusUnavailable: Not answered within *timeout* seconds.
        """
        ...

    async def update(self, bucket: str, key: str, value: bytes, revision: int, *, timeout: float = 30.0) -> int:
        """Write a key that nobody has written since it was at *revision*; return its new one.

        Args:
            bucket: The bucket's name.
            key: The key.
            value: What it shall have.
            revision: What :meth:`get`, a watch or a write said; that of a deletion too.
            timeout: Seconds.

        Raises:
            WrongRevision: It is at another one, or not there: somebody wrote or deleted it, or it grew too old.
            BusRefused: The bucket's keys are written once, or no key can have this revision.
            BusUnavailable: Not answered within *timeout* seconds; it may have been written.
        """
        ...

    async def put(self, bucket: str, key: str, value: bytes, *, timeout: float = 30.0) -> int:
        """Write a key, whatever is there; return its revision.

        Raises:
            BusRefused: It is there, and the bucket's keys are written once.
            BusUnavailable: Not answered within *timeout* seconds.
        """
        ...

    async def get(self, bucket: str, key: str, *, timeout: float = 30.0) -> tuple[bytes, int] | None:
        """Read a key: its value and revision, or None."""
        ...

    async def delete(self, bucket: str, key: str, *, timeout: float = 30.0) -> None:
        """Delete a key; nothing happens where there is none."""

    def watch(self, bucket: str, pattern: str = ">") -> AbstractAsyncContextManager[Watch]:
        """Open a watch over the keys that *pattern* takes, with ``*`` and ``>`` as in subjects."""
        ...

    async def compare(self, topology: Topology, *, timeout: float = 30.0) -> Sequence[Finding]:
        """Compare what is declared in *topology* with what is there, and change nothing.

        Raises:
            BusUnavailable: The bus did not answer within *timeout* seconds.
        """
        ...

    async def depth(self, stream: str, durable: str, *, timeout: float = 5.0) -> int:
        """Messages that wait for this consumer or are in hand."""
        ...

    async def browse(self, stream: str, subject: str, limit: int = 100) -> Sequence[BusMessage]:
        """Read up to *limit* stored messages of *subject*, oldest first, and leave them there."""
        ...
