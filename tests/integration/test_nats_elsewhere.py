"""A server that passes messages and serves no JetStream: the bus moves to one that does, if there is one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from nats_process import RealServer
from nats_waits import FAST, SUBJECT, TOPOLOGY, in_thread, ready, until
from rig.cluster import Cluster
from rig.node import Node, free_port, led, usable

from agentrt.ports import BusUnavailable

Run = Callable[..., AbstractAsyncContextManager[Any]]
Login = Callable[[], dict[str, str]]


@attrs.frozen
class Pool:
    """Servers as one setting."""

    servers: tuple[RealServer, ...]
    credentials: Login = lambda: {"token": "first"}

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self.servers)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Pool]:
    """Give two that know nothing of each other and are not started."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(RealServer(tmp_path / name))
    yield Pool(tuple(made))
    for server in made:
        server.kill()


def without_jetstream(server: RealServer) -> None:
    server.jetstream = False
    server.start()


def without_leader(server: RealServer) -> None:
    """Start one of a cluster whose others are not there."""
    routes = f'routes: [ "nats://127.0.0.1:{free_port()}", "nats://127.0.0.1:{free_port()}" ]'
    server.start(server_name="lonely", cluster=f'{{ name: c, listen: "127.0.0.1:{free_port()}", {routes} }}')


@pytest.mark.parametrize("start", [without_jetstream, without_leader])
async def test_a_server_without_jetstream_is_left_for_one_that_has_it(
    servers: Pool, run_bus: Run, start: Callable[[RealServer], None]
):
    """Until then it passes messages; each subscription is open on the other one before it is let go of."""
    one, two = servers.servers
    start(one)
    with trio.fail_after(60):
        async with run_bus(servers, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            async with bus.subscribe("t.core") as inbox:
                await until(lambda: bool(bus.checks()["jetstream"][1]) and bus.checks()["nats_connected"][0])
                await bus.publish("t.core", b"here")
                assert b"here" == (await inbox.receive()).body
                await in_thread(two.start)
                await ready(bus)
                assert True is await bus.store(SUBJECT, b"x", msg_id="1", timeout=90)
                assert two.url.endswith(bus.statistics().server)
                await bus.publish("t.core", b"there")
                assert b"there" == (await inbox.receive()).body
    (avoided,) = [event for event in running.events if event.kind == "nats_server_avoided"]
    assert one.url.endswith(avoided.fields["server"])
    assert two.url.endswith(avoided.fields["instead"])
    (lost,) = [event for event in running.events if event.kind == "nats_connection_lost"]
    assert "where JetStream does not serve" in lost.fields["reason"]


async def test_no_server_is_left_for_one_that_is_no_better(servers: Pool, run_bus: Run):
    """The other one is looked at, and again later; what serves in part serves on, and says what it lacks."""
    one, two = servers.servers
    without_jetstream(one)
    with trio.fail_after(60):
        async with run_bus(servers, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            async with bus.subscribe("t.core") as inbox:
                await until(lambda: bus.statistics().server is not None)
                two.jetstream = False
                await in_thread(lambda: two.start(debug="true"))
                await until(lambda: two.said.count("Client connection created") >= 2)
                await bus.publish("t.core", b"here")
                assert b"here" == (await inbox.receive()).body
                assert one.url.endswith(bus.statistics().server)
                ok, why = bus.checks()["jetstream"]
                assert not ok
                assert "not enabled" in why
                with pytest.raises(BusUnavailable, match="not enabled"):
                    await bus.store(SUBJECT, b"x", msg_id="1", timeout=0.2)
    assert not {"nats_server_avoided", "nats_connection_lost"} & set(running.kinds())


async def test_a_trouble_that_every_server_would_have_is_no_reason_to_move(servers: Pool, run_bus: Run):
    """Where JetStream answers, whatever it says, no other server is looked at."""
    one, two = servers.servers
    one.start()
    with trio.fail_after(60):
        async with run_bus(servers, **FAST) as running:
            bus = running.bus
            await until(lambda: bus.statistics().server is not None)
            await in_thread(lambda: two.start(debug="true"))
            before = two.said.count("Client connection created")
            bus.declare(TOPOLOGY)
            await ready(bus)
            # Two consumers of a work queue may not want the same.
            bus.declare(type(TOPOLOGY)((), (attrs.evolve(TOPOLOGY.consumers[0], durable="greedy"),)))
            await until(lambda: "greedy" in bus.checks()["jetstream"][1])
            await trio.sleep(4 * FAST["probe_limit"])
            assert before == two.said.count("Client connection created")
            assert one.url.endswith(bus.statistics().server)
    assert "nats_connection_lost" not in running.kinds()


async def test_a_node_whose_cluster_went_away_is_left(
    tmp_path: Path, run_bus: Run, record_property: Callable[[str, object], None]
):
    """Its core answers each ping, and JetStream falls silent there: two of three are stopped, and it has no leader."""
    cluster = Cluster(tmp_path / "cluster")
    first, *others = cluster.nodes
    other = Node(tmp_path / "other")
    try:
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                await nursery.start(cluster.run)
                await usable(first)
                async with run_bus(Pool((first, other), login), **FAST) as running:
                    bus = running.bus
                    bus.declare(TOPOLOGY)
                    await ready(bus)
                    await led(first, stream="TASKS", subject=SUBJECT)
                    await in_thread(other.start)
                    for node in others:
                        await in_thread(node.pause)
                    since = trio.current_time()
                    await until(lambda: "nats_server_avoided" in running.kinds())
                    await ready(bus)
                    record_property("noticed", round(trio.current_time() - since, 3))
                    assert other.url.endswith(bus.statistics().server)
                    assert True is await bus.store(SUBJECT, b"x", msg_id="1")
                nursery.cancel_scope.cancel()
        assert "did not answer" in next(
            event.fields["reason"] for event in running.events if event.kind == "nats_server_avoided"
        )
    finally:
        cluster.kill()
        other.kill()


async def make(node: Node, name: str, config: dict[str, object]) -> None:
    """Make a stream, as soon as the cluster is together."""
    body = json.dumps({"name": name, **config})
    while "error" in await node.ask(f"$JS.API.STREAM.CREATE.{name}", body):  # noqa: ASYNC110 - see ``until``.
        await trio.sleep(0.1)


@asynccontextmanager
async def cluster_with(folder: Path, *replicated: str) -> AsyncIterator[Cluster]:
    """Start a cluster with the streams of ``TOPOLOGY``; each is on the first node alone if not *replicated*."""
    cluster = Cluster(folder)
    first = cluster.nodes[0]
    first.tags = ("alone",)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(cluster.run)
            for node in cluster.nodes:
                await usable(node)
            for name, config in {
                "TASKS": {"subjects": ["t.tasks.>"], "retention": "workqueue"},
                "KV_outcomes": {"subjects": ["$KV.outcomes.>"], "allow_rollup_hdrs": True, "allow_direct": True},
            }.items():
                where = {"num_replicas": 3} if name in replicated else {"placement": {"tags": ["alone"]}}
                await make(first, name, {**config, **where})
            yield cluster
            nursery.cancel_scope.cancel()
    finally:
        cluster.kill()


def login() -> dict[str, str]:
    return {"user": "agent", "password": "first"}


async def test_a_node_that_its_cluster_cannot_reach_is_left(
    tmp_path: Path, run_bus: Run, record_property: Callable[[str, object], None]
):
    """Its clients reach it, and it answers each ping, while nothing of what is stored answers through it."""
    with trio.fail_after(120):
        async with cluster_with(tmp_path / "cluster", "TASKS", "KV_outcomes") as cluster:
            first, second, _ = cluster.nodes
            async with run_bus(Pool(cluster.nodes[:2], login), **FAST) as running:
                bus = running.bus
                bus.declare(TOPOLOGY)
                await ready(bus)
                cluster.part(cluster.nodes[0])
                since = trio.current_time()
                # While they elect leaders the first may look like the better one once more.
                await until(lambda: second.url.endswith(bus.statistics().server or "none") and bus.is_ready)
                record_property("moved", round(trio.current_time() - since, 3))
                assert True is await bus.store(SUBJECT, b"x", msg_id="1", timeout=90)
    avoided = next(event for event in running.events if event.kind == "nats_server_avoided")
    assert first.url.endswith(avoided.fields["server"])


async def test_of_two_parts_of_a_cluster_the_one_that_serves_more_is_taken(tmp_path: Path, run_bus: Run):
    """What one node alone has is out of reach for the others: the check names it, and all else goes on there."""
    with trio.fail_after(120):
        async with cluster_with(tmp_path / "cluster", "TASKS") as cluster:
            _, second, _ = cluster.nodes
            async with run_bus(Pool(cluster.nodes[:2], login), **FAST) as running:
                bus = running.bus
                bus.declare(TOPOLOGY)
                await ready(bus)
                cluster.part(cluster.nodes[0])
                await until(lambda: second.url.endswith(bus.statistics().server or "none"))
                assert True is await bus.store(SUBJECT, b"x", msg_id="1", timeout=90)
                await until(
                    lambda: "bucket 'outcomes': JetStream did not answer for it" == bus.checks()["jetstream"][1]
                )
                cluster.join()
                await ready(bus)
                await bus.put("outcomes", "a", b"1")
