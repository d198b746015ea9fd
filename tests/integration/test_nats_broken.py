"""A nats-server that once failed to write and stores nothing any more: seen, said, and started anew where it is ours.

The failure is a real one: the server's process may write no larger files for a moment.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from nats_waits import FAST, SUBJECT, TOPOLOGY, in_thread, not_ready, ready, until

from actors import nats_server
from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge
from actors.nats_server import EmbeddedServers, NatsServer
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.ports import BusUnavailable

Server = Any
Run = Callable[..., AbstractAsyncContextManager[Any]]
pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="this system limits no other process")

LARGE = b"x" * 300_000
STORES_NOTHING = r"stream 'TASKS' stores nothing: write .*TASKS/msgs/1.blk: file too large; .*start the server anew"


@contextmanager
def failing_to_write(pid: int) -> Iterator[None]:
    """Let a process write no file of more than 200 KB."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        yield
    finally:
        # It may have been ended for it.
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


async def fail_to_store(bus: NatsBus, pid: int) -> None:
    """Have it fail once; from then on its disk is well again."""
    with failing_to_write(pid), pytest.raises(BusUnavailable, match=STORES_NOTHING):
        await bus.store(SUBJECT, LARGE, msg_id="large", timeout=3)


async def test_a_stream_that_stores_nothing_is_found_by_who_gets_no_answer(nats_server: Server, run_bus: Run):
    """Its error and the check have the server's own words and what to do; a server that is started anew heals it."""
    with trio.fail_after(60):
        async with run_bus(nats_server) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            await fail_to_store(bus, nats_server.pid)
            assert not bus.is_ready
            ok, why = bus.checks()["jetstream"]
            assert not ok
            with pytest.raises(BusUnavailable) as refused:
                await bus.store(SUBJECT, b"small", msg_id="small", timeout=1)
            assert why in str(refused.value)
            # What is well is served.
            async with bus.subscribe("t.core") as heard:
                await bus.publish("t.core", b"heard")
                assert b"heard" == (await heard.receive()).body
            nats_server.kill()
            await not_ready(bus)
            await in_thread(nats_server.start)
            assert await bus.store(SUBJECT, b"small", msg_id="small")
            assert "answers, and has what was declared" == bus.checks()["jetstream"][1]
    told = [event for event in running.events if event.kind == "jetstream_store_broken"]
    assert [why] == [event.fields["reason"] for event in told]


async def test_a_stream_that_stores_nothing_is_found_where_nobody_waits_for_that(nats_server: Server, run_bus: Run):
    """What is published into it without an answer would go nowhere, so the probe asks by itself."""
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            with failing_to_write(nats_server.pid):
                await bus.publish(SUBJECT, LARGE)
                await not_ready(bus)
            assert "stream 'TASKS' stores nothing" in bus.checks()["jetstream"][1]


async def test_to_ask_whether_a_stream_can_store_changes_nothing(nats_server: Server, run_bus: Run):
    """Neither what it holds, nor what is in hand; it is asked often."""
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            for number in range(4):
                await bus.store(SUBJECT, b"%d" % number, msg_id=f"{number}")
            async with bus.consume("TASKS", "editor", batch=2) as consumer:
                first = await consumer.next()
                asked = bus.link.ledger.problems.copy()
                # Three things are declared, and each has its turn.
                await trio.sleep(6 * FAST["probe_interval"])
                assert 4 == await bus.depth("TASKS", "editor")
                await first.ack()
                assert 3 == await bus.depth("TASKS", "editor")
            assert asked == bus.link.ledger.problems


async def test_who_may_not_ask_whether_a_stream_can_store_is_ready_all_the_same(nats_server: Server, run_bus: Run):
    """It is refused once, and asks no more."""
    users = '{ users: [ { user: "u", password: "p", permissions: { publish: { deny: "$JS.API.STREAM.PURGE.>" } } } ] }'
    nats_server.kill()
    nats_server.anonymous = True
    nats_server.start(authorization=users)
    with trio.fail_after(60):
        async with run_bus(nats_server, credentials=lambda: {"user": "u", "password": "p"}, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            await until(lambda: bus.statistics().problems.get("PermissionDenied", 0) > 0)
            await trio.sleep(10 * FAST["probe_interval"])
            assert bus.is_ready
            assert 1 == bus.statistics().problems["PermissionDenied"]


async def test_who_makes_nothing_hears_of_it_from_who_does(nats_server: Server, run_bus: Run):
    """An agent with a login of its own gets no answer; the fleet's own connection finds out why."""
    with trio.fail_after(60):
        async with run_bus(nats_server) as running:
            running.bus.declare(TOPOLOGY)
            await ready(running.bus)
            settings = NatsSettings(url=nats_server.url, credentials=nats_server.credentials, **FAST)
            agent = NatsBus(settings, keeper=running.bus)
            root = SupervisorSpec(id="agent", children=(ChildSpec(id="bus", factory=lambda: NatsConnection(agent)),))
            async with open_runtime(root, seed=1):
                agent.declare(TOPOLOGY)
                await ready(agent)
                with failing_to_write(nats_server.pid), pytest.raises(BusUnavailable):
                    await agent.store(SUBJECT, LARGE, msg_id="large", timeout=2)
                await not_ready(agent)
                assert "stream 'TASKS' stores nothing" in agent.checks()["jetstream"][1]


async def test_a_server_of_our_own_that_stores_nothing_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nats_way: str
):
    """Nobody has to do anything, and what was not stored is stored then."""
    monkeypatch.setattr(nats_server, "_LOOK", 0.05)
    monkeypatch.setattr(nats_server, "_GOOD_RUN", 0.1)
    servers = EmbeddedServers(tmp_path, 64 * 1024 * 1024)
    bus = NatsBus(
        NatsSettings(
            url=servers.url,
            credentials=servers.credentials,
            on_broken=servers.report_broken,
            is_public=nats_way == "public",
        )
    )
    bus.declare(TOPOLOGY)
    children = (
        ChildSpec(id="server", factory=lambda: NatsServer(servers.nodes[0])),
        ChildSpec(id="bus", factory=lambda: NatsConnection(bus)),
    )
    events: list[Event] = []
    stream = EventStream()
    stream.listen(events.append)
    with trio.fail_after(60):
        async with bridge(), open_runtime(SupervisorSpec(id="fleet", children=children), seed=1, events=stream):
            await ready(bus)
            first = servers.nodes[0].pid
            assert first is not None
            with failing_to_write(first):
                assert await bus.store(SUBJECT, LARGE, msg_id="large")
                assert servers.nodes[0].pid != first
    told = next(event for event in events if event.kind == "nats_server_unresponsive")
    assert "stream 'TASKS' stores nothing" in told.fields["reason"]
