"""What makes crossing to asyncio cheap must not weaken healing: requests, many stores, pulling ahead."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.testing
from nats_waits import FAST, SUBJECT, TOPOLOGY, in_thread, not_ready, ready, until

from actors import _nats_internals
from agentrt.ports import BusUnavailable, NoResponders, PermissionDenied

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


async def test_a_request_at_the_moment_of_a_loss_is_asked_on_the_next_connection(nats_server: Server, run_bus: Run):
    """It was not sent, so that nothing may have been done; that is said of those alone which were."""
    with trio.fail_after(30):
        async with run_bus(nats_server) as one, run_bus(nats_server) as two, two.bus.subscribe("svc") as asked:
            await ready(one.bus)
            await ready(two.bus)

            async def serve() -> None:
                async for message in asked:
                    await two.bus.publish(message.reply, message.body)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                one.bus.link.client.lose("thrown away by the test")
                assert b"here" == (await one.bus.request("svc", b"here", timeout=20)).body
                nursery.cancel_scope.cancel()


async def test_an_answer_with_a_status_of_its_own_is_no_word_of_the_server(nats_server: Server, run_bus: Run):
    """Who answers may call a header as the library calls what stands on the server's own line."""
    said = {"Status": "503", "Other": "kept"}
    with trio.fail_after(30):
        async with run_bus(nats_server, is_public=False) as running, running.bus.subscribe("svc") as asked:
            await ready(running.bus)

            async def serve() -> None:
                async for message in asked:
                    await running.bus.publish(message.reply, b"", said)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                assert said == (await running.bus.request("svc", b"", timeout=20)).headers
                nursery.cancel_scope.cancel()


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
