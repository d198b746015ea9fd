"""A broker in memory with JetStream's semantics, on Trio's clock and so in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import trio

from actors._memory_store import Bucket, DurableConsumer, Stream
from actors._subjects import matches, overlap
from agentrt.ports import (
    BusMessage,
    BusRefused,
    ConsumerSpec,
    Difference,
    Finding,
    Topology,
)

Sink = Callable[[BusMessage], None]

_K = TypeVar("_K")
_V = TypeVar("_V")


@attrs.frozen(eq=False)
class Listener:
    """A subscription.

    Args:
        pattern: What it takes.
        queue: Its queue group; empty for none.
        sink: Called with each message that it gets.
        is_there: Whether the connection that it was made on is.
    """

    pattern: str
    queue: str
    sink: Sink
    is_there: Callable[[], bool]

    def takes(self, subject: str) -> bool:
        """Whether it is there, and takes *subject*."""
        return self.is_there() and matches(self.pattern, subject)


class MemoryBroker:
    """What the buses of several agents share, as they would share a server."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.consumers: dict[tuple[str, str], DurableConsumer] = {}
        self.buckets: dict[str, Bucket] = {}
        self.changed = trio.lowlevel.ParkingLot()
        #: Where whoever makes again what was deleted waits.
        self.deleted = trio.lowlevel.ParkingLot()
        #: Why there is no JetStream; empty where there is.
        self.jetstream_trouble = ""
        self._listeners: list[Listener] = []
        self._attached: list[Callable[[], None]] = []
        self._lost: dict[str, int] = {}

    def attach(self, look: Callable[[], None]) -> None:
        """Have *look* called when JetStream comes or goes."""
        self._attached.append(look)

    def detach(self, look: Callable[[], None]) -> None:
        """Call it no more."""
        self._attached.remove(look)

    # Faults to order

    def lose_jetstream(self, reason: str = "JetStream is not enabled, or has no leader") -> None:
        """Serve core messages only, until :meth:`restore_jetstream`."""
        self._jetstream_is(reason)

    def restore_jetstream(self) -> None:
        """Serve streams, consumers and buckets again; what was in them is."""
        self._jetstream_is("")

    def _jetstream_is(self, trouble: str) -> None:
        self.jetstream_trouble = trouble
        for look in tuple(self._attached):
            look()
        self._wake()

    def delete_stream(self, name: str) -> None:
        """Delete a stream with all that it holds, and its consumers; who declared it makes it again.

        Raises:
            LookupError: There is none.
        """
        stream = _found(self.streams, name, "stream")
        self._lost[f"stream {name!r}"] = sum(1 for _ in stream.messages())
        for key in [key for key in self.consumers if key[0] == name]:
            self.delete_consumer(*key)
        del self.streams[name]
        self.deleted.unpark_all()

    def delete_consumer(self, stream: str, durable: str) -> None:
        """Delete a consumer; one that is made again delivers all that the stream has from its beginning.

        Raises:
            LookupError: There is none.
        """
        consumer = _found(self.consumers, (stream, durable), "consumer")
        self._lost[f"consumer {f'{stream}/{durable}'!r}"] = consumer.depth()
        del self.consumers[stream, durable]
        consumer.arrived.unpark_all()
        self.deleted.unpark_all()

    def delete_bucket(self, name: str) -> None:
        """Delete a bucket with its keys.

        Raises:
            LookupError: There is none.
        """
        bucket = _found(self.buckets, name, "bucket")
        self._lost[f"bucket {name!r}"] = bucket.size
        del self.buckets[name]
        bucket.changed.unpark_all()
        self.deleted.unpark_all()

    def _wake(self) -> None:
        self.changed.unpark_all()
        for consumer in self.consumers.values():
            consumer.arrived.unpark_all()
        for bucket in self.buckets.values():
            bucket.changed.unpark_all()

    # What is there

    def ensure(self, topology: Topology) -> list[tuple[str, int]]:
        """Create or update what is declared; what is stored stays.

        Returns:
            What had been deleted and is there again, with how many messages it held.
        """
        for stream in topology.streams:
            self.streams.setdefault(stream.name, Stream(stream)).spec = stream
        for bucket in topology.buckets:
            self.buckets.setdefault(bucket.name, Bucket(bucket)).spec = bucket
        for consumer in topology.consumers:
            if consumer.stream not in self.streams:
                raise BusRefused(f"consumer {consumer.durable!r}: stream {consumer.stream!r} is not declared")
            self._check_alone(consumer)
            key = (consumer.stream, consumer.durable)
            self.consumers.setdefault(key, DurableConsumer(consumer, self.streams[consumer.stream])).spec = consumer
        self.changed.unpark_all()
        return [(name, self._lost.pop(name)) for name in _names(topology) if name in self._lost]

    def _check_alone(self, wanted: ConsumerSpec) -> None:
        if not self.streams[wanted.stream].spec.work_queue:
            return
        for (stream, durable), there in self.consumers.items():
            is_other = stream == wanted.stream and durable != wanted.durable
            if is_other and overlap(there.spec.filter_subject, wanted.filter_subject):
                name = f"{stream}/{wanted.durable}"
                raise BusRefused(f"consumer {name!r}: filtered consumer not unique on workqueue stream")

    def compare(self, topology: Topology) -> tuple[Finding, ...]:
        """Compare what is declared with what is there, and change nothing."""
        return (
            *(_compared("stream", spec.name, spec, self.streams.get(spec.name)) for spec in topology.streams),
            *(_compared("bucket", spec.name, spec, self.buckets.get(spec.name)) for spec in topology.buckets),
            *(
                _compared(
                    "consumer", f"{spec.stream}/{spec.durable}", spec, self.consumers.get((spec.stream, spec.durable))
                )
                for spec in topology.consumers
            ),
        )

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Hand it what it takes from now on; return what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def has_subscribers(self, subject: str) -> bool:
        """Whether anybody takes *subject*: a subscription or a stream."""
        return self.stream_for(subject) is not None or any(one.takes(subject) for one in self._listeners)

    def stream_for(self, subject: str) -> Stream | None:
        """Return the stream that stores *subject*."""
        return next((stream for stream in self.streams.values() if stream.takes(subject)), None)

    def publish(self, message: BusMessage) -> bool:
        """Hand a message to its subscribers and its stream; return False where the stream had it already.

        Raises:
            BusRefused: The stream is full.
        """
        for listener in self._chosen(message.subject):
            listener.sink(message)
        stream = self.stream_for(message.subject)
        if stream is None:
            return True
        is_new = stream.add(message)
        if is_new:
            for consumer in self.consumers.values():
                if matches(consumer.spec.filter_subject, message.subject):
                    consumer.arrived.unpark_all()
        return is_new

    def _chosen(self, subject: str) -> list[Listener]:
        """Return who gets a message: of each queue group one, whose next turn then comes last."""
        chosen: list[Listener] = []
        groups: set[str] = set()
        for listener in self._listeners:
            if listener.queue not in groups and listener.takes(subject):
                chosen.append(listener)
                groups |= {listener.queue} - {""}
        for listener in chosen:
            if listener.queue:
                self._listeners.remove(listener)
                self._listeners.append(listener)
        return chosen


def _names(topology: Topology) -> list[str]:
    return [
        *(f"stream {spec.name!r}" for spec in topology.streams),
        *(f"bucket {spec.name!r}" for spec in topology.buckets),
        *(f"consumer {f'{spec.stream}/{spec.durable}'!r}" for spec in topology.consumers),
    ]


def _found(there: Mapping[_K, _V], key: _K, what: str) -> _V:
    if key not in there:
        raise LookupError(f"no {what} {key!r}; there are: {', '.join(map(repr, there)) or 'none'}")
    return there[key]


def _compared(kind: str, name: str, spec: Any, there: Stream | Bucket | DurableConsumer | None) -> Finding:
    if there is None:
        return Finding(kind, name, "missing")
    pairs = (
        (field.name, getattr(spec, field.name), getattr(there.spec, field.name)) for field in attrs.fields(type(spec))
    )
    found = tuple(Difference(field, one, other, fixable=True) for field, one, other in pairs if one != other)
    return Finding(kind, name, "differs" if found else "ok", found)
