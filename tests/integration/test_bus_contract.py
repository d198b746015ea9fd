"""One contract for every bus: the memory bus is held to what a real nats-server does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from actors.memory_bus import MemoryBroker, MemoryBus, MemoryConnection
from agentrt.kernel import ChildSpec, SupervisorSpec, open_runtime
from agentrt.ports import (
    BucketSpec,
    Bus,
    BusMessage,
    BusRefused,
    BusUnavailable,
    Consumer,
    ConsumerSpec,
    Delivery,
    KeyChange,
    KeyExists,
    NoResponders,
    PayloadTooLarge,
    StreamSpec,
    Topology,
    Watch,
    WrongRevision,
)

ACK_WAIT = 1.0
TOPOLOGY = Topology(
    streams=(
        StreamSpec("TASKS", ("t.tasks.>",), work_queue=True),
        StreamSpec("DLQ", ("t.dlq.>",), max_age=3600.0),
        StreamSpec("SMALL", ("t.small",), max_bytes=2000),
    ),
    consumers=(
        ConsumerSpec("TASKS", "editor-high", "t.tasks.editor.high", ack_wait=ACK_WAIT),
        ConsumerSpec("TASKS", "editor-low", "t.tasks.editor.low", ack_wait=ACK_WAIT),
        ConsumerSpec("TASKS", "one-at-a-time", "t.tasks.solo", ack_wait=ACK_WAIT, max_ack_pending=1),
    ),
    buckets=(BucketSpec("outcomes"), BucketSpec("leases", ttl=1.0), BucketSpec("results", write_once=True)),
)
HIGH = "t.tasks.editor.high"

Open = Callable[..., AbstractAsyncContextManager[Any]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run it over the broker in memory, a real server, and that by nats-py's public methods only, unless it waits."""
    if "open_bus" in metafunc.fixturenames:
        is_short = not any(mark.name == "waits" for mark in metafunc.definition.iter_markers())
        metafunc.parametrize("open_bus", ["memory", "nats", *(["public"] if is_short else [])], indirect=True)


@pytest.fixture
def open_bus(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Give a function that opens a ready bus; all of one test share a broker."""
    broker = MemoryBroker()
    is_real = request.param != "memory"
    settings = {"is_public": True} if request.param == "public" else {}
    server = request.getfixturevalue("nats_server") if is_real else None
    run_bus = request.getfixturevalue("run_bus") if is_real else None

    @asynccontextmanager
    async def open_memory() -> AsyncIterator[Bus]:
        bus = MemoryBus(broker)
        root = SupervisorSpec(id="agent", children=(ChildSpec(id="bus", factory=lambda: MemoryConnection(bus)),))
        async with open_runtime(root, seed=1):
            yield bus

    @asynccontextmanager
    async def opened(topology: Topology = TOPOLOGY) -> AsyncIterator[Bus]:
        with trio.fail_after(30):
            async with AsyncExitStack() as stack:
                if is_real:
                    bus = (await stack.enter_async_context(run_bus(server, **settings))).bus
                else:
                    bus = await stack.enter_async_context(open_memory())
                bus.declare(topology)
                await bus.wait_ready()
                yield bus

    return opened


async def next_of(consumer: Consumer) -> Delivery:
    with trio.fail_after(10):
        return await consumer.next()


async def nothing_comes(consumer: Consumer, seconds: float) -> bool:
    with trio.move_on_after(seconds):
        await consumer.next()
        return False
    return True


async def drained(bus: Bus, durable: str) -> None:
    await settled(bus, durable, 0, stream="DLQ")


async def settled(bus: Bus, durable: str, depth: int, stream: str = "TASKS") -> None:
    with trio.fail_after(10):
        while await bus.depth(stream, durable) != depth:  # noqa: ASYNC110 - the broker has no event for it.
            await trio.sleep(0.01)


async def test_a_bus_is_a_bus(open_bus: Open):
    """Both implement the port, and say by name what works."""
    async with open_bus() as bus:
        assert isinstance(bus, Bus)
        assert bus.is_ready
        assert {name: ok for name, (ok, _) in bus.checks().items()} == {"nats_connected": True, "jetstream": True}


async def test_a_subscription_sees_what_its_pattern_takes(open_bus: Open):
    """``*`` is one token and ``>`` the rest; headers arrive as they were sent."""
    async with open_bus() as bus, bus.subscribe("t.events.*.editor") as one, bus.subscribe("t.events.>") as rest:
        await bus.publish("t.events.started.editor", b"1", {"Agentrt-Kind": "started"})
        await bus.publish("t.events.started.writer.more", b"2")
        assert await one.receive() == BusMessage("t.events.started.editor", b"1", {"Agentrt-Kind": "started"})
        assert [(await rest.receive()).body, (await rest.receive()).body] == [b"1", b"2"]
        with pytest.raises(trio.WouldBlock):
            one.receive_nowait()


async def test_whitespace_around_the_value_of_a_header_does_not_arrive(open_bus: Open):
    """It is not kept on the wire, whichever way a message goes; inside a value it is."""
    headers, kept = {"A": "  b  c\t", "D": " "}, {"A": "b  c", "D": ""}
    async with open_bus() as bus, bus.subscribe("t.padded") as inbox, bus.consume("TASKS", "editor-high") as consumer:
        await bus.publish("t.padded", b"", headers)
        assert kept == (await inbox.receive()).headers
        await bus.store(HIGH, b"", headers, msg_id="1")
        delivery = await next_of(consumer)
        assert {**kept, "Nats-Msg-Id": "1"} == delivery.headers
        (browsed,) = await bus.browse("TASKS", HIGH)
        assert delivery.headers == browsed.headers
        await delivery.ack()


async def test_two_buses_talk_over_one_broker(open_bus: Open):
    """An agent's message reaches another agent's subscription."""
    async with open_bus() as writer, open_bus() as reader, reader.subscribe("t.control.reader") as inbox:
        await writer.publish("t.control.reader", b"pause")
        assert (await inbox.receive()).body == b"pause"


async def test_a_message_stored_twice_is_stored_once(open_bus: Open):
    """Inside the window a repeated ``msg_id`` is recognised, also by another bus and after an acknowledgement."""
    async with open_bus() as bus, open_bus() as other, bus.consume("TASKS", "editor-high") as consumer:
        assert await bus.store(HIGH, b"x", msg_id="a.0") is True
        assert await other.store(HIGH, b"x", msg_id="a.0") is False
        await (await next_of(consumer)).ack()
        assert await bus.store(HIGH, b"x", msg_id="a.0") is False
        assert await bus.store(HIGH, b"x", msg_id="a.1") is True


async def test_a_published_message_is_stored_too_where_a_stream_takes_it(open_bus: Open):
    """A stream stores what is published to its subjects, whether or not anybody waits for that."""
    async with open_bus() as bus, bus.consume("TASKS", "editor-high") as consumer:
        await bus.publish(HIGH, b"plain", {"X": "y"})
        delivery = await next_of(consumer)
        assert (delivery.subject, delivery.body, delivery.headers["X"]) == (HIGH, b"plain", "y")
        await delivery.ack()


async def test_a_delivery_knows_what_it_is(open_bus: Open):
    """Subject, body, headers, attempt from 1, and its number in the stream."""
    async with open_bus() as bus, bus.consume("TASKS", "editor-high") as consumer:
        await bus.store("t.tasks.editor.low", b"first", msg_id="1")
        await bus.store(HIGH, b"body", {"Agentrt-Hops": "1"}, msg_id="2")
        delivery = await next_of(consumer)
        assert (delivery.subject, delivery.body, delivery.attempt, delivery.sequence) == (HIGH, b"body", 1, 2)
        assert dict(delivery.headers) == {"Agentrt-Hops": "1", "Nats-Msg-Id": "2"}
        await delivery.ack()


async def test_an_acknowledged_message_leaves_a_work_queue(open_bus: Open):
    """Depth counts what waits and what is in hand; an acknowledgement takes it out."""
    async with open_bus() as bus:
        for number in range(3):
            await bus.store(HIGH, b"%d" % number, msg_id=f"{number}")
        assert await bus.depth("TASKS", "editor-high") == 3
        async with bus.consume("TASKS", "editor-high") as consumer:
            for number in range(3):
                delivery = await next_of(consumer)
                assert delivery.body == b"%d" % number
                await delivery.ack()
        assert await bus.depth("TASKS", "editor-high") == 0
        assert await bus.browse("TASKS", "t.tasks.>") == []


@pytest.mark.waits
async def test_an_unacknowledged_message_comes_again_after_the_ack_wait(open_bus: Open):
    """Work of a consumer that died is not lost, and its attempts count."""
    async with open_bus() as bus, open_bus() as survivor:
        await bus.store(HIGH, b"x", msg_id="1")
        async with bus.consume("TASKS", "editor-high") as consumer:
            assert (await next_of(consumer)).attempt == 1
        async with survivor.consume("TASKS", "editor-high") as consumer:
            assert await nothing_comes(consumer, ACK_WAIT / 2)
            delivery = await next_of(consumer)
            assert delivery.attempt == 2
            await delivery.ack()


@pytest.mark.waits
async def test_in_progress_begins_the_ack_wait_anew(open_bus: Open):
    """A long task keeps its message by saying that it still works."""
    async with open_bus() as bus, bus.consume("TASKS", "editor-high") as consumer:
        await bus.store(HIGH, b"x", msg_id="1")
        delivery = await next_of(consumer)
        for _ in range(4):
            assert await nothing_comes(consumer, ACK_WAIT / 2)
            await delivery.in_progress()
        await delivery.ack()
        assert await nothing_comes(consumer, ACK_WAIT * 1.3)


@pytest.mark.waits
async def test_a_nak_asks_for_it_again_at_once_or_after_a_delay(open_bus: Open):
    """The delay is the sender's, not the ack wait."""
    async with open_bus() as bus, bus.consume("TASKS", "editor-high") as consumer:
        await bus.store(HIGH, b"x", msg_id="1")
        await (await next_of(consumer)).nak()
        second = await next_of(consumer)
        assert second.attempt == 2
        await second.nak(2 * ACK_WAIT)
        assert await nothing_comes(consumer, 1.4 * ACK_WAIT)
        assert await bus.depth("TASKS", "editor-high") == 1
        third = await next_of(consumer)
        assert third.attempt == 3
        await third.ack()


@pytest.mark.waits
async def test_a_terminated_message_is_gone(open_bus: Open):
    """A message that can never be done is taken out, with a reason."""
    async with open_bus() as bus, bus.consume("TASKS", "editor-high") as consumer:
        await bus.store(HIGH, b"poison", msg_id="1")
        await (await next_of(consumer)).term("it is poison")
        await settled(bus, "editor-high", 0)
        assert await bus.browse("TASKS", HIGH) == []
        assert await nothing_comes(consumer, ACK_WAIT * 1.2)


async def test_a_cancelled_next_loses_nothing(open_bus: Open):
    """A message that arrives while nobody waits stays for the next call."""
    async with open_bus() as bus, bus.consume("TASKS", "editor-high") as consumer:
        assert await nothing_comes(consumer, 0.05)
        await bus.store(HIGH, b"x", msg_id="1")
        delivery = await next_of(consumer)
        assert (delivery.body, delivery.attempt) == (b"x", 1)
        await delivery.ack()


@pytest.mark.waits
async def test_a_message_that_nobody_waits_for_spends_no_delivery(open_bus: Open):
    """With a batch of one nothing is asked for ahead: it lies in the stream, not with a consumer that is busy."""
    spec = ConsumerSpec("TASKS", "busy", "t.tasks.busy", ack_wait=1.0)
    async with open_bus(Topology(TOPOLOGY.streams, (spec,))) as bus, bus.consume("TASKS", "busy") as consumer:
        await bus.store("t.tasks.busy", b"first", msg_id="first")
        await (await next_of(consumer)).ack()
        await bus.store("t.tasks.busy", b"second", msg_id="second")
        await trio.sleep(2.5)
        assert (await next_of(consumer)).attempt == 1


async def test_a_closed_consumer_strands_nothing(open_bus: Open):
    """What it had asked for ahead goes back at once, without an ack wait; here a minute."""
    spec = ConsumerSpec("TASKS", "slow", "t.tasks.slow", ack_wait=60.0)
    async with open_bus(Topology(TOPOLOGY.streams, (spec,))) as bus:
        for number in range(6):
            await bus.store("t.tasks.slow", b"%d" % number, msg_id=f"{number}")
        async with bus.consume("TASKS", "slow", batch=4) as consumer:
            await (await next_of(consumer)).ack()
        async with bus.consume("TASKS", "slow", batch=2) as consumer:
            bodies = set()
            for _ in range(5):
                delivery = await next_of(consumer)
                bodies.add(delivery.body)
                await delivery.ack()
        assert bodies == {b"1", b"2", b"3", b"4", b"5"}


async def test_consumers_of_one_stream_get_what_their_filters_take(open_bus: Open):
    """One durable per priority, in one work queue."""
    async with open_bus() as bus:
        await bus.store("t.tasks.editor.low", b"low", msg_id="1")
        await bus.store(HIGH, b"high", msg_id="2")
        async with bus.consume("TASKS", "editor-high") as high, bus.consume("TASKS", "editor-low") as low:
            for consumer, body in ((high, b"high"), (low, b"low")):
                delivery = await next_of(consumer)
                assert delivery.body == body
                await delivery.ack()


async def test_replicas_share_a_durable_consumer(open_bus: Open):
    """Each message goes to one of them."""
    async with open_bus() as first, open_bus() as second:
        got: list[bytes] = []

        async def work(bus: Bus) -> None:
            async with bus.consume("TASKS", "editor-high") as consumer:
                while True:
                    delivery = await consumer.next()
                    got.append(delivery.body)
                    await delivery.ack()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, first)
            nursery.start_soon(work, second)
            for number in range(40):
                await first.store(HIGH, b"%d" % number, msg_id=f"{number}")
            await settled(first, "editor-high", 0)
            nursery.cancel_scope.cancel()
        assert sorted(got, key=int) == [b"%d" % number for number in range(40)]


@pytest.mark.waits
async def test_no_more_than_max_ack_pending_are_in_hand(open_bus: Open):
    """The next one waits until one in hand is settled."""
    async with open_bus() as bus, bus.consume("TASKS", "one-at-a-time", batch=4) as consumer:
        await bus.store("t.tasks.solo", b"1", msg_id="1")
        await bus.store("t.tasks.solo", b"2", msg_id="2")
        first = await next_of(consumer)
        assert await nothing_comes(consumer, ACK_WAIT / 2)
        await first.ack()
        second = await next_of(consumer)
        assert second.body == b"2"
        await second.ack()


@pytest.mark.waits
async def test_a_late_acknowledgement_still_counts(open_bus: Open):
    """The first delivery's ack, after the ack wait, removes the message: there is no fencing."""
    async with open_bus() as bus, bus.consume("TASKS", "editor-high") as consumer:
        await bus.store(HIGH, b"x", msg_id="1")
        first = await next_of(consumer)
        second = await next_of(consumer)
        assert (first.attempt, second.attempt) == (1, 2)
        await first.ack()
        await settled(bus, "editor-high", 0)
        await second.ack()


async def test_browse_reads_and_leaves(open_bus: Open):
    """Oldest first, up to a limit, with wildcards; in hand or not, the messages stay."""
    async with open_bus() as bus:
        for number in range(4):
            agent = "editor" if number % 2 else "writer"
            await bus.store(f"t.dlq.{agent}", b"%d" % number, {"Agentrt-Reason": "poison"}, msg_id=f"{number}")
        assert [message.body for message in await bus.browse("DLQ", "t.dlq.>", limit=3)] == [b"0", b"1", b"2"]
        found = await bus.browse("DLQ", "t.dlq.editor")
        assert [message.body for message in found] == [b"1", b"3"]
        assert found[0].headers["Agentrt-Reason"] == "poison"
        assert len(await bus.browse("DLQ", "t.dlq.>")) == 4


async def test_a_full_stream_refuses_and_keeps_what_it_has(open_bus: Open):
    """Old messages are never dropped for new ones, and the sender is told."""
    async with open_bus() as bus:
        await bus.store("t.small", b"x" * 1500, msg_id="1")
        with pytest.raises(BusRefused, match="maximum bytes"):
            await bus.store("t.small", b"y" * 1500, msg_id="2")
        assert [message.body[:1] for message in await bus.browse("SMALL", "t.small")] == [b"x"]


@pytest.mark.parametrize("headers", [None, {"A": "b"}])
async def test_a_stream_is_full_at_the_same_byte(open_bus: Open, headers: dict[str, str] | None):
    """What is kept beside a message counts, too: 30 bytes and its subject, and 4 where it has headers."""
    beside = 30 + len("t.exact") + len("NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n") + 4
    beside += len("A: b\r\n") if headers else 0
    spec = StreamSpec("EXACT", ("t.exact",), max_bytes=2 * (beside + 100))
    async with open_bus(Topology((spec,))) as bus:
        await bus.store("t.exact", b"x" * 100, headers, msg_id="1")
        with pytest.raises(BusRefused, match="maximum bytes"):
            await bus.store("t.exact", b"x" * 101, headers, msg_id="2")
        assert await bus.store("t.exact", b"x" * 100, headers, msg_id="2") is True


async def test_a_key_is_created_once(open_bus: Open):
    """The first one wins; everybody reads its value."""
    async with open_bus() as bus, open_bus() as other:
        revision = await bus.create("outcomes", "task-1", b"mine")
        with pytest.raises(KeyExists):
            await other.create("outcomes", "task-1", b"theirs")
        with pytest.raises(KeyExists):
            await bus.create("outcomes", "task-1", b"mine")
        assert await other.get("outcomes", "task-1") == (b"mine", revision)


async def test_a_key_is_written_read_and_deleted(open_bus: Open):
    """Revisions grow, a deleted key reads as none and can be created again, and deleting nothing is no error."""
    async with open_bus() as bus:
        assert await bus.get("outcomes", "k.1") is None
        first = await bus.put("outcomes", "k.1", b"a")
        second = await bus.put("outcomes", "k.1", b"b")
        assert second > first
        assert await bus.get("outcomes", "k.1") == (b"b", second)
        await bus.delete("outcomes", "k.1")
        await bus.delete("outcomes", "k.1")
        assert await bus.get("outcomes", "k.1") is None
        third = await bus.create("outcomes", "k.1", b"")
        assert third > second
        assert await bus.get("outcomes", "k.1") == (b"", third)


async def test_a_key_is_updated_by_who_knows_its_revision(open_bus: Open):
    """What was read is what is replaced; who comes second is told, and nothing of its value is stored."""
    async with open_bus() as bus, open_bus() as other:
        first = await bus.create("outcomes", "k", b"1")
        await other.put("outcomes", "another", b"")
        second = await bus.update("outcomes", "k", b"2", first)
        assert second > first
        with pytest.raises(WrongRevision, match=f"is at revision {second}, and not at {first}"):
            await other.update("outcomes", "k", b"2", first)
        assert (b"2", second) == await other.get("outcomes", "k")
        third = await other.update("outcomes", "k", b"3", second)
        assert (b"3", third) == await bus.get("outcomes", "k")


async def test_a_key_that_is_not_there_is_not_updated(open_bus: Open):
    """Whether it never was or is deleted; the mark of its deletion has a revision, and it lives again from there."""
    async with open_bus() as bus:
        with pytest.raises(WrongRevision, match="is not there"):
            await bus.update("outcomes", "k", b"", 7)
        first = await bus.create("outcomes", "k", b"1")
        async with bus.watch("outcomes") as watch:
            await next_change(watch)
            await bus.delete("outcomes", "k")
            deleted = await next_change(watch)
        with pytest.raises(WrongRevision):
            await bus.update("outcomes", "k", b"2", first)
        assert await bus.get("outcomes", "k") is None
        again = await bus.update("outcomes", "k", b"3", deleted.revision)
        assert (b"3", again) == await bus.get("outcomes", "k")
        for revision in (0, -1):
            with pytest.raises(BusRefused, match="count from 1"):
                await bus.update("outcomes", "k", b"", revision)


async def test_those_that_update_one_key_at_once_lose_no_write(open_bus: Open):
    """Each reads, adds one and writes, and reads again where another was first."""
    async with open_bus() as one, open_bus() as two:
        await one.create("outcomes", "count", b"0")
        refused: list[int] = []

        async def count(bus: Bus) -> None:
            done = 0
            while done < 10:
                found = await bus.get("outcomes", "count")
                assert found is not None
                value, revision = found
                try:
                    await bus.update("outcomes", "count", b"%d" % (int(value) + 1), revision)
                    done += 1
                except WrongRevision:
                    refused.append(revision)

        async with trio.open_nursery() as nursery:
            for bus in (one, two, one, two):
                nursery.start_soon(count, bus)
        found = await one.get("outcomes", "count")
        assert found is not None
        assert b"40" == found[0]


async def test_a_key_that_is_written_once_is_not_updated_either(open_bus: Open):
    """Whoever knows its revision; who does not is told that first."""
    async with open_bus() as bus:
        revision = await bus.create("results", "k", b"mine")
        with pytest.raises(WrongRevision):
            await bus.update("results", "k", b"theirs", revision + 1)
        with pytest.raises(BusRefused):
            await bus.update("results", "k", b"theirs", revision)
        assert (b"mine", revision) == await bus.get("results", "k")


async def test_a_key_that_is_written_once_is_changed_by_nobody(open_bus: Open):
    """The bus itself refuses it, whoever asks; one that is deleted can be created again."""
    async with open_bus() as bus, open_bus() as other:
        revision = await bus.create("results", "task-1", b"mine")
        with pytest.raises(BusRefused):
            await other.put("results", "task-1", b"theirs")
        with pytest.raises(KeyExists):
            await other.create("results", "task-1", b"theirs")
        assert await bus.get("results", "task-1") == (b"mine", revision)
        assert await other.put("results", "task-2", b"theirs") > revision
        await other.delete("results", "task-1")
        assert await bus.get("results", "task-1") is None
        assert await bus.create("results", "task-1", b"again") > revision


@pytest.mark.waits
async def test_a_key_ends_with_its_bucket_s_ttl(open_bus: Open):
    """A lease that nobody renews is free again."""
    async with open_bus() as bus:
        await bus.create("leases", "head", b"me")
        with pytest.raises(KeyExists):
            await bus.create("leases", "head", b"you")
        with trio.fail_after(10):
            while await bus.get("leases", "head") is not None:  # noqa: ASYNC110 - the broker has no event for it.
                await trio.sleep(0.05)
        await bus.create("leases", "head", b"you")


@pytest.mark.parametrize("subject", ["", "a..b", "a b", "a.*", "a.>", "a\r\nPUB b 0", "x" * 2000, "ü" * 600, "a\ud800"])
async def test_a_subject_that_cannot_be_published_to_is_refused(open_bus: Open, subject: str):
    """It would end the connection of everybody who shares it; nothing of it reaches the wire."""
    async with open_bus() as bus:
        with pytest.raises(BusRefused):
            await bus.publish(subject, b"")
        with pytest.raises(BusRefused):
            await bus.store(subject, b"", msg_id="1")
        assert bus.is_ready


@pytest.mark.parametrize("subject", ["ü" * 600, "a\ud800"])
async def test_a_subscription_that_a_connection_would_die_of_is_refused(open_bus: Open, subject: str):
    """It would be opened again on each connection, which dies of it in its turn; what counts is bytes."""
    async with open_bus() as bus:
        with pytest.raises(BusRefused):
            async with bus.subscribe(subject):
                pytest.fail("it was opened")
        assert bus.is_ready


@pytest.mark.parametrize("name", ["", "a b", "a.b", "*", ">", "a/b", "T\r\nPING", "n" * 256, "a\ud800"])
async def test_a_name_that_cannot_be_is_refused(open_bus: Open, name: str):
    """As a part of the subject that a server is asked on it would ask for something else, or end the connection."""
    declared = (
        Topology((StreamSpec(name, ("n.>",)),)),
        Topology((), (ConsumerSpec("TASKS", name, "n.>"),)),
        Topology((), (), (BucketSpec(name),)),
    )
    async with open_bus() as bus:
        for names in ((name, "editor"), ("TASKS", name)):
            with pytest.raises(BusRefused):
                async with bus.consume(*names):
                    pytest.fail("it was opened")
            with pytest.raises(BusRefused):
                await bus.depth(*names)
        with pytest.raises(BusRefused):
            await bus.browse(name, ">")
        for work in (bus.get, bus.delete):
            with pytest.raises(BusRefused):
                await work(name, "k")
        with pytest.raises(BusRefused):
            await bus.put(name, "k", b"")
        with pytest.raises(BusRefused):
            async with bus.watch(name):
                pytest.fail("it was opened")
        for topology in declared:
            with pytest.raises(BusRefused):
                bus.declare(topology)
            with pytest.raises(BusRefused):
                await bus.compare(topology)
        assert bus.is_ready


async def test_a_header_with_a_line_break_is_refused(open_bus: Open):
    """A value must not become a header of its own."""
    async with open_bus() as bus:
        with pytest.raises(BusRefused):
            await bus.publish("t.x", b"", {"A": "b\r\nC: d"})
        with pytest.raises(BusRefused):
            await bus.publish("t.x", b"", {"a b": "c"})
        with pytest.raises(BusRefused):
            await bus.publish("t.x", b"", {"A": "half \ud800"})


async def test_a_message_that_is_too_large_is_refused(open_bus: Open):
    """Headers count too; a server ends the connection of who sends such a message."""
    async with open_bus() as bus:
        with pytest.raises(BusRefused, match="larger"):
            await bus.publish("t.x", b"x" * 1024 * 1024, {"A": "b"})
        with pytest.raises(BusRefused, match="larger"):
            await bus.store(HIGH, b"x" * 1024 * 1024, msg_id="1")
        assert bus.is_ready
        assert await bus.store(HIGH, b"x" * 1024 * 1000, msg_id="1") is True


@pytest.mark.parametrize("key", ["", "a b", ".a", "a.", "a..b", "a*", ">", "k" * 2000])
async def test_a_key_that_cannot_be_is_refused(open_bus: Open, key: str):
    """Also on reading: it would read other keys."""
    async with open_bus() as bus:
        with pytest.raises(BusRefused):
            await bus.get("outcomes", key)
        with pytest.raises(BusRefused):
            await bus.create("outcomes", key, b"")


async def test_what_is_declared_nowhere_is_unavailable_after_the_timeout(open_bus: Open):
    """It may be declared by somebody at any moment, so the timeout is waited for; then the error says why."""
    async with open_bus() as bus:
        with pytest.raises(BusUnavailable, match="no such stream"):
            await bus.store("nobody.takes.this", b"", msg_id="1", timeout=0.3)
        with pytest.raises(BusUnavailable):
            await bus.put("nobucket", "k", b"", timeout=0.3)
        with pytest.raises(BusUnavailable):
            await bus.depth("TASKS", "nobody", timeout=0.3)
        assert bus.is_ready


async def test_what_is_declared_later_exists_when_the_bus_is_ready_again(open_bus: Open):
    """A declaration adds to what is there, and a store that waited for it goes through."""
    async with open_bus() as bus:
        results: list[bool] = []

        async def store() -> None:
            results.append(await bus.store("late.x", b"", msg_id="1"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(store)
            await trio.sleep(0.05)
            bus.declare(Topology((StreamSpec("LATE", ("late.>",)),), (ConsumerSpec("LATE", "late", "late.x"),)))
        await bus.wait_ready()
        assert results == [True]
        assert await bus.depth("LATE", "late") == 1
        assert await bus.depth("TASKS", "editor-high") == 0


async def test_a_slow_reader_loses_the_newest_and_nobody_else_does(open_bus: Open):
    """A subscription is bounded; others go on."""
    async with open_bus() as bus, bus.subscribe("t.flood") as slow, bus.subscribe("t.done") as done:
        for number in range(1500):
            await bus.publish("t.flood", b"%d" % number)
        await bus.publish("t.done", b"")
        await done.receive()
        assert slow.statistics().current_buffer_used == 1024
        assert (await slow.receive()).body == b"0"


async def next_change(watch: Watch) -> KeyChange:
    with trio.fail_after(10):
        return await watch.next()


async def test_a_watch_gives_what_is_there_and_then_each_change(open_bus: Open):
    """In the order of the revisions, deletions among them, whoever makes the change."""
    async with open_bus() as bus, open_bus() as other:
        first = await bus.put("outcomes", "a", b"1")
        second = await bus.put("outcomes", "b", b"2")
        async with bus.watch("outcomes") as watch:
            assert KeyChange("a", b"1", first) == await next_change(watch)
            assert KeyChange("b", b"2", second) == await next_change(watch)
            third = await other.put("outcomes", "c.d", b"3")
            assert KeyChange("c.d", b"3", third) == await next_change(watch)
            await other.delete("outcomes", "a")
            change = await next_change(watch)
            assert ("a", None) == (change.key, change.value)
            assert change.revision > third


async def test_a_watch_takes_only_the_keys_of_its_pattern(open_bus: Open):
    """``*`` is one part of a key and ``>`` the rest."""
    async with open_bus() as bus, bus.watch("outcomes", "x.*") as watch:
        for key in ("a", "x", "x.1", "x.1.2", "x.2"):
            await bus.put("outcomes", key, key.encode())
        assert ["x.1", "x.2"] == [(await next_change(watch)).key for _ in range(2)]


async def test_a_key_that_changes_faster_than_it_is_read_is_given_as_it_is_now(open_bus: Open):
    """A watch says what is, not all that was; nothing piles up for a slow reader."""
    async with open_bus() as bus, bus.watch("outcomes") as watch:
        for number in range(200):
            await bus.put("outcomes", "k", b"%d" % number)
        last = await bus.put("outcomes", "end", b"")
        changes = [await next_change(watch)]
        while changes[-1].key != "end":
            changes.append(await next_change(watch))
        assert [("k", b"199"), ("end", b"")] == [(change.key, change.value) for change in changes]
        assert last == changes[-1].revision


async def test_a_key_that_is_written_once_leaves_no_mark_of_its_deletion(open_bus: Open):
    """Nothing may take its place but another first value; that one is told."""
    async with open_bus() as bus, bus.watch("results") as watch:
        first = await bus.create("results", "k", b"1")
        assert KeyChange("k", b"1", first) == await next_change(watch)
        await bus.delete("results", "k")
        second = await bus.create("results", "k", b"2")
        assert first + 1 == second
        assert KeyChange("k", b"2", second) == await next_change(watch)


async def test_a_cancelled_next_of_a_watch_loses_nothing(open_bus: Open):
    """Wherever the cancellation strikes: the change is there for the next call."""
    async with open_bus() as bus, bus.watch("outcomes") as watch:
        keys: list[str] = []

        async def read() -> None:
            while True:
                with trio.move_on_after(0.002):
                    keys.append((await watch.next()).key)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for number in range(30):
                await bus.put("outcomes", f"k{number}", b"")
            with trio.fail_after(10):
                while len(keys) < 30:  # noqa: ASYNC110 - what is waited for is the reader's list.
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert [f"k{number}" for number in range(30)] == keys


async def test_a_pattern_that_no_key_can_have_is_refused(open_bus: Open):
    """It would read what it was not meant to."""
    async with open_bus() as bus:
        for pattern in ("", "a b", ">.a", "a..b"):
            with pytest.raises(BusRefused):
                async with bus.watch("outcomes", pattern):
                    pass


async def test_what_is_as_declared_compares_as_ok(open_bus: Open):
    """Streams, buckets and consumers, each by name."""
    async with open_bus() as bus:
        found = await bus.compare(TOPOLOGY)
        assert {"ok"} == {finding.state for finding in found}
        assert {("stream", "TASKS"), ("bucket", "leases"), ("consumer", "TASKS/editor-high")} <= {
            (finding.kind, finding.name) for finding in found
        }


async def test_what_is_missing_or_differs_is_named_and_left_as_it_is(open_bus: Open):
    """Comparing changes nothing."""
    declared = Topology(
        (StreamSpec("TASKS", ("t.tasks.>",), work_queue=True, max_bytes=1_000_000), StreamSpec("NONE", ("t.none",))),
        (ConsumerSpec("TASKS", "editor-high", "t.tasks.editor.high", ack_wait=7.0),),
        (BucketSpec("nothing"),),
    )
    async with open_bus() as bus:
        for _ in range(2):
            found = {finding.name: finding for finding in await bus.compare(declared)}
            assert {
                "TASKS": "differs",
                "NONE": "missing",
                "TASKS/editor-high": "differs",
                "nothing": "missing",
            } == {name: finding.state for name, finding in found.items()}
            (size,) = found["TASKS"].differences
            assert ("max_bytes", 1_000_000, -1, True) == (size.field, size.declared, size.actual, size.fixable)
            (wait,) = found["TASKS/editor-high"].differences
            assert ("ack_wait", 7.0, 1.0) == (wait.field, wait.declared, wait.actual)


async def test_each_refusal_has_a_type_of_its_own(open_bus: Open):
    """So that a caller need not read the text."""
    async with open_bus() as bus:
        with pytest.raises(PayloadTooLarge, match="headers included"):
            await bus.publish("t.x", b"x" * 1024 * 1024, {"A": "b"})
        with pytest.raises(NoResponders, match="no such stream"):
            await bus.store("nobody.takes.this", b"", msg_id="1", timeout=0.3)


async def answer(bus: Bus, requests: trio.MemoryReceiveChannel[BusMessage]) -> None:
    async for message in requests:
        await bus.publish(message.reply, b"re: " + message.body, message.headers)


async def test_a_request_is_answered_by_who_subscribes(open_bus: Open):
    """With the body and headers of the answer; each asker gets its own, in whatever order they come."""
    async with open_bus() as asker, open_bus() as other, other.subscribe("t.ask.*") as requests:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, other, requests)
            found = await asker.request("t.ask.editor", b"ready?", {"Agentrt-Hops": "1"})
            assert (b"re: ready?", {"Agentrt-Hops": "1"}) == (found.body, found.headers)
            answers: dict[int, bytes] = {}

            async def ask(number: int) -> None:
                answers[number] = (await asker.request("t.ask.writer", b"%d" % number)).body

            async with trio.open_nursery() as askers:
                for number in range(50):
                    askers.start_soon(ask, number)
            nursery.cancel_scope.cancel()
        assert {number: b"re: %d" % number for number in range(50)} == answers


async def test_a_queue_group_shares_what_is_published(open_bus: Open):
    """Each message goes to one member, whichever; who is in another group, or in none, gets all of it."""
    async with open_bus() as one, open_bus() as two, AsyncExitStack() as stack:
        got: dict[str, list[int]] = {name: [] for name in ("first", "second", "third", "other", "alone")}

        async def listen(bus: Bus, name: str, queue: str) -> None:
            inbox = await stack.enter_async_context(bus.subscribe("t.work.*", queue=queue))

            async def read() -> None:
                async for message in inbox:
                    got[name].append(int(message.body))

            nursery.start_soon(read)

        async with trio.open_nursery() as nursery:
            for bus, name in ((one, "first"), (two, "second"), (two, "third")):
                await listen(bus, name, "workers")
            await listen(one, "other", "auditors")
            await listen(two, "alone", "")
            for number in range(100):
                await one.publish("t.work.x", b"%d" % number)
            with trio.fail_after(10):
                while sum(map(len, got.values())) < 300:  # noqa: ASYNC110 - what is waited for is the readers' lists.
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        everything = list(range(100))
        assert everything == sorted(got["first"] + got["second"] + got["third"])
        assert all(got.values())
        assert everything == got["other"] == got["alone"]


async def test_a_member_that_leaves_its_queue_group_is_passed_over(open_bus: Open):
    """What comes then goes to those that stay."""
    async with open_bus() as one, open_bus() as two, two.subscribe("t.work", queue="workers") as stays:
        async with one.subscribe("t.work", queue="workers"):
            pass
        for number in range(20):
            await one.publish("t.work", b"%d" % number)
        with trio.fail_after(10):
            assert [b"%d" % number for number in range(20)] == [(await stays.receive()).body for _ in range(20)]


async def test_members_of_one_queue_group_may_listen_to_different_subjects(open_bus: Open):
    """What both take goes to one of them."""
    async with (
        open_bus() as bus,
        bus.subscribe("t.work.>", queue="workers") as wide,
        bus.subscribe("t.work.x", queue="workers") as narrow,
    ):
        for number in range(40):
            await bus.publish("t.work.x", b"%d" % number)
        await bus.publish("t.work.y", b"only wide")
        bodies: list[bytes] = []
        with trio.fail_after(10):
            while bodies[-1:] != [b"only wide"]:
                bodies.append((await wide.receive()).body)
        while len(bodies) < 41:
            bodies.append(narrow.receive_nowait().body)
        assert sorted([b"only wide", *(b"%d" % number for number in range(40))]) == sorted(bodies)


@pytest.mark.parametrize("queue", ["a b", "a.*", "a..b", "x" * 2000])
async def test_a_queue_group_that_cannot_be_is_refused(open_bus: Open, queue: str):
    """It would reach the wire as something else."""
    async with open_bus() as bus:
        with pytest.raises(BusRefused):
            async with bus.subscribe("t.work", queue=queue):
                pass
        assert bus.is_ready


async def test_replicas_that_answer_in_a_queue_group_share_the_requests(open_bus: Open):
    """Each request is done once, whoever answers it."""
    async with open_bus() as asker, open_bus() as one, open_bus() as two:
        done: dict[str, int] = {"one": 0, "two": 0}

        async def respond(bus: Bus, name: str, requests: trio.MemoryReceiveChannel[BusMessage]) -> None:
            async for message in requests:
                done[name] += 1
                await bus.publish(message.reply, name.encode())

        async with (
            one.subscribe("t.ask", queue="replicas") as mine,
            two.subscribe("t.ask", queue="replicas") as theirs,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(respond, one, "one", mine)
            nursery.start_soon(respond, two, "two", theirs)
            answers = [(await asker.request("t.ask", b"")).body.decode() for _ in range(60)]
            nursery.cancel_scope.cancel()
        assert {name: answers.count(name) for name in done} == done
        assert all(done.values())


async def test_a_request_that_nobody_takes_is_refused_at_once(open_bus: Open):
    """With a type of its own, long before its timeout; the bus is well."""
    async with open_bus() as bus:
        with pytest.raises(NoResponders, match=r"t\.nobody"):
            await bus.request("t.nobody", b"", timeout=3600.0)
        assert bus.is_ready


async def test_a_request_that_is_not_answered_ends_with_its_timeout(open_bus: Open):
    """Whoever subscribes may be busy; the error says for how long it was waited."""
    async with open_bus() as bus, bus.subscribe("t.busy") as requests:
        with pytest.raises(BusUnavailable, match=r"within 0\.05 s \(no answer\)") as caught:
            await bus.request("t.busy", b"", timeout=0.05)
        assert not isinstance(caught.value, NoResponders)
        assert "" != (await requests.receive()).reply
        with pytest.raises(BusRefused):
            await bus.request("t.*", b"")


async def test_an_acknowledgement_that_nobody_waits_for_counts_too(open_bus: Open):
    """Many short tasks are settled without a round trip each."""
    async with open_bus() as bus, bus.consume("TASKS", "editor-high", batch=16) as consumer:
        for number in range(20):
            await bus.store(HIGH, b"%d" % number, msg_id=f"{number}")
        bodies = []
        for _ in range(20):
            delivery = await next_of(consumer)
            bodies.append(delivery.body)
            delivery.ack_nowait()
        assert [b"%d" % number for number in range(20)] == bodies
        await settled(bus, "editor-high", 0)


@pytest.mark.waits
async def test_a_message_is_not_delivered_more_often_than_its_consumer_allows(open_bus: Open):
    """It stays in the stream, and the consumer neither has it in hand nor waits for it."""
    spec = ConsumerSpec("TASKS", "twice", "t.tasks.twice", ack_wait=0.3, max_deliver=2)
    async with open_bus(Topology(TOPOLOGY.streams, (spec,))) as bus, bus.consume("TASKS", "twice") as consumer:
        await bus.store("t.tasks.twice", b"poison", msg_id="1")
        assert [1, 2] == [(await next_of(consumer)).attempt for _ in range(2)]
        assert await nothing_comes(consumer, 0.7)
        await settled(bus, "twice", 0)
        assert [b"poison"] == [message.body for message in await bus.browse("TASKS", "t.tasks.twice")]


@pytest.mark.waits
async def test_a_message_id_is_forgotten_when_its_window_is_over(open_bus: Open):
    """A repetition that comes later is a new message."""
    spec = StreamSpec("SHORT", ("t.short",), duplicate_window=0.5)
    async with open_bus(Topology((spec,))) as bus:
        assert await bus.store("t.short", b"first", msg_id="1") is True
        assert await bus.store("t.short", b"again", msg_id="1") is False
        with trio.fail_after(10):
            while not await bus.store("t.short", b"later", msg_id="1"):  # noqa: ASYNC110 - there is no event for it.
                await trio.sleep(0.1)
        assert [b"first", b"later"] == [message.body for message in await bus.browse("SHORT", "t.short")]


async def test_an_acknowledged_message_stays_in_a_stream_that_is_no_work_queue(open_bus: Open):
    """The consumer has moved on, and another one reads it from the beginning."""
    consumers = tuple(ConsumerSpec("DLQ", name, "t.dlq.>") for name in ("one", "two"))
    async with open_bus(Topology(TOPOLOGY.streams, consumers)) as bus:
        await bus.store("t.dlq.editor", b"x", msg_id="1")
        for name in ("one", "two"):
            async with bus.consume("DLQ", name) as consumer:
                await (await next_of(consumer)).ack()
                await drained(bus, name)
        assert [b"x"] == [message.body for message in await bus.browse("DLQ", "t.dlq.>")]


@pytest.mark.waits
async def test_a_key_that_is_written_again_lives_on(open_bus: Open):
    """A lease is renewed by writing it; its age counts from then."""
    async with open_bus() as bus:
        await bus.create("leases", "head", b"me")
        revisions = []
        for _ in range(3):
            await trio.sleep(0.4)
            revisions.append(await bus.put("leases", "head", b"me"))
        assert (b"me", revisions[-1]) == await bus.get("leases", "head")


async def test_two_consumers_of_a_work_queue_may_not_want_the_same(open_bus: Open):
    """Each message of it is for one of them; what one takes the other would miss."""
    async with open_bus() as bus:
        bus.declare(Topology((), (ConsumerSpec("TASKS", "greedy", "t.tasks.>"),)))
        with trio.fail_after(10):
            while "greedy" not in bus.checks()["jetstream"][1]:  # noqa: ASYNC110 - a check has no event.
                await trio.sleep(0.01)
        assert not bus.is_ready
