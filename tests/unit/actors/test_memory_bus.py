"""The memory bus in virtual time: what the contract suite would have to wait for, and the faults that tests order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import attrs
import pytest
import trio

from actors._memory_broker import Stream
from actors.memory_bus import MemoryBroker, MemoryBus, MemoryConnection
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.ports import (
    BucketSpec,
    BusMessage,
    BusRefused,
    BusUnavailable,
    ConsumerSpec,
    KeyExists,
    NoResponders,
    StreamSpec,
    Topology,
)

MINUTE = 60.0
DAY = 86400.0
TOPOLOGY = Topology(
    (StreamSpec("TASKS", ("tasks.>",), work_queue=True), StreamSpec("DLQ", ("dlq.>",), max_age=30 * DAY)),
    (ConsumerSpec("TASKS", "editor", "tasks.editor", ack_wait=MINUTE),),
    (BucketSpec("outcomes", ttl=7 * DAY),),
)


@attrs.define
class Running:
    bus: MemoryBus
    events: list[Event] = attrs.field(factory=list)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if not event.kind.startswith("actor_")]


Open = Callable[..., AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def running(bus: MemoryBus) -> AsyncIterator[Running]:
    """Run a bus under the real kernel."""
    found = Running(bus)
    stream = EventStream()
    stream.listen(found.events.append)
    root = SupervisorSpec(id="agent", children=(ChildSpec(id="bus", factory=lambda: MemoryConnection(bus)),))
    async with open_runtime(root, seed=1, events=stream):
        bus.declare(TOPOLOGY)
        await bus.wait_ready()
        yield found


async def test_redelivery_follows_the_delays_that_were_asked_for(autojump_clock: trio.testing.MockClock):
    """1, 5 and 15 minutes by nak, then no more than the ack wait; a thousand seconds take no time."""
    async with running(MemoryBus()) as run, run.bus.consume("TASKS", "editor") as consumer:
        await run.bus.store("tasks.editor", b"x", msg_id="1")
        began = trio.current_time()
        times = []
        for delay in (60.0, 300.0, 900.0):
            delivery = await consumer.next()
            times.append(trio.current_time() - began)
            await delivery.nak(delay)
        await consumer.next()
        times.append(trio.current_time() - began)
        last = await consumer.next()
        times.append(trio.current_time() - began)
    assert times == pytest.approx([0, 60, 360, 1260, 1260 + MINUTE])
    assert last.attempt == 5


async def test_a_task_that_says_that_it_works_keeps_its_message_for_an_hour(autojump_clock: trio.testing.MockClock):
    """The ack wait begins anew at each sign, every 20 s."""
    async with running(MemoryBus()) as run, run.bus.consume("TASKS", "editor") as consumer:
        await run.bus.store("tasks.editor", b"x", msg_id="1")
        delivery = await consumer.next()
        again: list[float] = []

        async def watch() -> None:
            again.append((await consumer.next()).attempt)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for _ in range(180):
                await trio.sleep(20)
                await delivery.in_progress()
            assert again == []
        # Nobody said anything any more.
        assert again == [2]


async def test_a_repeated_msg_id_is_recognised_for_two_minutes(autojump_clock: trio.testing.MockClock):
    """The window is the stream's, and ends."""
    async with running(MemoryBus()) as run:
        assert await run.bus.store("dlq.editor", b"x", msg_id="1") is True
        await trio.sleep(119)
        assert await run.bus.store("dlq.editor", b"x", msg_id="1") is False
        await trio.sleep(2)
        assert await run.bus.store("dlq.editor", b"x", msg_id="1") is True


async def test_what_is_too_old_is_gone(autojump_clock: trio.testing.MockClock):
    """A stream's age limit and a bucket's ttl, to the second."""
    async with running(MemoryBus()) as run:
        bus = run.bus
        await bus.store("dlq.editor", b"x", msg_id="1")
        await bus.create("outcomes", "task", b"done")
        await trio.sleep(7 * DAY - 1)
        assert await bus.get("outcomes", "task") == (b"done", 1)
        with pytest.raises(KeyExists):
            await bus.create("outcomes", "task", b"again")
        await trio.sleep(1)
        assert await bus.get("outcomes", "task") is None
        assert await bus.create("outcomes", "task", b"again") == 2
        assert len(await bus.browse("DLQ", "dlq.>")) == 1
        await trio.sleep(23 * DAY)
        assert await bus.browse("DLQ", "dlq.>") == []


async def test_a_disconnected_bus_is_not_ready_and_says_why(autojump_clock: trio.testing.MockClock):
    """Publishes wait in the buffer, everything else waits for its timeout or the reconnect."""
    async with running(MemoryBus()) as run, running(MemoryBus(run.bus.broker)) as other:
        bus = run.bus
        async with other.bus.subscribe("events.>") as events:
            bus.disconnect("the cable is out")
            assert not bus.is_ready
            assert bus.checks()["nats_connected"] == (False, "the cable is out")
            await bus.publish("events.x", b"1")
            began = trio.current_time()
            with pytest.raises(BusUnavailable, match="the cable is out"):
                await bus.store("tasks.editor", b"x", msg_id="1", timeout=10)
            assert trio.current_time() - began == 10
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: bus.put("outcomes", "k", b"v"))
                await trio.sleep(5)
                with pytest.raises(trio.WouldBlock):
                    events.receive_nowait()
                bus.reconnect()
            assert bus.is_ready
            assert (await events.receive()).body == b"1"
            assert await other.bus.get("outcomes", "k") == (b"v", 1)
    assert run.kinds() == ["nats_connected", "nats_connection_lost", "nats_connection_rebuilt"]


async def test_a_full_buffer_is_refused(autojump_clock: trio.testing.MockClock):
    """At the bound the publisher is told; what was taken arrives."""
    async with running(MemoryBus(publish_buffer=1000)) as run:
        bus = run.bus
        bus.disconnect()
        for _ in range(10):
            await bus.publish("x", b"x" * 100)
        with pytest.raises(BusUnavailable, match="of 1000 bytes"):
            await bus.publish("x", b"x")
        async with running(MemoryBus(bus.broker)) as other, other.bus.subscribe("x") as inbox:
            bus.reconnect()
            await bus.publish("x", b"last")
            assert inbox.statistics().current_buffer_used == 11


async def test_a_queue_group_takes_turns_and_passes_over_who_is_not_connected(autojump_clock: trio.testing.MockClock):
    """A member whose connection is away is none, and a request that only it would take finds nobody."""
    async with running(MemoryBus()) as run, running(MemoryBus(run.bus.broker)) as other:
        bus, away = run.bus, other.bus
        async with bus.subscribe("x", queue="q") as one, away.subscribe("x", queue="q") as two:
            for number in range(4):
                await bus.publish("x", b"%d" % number)
            assert [b"0", b"2"] == [one.receive_nowait().body for _ in range(2)]
            assert [b"1", b"3"] == [two.receive_nowait().body for _ in range(2)]
            away.disconnect()
            for number in range(2):
                await bus.publish("x", b"%d" % number)
            assert [b"0", b"1"] == [one.receive_nowait().body for _ in range(2)]
            assert 0 == two.statistics().current_buffer_used
        async with away.subscribe("y"):
            with pytest.raises(NoResponders):
                await bus.request("y", b"")


async def test_what_a_stop_leaves_unsent_is_told(autojump_clock: trio.testing.MockClock):
    """As with a server; the event has its number."""
    async with running(MemoryBus()) as run:
        run.bus.disconnect()
        await run.bus.publish("events.x", b"lost?")
    told = next(event for event in run.events if event.kind == "bus_messages_unsent")
    assert 1 == told.fields["count"]


async def test_a_delivery_is_settled_after_the_reconnect_or_is_unavailable(autojump_clock: trio.testing.MockClock):
    """An outage shorter than the limit is not seen; a longer one is an error, and the message comes again."""
    async with running(MemoryBus()) as run, run.bus.consume("TASKS", "editor") as consumer:
        bus = run.bus
        await bus.store("tasks.editor", b"x", msg_id="1")
        delivery = await consumer.next()
        bus.disconnect()
        with pytest.raises(BusUnavailable):
            await delivery.ack()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delivery.in_progress)
            await trio.sleep(20)
            bus.reconnect()
        assert await bus.depth("TASKS", "editor") == 1
        again = await consumer.next()
        assert again.attempt == 2
        await again.ack()
        assert await bus.depth("TASKS", "editor") == 0


async def test_a_consumer_gets_nothing_through_a_cut_connection(autojump_clock: trio.testing.MockClock):
    """What is stored meanwhile waits, and a survivor gets it."""
    broker = MemoryBroker()
    async with running(MemoryBus(broker)) as cut, running(MemoryBus(broker)) as survivor:
        got: list[str] = []

        async def work(name: str, bus: MemoryBus) -> None:
            async with bus.consume("TASKS", "editor") as consumer:
                while True:
                    delivery = await consumer.next()
                    got.append(name)
                    await delivery.ack()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, "cut", cut.bus)
            await trio.sleep(1)
            cut.bus.disconnect()
            for number in range(5):
                await survivor.bus.store("tasks.editor", b"", msg_id=f"{number}")
            await trio.sleep(1)
            assert got == []
            nursery.start_soon(work, "survivor", survivor.bus)
            await trio.sleep(1)
            assert got == ["survivor"] * 5
            nursery.cancel_scope.cancel()


async def test_a_restarted_connection_is_ready_again(autojump_clock: trio.testing.MockClock):
    """The handle outlives its actor: nothing that holds it notices more than a pause."""
    bus = MemoryBus()
    async with running(bus):
        await bus.store("tasks.editor", b"x", msg_id="1")
    assert not bus.is_ready
    assert bus.checks()["jetstream"] == (False, "stopped")
    async with running(bus):
        assert await bus.depth("TASKS", "editor") == 1


async def test_a_consumer_of_a_stream_that_nobody_declared_is_a_named_fault(autojump_clock: trio.testing.MockClock):
    """The bus stays not ready, and the check says which declaration cannot be fulfilled."""
    async with running(MemoryBus()) as run:
        run.bus.declare(Topology(consumers=(ConsumerSpec("NOWHERE", "editor", "x"),)))
        assert not run.bus.is_ready
        assert "NOWHERE" in run.bus.checks()["jetstream"][1]
        assert run.bus.checks()["nats_connected"][0] is True
        run.bus.declare(Topology(streams=(StreamSpec("NOWHERE", ("x",)),)))
        assert run.bus.is_ready


async def test_a_dropped_message_is_counted_and_told(autojump_clock: trio.testing.MockClock):
    """Nothing is dropped in silence."""
    async with running(MemoryBus()) as run, run.bus.subscribe("flood"):
        for _ in range(1026):
            await run.bus.publish("flood", b"")
        assert run.bus.dropped == 2
    assert run.kinds() == ["nats_connected", "bus_message_dropped", "bus_message_dropped"]


async def test_a_full_stream_takes_more_when_what_it_held_is_gone(autojump_clock):
    """Acknowledged, or too old: both give back their room."""
    stream = Stream(StreamSpec("S", ("s",), max_bytes=60, max_age=60.0))
    message = BusMessage("s", b"12345678")
    assert stream.add(message)
    with pytest.raises(BusRefused, match="maximum bytes exceeded"):
        stream.add(message)
    stream.remove(1)
    stream.remove(1)
    assert stream.add(message)
    await trio.sleep(60.0)
    assert stream.add(message)
