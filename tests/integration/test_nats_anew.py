"""What lives on over connections, and what must not be taken for what it was: deliveries, consumers, groups, keys."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.testing
from nats_waits import FAST, SUBJECT, TOPOLOGY, in_thread, not_ready, ready, until
from scripted_nats import Peer, scripted

from actors import _nats_consumer
from agentrt.ports import BusMessage, BusUnavailable, WrongRevision

Server = Any
Run = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture(params=["private", "public"])
def nats_way(request: pytest.FixtureRequest) -> str:
    """Run all of this both ways."""
    return str(request.param)


async def test_a_consumer_that_is_made_anew_is_pulled_anew(
    nats_server: Server, run_bus: Run, monkeypatch: pytest.MonkeyPatch
):
    """One that is being deleted may take a pull and say nothing of its end; that is not waited for."""
    monkeypatch.setattr(_nats_consumer, "_EXPIRES", 3600.0)
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            async with bus.consume("TASKS", "editor", batch=4) as consumer:
                await bus.store(SUBJECT, b"1", msg_id="1")
                await (await consumer.next()).ack()
                await until(lambda: bool(consumer._pulls))
                # Its end is told elsewhere.
                for pull in consumer._pulls:
                    pull.subject = "t.elsewhere"
                (await bus.link.ask("deleting", "$JS.API.CONSUMER.DELETE.TASKS.editor", b"", timeout=5)).accepted()
                await bus.store(SUBJECT, b"2", msg_id="2")
                assert b"2" == (await consumer.next()).body


async def test_a_delivery_of_a_stream_that_is_gone_settles_nothing_of_the_next_one(nats_server: Server, run_bus: Run):
    """The number of a message is all that an acknowledgement names, and another message has it now."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            async with bus.consume("TASKS", "editor") as consumer:
                await bus.store(SUBJECT, b"old", msg_id="1")
                old = await consumer.next()
                (await bus.link.ask("deleting", "$JS.API.STREAM.DELETE.TASKS", b"", timeout=5)).accepted()
                await bus.store(SUBJECT, b"new", msg_id="2")
                new = await consumer.next()
                assert (b"new", old.sequence) == (new.body, new.sequence)
                with pytest.raises(BusUnavailable, match="does not know it any more"):
                    await old.ack()
                old.ack_nowait()
                await bus.link.client.flush()
                assert 1 == await bus.depth("TASKS", "editor")
                await new.ack()
                assert 0 == await bus.depth("TASKS", "editor")


async def test_what_a_killed_server_forgot_is_found_out_once(nats_server: Server, run_bus: Run):
    """It writes down late what it delivered; behind the first delivery that it does not know it knows none."""
    state = nats_server.folder / "store/jetstream/$G/streams/TASKS/obs"
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            for number in range(10):
                await bus.store(SUBJECT, b"%d" % number, msg_id=f"{number}")
            await in_thread(shutil.copytree, state, nats_server.folder / "before")
            async with bus.consume("TASKS", "editor") as consumer:
                deliveries = [await consumer.next() for _ in range(10)]
            nats_server.kill()
            await not_ready(bus)
            shutil.rmtree(state)
            await in_thread(shutil.copytree, nats_server.folder / "before", state)
            await in_thread(nats_server.start)
            await ready(bus)
            with pytest.raises(BusUnavailable, match="does not know it any more"):
                await deliveries[3].ack()
            nats_server.kill()
            await not_ready(bus)
            # Nobody is there to be asked, and nobody has to be.
            for delivery in deliveries[4:]:
                with pytest.raises(BusUnavailable, match="does not know it any more"):
                    await delivery.ack()
            await in_thread(nats_server.start)
            await ready(bus)
            async with bus.consume("TASKS", "editor") as consumer:
                for number in range(10):
                    again = await consumer.next()
                    assert b"%d" % number == again.body
                    await again.ack()
            assert 0 == await bus.depth("TASKS", "editor")


async def test_what_is_settled_during_an_outage_is_not_taken_by_a_stream_that_another_made_anew(
    nats_server: Server, run_bus: Run
):
    """On the next connection it is looked at first which stream that is."""
    sealed: list[Exception] = []

    def credentials() -> dict[str, str]:
        if sealed:
            raise sealed[0]
        return {"token": "first"}

    with trio.fail_after(30):
        async with run_bus(nats_server, credentials=credentials, **FAST) as one, run_bus(nats_server, **FAST) as two:
            for running in (one, two):
                running.bus.declare(TOPOLOGY)
                await ready(running.bus)
            async with one.bus.consume("TASKS", "editor") as mine, two.bus.consume("TASKS", "editor") as theirs:
                await one.bus.store(SUBJECT, b"old", msg_id="1")
                old = await mine.next()
                sealed.append(RuntimeError("the vault is sealed"))
                one.bus.link.client.lose("thrown away by the test")
                await not_ready(one.bus)
                (await two.bus.link.ask("deleting", "$JS.API.STREAM.DELETE.TASKS", b"", timeout=5)).accepted()
                await two.bus.store(SUBJECT, b"new", msg_id="2")
                new = await theirs.next()
                assert (b"new", old.sequence) == (new.body, new.sequence)

                async def settle() -> None:
                    with pytest.raises(BusUnavailable, match="does not know it any more"):
                        await old.ack()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(settle)
                    await trio.testing.wait_all_tasks_blocked()
                    sealed.clear()
                assert 1 == await two.bus.depth("TASKS", "editor")
                await new.ack()


async def test_a_queue_group_is_one_again_after_a_rebuild(nats_server: Server, run_bus: Run):
    """Its members share what comes on their next connections too, and do not each get all of it."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as one, run_bus(nats_server, **FAST) as two:
            for bus in (one.bus, two.bus):
                await ready(bus)
            async with (
                one.bus.subscribe("t.work", queue="workers") as mine,
                two.bus.subscribe("t.work", queue="workers") as theirs,
                two.bus.subscribe("t.work") as everything,
            ):
                nats_server.kill()
                for bus in (one.bus, two.bus):
                    await not_ready(bus)
                await in_thread(nats_server.start)
                for bus in (one.bus, two.bus):
                    await ready(bus)
                for number in range(100):
                    await two.bus.publish("t.work", b"%d" % number)
                for number in range(100):
                    assert b"%d" % number == (await everything.receive()).body
                await one.bus.link.client.flush()
                shared = [drained(mine), drained(theirs)]
    assert set(range(100)) == shared[0] | shared[1]
    assert set() == shared[0] & shared[1]
    assert all(shared)


async def test_nobody_is_ready_before_the_server_has_taken_what_is_subscribed(run_bus: Run):
    """What somebody else publishes right after that would go nowhere."""
    heard: list[str] = []
    taken, waited = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet()
        while not (line := await peer.hear()).startswith("SUB t.work"):
            # The public way asks once before it subscribes, and that says nothing.
            if line == "PING":
                await peer.say("PONG")
        heard.append(line)
        await peer.hear_verb("PING")
        taken.set()
        await waited.wait()
        await peer.say("PONG")
        await peer.serve()

    with trio.fail_after(30):
        async with scripted(script) as server, run_bus(server) as running, running.bus.subscribe("t.work"):
            await taken.wait()
            await trio.sleep(0.2)
            assert (len(heard), running.bus.is_ready) == (1, False)
            waited.set()
            await ready(running.bus)


def drained(inbox: trio.MemoryReceiveChannel[BusMessage]) -> set[int]:
    """Take what lies there."""
    return {int(inbox.receive_nowait().body) for _ in range(inbox.statistics().current_buffer_used)}


async def test_an_update_whose_answer_was_lost_is_known_as_its_own(nats_server: Server, run_bus: Run):
    """What a stopped server does late is found again on the next connection; the same value from another is not."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as one, run_bus(nats_server) as two:
            for running in (one, two):
                running.bus.declare(TOPOLOGY)
                await ready(running.bus)
            bus = one.bus
            first = await bus.create("outcomes", "k", b"1")
            revisions: list[int] = []

            async def update() -> None:
                revisions.append(await bus.update("outcomes", "k", b"2", first, timeout=25))

            async with trio.open_nursery() as nursery:
                nats_server.pause()
                nursery.start_soon(update)
                await until(lambda: "nats_connection_lost" in one.kinds())
                nats_server.resume()
            assert (b"2", revisions[0]) == await bus.get("outcomes", "k")
            with pytest.raises(WrongRevision):
                await two.bus.update("outcomes", "k", b"2", first)
