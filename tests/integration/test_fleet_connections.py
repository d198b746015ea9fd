"""A fleet with real connections: a WebSocket and a client of its own, from the TOML to the agent and back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from websocket_server import serving, until

from agentrt import Agent, Task, load, open_fleet
from agentrt.fleet import Batteries
from agentrt.kernel import Event, EventStream
from agentrt.ops.metrics import Metrics

CONFIG = """\
schema = 1
[fleet]
name = "desk"
[bus]
url = "nats://127.0.0.1:1"
[agents.trader]
class = "made:Up"
connections = ["feed", "clock"]
[connections.feed]
kind = "websocket"
url = "{url}"
token = "file:token"
probe_interval = "100ms"
[connections.clock]
kind = "desk_clock:ClockAdapter"
options = {{ zone = "UTC" }}
"""
CLOCK = """\
import trio
from agentrt.ports import ClientAdapter

class ClockAdapter(ClientAdapter):
    async def connect(self, nursery):
        await trio.lowlevel.checkpoint()
        return f"clock of {self.setup.options['zone']}"

    async def probe(self, client):
        await trio.lowlevel.checkpoint()
"""


RESUME = """\
async def subscribe(session):
    await session.send("subscribe")
    if await session.receive() != "re: subscribe":
        raise RuntimeError("not subscribed")
"""


class Trader(Agent):
    async def handle(self, task: Task) -> Any:
        await self.connections["feed"].send(task.payload)
        return [await self.connections["feed"].receive(), await self.connections["clock"].client()]


class Board:
    """No gauges: what is looked at here are the counters."""

    lag = 0.0

    def read(self) -> None:
        return None


@pytest.fixture(autouse=True)
def _forget_modules(monkeypatch: Any):
    """What one test imports from a folder of its own is nobody else's."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("desk_clock", "desk_resume"):
        sys.modules.pop(name, None)


async def test_an_agent_keeps_its_connections_over_a_loss(tmp_path: Path):
    """Each has an actor below the agent; a lost one comes back with the token as it is then, and is counted."""

    async def greet(connection: Any) -> None:
        while True:
            await connection.send_message(f"re: {await connection.get_message()}")

    (tmp_path / "token").write_text("first")
    (tmp_path / "desk_clock.py").write_text(CLOCK)
    stream, events = EventStream(), list[Event]()
    metrics = Metrics(Board(), agents=["trader"])  # type: ignore[arg-type]
    stream.listen(events.append)
    stream.listen(metrics.on_event)
    batteries = Batteries({"nats": Batteries()["memory-bus"].sharing()})  # type: ignore[attr-defined]
    with trio.fail_after(60):
        async with serving() as server:
            server.greet = greet
            (tmp_path / "config.toml").write_text(CONFIG.format(url=server.url))
            loaded = load(tmp_path / "config.toml", {})
            async with open_fleet(loaded, batteries=batteries, events=stream, classes={"trader": Trader}) as fleet:
                assert ["re: buy", "clock of UTC"] == await fleet.ask("trader", "buy")
                paths = {node.path for node in fleet.runtime.tree().walk()}
                assert {f"fleet/agents/trader/connections/{name}" for name in ("feed", "clock")} < paths
                (tmp_path / "token").write_text("second")
                server.end(1011)
                await until(lambda: any(event.kind == "connection_rebuilt" for event in events))
                assert ["re: sell", "clock of UTC"] == await fleet.ask("trader", "sell")
                assert ["Bearer first", "Bearer second"] == [one["authorization"] for one in server.requests]
                assert (True, "connected") == fleet.members["trader"].checks()["connection:feed"]
    for name in ("losses", "rebuilds"):
        line = f'agentrt_connection_{name}_total{{agent="trader",connection="feed"}} 1.0'
        assert line in metrics.exposition().decode()


async def test_a_resume_hook_that_the_configuration_names_has_each_new_connection_first(tmp_path: Path):
    """Before the agent's messages, and again after a loss; what it raises fails the attempt."""
    requests: list[str] = []

    async def greet(connection: Any) -> None:
        while True:
            message = await connection.get_message()
            requests.append(message)
            # The first connection is not subscribed.
            await connection.send_message(f"re: {message}" if len(requests) > 1 else "not now")

    (tmp_path / "token").write_text("first")
    (tmp_path / "desk_clock.py").write_text(CLOCK)
    (tmp_path / "desk_resume.py").write_text(RESUME)
    stream, events = EventStream(), list[Event]()
    stream.listen(events.append)
    batteries = Batteries({"nats": Batteries()["memory-bus"].sharing()})  # type: ignore[attr-defined]
    with trio.fail_after(60):
        async with serving() as server:
            server.greet = greet
            resume = 'token = "file:token"\nresume = "desk_resume:subscribe"'
            text = CONFIG.format(url=server.url).replace('token = "file:token"', resume)
            (tmp_path / "config.toml").write_text(text)
            loaded = load(tmp_path / "config.toml", {})
            async with open_fleet(loaded, batteries=batteries, events=stream, classes={"trader": Trader}) as fleet:
                assert ["re: buy", "clock of UTC"] == await fleet.ask("trader", "buy")
                server.end(1011)
                await until(lambda: any(event.kind == "connection_rebuilt" for event in events))
                assert ["re: sell", "clock of UTC"] == await fleet.ask("trader", "sell")
    assert ["subscribe", "subscribe", "buy", "subscribe", "sell"] == requests
    (failed,) = [event for event in events if event.kind == "connection_attempt_failed"]
    assert "not subscribed" in failed.fields["reason"]
