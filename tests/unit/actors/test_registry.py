"""The registrar in virtual time, with the bus in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from agentrt import Agent, Task
from agentrt.kernel import RestartChild, TerminateChild
from agentrt.ops.observe import snapshot_of
from agentrt.testing import FleetUnderTest, fleet_under_test

Config = Callable[..., Path]
BUCKET = "newsroom-registry"
MORE = """\
[mcp.global.archive]
command = ["archive"]
[registry]
lease = "9s"
"""


class Archive:
    async def search(self) -> str:
        return "found"


class Editor(Agent):
    async def handle(self, task: Task) -> Any:
        return self.name


def opened(config: Config, **options: Any) -> Any:
    path = config(MORE, editor='mcp = ["archive"]', writer="")
    return fleet_under_test(path, classes={"editor": Editor, "writer": Editor}, tools={"archive": Archive()}, **options)


def entries(fleet: FleetUnderTest) -> dict[str, dict[str, Any]]:
    """What stands in the bucket now, by its key without the run."""
    bucket = fleet.bus.broker.buckets[BUCKET]
    found = {}
    for key in ("agent.editor", "agent.writer", "mcp.editor.archive"):
        for full in bucket_keys(bucket):
            if full.startswith(f"{key}.") and (value := bucket.get(full)) is not None:
                found[key] = json.loads(value[0])
    return found


def bucket_keys(bucket: Any) -> list[str]:
    return sorted(bucket._entries)


async def test_each_agent_and_each_server_has_an_entry(autojump_clock, fleet_config):
    async with opened(fleet_config) as fleet:
        await trio.sleep(5)
        found = entries(fleet)
        assert {"agent.editor", "agent.writer", "mcp.editor.archive"} == set(found)
        editor, archive = found["agent.editor"], found["mcp.editor.archive"]
        assert ("agent", "editor", "newsroom", "newsroom.tasks.editor.>") == tuple(
            editor[key] for key in ("kind", "name", "fleet", "where")
        )
        assert ["archive.search"] == editor["tools"]
        assert ("mcp_server", "archive", "editor", "stdio", ["search"], True, 9.0) == tuple(
            archive[key] for key in ("kind", "name", "agent", "where", "tools", "ready", "lease_seconds")
        )
        checks = {check.name: check for check in snapshot_of(fleet.fleet, 0.0).checks}
        assert (True, "3 entries") == (checks["registry:nats"].ok, checks["registry:nats"].reason)


async def test_entries_stay_while_the_fleet_does_and_go_with_it(autojump_clock, fleet_config):
    """Renewed before the lease runs out, by far; removed at an ordered stop, and not left to their lease."""
    async with opened(fleet_config) as fleet:
        await trio.sleep(5)
        first = entries(fleet)["agent.editor"]
        for _ in range(30):
            await trio.sleep(3)
            assert 3 == len(entries(fleet))
        assert first["since"] == entries(fleet)["agent.editor"]["since"]
        broker = fleet.bus.broker
    assert [] == [key for key in bucket_keys(broker.buckets[BUCKET]) if broker.buckets[BUCKET].get(key) is not None]


async def test_a_server_that_was_started_again_has_a_new_entry(autojump_clock, fleet_config):
    """It is another one; while it is down its entry says so."""
    async with opened(fleet_config) as fleet:
        await trio.sleep(5)
        before = entries(fleet)["mcp.editor.archive"]
        async with fleet.chaos.crash("editor/tools/archive", restart_after=4):
            await trio.sleep(2)
            down = entries(fleet)
            assert (False, False) == (down["mcp.editor.archive"]["ready"], down["agent.editor"]["ready"])
            await trio.sleep(4)
        after = entries(fleet)["mcp.editor.archive"]
        assert (True, before["instance"]) == (after["ready"], after["instance"])
        assert after["since"] >= before["since"] + 4


async def test_a_bus_that_was_away_gets_the_entries_again(autojump_clock, fleet_config):
    """Meanwhile the check names what nobody finds any more, and keeps nobody from working."""
    async with opened(fleet_config) as fleet:
        await trio.sleep(5)
        bus: Any = fleet.fleet.bus
        bus.disconnect()
        await trio.sleep(30)
        assert {} == entries(fleet)
        ok, reason = fleet.fleet.registration.checks()["registry:nats"]
        assert ok
        assert "not there: agent.editor." in reason
        assert fleet.events_of("registration_failed")
        bus.reconnect()
        await trio.sleep(20)
        assert 3 == len(entries(fleet))
        assert 1 == len(fleet.events_of("registration_recovered"))
        assert {"editor": "editor"} == {"editor": await fleet.ask("editor", {})}


async def test_a_registrar_that_was_stopped_registers_anew(autojump_clock, fleet_config):
    """Each of its lives begins with what stands there, and ends with nothing."""
    async with opened(fleet_config) as fleet:
        await trio.sleep(5)
        tree = fleet.fleet.runtime.ref("fleet")
        await tree.call(TerminateChild("registrar"))
        assert {} == entries(fleet)
        await tree.call(RestartChild("registrar"))
        await trio.sleep(1)
        assert 3 == len(entries(fleet))


async def test_a_registration_that_is_required_is_a_failed_check(autojump_clock, fleet_config):
    path = fleet_config("[registry]\nrequired = true", editor="")
    async with fleet_under_test(path, classes={"editor": Editor}) as fleet:
        await trio.sleep(5)
        bus: Any = fleet.fleet.bus
        bus.disconnect()
        await trio.sleep(60)
        assert not fleet.fleet.registration.checks()["registry:nats"][0]
