"""Three nats-servers of the fleet's own: a cluster that loses one and goes on."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
import trio
from fleet_process import FleetProcess, until

from actors.nats_server import EmbeddedServer, EmbeddedServers, NatsServer
from agentrt.agent import Agent
from agentrt.config import load
from agentrt.fleet import Fleet, open_fleet, topology_of
from agentrt.kernel import ChildSpec, EventStream, SupervisorSpec, TreeFailed, open_runtime
from agentrt.ports import Json
from agentrt.tasks import Task

#: Seconds that anything may take on a machine with much to do.
PATIENCE = 90.0
CONFIG = """
schema = 1
[fleet]
name = "newsroom"
[bus]
embedded_nodes = 3
probe_interval = "500ms"
[health]
listen = "127.0.0.1:0"
[agents.echo]
class = "echo:Echo"
"""
ECHO = """
from agentrt import Agent

class Echo(Agent):
    async def handle(self, task):
        return task.payload
"""


class Echo(Agent):
    """Answers what it is asked."""

    async def handle(self, task: Task) -> Json:
        return task.payload


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what the test's deadline bounds."""
    while not condition():  # noqa: ASYNC110 - the outside world has no event to wait for.
        await trio.sleep(0.02)


def kill_for_good(fleet: Fleet, index: int) -> str:
    """Kill a node so that it cannot start again; return its name."""
    assert fleet.servers is not None
    node = fleet.servers.nodes[index]
    assert isinstance(node, EmbeddedServer)
    assert node.pid is not None
    node.config_path.unlink()
    os.kill(node.pid, signal.SIGKILL)
    return node.name


async def test_a_fleet_with_three_servers_goes_on_when_one_is_gone_for_good(tmp_path: Path):
    """Each is an actor and a check of its own; all that is declared is kept three times.

    With two gone nothing can be stored, and the check of each of the two says so; the password of the routes is as
    little seen as the token.
    """
    (tmp_path / "config.toml").write_text(CONFIG)
    events: list[object] = []
    stream = EventStream()
    stream.listen(events.append)
    with trio.fail_after(PATIENCE):
        async with open_fleet(
            load(tmp_path / "config.toml", {}), classes={"echo": Echo}, events=stream, environ={}
        ) as fleet:
            assert fleet.servers is not None
            nodes = ["nats-server-1", "nats-server-2", "nats-server-3"]
            assert nodes == [one.name for one in fleet.runtime.tree().children if one.name.startswith("nats-server")]
            assert 3 == len(fleet.bus_url.split(","))
            assert "one" == await fleet.ask("echo", "one")
            topology = topology_of(fleet.config)
            assert [3, 3] == [spec.replicas for spec in topology.streams]
            assert {"ok"} == {finding.state for finding in await fleet.bus.compare(topology)}
            gone = kill_for_good(fleet, 1)
            await eventually(lambda: "nats-server.conf" in fleet.checks()["nats_server:2"][1])
            for number in range(3):
                assert number == await fleet.ask("echo", number)
            ok, reason = fleet.checks()["nats_server:2"]
            assert (True, True) == (ok, "2 of 3 nodes run" in reason)
            status = next(one for one in fleet.servers.statuses() if one.name == gone)
            assert (False, None) == (status.is_running, status.pid)
            kill_for_good(fleet, 2)
            await eventually(lambda: not fleet.checks()["nats_server:3"][0])
            assert "1 of 3 nodes run" in fleet.checks()["nats_server:2"][1]
            assert fleet.checks()["nats_server:1"][0]
            logs = [path.read_text() for path in (tmp_path / ".agentrt/nats").glob("*/nats-server.log")]
            shown = repr(events) + repr(vars(fleet.servers.nodes[0])) + "".join(logs)
            routes = json.loads((tmp_path / ".agentrt/nats/node-1/nats-server.conf").read_text())["cluster"]
            assert routes["authorization"]["password"] not in shown


def servers_below(folder: Path) -> list[psutil.Process]:
    """The nats-servers whose configuration is in *folder*."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if command and Path(command[0]).name == "nats-server" and any(str(folder) in word for word in command):
            found.append(process)
    return found


def test_a_killed_run_takes_all_its_servers_along(tmp_path: Path):
    """Until then `ps` shows each of them."""
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "echo.py").write_text(ECHO)
    fleet = FleetProcess(tmp_path)
    try:
        fleet.info()
        table = fleet.run("ps").communicate(timeout=PATIENCE)[0]
        shown = re.findall(r"^(nats-server-\d) +running +nats://127", table, re.MULTILINE)
        assert ["nats-server-1", "nats-server-2", "nats-server-3"] == shown
        assert 3 == len(servers_below(tmp_path))
        fleet.process.kill()
        fleet.process.wait(30)
        until(lambda: not servers_below(tmp_path))
    finally:
        fleet.end()
        for orphan in servers_below(tmp_path):
            orphan.kill()


async def test_servers_that_a_killed_run_left_all_the_same_are_ended_first(tmp_path: Path):
    """Each by the actor that comes after it, whose server then has the store for itself."""
    left = EmbeddedServers(tmp_path, 2**20, 3)
    with trio.fail_after(PATIENCE):
        for node in left.nodes:
            node.prepare()
        orphans = [
            await trio.lowlevel.open_process([node.binary, "-c", str(node.config_path)], stdout=-3, stderr=-3)
            for node in left.nodes
        ]
        try:
            await eventually(lambda: all(node.pid_path.exists() for node in left.nodes))
            again = EmbeddedServers(tmp_path, 2**20, 3)
            children = tuple(ChildSpec(id=node.name, factory=partial(NatsServer, node)) for node in again.nodes)
            async with open_runtime(SupervisorSpec(id="fleet", children=children), seed=1):
                for orphan in orphans:
                    await orphan.wait()
                await eventually(lambda: all(status.is_running for status in again.statuses()))
                assert not {node.pid for node in again.nodes} & {orphan.pid for orphan in orphans}
        finally:
            for orphan in orphans:
                orphan.kill()
                await orphan.wait()
    assert [] == servers_below(tmp_path)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
async def test_a_store_of_another_number_of_nodes_is_not_passed_over(tmp_path: Path, before: int, after: int):
    """What it holds would not be seen, which is the quietest way to lose work."""
    for node in EmbeddedServers(tmp_path, 2**20, before).nodes:
        node.prepare()
    node = EmbeddedServers(tmp_path, 2**20, after).nodes[0]
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(node)),))
    with trio.fail_after(PATIENCE), pytest.raises(TreeFailed, match="another \\[bus\\] embedded_nodes"):
        async with open_runtime(root, seed=1):
            pytest.fail("it started")
