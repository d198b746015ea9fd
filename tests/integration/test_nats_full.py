"""A nats-server of the fleet's own that has no room: what is said, and that it heals when there is some."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from fleet_process import FleetProcess, until

from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge
from actors.nats_server import EmbeddedServers, NatsServer
from agentrt.agent import Agent
from agentrt.config import load
from agentrt.fleet import open_fleet
from agentrt.kernel import ChildSpec, SupervisorSpec, open_runtime
from agentrt.ports import BusRefused, ConsumerSpec, Json, StoreFull, StreamSpec, Topology
from agentrt.tasks import Task

#: Seconds that anything may take on a machine with much to do.
PATIENCE = 90.0
#: What a namespace of its own takes: none is needed on a disk that everybody shares.
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
CONFIG = """
schema = 1
[fleet]
name = "newsroom"
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


async def test_a_store_at_its_limit_says_so_and_takes_more_when_it_is_worked_off(tmp_path: Path):
    """The error names the server, its own words and what to do; so does a check, until something is stored again."""
    servers = EmbeddedServers(tmp_path, 64 * 1024)
    (node,) = servers.nodes
    bus = NatsBus(NatsSettings(url=servers.url, credentials=servers.credentials, store_trouble=servers.store_trouble))
    stream, consumer = StreamSpec("TASKS", ("t.>",), work_queue=True), ConsumerSpec("TASKS", "worker", "t.>")
    bus.declare(Topology((stream,), (consumer,)))
    children = (
        ChildSpec(id="server", factory=lambda: NatsServer(node)),
        ChildSpec(id="bus", factory=lambda: NatsConnection(bus)),
    )
    with trio.fail_after(PATIENCE):
        async with bridge(), open_runtime(SupervisorSpec(id="fleet", children=children), seed=1):
            stored = 0
            with pytest.raises(StoreFull, match=r"store of the server at 127.*insufficient resources.*max_store"):
                for stored in range(20):
                    await bus.store("t.x", b"x" * 8192, msg_id=str(stored), timeout=2.0 if stored > 6 else PATIENCE)
            ok, why = bus.checks()["jetstream_store"]
            assert (False, True) == (ok, "is full" in why)
            async with bus.consume("TASKS", "worker") as pull:
                for _ in range(stored):
                    await (await pull.next()).ack()
            assert await bus.store("t.x", b"x" * 8192, msg_id="later", timeout=PATIENCE)
            assert "jetstream_store" not in bus.checks()


async def test_a_queue_that_is_full_of_tasks_is_worked_off(tmp_path: Path):
    """Room is kept for outcomes: without one no task is acknowledged, and a full store would stay full."""
    (tmp_path / "config.toml").write_text(CONFIG + '[bus]\nmax_store = "1MiB"\nprobe_interval = "200ms"')
    opened = trio.Event()
    sent: list[str] = []

    class Patient(Agent):
        async def handle(self, task: Task) -> Json:
            await opened.wait()
            return len(task.payload)

    with trio.fail_after(PATIENCE):
        async with open_fleet(load(tmp_path / "config.toml", {}), classes={"echo": Patient}, environ={}) as fleet:
            with pytest.raises(BusRefused, match="maximum bytes exceeded"):
                while True:
                    sent.append(await fleet.send("echo", "x" * 50_000))
            assert 10 <= len(sent) <= 16
            opened.set()
            outcomes = [await fleet.client.outcome(task, PATIENCE) for task in sent]
            assert [50_000] * len(sent) == [outcome.answer for outcome in outcomes]
            assert 50_000 == await fleet.ask("echo", "x" * 50_000)


class SmallDisk:
    """A fleet whose server stores on a disk of a few megabytes, in a mount namespace of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "config.toml").write_text(CONFIG)
        (folder / "echo.py").write_text(ECHO)
        (folder / ".agentrt/nats").mkdir(parents=True)
        mount = 'mount -t tmpfs -o size=6m none .agentrt/nats && exec "$0" "$@"'
        self.fleet = FleetProcess(folder, prefix=(*_NAMESPACE, "sh", "-c", mount))

    @property
    def _filler(self) -> Path:
        # The same path, as those in the namespace see it.
        return Path(f"/proc/{self.fleet.process.pid}/root{self._folder}/.agentrt/nats/filler")

    def fill(self) -> None:
        """Leave no byte."""
        with pytest.raises(OSError, match="No space left"), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def make_room(self) -> None:
        """Give back what was taken."""
        self._filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if shutil.which("unshare") is None or subprocess.run([*_NAMESPACE, "true"], check=False).returncode:
        pytest.skip("this machine lets nobody have a mount namespace of its own")
    disk = SmallDisk(tmp_path)
    yield disk
    disk.fleet.end()


def test_a_full_disk_is_named_by_who_meets_it_and_by_the_probe_and_heals(small_disk: SmallDisk):
    """Where it is, how full, and what to do; once there is room nobody has to do anything more."""
    fleet = small_disk.fleet
    fleet.wait_ready()
    small_disk.fill()
    fleet.wait_unready("jetstream_store")
    failed = fleet.send("echo", '"lost?"', "--timeout", "2s")
    said = failed.communicate(timeout=PATIENCE)[1]
    assert failed.returncode == 69, said
    assert "nats-server: the disk is full: 0.0 MiB free at " in said
    assert "/.agentrt/nats/store" in said
    assert "make room there" in said
    until(lambda: "nats_server_disk_full" in (small_disk.fleet.folder / ".agentrt/events.jsonl").read_text())
    small_disk.make_room()
    answered = fleet.send("echo", '"here"', "--wait", "--timeout", "60s")
    assert ('"here"\n', "") == answered.communicate(timeout=PATIENCE)
