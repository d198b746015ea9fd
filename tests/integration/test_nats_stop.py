"""What becomes of what was published when a connection is stopped: sent, or told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from nats_waits import FAST, TOPOLOGY, not_ready, ready, until
from scripted_nats import Peer, scripted

from agentrt.ports import StreamSpec, Topology

Server = Any
Run = Callable[..., AbstractAsyncContextManager[Any]]

LOG = Topology((StreamSpec("LOG", ("log.>",)),))


@pytest.fixture(params=["private", "public"])
def nats_way(request: pytest.FixtureRequest) -> str:
    """Run all of this both ways."""
    return str(request.param)


async def test_a_stop_sends_all_that_was_published_first(nats_server: Server, run_bus: Run):
    """Also what is behind the part that is sent at once: the server takes it, so nothing of it is given up."""
    with trio.fail_after(60):
        async with run_bus(nats_server) as other:
            other.bus.declare(LOG)
            await ready(other.bus)
            async with run_bus(nats_server) as running:
                await ready(running.bus)
                for _ in range(8):
                    await running.bus.publish("log.x", b"x" * 900_000)
                assert running.bus.statistics().waiting_messages > 2
            assert 0 == running.bus.statistics().waiting_messages
            stored = 0
            while stored < 8:
                # The server has them all, and stores them one after the other.
                info = await other.bus.link.ask("looking", "$JS.API.STREAM.INFO.LOG", b"", timeout=20)
                stored = info.accepted()["state"]["messages"]
    assert "bus_messages_unsent" not in running.kinds()


async def test_what_a_stop_leaves_unsent_is_told(nats_server: Server, run_bus: Run):
    """Nobody is there to take it, and nobody waits for that; the event has its number."""
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            await ready(bus)
            nats_server.kill()
            await not_ready(bus)
            for _ in range(3):
                await bus.publish("log.x", b"lost?")
    told = next(event for event in running.events if event.kind == "bus_messages_unsent")
    waiting = bus.statistics()
    assert (3, waiting.waiting_bytes) == (told.fields["count"], told.fields["bytes"])
    assert 3 == waiting.waiting_messages


async def test_a_stop_before_jetstream_was_looked_at_sends_what_waits(run_bus: Run):
    """It waits for that no more, and sends nothing twice."""
    heard: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.greet()
        while True:
            heard.append(await peer.hear())
            if heard[-1] == "PING":
                await peer.say("PONG")

    with trio.fail_after(60):
        async with scripted(script) as server, run_bus(server) as running:
            running.bus.declare(TOPOLOGY)
            for number in range(3):
                await running.bus.publish(f"log.{number}", b"")
            await until(lambda: any("$JS.API" in line for line in heard))
            assert 3 == running.bus.statistics().waiting_messages
    assert 0 == running.bus.statistics().waiting_messages
    assert [f"PUB log.{number}  0" for number in range(3)] == [line for line in heard if line.startswith("PUB log")]


async def test_a_server_that_stands_holds_up_no_stop(nats_server: Server, run_bus: Run):
    """What it did not confirm is told as well; it may have it all the same, when it goes on."""
    with trio.fail_after(60):
        async with run_bus(nats_server) as running:
            await ready(running.bus)
            nats_server.pause()
            for _ in range(3):
                await running.bus.publish("log.x", b"x" * 900_000)
        nats_server.resume()
    told = next(event for event in running.events if event.kind == "bus_messages_unsent")
    assert 3 == told.fields["count"]


async def test_a_server_that_closes_is_a_loss_and_no_trouble_besides(nats_server: Server, run_bus: Run):
    """It is counted once, as what it is, however the system says it."""
    with trio.fail_after(60):
        async with run_bus(nats_server) as running:
            await ready(running.bus)
            nats_server.terminate()
            await not_ready(running.bus)
    assert {} == running.bus.statistics().problems
    assert "nats_problem" not in running.kinds()
