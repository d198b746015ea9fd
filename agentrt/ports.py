"""What a battery offers to an agent and a fleet, as protocols; batteries implement them, nothing here does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import attrs
from attrs import validators

from agentrt.policy import SendState

if TYPE_CHECKING:
    import trio

Json: TypeAlias = "dict[str, Any] | list[Any] | str | int | float | bool | None"
Headers: TypeAlias = Mapping[str, str]


class BusError(Exception):
    """Base of what a bus raises to its users."""


class BusUnavailable(BusError):
    """The bus could not do it before the deadline, or the buffer for publishing is full.

    The operation may have happened where the bus went away after it was sent; a stored publish is safe to
    repeat with the same ``msg_id``.
    """


class NoResponders(BusUnavailable):
    """Nobody takes this subject: no stream has it, nobody subscribes to it, or JetStream is not enabled."""


class BusRefused(BusError):
    """The bus understood the request and said no (permissions, payload too large, wrong stream, ...)."""


class PermissionDenied(BusRefused):
    """The server's permissions do not let this user publish, or subscribe, to the subject."""


class PayloadTooLarge(BusRefused):
    """Headers and body together are more than the server takes in one message."""


class LimitReached(BusRefused):
    """The server grants no more of this to the connection, such as subscriptions."""


class SlowConsumer(BusError):
    """A reader did not keep up, and messages were dropped for it. Told by an event; nobody is there to catch it."""


class MessageDropped(BusError):
    """A published message was given up. Told by an event; who published it went on long ago."""


class KeyExists(BusError):
    """A key that was to be created is there already."""


class WrongRevision(BusError):
    """A key was changed by somebody else since the revision that the caller named."""


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
    """

    name: str
    subjects: tuple[str, ...]
    work_queue: bool = False
    max_age: float = 0.0
    max_bytes: int = -1
    duplicate_window: float = 120.0


@attrs.frozen
class ConsumerSpec:
    """A durable pull consumer with explicit acknowledgement, as it is declared.

    Deliveries are not bounded by the bus: the inbox counts them, so that a message is never left behind in the
    stream, invisible, after the bus gave up on it.
    """

    stream: str
    durable: str
    filter_subject: str
    ack_wait: float = attrs.field(default=60.0, validator=validators.gt(0))
    max_ack_pending: int = attrs.field(default=1000, validator=validators.ge(1))


@attrs.frozen
class BucketSpec:
    """A key-value bucket as it is declared; *ttl* in seconds, 0 is for ever."""

    name: str
    ttl: float = 0.0


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
    """A message of core publish/subscribe."""

    subject: str
    body: bytes
    headers: Headers = attrs.field(factory=dict)


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
        wiped and made anew, the keys that are gone are given as deleted, and then what it has.

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
        """Add to what has to exist; ensured before the bus becomes ready (again)."""

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        """Publish without an answer. While disconnected it is buffered, up to a bound in bytes.

        What waits longer than a limit is given up, and told by an event.

        Raises:
            BusUnavailable: The buffer is full.
            BusRefused: The subject, a header or the size is not acceptable.
        """

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

    def subscribe(self, subject: str) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[BusMessage]]:
        """Open a subscription to core messages; bounded, and it says by an event when it had to drop."""
        ...

    def consume(self, stream: str, durable: str, *, batch: int = 1) -> AbstractAsyncContextManager[Consumer]:
        """Open a pull on a durable consumer that asks for at most *batch* messages ahead."""
        ...

    async def create(self, bucket: str, key: str, value: bytes, *, timeout: float = 30.0) -> int:
        """Create a key; return its revision.

        Raises:
            KeyExists: It is there already.
            BusUnavailable: Not answered within *timeout* seconds.
        """
        ...

    async def put(self, bucket: str, key: str, value: bytes, *, timeout: float = 30.0) -> int:
        """Write a key, whatever is there; return its revision."""
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


class BatteryMissing(LookupError):
    """Something that the fleet needs is not installed, or cannot be imported; says what to do."""


class ToolError(Exception):
    """A tool call that did not work.

    Attributes:
        kind: A word of :class:`agentrt.policy.FailureKind`: ``transient``, ``permanent``, ``auth``, ``throttled``,
            ``timeout`` or ``tool`` (the tool ran and reported an error itself).
        server: The server's name.
        tool: The tool's name.
        attempt: The try that failed last, from 1.
        sent: Whether the server got the call: ``sent``, ``not_sent`` or ``unknown``, over all tries.
        retry_after: Seconds after which the server wants to be asked again, where it said so.
        cause: What went wrong below, where that was an exception.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        server: str,
        tool: str,
        attempt: int = 1,
        sent: SendState = SendState.NOT_SENT,
        retry_after: float | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.server = server
        self.tool = tool
        self.attempt = attempt
        self.sent = sent
        self.retry_after = retry_after
        self.cause = cause

    @property
    def may_have_happened(self) -> bool:
        """Whether the server may have done it."""
        return self.sent is not SendState.NOT_SENT


class ToolSession(Protocol):
    """One tool server as an agent sees it: a handle that survives restarts of the server."""

    @property
    def is_ready(self) -> bool:
        """Whether it answers and offers all that is expected of it."""
        ...

    @property
    def reason(self) -> str:
        """Why it is ready or not, for people."""
        ...

    @property
    def pid(self) -> int | None:
        """The server's process, where it has one and it runs."""
        ...

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that the server listed last."""
        ...

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> Any:
        """Call a tool: its structured content, else its text.

        Raises:
            ToolError: It did not work; says what kind of failure it was.
        """
        ...
