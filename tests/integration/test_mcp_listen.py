"""``subscriptions/listen`` (2026-07-28) over real servers that change and die: through the guard, and in a session."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp
import pytest
import trio
from mcp.client.stdio import StdioServerParameters, stdio_client
from processes import MARK, processes

from actors.mcp_session import McpSession, McpToolSession
from agentrt.config.model import McpServerConfig
from agentrt.kernel import ChildSpec, SupervisorSpec, open_runtime

AGENTRT = str(Path(sys.executable).with_name("agentrt"))
PARTNER = (sys.executable, str(Path(__file__).parent / "servers" / "partner.py"))
#: Seconds that anything may take on a machine with much to do.
PATIENCE = 60.0


class Guarded:
    """The SDK's client of the newer protocol, and the guard that it started."""

    def __init__(self, client: mcp.Client, folder: Path) -> None:
        self.client = client
        self._folder = folder

    @property
    def pid(self) -> int | None:
        pid: int | None = json.loads((self._folder / "status.json").read_text())["pid"]
        return pid

    async def kill_the_server(self) -> None:
        """Kill it, and wait for the next."""
        pid = self.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: self.pid not in (None, pid))

    async def tools(self) -> set[str]:
        return {tool.name for tool in (await self.client.list_tools()).tools}


@asynccontextmanager
async def guarded(mark: str, folder: Path, *options: str) -> AsyncIterator[Guarded]:
    learned = folder / "learned"
    learned.touch()
    arguments = ["mcp", "guard", "--status-file", str(folder / "status.json"), *options, "--"]
    server = StdioServerParameters(
        command=AGENTRT,
        args=[*arguments, *PARTNER, "--learned", str(learned)],
        env={**os.environ, MARK: mark},
    )
    with trio.fail_after(PATIENCE), (folder / "stderr").open("w") as stderr:
        async with mcp.Client(stdio_client(server, errlog=stderr)) as client:
            assert client.protocol_version == "2026-07-28"
            yield Guarded(client, folder)
        await until(lambda: not processes(mark))


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the conditions are about other processes.
        await trio.sleep(0.01)


async def test_a_client_of_the_guard_hears_of_each_change(mark, tmp_path):
    """Of one server, and of those after it: it subscribed once."""
    async with guarded(mark, tmp_path) as world, world.client.listen(tools_list_changed=True) as subscription:
        for number in range(3):
            await world.client.call_tool("learn", {"name": f"learned-{number}"})
            await anext(subscription)
            assert f"learned-{number}" in await world.tools()
            await world.kill_the_server()
            # What it had learned is gone with it.
            await anext(subscription)
            assert f"learned-{number}" not in await world.tools()


async def test_a_client_of_the_guard_hears_of_what_the_next_server_has(mark, tmp_path):
    """Nobody said so: it was another server that had the old list."""
    async with guarded(mark, tmp_path) as world, world.client.listen(tools_list_changed=True) as subscription:
        assert "newer" not in await world.tools()
        (tmp_path / "learned").write_text("newer\n")
        await world.kill_the_server()
        await anext(subscription)
        assert "newer" in await world.tools()


async def test_a_client_of_the_guard_hears_nothing_where_nothing_changed(mark, tmp_path):
    """The next server is as the last; the first word of it is of a change."""
    async with guarded(mark, tmp_path) as world, world.client.listen(tools_list_changed=True) as subscription:
        await world.tools()
        await world.kill_the_server()
        with trio.move_on_after(1.0):
            pytest.fail(f"heard {await anext(subscription)}")
        await world.client.call_tool("learn", {"name": "learned"})
        await anext(subscription)


async def test_a_ping_of_the_guard_does_not_decide_how_a_server_is_spoken_to(mark, tmp_path):
    """The next server hears from the guard before it hears from the client."""
    async with guarded(mark, tmp_path, "--ping-interval", "500ms") as world:
        await world.kill_the_server()
        await trio.sleep(1.2)
        assert not (await world.client.call_tool("echo", {"text": "hi"})).is_error


@pytest.mark.parametrize("protocol", ["auto", "2026-07-28"])
async def test_a_session_takes_up_each_change(mark, protocol):
    """Without asking again and again: it listens, to each server anew."""
    config = McpServerConfig(command=PARTNER, env={MARK: mark}, protocol=protocol)
    session = McpToolSession("partner", config)
    child = ChildSpec(id="mcp", factory=lambda: McpSession(session), shutdown=12.0)

    async def learns(name: str) -> None:
        await session.call("learn", {"name": name})
        await until(lambda: name in session.tools)

    with trio.fail_after(PATIENCE):
        async with open_runtime(SupervisorSpec(id="agent", children=(child,))):
            await session.wait_ready()
            for number in range(2):
                await learns(f"learned-{number}")
                pid: Any = session.pid
                os.kill(pid, signal.SIGKILL)
                await until(lambda pid=pid: session.pid not in (None, pid) and session.is_ready)
                assert f"learned-{number}" not in session.tools
