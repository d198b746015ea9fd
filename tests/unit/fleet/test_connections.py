"""Connections of a fleet's agents: from the configuration to the agent's hands, real ones and stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from agentrt import Agent, Task, load
from agentrt.testing import fleet_under_test

Config = Callable[..., Path]
Acting = Callable[..., type[Agent]]
Clock = trio.testing.MockClock
FEED = '[connections.feed]\nkind = "websocket"\nurl = "wss://feed.example/v1"'
OWN = '[connections.quotes]\nkind = "quotes_client:Quotes"\noptions = { room = "blue" }'


class Feed:
    """What a test gives in place of a WebSocket."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, message: str) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)

    async def receive(self) -> str:
        await trio.sleep(1)
        return f"answer to {self.sent[-1]}"


async def converse(agent: Agent, task: Task) -> Any:
    feed = agent.connections["feed"]
    await feed.send(task.payload)
    return await feed.receive()


async def test_an_agent_talks_over_its_connection(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """A stand-in takes the place of the network, and the agent does not see it."""
    feed = Feed()
    config = fleet_config(FEED, editor='connections = ["feed"]')
    async with fleet_under_test(config, connections={"feed": feed}, classes={"editor": acting(converse)}) as fleet:
        assert "answer to hello" == await fleet.ask("editor", "hello")
        assert ["feed"] == list(fleet.fleet.members["editor"].host.instance().connections)
        paths = [node.path for node in fleet.fleet.runtime.tree().walk()]
        assert "fleet/agents/editor/connections/feed" in paths


async def test_an_agent_whose_connection_is_cut_takes_no_task(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """It is not ready, by name and with the reason, until the connection is back."""
    config = fleet_config(FEED, editor='connections = ["feed"]')
    async with fleet_under_test(config, connections={"feed": Feed()}, classes={"editor": acting(converse)}) as fleet:
        member = fleet.fleet.members["editor"]
        async with fleet.chaos.cut("editor/connections/feed"):
            assert (False, "cut by a test") == member.checks()["connection:feed"]
            task = await fleet.send("editor", "hello")
            await trio.sleep(60)
            assert not member.book.in_hand
        assert (True, "connected") == member.checks()["connection:feed"]
        assert "answer to hello" == (await fleet.outcome(task)).answer


async def test_a_connection_without_a_stand_in_is_named(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """And what is cut has to be there."""
    config = fleet_config(FEED, editor='connections = ["feed"]')
    with pytest.raises(LookupError, match="connections without a stand-in: feed"):
        async with fleet_under_test(config):
            pass
    async with fleet_under_test(config, connections={"feed": Feed()}, classes={"editor": acting(converse)}) as fleet:
        with pytest.raises(LookupError, match="there are: editor/connections/feed"):
            async with fleet.chaos.cut("editor/connections/other"):
                pass


async def test_an_agent_that_asks_for_a_connection_it_has_not_is_told_which_it_has(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """And where to add it."""
    config = fleet_config(FEED, editor='connections = ["feed"]', writer="")
    agents = {"editor": acting(converse), "writer": acting(converse)}
    async with fleet_under_test(config, connections={"feed": Feed()}, classes=agents) as fleet:
        await trio.sleep(1)
        instance = fleet.fleet.members["writer"].host.instance()
        with pytest.raises(LookupError, match=r"agent 'writer' has no connection 'feed' \(it has: none\); add it"):
            instance.connections["feed"]


def test_a_client_of_your_own_is_made_from_its_options(fleet_config: Config):
    """By the class that the configuration names, found beside it."""
    from actors.client import ClientActor  # noqa: PLC0415 - one test of a battery among those of the fleet.

    config = fleet_config(OWN, editor='connections = ["quotes"]')
    config.with_name("quotes_client.py").write_text(
        "from agentrt.ports import ClientAdapter\nclass Quotes(ClientAdapter):\n"
        "    async def connect(self, nursery): ...\n    async def probe(self, client): ...\n"
    )
    loaded = load(config, {})
    handle: Any = ClientActor.open_handle("quotes", loaded.config.connections["quotes"], loaded.folder)
    assert ("quotes", "blue", loaded.folder) == (
        handle.adapter.setup.name,
        handle.adapter.setup.options["room"],
        handle.adapter.setup.folder,
    )
    assert (False, "not started") == (handle.is_ready, handle.reason)
