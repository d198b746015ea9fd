"""Faults to order in the memory bus, in virtual time: each is what a real one does to who uses the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from actors.memory_bus import MemoryBroker, MemoryBus, MemoryConnection
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.ports import (
    BucketSpec,
    BusRefused,
    BusUnavailable,
    ConsumerSpec,
    KeyChange,
    NoResponders,
    PermissionDenied,
    StreamSpec,
    Topology,
)

Clock = trio.testing.MockClock
ACK_WAIT = 60.0
SUBJECT = "t.tasks.editor"
TOPOLOGY = Topology(
    (StreamSpec("TASKS", ("t.tasks.>",), work_queue=True),),
    (ConsumerSpec("TASKS", "editor", SUBJECT, ack_wait=ACK_WAIT),),
    (BucketSpec("outcomes"),),
)


@attrs.define
class Running:
    bus: MemoryBus
    events: list[Event] = attrs.field(factory=list)

    def of(self, kind: str) -> list[dict[str, object]]:
        return [dict(event.fields) for event in self.events if event.kind == kind]


@asynccontextmanager
async def running(broker: MemoryBroker | None = None) -> AsyncIterator[Running]:
    """Run a bus under the real kernel, ready and with one message to do."""
    found = Running(MemoryBus(broker))
    stream = EventStream()
    stream.listen(found.events.append)
    root = SupervisorSpec(id="agent", children=(ChildSpec(id="bus", factory=lambda: MemoryConnection(found.bus)),))
    async with open_runtime(root, seed=1, events=stream):
        found.bus.declare(TOPOLOGY)
        await found.bus.wait_ready()
        yield found


async def test_a_slow_bus_takes_its_time_and_then_does_it(autojump_clock: Clock):
    """What waits for the bus waits longer, also beyond its timeout; what does not wait is as before."""
    async with running() as here:
        bus = here.bus
        bus.faults.latency = 10.0
        began = trio.current_time()
        assert await bus.store(SUBJECT, b"x", msg_id="1") is True
        assert 10.0 == trio.current_time() - began
        with pytest.raises(BusUnavailable, match="within 5 s"):
            await bus.put("outcomes", "k", b"", timeout=5.0)
        began = trio.current_time()
        await bus.publish("t.core", b"")
        assert began == trio.current_time()
        bus.faults.latency = 0.0
        assert await bus.get("outcomes", "k") is None


async def test_a_delayed_delivery_spends_its_ack_wait_on_the_way(autojump_clock: Clock):
    """A second one comes for a message that was on its way too long; giving up to wait for it loses nothing."""
    async with running() as here:
        bus = here.bus
        bus.faults.delivery_delay = 20.0
        await bus.store(SUBJECT, b"x", msg_id="1")
        async with bus.consume("TASKS", "editor") as consumer:
            began = trio.current_time()
            with trio.move_on_after(5.0):
                await consumer.next()
            delivery = await consumer.next()
            assert (1, 20.0) == (delivery.attempt, trio.current_time() - began)
            bus.faults.delivery_delay = 0.0
            again = await consumer.next()
            assert (2, ACK_WAIT) == (again.attempt, trio.current_time() - began)
            await again.ack()


async def test_what_is_on_its_way_to_a_consumer_that_closes_goes_to_the_next(autojump_clock: Clock):
    """At once, without an ack wait."""
    async with running() as here:
        bus = here.bus
        bus.faults.delivery_delay = 20.0
        await bus.store(SUBJECT, b"x", msg_id="1")
        async with bus.consume("TASKS", "editor") as consumer:
            with trio.move_on_after(5.0):
                await consumer.next()
        bus.faults.delivery_delay = 0.0
        began = trio.current_time()
        async with bus.consume("TASKS", "editor") as consumer:
            assert 2 == (await consumer.next()).attempt
        assert began == trio.current_time()


async def test_a_lost_acknowledgement_is_not_confirmed_and_the_message_comes_again(autojump_clock: Clock):
    """Once; the next one counts. One that nobody waits for is lost without a word."""
    async with running() as here:
        bus = here.bus
        bus.faults.lost_acks = 2
        await bus.store(SUBJECT, b"x", msg_id="1")
        async with bus.consume("TASKS", "editor") as consumer:
            with pytest.raises(BusUnavailable, match="may come again"):
                await (await consumer.next()).ack()
            (await consumer.next()).ack_nowait()
            third = await consumer.next()
            assert (3, 1) == (third.attempt, await bus.depth("TASKS", "editor"))
            third.ack_nowait()
            assert 0 == await bus.depth("TASKS", "editor")


async def test_a_duplicate_comes_while_the_first_is_in_hand(autojump_clock: Clock):
    """Whichever is acknowledged settles both."""
    async with running() as here:
        bus = here.bus
        bus.faults.duplicates = 1
        await bus.store(SUBJECT, b"x", msg_id="1")
        async with bus.consume("TASKS", "editor") as consumer:
            began = trio.current_time()
            first, second = await consumer.next(), await consumer.next()
            assert (1, 2, 0.0) == (first.attempt, second.attempt, trio.current_time() - began)
            await first.ack()
            await second.ack()
            with trio.move_on_after(2 * ACK_WAIT):
                pytest.fail(f"delivered again: {await consumer.next()}")


async def test_what_is_in_hand_is_delivered_again_when_that_is_ordered(autojump_clock: Clock):
    """As by a server that forgot who has it; the attempts count on."""
    async with running() as here:
        bus = here.bus
        await bus.store(SUBJECT, b"x", msg_id="1")
        async with bus.consume("TASKS", "editor") as consumer:
            await consumer.next()
            bus.redeliver()
            began = trio.current_time()
            again = await consumer.next()
            assert (2, 0.0) == (again.attempt, trio.current_time() - began)
            await again.ack()


async def test_a_stream_that_is_deleted_is_made_again_and_that_is_told(autojump_clock: Clock):
    """Empty, with its consumer; who waits for it goes on, and what was in hand cannot be settled any more."""
    async with running() as here:
        bus = here.bus
        for number in range(3):
            await bus.store(SUBJECT, b"old", msg_id=f"{number}")
        async with bus.consume("TASKS", "editor") as consumer:
            held = await consumer.next()
            bus.broker.delete_stream("TASKS")
            with pytest.raises(BusUnavailable, match="may come again"):
                await held.ack()
            assert await bus.store(SUBJECT, b"new", msg_id="0") is True
            fresh = await consumer.next()
            assert (b"new", 1, 1) == (fresh.body, fresh.sequence, fresh.attempt)
            await fresh.ack()
        lost = {(one["what"], one["messages"]) for one in here.of("jetstream_asset_lost")}
        assert {("stream 'TASKS'", 3), ("consumer 'TASKS/editor'", 3)} == lost


async def test_a_consumer_that_is_deleted_delivers_from_the_beginning(autojump_clock: Clock):
    """What is still in the stream, and no attempt counts."""
    async with running() as here:
        bus = here.bus
        await bus.store(SUBJECT, b"x", msg_id="1")
        async with bus.consume("TASKS", "editor") as consumer:
            await consumer.next()
            bus.broker.delete_consumer("TASKS", "editor")
            assert 1 == (await consumer.next()).attempt


async def test_a_watch_tells_of_the_keys_that_went_with_their_bucket(autojump_clock: Clock):
    """And then of what the new one has."""
    async with running() as here:
        bus = here.bus
        revision = await bus.put("outcomes", "a", b"1")
        async with bus.watch("outcomes") as watch:
            assert KeyChange("a", b"1", revision) == await watch.next()
            bus.broker.delete_bucket("outcomes")
            assert KeyChange("a", None, 0) == await watch.next()
            await bus.put("outcomes", "b", b"2")
            assert KeyChange("b", b"2", 1) == await watch.next()
        assert [("bucket 'outcomes'", 1)] == [(one["what"], one["messages"]) for one in here.of("jetstream_asset_lost")]


async def test_what_is_deleted_but_not_there_is_named_with_what_is(autojump_clock: Clock):
    """A misspelt name would be a fault that nobody sees."""
    async with running() as here:
        broker = here.bus.broker
        with pytest.raises(LookupError, match="no stream 'TASK'; there are: 'TASKS'"):
            broker.delete_stream("TASK")
        with pytest.raises(LookupError, match="no consumer"):
            broker.delete_consumer("TASKS", "nobody")
        with pytest.raises(LookupError, match="no bucket 'none'; there are: 'outcomes'"):
            broker.delete_bucket("none")


async def test_core_works_while_jetstream_is_away(autojump_clock: Clock):
    """Publish, subscribe and request serve; what needs JetStream waits or fails by name, and nothing is lost."""
    broker = MemoryBroker()
    async with running(broker) as here, running(broker) as other:
        bus = here.bus
        await bus.store(SUBJECT, b"x", msg_id="1")
        broker.lose_jetstream("no leader")
        assert [False, False] == [bus.is_ready, other.bus.is_ready]
        assert {"nats_connected": True, "jetstream": False} == {name: ok for name, (ok, _) in bus.checks().items()}
        assert "no leader" == bus.checks()["jetstream"][1]
        async with bus.subscribe("t.core") as inbox:
            await other.bus.publish("t.core", b"hello")
            assert b"hello" == (await inbox.receive()).body
        with pytest.raises(BusUnavailable, match=r"within 3 s \(no leader\)"):
            await bus.store(SUBJECT, b"y", msg_id="2", timeout=3.0)
        async with bus.consume("TASKS", "editor") as consumer:
            with trio.move_on_after(3600.0):
                pytest.fail(f"delivered: {await consumer.next()}")
            broker.restore_jetstream()
            assert (b"x", 1) == ((delivery := await consumer.next()).body, delivery.attempt)
        assert bus.is_ready


async def test_a_subject_that_is_denied_is_refused_and_others_are_not(autojump_clock: Clock):
    """By a type of its own where somebody waits, and by an event where nobody does."""
    async with running() as here:
        bus = here.bus
        async with bus.subscribe("t.seen") as inbox:
            bus.faults.no_publish, bus.faults.no_subscribe = ("t.secret.>", "t.tasks.>"), ("t.seen",)
            await bus.publish("t.secret.x", b"")
            await bus.publish("t.seen", b"not now")
            with pytest.raises(PermissionDenied, match=r"t\.tasks\.editor.*permissions\.publish"):
                await bus.store(SUBJECT, b"", msg_id="1")
            with pytest.raises(PermissionDenied, match=r"permissions\.publish"):
                await bus.request("t.secret.y", b"")
            with pytest.raises(PermissionDenied, match=r"permissions\.subscribe"):
                async with bus.subscribe("t.seen"):
                    pytest.fail("subscribed")
            bus.faults.no_publish = bus.faults.no_subscribe = ()
            await bus.publish("t.seen", b"now")
            assert b"now" == (await inbox.receive()).body
        told = [(one["error"], one["subject"]) for one in here.of("nats_problem")]
        assert [("PermissionDenied", "t.secret.x")] == told


async def test_a_stream_that_refuses_says_why_and_keeps_what_it_has(autojump_clock: Clock):
    """As one that is full: whoever stores is told, and a publish that it would have stored is dropped with an event."""
    async with running() as here:
        bus = here.bus
        await bus.store(SUBJECT, b"x", msg_id="1")
        bus.broker.streams["TASKS"].refusal = "maximum bytes exceeded"
        with pytest.raises(BusRefused, match="stream 'TASKS': maximum bytes exceeded"):
            await bus.store(SUBJECT, b"y", msg_id="2")
        await bus.publish(SUBJECT, b"z")
        assert [SUBJECT] == [one["subject"] for one in here.of("bus_message_dropped")]
        assert 1 == await bus.depth("TASKS", "editor")


async def test_a_request_without_a_connection_waits_for_one(autojump_clock: Clock):
    """Within its timeout; and nobody there is said as soon as there is a connection."""
    async with running() as here:
        bus = here.bus
        bus.disconnect("cut")
        with pytest.raises(BusUnavailable, match=r"within 5 s \(cut\)"):
            await bus.request("t.ask", b"")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_reconnect_after, bus, 3.0)
            with pytest.raises(NoResponders):
                await bus.request("t.ask", b"")


async def _reconnect_after(bus: MemoryBus, seconds: float) -> None:
    await trio.sleep(seconds)
    bus.reconnect()
