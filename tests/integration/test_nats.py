"""The NATS connection under failure, against a real nats-server that is killed, stopped, wiped and reconfigured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_asyncio
from nats_waits import FAST, SUBJECT, TOPOLOGY, in_thread, not_ready, ready, until

from actors import _nats_client
from actors.nats import NatsBus, NatsSettings
from agentrt.ports import (
    BusUnavailable,
    Delivery,
    KeyExists,
    PermissionDenied,
    StreamSpec,
    Topology,
)

Server = Any
Run = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture(params=["private", "public"])
def nats_way(request: pytest.FixtureRequest) -> str:
    """Run all of this both ways."""
    return str(request.param)


class Feed:
    """A producer and a consumer that go on whatever happens, and what they saw."""

    def __init__(self, bus: NatsBus) -> None:
        self.bus = bus
        self.stored: set[bytes] = set()
        self.done: set[bytes] = set()
        self.unsettled = 0
        self.stop = False

    async def produce(self) -> None:
        number = 0
        while not self.stop:
            body = b"%d" % number
            await self.bus.store(SUBJECT, body, msg_id=f"m{number}")
            self.stored.add(body)
            number += 1

    async def consume(self) -> None:
        async with self.bus.consume("TASKS", "editor", batch=8) as consumer:
            while not (self.stop and self.done >= self.stored and await self.bus.depth("TASKS", "editor") == 0):
                with trio.move_on_after(0.2):
                    await self.do(await consumer.next())

    async def do(self, delivery: Delivery) -> None:
        self.done.add(delivery.body)
        with trio.CancelScope(shield=True):
            try:
                await delivery.ack()
            except BusUnavailable:
                # A killed server forgets deliveries; it makes them again, and those are acknowledged.
                self.unsettled += 1

    async def through(self, fault: Callable[[], Awaitable[None]], more: int = 50) -> None:
        """Feed, let the fault happen in the middle, feed on, and stop when all that was stored is done."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.produce)
            nursery.start_soon(self.consume)
            await until(lambda: len(self.done) > more)
            await fault()
            await ready(self.bus)
            after = len(self.done)
            await until(lambda: len(self.done) > after + more)
            self.stop = True


async def test_a_killed_server_loses_nothing_and_is_found_again(nats_server: Server, run_bus: Run):
    """Through a kill -9 and a restart, a producer and a consumer see a pause; each message stored is done."""
    with trio.fail_after(60):
        async with run_bus(nats_server) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            feed = Feed(bus)

            async def fault() -> None:
                nats_server.kill()
                await not_ready(bus)
                ok, why = bus.checks()["nats_connected"]
                assert not ok
                assert why
                await in_thread(nats_server.start)
                with trio.fail_after(10):
                    await ready(bus)

            await feed.through(fault)
            assert feed.stored
            assert feed.done >= feed.stored
        kinds = running.kinds()
    for kind in ("nats_connected", "nats_connection_lost", "nats_connection_rebuilding", "nats_connection_rebuilt"):
        assert kind in kinds
    lost = next(event for event in running.events if event.kind == "nats_connection_lost")
    rebuilt = next(event for event in running.events if event.kind == "nats_connection_rebuilt")
    assert rebuilt.cause == lost.id
    assert rebuilt.fields["seconds"] >= 0


async def test_a_stopped_server_is_noticed_and_healed(nats_server: Server, run_bus: Run):
    """An open connection that passes nothing is found by the probe, with the default limits; SIGCONT heals it."""
    with trio.fail_after(60):
        async with run_bus(nats_server) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            feed = Feed(bus)

            async def fault() -> None:
                nats_server.pause()
                with trio.fail_after(15):
                    # Not merely unready: JetStream may be missed before the connection is.
                    await until(lambda: not bus.checks()["nats_connected"][0])
                assert not bus.is_ready
                nats_server.resume()

            await feed.through(fault)
            assert feed.done >= feed.stored
            # Nothing was forgotten, so every acknowledgement waited for the next connection.
            assert feed.unsettled == 0
    lost = [event.fields["reason"] for event in running.events if event.kind == "nats_connection_lost"]
    assert lost == ["no probe was answered for 5 s"]


async def test_a_stopped_server_with_unsent_data_hangs_nobody_and_loses_nothing(nats_server: Server, run_bus: Run):
    """Bytes that the peer never reads make the library's own close wait for ever; here they are sent anew."""
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(Topology((StreamSpec("BULK", ("t.bulk",)),)))
            await ready(bus)
            nats_server.pause()
            # More than the kernel's buffers hold on both sides.
            for number in range(200):
                await bus.publish("t.bulk", b"%d " % number + b"x" * 60_000)
            await until(lambda: "nats_connection_lost" in running.kinds())
            nats_server.resume()
            await ready(bus)
            await until(lambda: bus.link.outbox.size == 0)
            found = await bus.browse("BULK", "t.bulk", limit=1000)
            assert {int(message.body.split()[0]) for message in found} == set(range(200))


async def test_published_messages_survive_an_outage(nats_server: Server, run_bus: Run):
    """What was published while disconnected arrives after the rebuild, in order, at an old subscription."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            await ready(bus)
            async with bus.subscribe("t.events.>") as events:
                await bus.publish("t.events.0", b"before")
                assert (await events.receive()).body == b"before"
                # Until its PONG is back it would be sent again: a message may arrive twice around a rebuild.
                await until(lambda: bus.link.outbox.size == 0)
                nats_server.kill()
                await not_ready(bus)
                for number in range(100):
                    await bus.publish("t.events.1", b"%d" % number)
                await in_thread(nats_server.start)
                assert [int((await events.receive()).body) for _ in range(100)] == list(range(100))


async def test_a_message_that_was_on_its_way_when_the_server_died_arrives(nats_server: Server, run_bus: Run):
    """Bytes handed to a socket prove nothing: a message is kept until a PONG behind it came back."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            await ready(bus)
            async with bus.subscribe("t.events") as events:
                nats_server.pause()
                assert bus.is_ready
                await bus.publish("t.events", b"on its way")
                nats_server.kill()
                await not_ready(bus)
                await in_thread(nats_server.start)
                assert (await events.receive()).body == b"on its way"


async def test_a_full_publish_buffer_is_refused(nats_server: Server, run_bus: Run):
    """Nothing is dropped in silence: at the bound the caller is told, and what was taken still arrives."""
    with trio.fail_after(30):
        async with run_bus(nats_server, publish_buffer=10_000, **FAST) as running:
            bus = running.bus
            await ready(bus)
            async with bus.subscribe("t.x") as inbox:
                nats_server.kill()
                await not_ready(bus)
                for _ in range(9):
                    await bus.publish("t.x", b"x" * 1000)
                with pytest.raises(BusUnavailable, match="of 10000 bytes"):
                    await bus.publish("t.x", b"x" * 1000)
                await in_thread(nats_server.start)
                for _ in range(9):
                    await inbox.receive()
            # Connected, the buffer empties by itself, so the publisher waits instead.
            for _ in range(100):
                await bus.publish("t.x", b"x" * 1000)


@pytest.mark.parametrize("how", ["reload", "restart"])
async def test_rejected_credentials_heal_when_they_are_accepted_again(nats_server: Server, run_bus: Run, how: str):
    """The library alone closes for good when a live connection is rejected; here it is a pause."""

    def change(token: str) -> None:
        nats_server.token = token
        if how == "reload":
            nats_server.reload()
        else:
            nats_server.kill()
            nats_server.start()

    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            feed = Feed(bus)

            async def fault() -> None:
                await in_thread(change, "second")
                await until(lambda: "nats_connect_failed" in running.kinds())
                await until(lambda: "uthorization" in bus.checks()["nats_connected"][1])
                assert not bus.is_ready
                await in_thread(change, "first")

            await feed.through(fault)
            assert feed.done >= feed.stored


async def test_rotated_credentials_are_read_at_each_attempt(nats_server: Server, run_bus: Run):
    """A secret that changed on both sides heals without anybody's help, also where reading it failed once."""
    answers: list[dict[str, str] | Exception] = [{"token": "first"}]

    def credentials() -> dict[str, str]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    with trio.fail_after(30):
        async with run_bus(nats_server, credentials=credentials, **FAST) as running:
            await ready(running.bus)
            answers[:] = [RuntimeError("the vault is sealed"), {"token": "first"}, {"token": "second"}]
            nats_server.kill()
            await not_ready(running.bus)
            nats_server.token = "second"
            await in_thread(nats_server.start)
            await ready(running.bus)
    reasons = [event.fields.get("reason", "") for event in running.events]
    assert any("the vault is sealed" in reason for reason in reasons if reason)


async def test_a_wiped_store_is_built_again(nats_server: Server, run_bus: Run):
    """Streams, consumers and buckets are ensured on each connection; who consumes does not notice."""
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            async with bus.consume("TASKS", "editor") as consumer:
                await bus.store(SUBJECT, b"old", msg_id="1")
                await (await consumer.next()).ack()
                await bus.put("outcomes", "k", b"old")
                nats_server.kill()
                nats_server.wipe()
                await not_ready(bus)
                await in_thread(nats_server.start)
                assert await bus.store(SUBJECT, b"new", msg_id="1") is True
                delivery = await consumer.next()
                assert (delivery.body, delivery.sequence) == (b"new", 1)
                await delivery.ack()
                assert await bus.get("outcomes", "k") is None


@pytest.mark.parametrize("what", ["CONSUMER.DELETE.TASKS.editor", "STREAM.DELETE.TASKS"])
async def test_what_an_operator_deletes_is_ensured_again(nats_server: Server, run_bus: Run, what: str):
    """A pull on a consumer that went away says so, and the declaration is repeated without a new connection."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            async with bus.consume("TASKS", "editor") as consumer:
                await bus.store(SUBJECT, b"1", msg_id="1")
                await (await consumer.next()).ack()
                (await bus.link.ask("deleting", f"$JS.API.{what}", b"", timeout=5)).accepted()
                await bus.store(SUBJECT, b"2", msg_id="2")
                delivery = await consumer.next()
                assert delivery.body == b"2"
                await delivery.ack()
    assert "nats_connection_lost" not in running.kinds()


async def test_core_works_where_jetstream_is_missing(nats_server: Server, run_bus: Run):
    """Publish and subscribe serve; ``jetstream`` says what is wrong; it heals when JetStream comes back."""
    nats_server.kill()
    nats_server.jetstream = False
    nats_server.start()
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            async with bus.subscribe("t.core") as inbox:
                await bus.publish("t.core", b"hello")
                assert (await inbox.receive()).body == b"hello"
                assert bus.checks()["nats_connected"][0] is True
                ok, why = bus.checks()["jetstream"]
                assert not ok
                assert "JetStream" in why
                assert not bus.is_ready
                with pytest.raises(BusUnavailable, match="JetStream"):
                    await bus.store(SUBJECT, b"x", msg_id="1", timeout=0.3)
                nats_server.kill()
                nats_server.jetstream = True
                await in_thread(nats_server.start)
                await ready(bus)
                assert await bus.store(SUBJECT, b"x", msg_id="1") is True


async def test_a_request_in_flight_fails_over_within_its_timeout(nats_server: Server, run_bus: Run):
    """A request whose connection died goes to the next one instead of waiting its timeout out."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            results: dict[str, object] = {}

            async def keep(name: str, operation: Awaitable[object]) -> None:
                results[name] = await operation

            nats_server.pause()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep, "store", bus.store(SUBJECT, b"x", msg_id="1", timeout=25))
                nursery.start_soon(keep, "create", bus.create("outcomes", "k", b"mine", timeout=25))
                nursery.start_soon(keep, "get", bus.get("outcomes", "none", timeout=25))
                await not_ready(bus)
                assert results == {}
                nats_server.resume()
            # The stopped server did what it had received; that is no reason to say that somebody else did.
            assert results["store"] is True
            assert await bus.get("outcomes", "k") == (b"mine", results["create"])
            assert results["get"] is None
            with pytest.raises(KeyExists):
                await bus.create("outcomes", "k", b"mine")


async def test_a_delivery_is_settled_through_the_next_connection(nats_server: Server, run_bus: Run):
    """A task that ends during an outage acknowledges when it is over; the message does not come again."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            async with bus.consume("TASKS", "editor") as consumer:
                await bus.store(SUBJECT, b"x", msg_id="1")
                delivery = await consumer.next()
                # Stopped and not killed, which makes it forget deliveries that it has not written yet.
                nats_server.pause()
                await not_ready(bus)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(delivery.ack)
                    nats_server.resume()
                assert await bus.depth("TASKS", "editor") == 0


async def test_a_server_that_is_not_there_at_first_is_found_later(nats_server: Server, run_bus: Run):
    """Connecting is repeated for ever, and what is asked meanwhile waits within its timeout."""
    nats_server.kill()
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await until(lambda: "nats_connect_failed" in running.kinds())
            with pytest.raises(BusUnavailable, match="Connect call failed"):
                await bus.put("outcomes", "k", b"", timeout=0.2)
            await in_thread(nats_server.start)
            await ready(bus)


async def test_a_black_hole_costs_one_attempt_not_the_connection(run_bus: Run, nats_server: Server):
    """A listener that accepts and never speaks is given up after the connect timeout; the next address serves."""
    with trio.fail_after(30):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        try:
            nats_server.kill()
            hole, nats_server.port = nats_server.port, port
            async with run_bus(nats_server, connect_timeout=0.3, **FAST) as running:
                await until(lambda: "nats_connect_failed" in running.kinds())
                reason = running.bus.checks()["nats_connected"][1]
                assert not running.bus.is_ready
                assert reason
                await listeners[0].aclose()
                nats_server.port = port
                await in_thread(nats_server.start)
                await ready(running.bus)
            assert hole != port
        finally:
            await listeners[0].aclose()


async def test_callbacks_that_raise_do_not_break_the_connection(nats_server: Server, run_bus: Run):
    """What goes wrong in a callback is counted, and neither the read loop nor the bus notices."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            client = bus.link.client
            assert client is not None

            def broken(*_args: object) -> None:
                raise RuntimeError("a callback of ours is broken")

            client.subscribe("t.broken", broken)
            client.ping(broken)
            await bus.publish("t.broken", b"1")
            await bus.publish("t.broken", b"2")
            # The library may call with any arguments, or none.
            await client._nc._error_cb()
            await client._nc._error_cb(RuntimeError("x"), "more")
            await until(lambda: client.callback_errors == 4)
            assert await bus.store(SUBJECT, b"x", msg_id="1") is True
            assert bus.link.client is client
            await client._nc._disconnected_cb("any", "arguments")
            await until(lambda: "nats_connection_rebuilt" in running.kinds())
            assert await bus.store(SUBJECT, b"x", msg_id="2") is True


async def test_what_the_server_does_not_allow_is_refused_at_once(nats_server: Server, run_bus: Run):
    """A denied request is answered by an error on the connection, which the library leaves to the timeout."""
    nats_server.reload(
        authorization='{ users: [ { user: "u", password: "p", permissions: { publish: { deny: "t.secret" } } } ] }'
    )
    with trio.fail_after(30):
        async with run_bus(nats_server, credentials=lambda: {"user": "u", "password": "p"}, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            with pytest.raises(PermissionDenied, match=r"t\.secret.*permissions\.publish"):
                await bus.store("t.secret", b"", msg_id="1", timeout=25)
            # Nobody waits for an answer to this one; it is counted, and told by an event.
            await bus.publish("t.secret", b"")
            await until(lambda: bus.statistics().problems.get("PermissionDenied") == 2)
            assert bus.is_ready
    problems = [event.fields for event in running.events if event.kind == "nats_problem"]
    assert {(one["error"], one["subject"]) for one in problems} == {("PermissionDenied", "t.secret")}
    assert sum(one["count"] for one in problems) == 2


async def test_a_message_that_outgrew_the_server_does_not_poison_the_connection(nats_server: Server, run_bus: Run):
    """Sent again it would end each new connection; it is dropped by name, and the rest arrives."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            await ready(bus)
            async with bus.subscribe("t.x") as inbox:
                nats_server.kill()
                await not_ready(bus)
                await bus.publish("t.x", b"x" * 50_000)
                await bus.publish("t.x", b"small")
                await in_thread(lambda: nats_server.start(max_payload=10_000))
                assert (await inbox.receive()).body == b"small"
    dropped = [event for event in running.events if event.kind == "bus_message_dropped"]
    assert [(event.fields["subject"], event.fields["error"], event.fields["count"]) for event in dropped] == [
        ("t.x", "PayloadTooLarge", 1)
    ]


async def test_dropped_messages_are_told(nats_server: Server, run_bus: Run):
    """A reader that is too slow loses messages, and an event says how many."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            await ready(running.bus)
            async with running.bus.subscribe("t.flood"):
                for _ in range(1100):
                    await running.bus.publish("t.flood", b"")

                def dropped() -> int:
                    events = [event for event in running.events if event.kind == "bus_message_dropped"]
                    return sum(event.fields["count"] for event in events)

                await until(lambda: dropped() == 1100 - 1024)
            assert {"SlowConsumer": 1100 - 1024} == running.bus.statistics().dropped


async def test_a_stream_that_differs_is_updated_and_keeps_what_was_not_declared(nats_server: Server, run_bus: Run):
    """A declaration changes what it names; what an operator added stays; what cannot be changed is told."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            config = (await bus.link.ask("info", "$JS.API.STREAM.INFO.TASKS", b"", timeout=5)).accepted()["config"]
            body = json.dumps({**config, "description": "by hand"}).encode()
            (await bus.link.ask("update", "$JS.API.STREAM.UPDATE.TASKS", body, timeout=5)).accepted()
            bus.declare(Topology((StreamSpec("TASKS", ("t.tasks.>", "t.more"), work_queue=True, max_bytes=1_000_000),)))
            await ready(bus)
            config = (await bus.link.ask("info", "$JS.API.STREAM.INFO.TASKS", b"", timeout=5)).accepted()["config"]
            assert (config["description"], config["max_bytes"]) == ("by hand", 1_000_000)
            assert config["subjects"] == ["t.tasks.>", "t.more"]
            bus.declare(Topology((StreamSpec("TASKS", ("t.tasks.>",), work_queue=False),)))
            await until(lambda: "TASKS" in bus.checks()["jetstream"][1])
            assert not bus.is_ready


async def test_twenty_rebuilds_leave_no_task_and_no_socket(nats_server: Server, run_bus: Run):
    """Each discarded client takes its tasks and its socket with it, also where the peer never answers."""
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            async with bus.subscribe("t.x") as inbox, bus.consume("TASKS", "editor"):
                await ready(bus)
                # By the public way what was subscribed is subscribed by a task, a little later.
                await bus.link.client.flush()
                loop = trio_asyncio.current_loop.get()
                tasks, files = len(asyncio.all_tasks(loop)), open_files()
                for number in range(20):
                    client = bus.link.client
                    assert client is not None
                    if number % 5 == 4:
                        nats_server.pause()
                        # Not merely unready: a server that wakes in between keeps the client that it has.
                        await until(lambda old=client: bus.link.client is not old)
                        nats_server.resume()
                    else:
                        client.lose("thrown away by the test")
                    await until(lambda old=client: bus.is_ready and bus.link.client is not old)
                await bus.publish("t.x", b"still here")
                assert (await inbox.receive()).body == b"still here"
                await until(lambda: len(asyncio.all_tasks(loop)) <= tasks)
                await until(lambda: open_files() <= files)
                assert "actor_crashed" not in running.kinds()
        assert running.kinds().count("nats_connection_rebuilt") >= 20


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_bus_without_a_bridge_says_what_to_do():
    """The asyncio loop is opened once by whoever composes the fleet; without it the error names it."""
    with pytest.raises(RuntimeError, match=r"bridge\(\)"):
        _nats_client.NatsClient(lambda _subject, _error: None)


def test_settings_are_shown_without_their_url():
    """It may hold a password, as NATS_URL often does."""
    settings = NatsSettings(url="nats://me:hunter2@example.org:4222")
    assert ("nats://me:hunter2@example.org:4222",) == settings.servers
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("url", ["", "localhost:4222", "ws://localhost", "nats://a:1,http://user:secret@b"])
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str):
    """The error names the scheme and the setting, never what stands behind it."""
    with pytest.raises(ValueError, match=r"\[bus\] url") as caught:
        NatsSettings(url=url)
    assert "secret" not in str(caught.value)
