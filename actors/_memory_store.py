"""What a broker in memory holds: streams, durable consumers and buckets, on Trio's clock."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import attrs
import trio

from actors._subjects import matches, payload_size
from agentrt.ports import (
    BucketSpec,
    BusMessage,
    BusRefused,
    ConsumerSpec,
    KeyChange,
    KeyExists,
    StreamSpec,
    WrongRevision,
)

MSG_ID = "Nats-Msg-Id"
# What stands around a message in nats-server's file store (fileStoreMsgSizeRaw): a head and a checksum, and where there
# are headers, how long they are.
_RECORD, _HEADERS_LENGTH = 22 + 8, 4


@attrs.frozen
class Stored:
    """A message in a stream."""

    sequence: int
    message: BusMessage
    time: float

    @property
    def size(self) -> int:
        """Bytes that it counts for: those of its record in a server's file."""
        subject, headers = self.message.subject, self.message.headers
        lengths = _RECORD + (_HEADERS_LENGTH if headers else 0)
        return payload_size(self.message.body, headers) + len(subject.encode()) + lengths


class Stream:
    """Messages in order, until they are acknowledged, grow too old, or for ever."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        #: Why it stores nothing now; empty where it does.
        self.refusal = ""
        self._messages: dict[int, Stored] = {}
        self._bytes = 0
        self._last = 0
        self._seen: dict[str, tuple[int, float]] = {}

    def takes(self, subject: str) -> bool:
        """Whether it stores *subject*."""
        return any(matches(pattern, subject) for pattern in self.spec.subjects)

    def add(self, message: BusMessage) -> bool:
        """Store a message; return False where it was there already.

        Raises:
            BusRefused: The stream is full, or was told to refuse.
        """
        if self.refusal:
            raise BusRefused(f"stream {self.spec.name!r}: {self.refusal}")
        now = trio.current_time()
        msg_id = message.headers.get(MSG_ID)
        if msg_id is not None and self._is_duplicate(msg_id, now):
            return False
        stored = Stored(self._last + 1, message, now)
        self._expire()
        if 0 <= self.spec.max_bytes < self._bytes + stored.size:
            raise BusRefused(f"stream {self.spec.name!r}: maximum bytes exceeded")
        self._last = stored.sequence
        self._messages[stored.sequence] = stored
        self._bytes += stored.size
        if msg_id is not None:
            self._seen[msg_id] = (stored.sequence, now)
        return True

    def _is_duplicate(self, msg_id: str, now: float) -> bool:
        seen = self._seen.get(msg_id)
        return seen is not None and now - seen[1] < self.spec.duplicate_window

    def messages(self, after: int = 0) -> Iterator[Stored]:
        """Give what is stored behind the number *after*, oldest first; change nothing while you read."""
        self._expire()
        return (held for held in self._messages.values() if held.sequence > after)

    def get(self, sequence: int) -> Stored | None:
        """Return a message that is still there."""
        self._expire()
        return self._messages.get(sequence)

    def remove(self, sequence: int) -> None:
        """Forget a message."""
        gone = self._messages.pop(sequence, None)
        self._bytes -= 0 if gone is None else gone.size

    def _expire(self) -> None:
        if self.spec.max_age:
            oldest = trio.current_time() - self.spec.max_age
            expired = itertools.takewhile(lambda held: held.time <= oldest, self._messages.values())
            for held in list(expired):
                self.remove(held.sequence)


@attrs.frozen
class Taken:
    """A delivery: the message, and how often it was delivered."""

    stored: Stored
    attempt: int


class DurableConsumer:
    """Where a durable consumer stands: what it delivered, and when each of those is due again."""

    def __init__(self, spec: ConsumerSpec, stream: Stream) -> None:
        self.spec = spec
        self.arrived = trio.lowlevel.ParkingLot()
        self._stream = stream
        self._cursor = 0
        self._due: dict[int, float] = {}
        self._attempts: dict[int, int] = {}

    def take(self) -> Taken | None:
        """Deliver the next message: one that is due again, else a new one; None where there is none now."""
        self._forget_removed()
        now = trio.current_time()
        self._forget_spent(now)
        again = min((due, sequence) for sequence, due in self._due.items()) if self._due else (math.inf, 0)
        if again[0] <= now:
            return self._deliver(again[1], now)
        fresh = next(self._fresh(), None)
        if fresh is None or len(self._due) >= self.spec.max_ack_pending:
            return None
        self._cursor = fresh.sequence
        return self._deliver(fresh.sequence, now)

    def _deliver(self, sequence: int, now: float) -> Taken | None:
        stored = self._stream.get(sequence)
        if stored is None:
            return None
        self._due[sequence] = now + self.spec.ack_wait
        self._attempts[sequence] = self._attempts.get(sequence, 0) + 1
        return Taken(stored, self._attempts[sequence])

    def _forget_spent(self, now: float) -> None:
        """Let go of what had its last delivery without being settled; it stays in the stream, as with a server."""
        most = self.spec.max_deliver
        for sequence in [s for s, due in self._due.items() if due <= now and 0 < most <= self._attempts[s]]:
            del self._due[sequence]

    def redeliver(self) -> None:
        """Have all that is in hand delivered again now."""
        for sequence in tuple(self._due):
            self.defer(sequence, 0.0)

    def next_due(self) -> float:
        """Return when a delivered message is due again, if nobody settles it."""
        return min(self._due.values(), default=math.inf)

    def depth(self) -> int:
        """Messages that wait or are in hand."""
        self._forget_removed()
        self._forget_spent(trio.current_time())
        return len(self._due) + sum(1 for _ in self._fresh())

    def settle(self, sequence: int) -> None:
        """It is done with, whichever delivery of it that says so."""
        self._due.pop(sequence, None)
        self._attempts.pop(sequence, None)
        if self._stream.spec.work_queue:
            self._stream.remove(sequence)
        self.arrived.unpark_all()

    def defer(self, sequence: int, delay: float) -> None:
        """Deliver it again after *delay* seconds, if it is not settled."""
        if sequence in self._due:
            self._due[sequence] = trio.current_time() + delay
            self.arrived.unpark_all()

    def _fresh(self) -> Iterator[Stored]:
        behind = self._stream.messages(after=self._cursor)
        return (held for held in behind if matches(self.spec.filter_subject, held.message.subject))

    def _forget_removed(self) -> None:
        for sequence in [s for s in self._due if self._stream.get(s) is None]:
            del self._due[sequence]
            self._attempts.pop(sequence, None)


@attrs.frozen
class _Entry:
    value: bytes | None
    revision: int
    time: float


class Bucket:
    """Keys and values; revisions count over the whole bucket, and a deleted key leaves a mark with one."""

    def __init__(self, spec: BucketSpec) -> None:
        self.spec = spec
        self.changed = trio.lowlevel.ParkingLot()
        self._entries: dict[str, _Entry] = {}
        self._last = 0

    @property
    def size(self) -> int:
        """How many keys it has."""
        return sum(entry.value is not None and not self._is_over(entry) for entry in self._entries.values())

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Return value and revision, where the key is there and young enough."""
        entry = self._entries.get(key)
        if entry is None or entry.value is None or self._is_over(entry):
            return None
        return entry.value, entry.revision

    def after(self, revision: int, pattern: str) -> KeyChange | None:
        """Return the next change behind *revision* of a key that *pattern* takes."""
        changes = (
            KeyChange(key, entry.value, entry.revision)
            for key, entry in self._entries.items()
            if entry.revision > revision and matches(pattern, key) and not self._is_over(entry)
        )
        return min(changes, key=lambda change: change.revision, default=None)

    def _is_over(self, entry: _Entry) -> bool:
        return bool(self.spec.ttl) and trio.current_time() - entry.time >= self.spec.ttl

    def put(self, key: str, value: bytes) -> int:
        """Write a key and return its revision.

        Raises:
            BusRefused: It is there, and keys are written once.
        """
        if self.spec.write_once and self.get(key) is not None:
            raise BusRefused(f"writing {key!r} in {self.spec.name!r}: it is there, and is written once")
        return self._write(key, value)

    def _write(self, key: str, value: bytes | None) -> int:
        self._last += 1
        self._entries[key] = _Entry(value, self._last, trio.current_time())
        self.changed.unpark_all()
        return self._last

    def create(self, key: str, value: bytes) -> int:
        """Write a key that is not there.

        Raises:
            KeyExists: It is.
        """
        present = self.get(key)
        if present is not None:
            raise KeyExists(f"{key!r} exists in {self.spec.name!r} at revision {present[1]}")
        return self.put(key, value)

    def update(self, key: str, value: bytes, revision: int) -> int:
        """Write a key that is at *revision*, which may be that of its deletion.

        Raises:
            WrongRevision: It is at another one, or not there.
            BusRefused: It is there, and keys are written once.
        """
        entry = self._entries.get(key)
        if entry is None or self._is_over(entry) or entry.revision != revision:
            actual = "is not there" if entry is None or self._is_over(entry) else f"is at revision {entry.revision}"
            raise WrongRevision(
                f"updating {key!r} in {self.spec.name!r}: it {actual}, and not at {revision}; read it again"
            )
        return self.put(key, value)

    def delete(self, key: str) -> None:
        """Remove a key; the mark of that is a revision too, but where keys are written once there is none."""
        if self.get(key) is None:
            return
        if self.spec.write_once:
            del self._entries[key]
        else:
            self._write(key, None)
