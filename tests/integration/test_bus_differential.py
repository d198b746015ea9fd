"""Random operations over the bus in memory and over a real server: each has the same result on both."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from nats_process import RealServer

from actors.memory_bus import MemoryBus, MemoryConnection
from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge
from agentrt.kernel import ChildSpec, SupervisorSpec, open_runtime
from agentrt.ports import BucketSpec, Bus, BusError, ConsumerSpec, Delivery, StreamSpec, Topology

#: For what has to come. What must not come is waited for so short a time only, so that the test may overlook a
#: difference, and never sees one that is none.
PATIENCE, GLIMPSE = 10.0, 0.02

Step: TypeAlias = tuple[str, ...]

QUEUES = (("W", "one"), ("W", "two"), ("L", "all"))
SUBJECTS = ("w.one.a", "w.one.b", "w.two", "l.x", "l.y", "l.z")
BUCKETS = ("B", "O")
_queue = st.sampled_from(QUEUES)
_key = st.tuples(st.sampled_from(BUCKETS), st.sampled_from(("k", "m")))
_messages: st.SearchStrategy[Step] = st.one_of(
    *(
        st.builds(
            lambda subject, msg_id, size: ("store", subject, msg_id, size),
            st.sampled_from(SUBJECTS),
            st.sampled_from("abcdefghijklmnop"),
            st.sampled_from(("1", "400", "400")),
        )
        for _ in range(3)
    ),
    *(st.builds(lambda queue: ("next", *queue), _queue) for _ in range(3)),
    st.builds(lambda how, which: (how, which), st.sampled_from(("ack", "nak", "term")), st.sampled_from("012")),
    st.builds(lambda queue: ("depth", *queue), _queue),
    st.builds(lambda stream: ("browse", stream), st.sampled_from("WL")),
)
_keys: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda how, key, value: (how, *key, value), st.sampled_from(("create", "put", "update")), _key, st.text("xy")
    ),
    st.builds(lambda how, key: (how, *key), st.sampled_from(("get", "delete", "delete")), _key),
    st.builds(lambda bucket: ("watch", bucket), st.sampled_from(BUCKETS)),
)


def topology(prefix: str) -> Topology:
    return Topology(
        streams=(
            StreamSpec(f"{prefix}W", (f"{prefix}.w.>",), work_queue=True),
            StreamSpec(f"{prefix}L", (f"{prefix}.l.>",), max_bytes=1350),
        ),
        consumers=(
            ConsumerSpec(f"{prefix}W", "one", f"{prefix}.w.one.*", max_ack_pending=2),
            ConsumerSpec(f"{prefix}W", "two", f"{prefix}.w.two", max_deliver=2),
            ConsumerSpec(f"{prefix}L", "all", f"{prefix}.l.>"),
        ),
        buckets=(BucketSpec(f"{prefix}B"), BucketSpec(f"{prefix}O", write_once=True)),
    )


@attrs.define
class Player:
    """Does one step after the other on a bus, and says what came of it.

    Args:
        bus: The bus.
        prefix: What all names begin with.
        expected: What came of them elsewhere; nothing where this is that.
    """

    bus: Bus
    prefix: str
    expected: Sequence[Any] = ()
    results: list[Any] = attrs.field(init=False, factory=list)
    _held: list[Delivery] = attrs.field(init=False, factory=list)
    _revisions: dict[Step, int] = attrs.field(init=False, factory=dict)

    async def play(self, steps: Sequence[Step]) -> list[Any]:
        with trio.fail_after(PATIENCE * 2):
            for step in steps:
                try:
                    self.results.append(await self._do(*step))
                except BusError as error:
                    self.results.append(type(error).__name__)
        return self.results

    async def _do(self, kind: str, *args: str) -> Any:
        if kind in ("ack", "nak", "term"):
            return await self._settle(kind, int(args[0]))
        if kind in ("create", "put", "update", "get", "delete"):
            return await self._key(kind, args[:2], *(value.encode() for value in args[2:]))
        return await getattr(self, f"_{kind}")(*args)

    async def _store(self, subject: str, msg_id: str, size: str) -> bool:
        return await self.bus.store(f"{self.prefix}.{subject}", b"x" * int(size), {"A": "b"}, msg_id=msg_id)

    async def _next(self, stream: str, durable: str) -> Any:
        async with self.bus.consume(self.prefix + stream, durable) as consumer:
            with trio.move_on_after(PATIENCE if self._wanted else GLIMPSE):
                delivery = await consumer.next()
                self._held.append(delivery)
                subject = delivery.subject.removeprefix(self.prefix)
                return subject, delivery.body, delivery.attempt, delivery.sequence, dict(delivery.headers)
        return None

    async def _settle(self, how: str, which: int) -> Any:
        if not self._held:
            return None
        delivery = self._held[-1 - which % len(self._held)]
        await (delivery.term("why") if how == "term" else getattr(delivery, how)())
        return delivery.sequence

    async def _depth(self, stream: str, durable: str) -> int:
        deadline = trio.current_time() + PATIENCE
        while True:
            depth = await self.bus.depth(self.prefix + stream, durable)
            # A server counts what it was told a moment later.
            if not self.expected or depth == self._wanted or trio.current_time() > deadline:
                return depth
            await trio.sleep(0.01)

    async def _browse(self, stream: str) -> Any:
        found = await self.bus.browse(self.prefix + stream, f"{self.prefix}.{stream.lower()}.>")
        return [(one.subject.removeprefix(self.prefix), one.body, dict(one.headers)) for one in found]

    async def _key(self, how: str, key: tuple[str, ...], *value: bytes) -> Any:
        arguments: tuple[Any, ...] = (self._revisions.get(key, 1),) if how == "update" else ()
        found = await getattr(self.bus, how)(self.prefix + key[0], key[1], *value, *arguments)
        if value:
            self._revisions[key] = found
        return found

    async def _watch(self, bucket: str) -> Any:
        changes = []
        async with self.bus.watch(self.prefix + bucket) as watch:
            while True:
                missing = len(self._wanted or ()) > len(changes)
                with trio.move_on_after(PATIENCE if missing else GLIMPSE) as waiting:
                    changes.append(await watch.next())
                if waiting.cancelled_caught:
                    return changes

    @property
    def _wanted(self) -> Any:
        return self.expected[len(self.results)] if self.expected else None


@asynccontextmanager
async def running(bus: Any, actor: Callable[[], Any], prefix: str) -> AsyncIterator[Bus]:
    async with open_runtime(SupervisorSpec(id="agent", children=(ChildSpec(id="bus", factory=actor),)), seed=1):
        bus.declare(topology(prefix))
        await bus.wait_ready()
        yield bus


async def over_memory(prefix: str, steps: Sequence[Step]) -> list[Any]:
    memory = MemoryBus()
    async with running(memory, lambda: MemoryConnection(memory), prefix) as bus:
        return await Player(bus, prefix).play(steps)


async def over_nats(server: RealServer, prefix: str, steps: Sequence[Step], expected: Sequence[Any]) -> list[Any]:
    nats = NatsBus(NatsSettings(url=server.url, credentials=server.credentials))
    async with bridge(), running(nats, lambda: NatsConnection(nats), prefix) as bus:
        return await Player(bus, prefix, expected).play(steps)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    server = RealServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()


_prefixes = itertools.count()


@settings(max_examples=60, deadline=None)
@given(steps=st.one_of(st.lists(one, min_size=5, max_size=30) for one in (_messages, _keys)))
def test_the_bus_in_memory_does_as_a_server_does(steps: list[Step], server: RealServer) -> None:
    """Whatever is done to it; what depends on time is in the contract, case by case."""
    prefix = f"p{next(_prefixes)}"
    clock = trio.testing.MockClock(autojump_threshold=0)
    expected = trio.run(over_memory, prefix, steps, clock=clock)
    found = trio.run(over_nats, server, prefix, steps, expected)
    assert list(zip(steps, expected, strict=True)) == list(zip(steps, found, strict=True))
