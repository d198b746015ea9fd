"""Calls of a tool over stdio: the session actor with everything on, and the bare SDK's client as its control."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from bench.measure import Pace
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from actors.mcp_session import McpSession, McpToolSession
from agentrt.config.model import McpServerConfig
from agentrt.kernel import ChildSpec, SupervisorSpec, open_runtime

#: A server of a few lines, so that what it costs does not hide what the client does.
SERVER = (sys.executable, str(Path(__file__).parents[2] / "integration" / "servers" / "bare.py"), "plain")

Call = Callable[[], Awaitable[object]]


def with_the_session_actor(seconds: float, callers: int) -> dict[str, float]:
    """Through the session: bulkhead, breaker, retries, the watch, and an actor in a tree."""

    async def main() -> dict[str, float]:
        session = McpToolSession("bare", McpServerConfig(command=SERVER))
        child = ChildSpec(id="mcp", factory=lambda: McpSession(session), shutdown=12.0)
        async with open_runtime(SupervisorSpec(id="agent", children=(child,))):
            await session.wait_ready()
            return await _rate(lambda: session.call("echo", {"text": "hi"}), seconds, callers)

    return trio.run(main)


def with_the_bare_client(seconds: float, callers: int) -> dict[str, float]:
    """Through the SDK's client, and nothing else."""

    async def main() -> dict[str, float]:
        server = StdioServerParameters(command=SERVER[0], args=list(SERVER[1:]))
        async with Client(stdio_client(server), mode="legacy") as client:
            await client.list_tools()
            return await _rate(lambda: client.call_tool("echo", {"text": "hi"}), seconds, callers)

    return trio.run(main)


async def _rate(call: Call, seconds: float, callers: int) -> dict[str, float]:
    async def keep_calling(count: int) -> None:
        for _ in range(count):
            await call()

    pace = Pace(seconds, first=callers)
    for count in pace:
        async with trio.open_nursery() as nursery:
            for place in range(callers):
                nursery.start_soon(keep_calling, count // callers + (place < count % callers))
    return {"per_second": pace.rate}
