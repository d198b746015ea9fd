"""The registrar with a real nats-server and a registry over HTTP, each of which comes and goes."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from fleet_process import FleetProcess
from fleet_process import until as until_so
from web_process import SERVERS, Web

from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge
from actors.registry import Registrar, RegistrationBook
from agentrt.config import Duration, RegistryConfig
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.ports import BucketSpec, RegistryEntry, Topology

PATIENCE = 60.0


class HttpRegistry:
    """A registry in a process of its own, and what stands in it."""

    def __init__(self, folder: Path) -> None:
        self._web = Web(folder)
        self.trouble = folder / "trouble"
        self.url = f"http://127.0.0.1:{self._web.port}/v1"

    async def start(self, *options: str) -> None:
        await self._web.run("registry.py", "--port", str(self._web.port), "--trouble", str(self.trouble), *options)

    def kill(self) -> None:
        self._web.kill()

    def read(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/", timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return {path.removeprefix("/v1/"): entry for path, entry in found.items()}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[HttpRegistry]:
    made = HttpRegistry(tmp_path)
    yield made
    made.kill()


class World:
    """A registrar that runs beside a bus, and what it is to register."""

    def __init__(self, bus: NatsBus, **config: Any) -> None:
        self.entries = [entry("editor"), entry("archive", kind="mcp_server", pid=7)]
        self.events: list[Event] = []
        self.bus = bus
        token = (lambda: "secret") if config.pop("with_token", False) else None
        self.book = RegistrationBook(
            RegistryConfig(**config), bus=bus, bucket="registry", entries=lambda: self.entries, token=token
        )

    def kinds(self, registry: str) -> list[str]:
        return [event.kind for event in self.events if event.fields.get("registry") == registry]

    async def on_bus(self) -> dict[str, Any]:
        found = {}
        for key in ("agent.editor.run1", "mcp.editor.archive.run1"):
            if (value := await self.bus.get("registry", key)) is not None:
                found[key] = json.loads(value[0])
        return found


def entry(name: str, **more: Any) -> RegistryEntry:
    settings = {"kind": "agent", "fleet": "f", "agent": "editor", "instance": "run1", "where": "x", **more}
    return RegistryEntry(name=name, **settings)


@asynccontextmanager
async def registered(server: Any, **config: Any) -> AsyncIterator[World]:
    bus = NatsBus(NatsSettings(url=server.url, credentials=server.credentials))
    config.setdefault("lease", Duration(6.0))
    bus.declare(Topology(buckets=(BucketSpec("registry", ttl=config["lease"]),)))
    world, stream = World(bus, **config), EventStream()
    stream.listen(world.events.append)
    children = (
        ChildSpec(id="bus", factory=lambda: NatsConnection(bus)),
        ChildSpec(id="registrar", factory=lambda: Registrar(world.book), shutdown=8.0),
    )
    with trio.fail_after(PATIENCE):
        async with bridge(), open_runtime(SupervisorSpec(id="fleet", children=children), seed=1, events=stream):
            yield world


async def until(condition: Any) -> None:
    while not await condition():  # noqa: ASYNC110 - the conditions are about other processes.
        await trio.sleep(0.05)


async def test_entries_stand_on_the_bus_and_in_the_registries(nats_server, registry):
    """Agents in the one, tool servers in the other; a change is told at once, and at the end all are gone."""
    await registry.start("--token", "secret")
    async with registered(nats_server, url=f"{registry.url}/", mcp_url=registry.url, with_token=True) as world:

        async def is_there() -> bool:
            return set(await world.on_bus()) == set(registry.read()) == {"agent.editor.run1", "mcp.editor.archive.run1"}

        await until(is_there)
        assert (7, 30.0) == tuple(registry.read()["mcp.editor.archive.run1"][key] for key in ("pid", "lease_seconds"))
        world.entries = [entry("archive", kind="mcp_server", pid=8)]

        async def is_changed() -> bool:
            found = registry.read()
            return found.keys() == (await world.on_bus()).keys() and {8} == {one["pid"] for one in found.values()}

        await until(is_changed)
        texts = {"registry:nats": "1 entries", "registry:agents": "0 entries", "registry:servers": "1 entries"}

        async def is_told() -> bool:
            return {name: (True, text) for name, text in texts.items()} == world.book.checks()

        await until(is_told)
    assert {} == registry.read()


@pytest.mark.parametrize("trouble", ["503", "hang", "away"])
async def test_a_registry_in_trouble_holds_up_nothing_and_gets_the_entries_later(nats_server, registry, trouble):
    if trouble != "away":
        await registry.start()
        registry.trouble.write_text(trouble)
    async with registered(nats_server, url=registry.url) as world:

        async def is_on_bus() -> bool:
            return len(await world.on_bus()) == 2

        await until(is_on_bus)

        async def has_failed() -> bool:
            return "registration_failed" in world.kinds("agents")

        await until(has_failed)
        ok, reason = world.book.checks()["registry:agents"]
        assert ok
        assert reason.startswith("not there: agent.editor.run1; failed")
        registry.trouble.unlink(missing_ok=True)
        if trouble == "away":
            await registry.start()

        async def is_there() -> bool:
            return "registration_recovered" in world.kinds("agents")

        await until(is_there)
        assert ["agent.editor.run1"] == list(registry.read())
        assert [] == world.kinds("nats")


async def test_a_bus_that_lost_its_store_gets_the_entries_again(nats_server):
    """At once, and not only when they would be renewed: the lease here is longer than the test may take."""
    async with registered(nats_server, lease=Duration(600.0)) as world:

        async def is_there() -> bool:
            return len(await world.on_bus()) == 2

        await until(is_there)
        nats_server.kill()
        nats_server.wipe()
        nats_server.start()
        await until(is_there)


async def test_what_is_not_renewed_is_gone(nats_server):
    """As after the end of a process that nobody asked: the lease is the server's to keep."""
    async with registered(nats_server, lease=Duration(2.0)) as world:

        async def count(number: int) -> bool:
            return len(await world.on_bus()) == number

        await until(lambda: count(2))
        left = entry("archive", kind="mcp_server", instance="run0")
        await world.bus.put("registry", left.key, b"{}")

        async def is_gone() -> bool:
            return await world.bus.get("registry", left.key) is None

        await until(is_gone)
        await until(lambda: count(2))


CONFIG = f"""
schema = 1
[fleet]
name = "trial"
[health]
listen = "127.0.0.1:0"
[agents.echo]
class = "agents:Echo"
mcp = ["partner"]
[mcp.global.partner]
command = ["{sys.executable}", "{SERVERS / "partner.py"}"]
"""


async def test_a_fleet_registers_each_server_that_it_starts_again(registry, tmp_path):
    """By the variables that operators set already; from the entry one finds the process."""
    await registry.start()
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "agents.py").write_text(
        "from agentrt import Agent\nclass Echo(Agent):\n    async def handle(self, task):\n        return 1\n"
    )
    fleet = FleetProcess(tmp_path, AGENT_REGISTRY_URL=registry.url, MCP_REGISTRY_URL=registry.url)

    def server() -> dict[str, Any] | None:
        found = {key: one for key, one in registry.read().items() if one["ready"]}
        return next((one for key, one in found.items() if key.startswith("mcp.echo.partner.")), None)

    def run() -> None:
        try:
            first, _ = until_so(server)
            assert first is not None
            assert {"echo", "crash"} <= set(first["tools"])
            os.kill(first["pid"], signal.SIGKILL)
            until_so(lambda: (found := server()) is not None and found["pid"] != first["pid"])
            checks = {one["name"]: one["ok"] for one in fleet.health("/health/ready")[1]["process"]}
            assert {"registry:nats", "registry:agents", "registry:servers"} <= checks.keys()
            fleet.process.send_signal(signal.SIGTERM)
            until_so(lambda: fleet.process.poll() is not None)
            assert {} == registry.read()
        finally:
            fleet.end()

    await trio.to_thread.run_sync(run)
