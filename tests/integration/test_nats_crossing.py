"""What makes crossing to asyncio cheap must not weaken healing: requests, many stores, pulling ahead."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.testing
from nats_waits import FAST, SUBJECT, TOPOLOGY, in_thread, not_ready, ready, until

from actors import _nats_consumer, _nats_internals
from agentrt.ports import BusMessage, BusUnavailable, NoResponders, PermissionDenied, WrongRevision

Server = Any
Run = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture(params=["private", "public"])
def nats_way(request: pytest.FixtureRequest) -> str:
    """Run all of this both ways."""
    return str(request.param)


async def test_a_request_whose_connection_dies_is_not_repeated(nats_server: Server, run_bus: Run):
    """Who was asked may have done it; the asker hears so at once, and not when its timeout is over."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            await ready(bus)
            failures: list[str] = []

            async def ask() -> None:
                with pytest.raises(BusUnavailable, match="may have been done") as caught:
                    await bus.request("t.ask", b"", timeout=3600.0)
                failures.append(str(caught.value))

            async with bus.subscribe("t.ask") as requests, trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await requests.receive()
                nats_server.kill()
                await until(lambda: bool(failures))
                await in_thread(nats_server.start)
                await ready(bus)
                with pytest.raises(trio.WouldBlock):
                    requests.receive_nowait()


async def test_a_request_waits_for_a_connection_and_uses_the_next_one(nats_server: Server, run_bus: Run):
    """Asked during an outage, it is sent when that is over; the one inbox for all answers is there again too."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            await ready(bus)
            nats_server.kill()
            await not_ready(bus)
            with pytest.raises(BusUnavailable, match=r"within 0\.1 s"):
                await bus.request("t.ask", b"", timeout=0.1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(in_thread, nats_server.start)
                with pytest.raises(NoResponders):
                    await bus.request("t.ask", b"", timeout=20.0)


async def test_a_request_that_is_not_allowed_is_refused_at_once(nats_server: Server, run_bus: Run):
    """The server's complaint finds whoever asked."""
    nats_server.reload(
        authorization='{ users: [ { user: "u", password: "p", permissions: { publish: { deny: "t.secret" } } } ] }'
    )
    with trio.fail_after(30):
        async with run_bus(nats_server, credentials=lambda: {"user": "u", "password": "p"}, **FAST) as running:
            await ready(running.bus)
            with pytest.raises(PermissionDenied, match=r"t\.secret"):
                await running.bus.request("t.secret", b"", timeout=3600.0)


async def test_hundreds_of_stores_at_once_survive_a_kill(nats_server: Server, run_bus: Run):
    """Each is repeated under its own id until it is acknowledged, and lies in the stream once."""
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            stored: list[int] = []

            async def store(number: int) -> None:
                await bus.store(SUBJECT, b"%d" % number, msg_id=f"m{number}")
                stored.append(number)

            async with trio.open_nursery() as nursery:
                for number in range(300):
                    nursery.start_soon(store, number)
                await until(lambda: len(stored) > 10)
                nats_server.kill()
                await not_ready(bus)
                for number in range(300, 400):
                    nursery.start_soon(store, number)
                await in_thread(nats_server.start)
            assert set(range(400)) == set(stored)
            found = Counter(int(message.body) for message in await bus.browse("TASKS", SUBJECT, limit=1000))
            assert dict.fromkeys(range(400), 1) == found


@pytest.mark.parametrize("how", ["lost", "killed"])
async def test_a_consumer_that_pulls_ahead_misses_nothing_over_a_rebuild(nats_server: Server, run_bus: Run, how: str):
    """Its requests are made anew on the next connection; what was settled quickly and not heard comes again."""
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            for number in range(300):
                await bus.publish(SUBJECT, b"%d" % number)
            await until(lambda: bus.link.outbox.size == 0)
            done: Counter[int] = Counter()
            async with bus.consume("TASKS", "editor", batch=64) as consumer:
                while len(done) < 100:
                    delivery = await consumer.next()
                    done[int(delivery.body)] += 1
                    delivery.ack_nowait()
                if how == "killed":
                    nats_server.kill()
                    await not_ready(bus)
                    await in_thread(nats_server.start)
                else:
                    bus.link.client.lose("thrown away by the test")
                while len(done) < 300 or await bus.depth("TASKS", "editor"):
                    with trio.move_on_after(0.5):
                        delivery = await consumer.next()
                        done[int(delivery.body)] += 1
                        delivery.ack_nowait()
            assert set(range(300)) == set(done)


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


async def test_what_is_published_without_a_pause_lets_others_run(nats_server: Server, run_bus: Run):
    """A publisher in a tight loop gives way now and then, so that what it says goes out and is received meanwhile."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            await ready(bus)
            async with bus.subscribe("t.tight") as inbox, trio.open_nursery() as nursery:

                async def publish() -> None:
                    while True:
                        await bus.publish("t.tight", b"")

                nursery.start_soon(publish)
                for _ in range(300):
                    await inbox.receive()
                nursery.cancel_scope.cancel()


async def test_a_connection_that_dies_over_its_work_leaves_no_complaint_behind(
    nats_server: Server, run_bus: Run, caplog: pytest.LogCaptureFixture
):
    """What each of its tasks ended with was looked at, or asyncio would log it when the collector comes by."""

    async def flush(_timeout: float) -> None:
        # A cancellation that meets an answer is swallowed by the library, which then finds itself closed.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        raise ConnectionResetError

    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            await ready(bus)
            bus.link.client._nc.flush = flush
            bus.link.client.ping(lambda: None)
            await trio.testing.wait_all_tasks_blocked()
            bus.link.client.lose("thrown away by the test")
            await not_ready(bus)
            await ready(bus)
            gc.collect()
    assert [] == [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_public_way_is_told_once(nats_server: Server, run_bus: Run, monkeypatch: pytest.MonkeyPatch):
    """With a release that was not tried the bus works, and an event says why it is slower; not at each rebuild."""
    monkeypatch.setattr(_nats_internals, "TRIED", {"nats-py": frozenset({"0.1"})})
    with trio.fail_after(30):
        async with run_bus(nats_server, is_public=False, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            assert await bus.store(SUBJECT, b"x", msg_id="1") is True
            nats_server.kill()
            await not_ready(bus)
            await in_thread(nats_server.start)
            await ready(bus)
            assert await bus.store(SUBJECT, b"x", msg_id="1") is False
    (told,) = [event for event in running.events if event.kind == "nats_public_way"]
    assert "not tried with nats-py" in told.fields["reason"]
