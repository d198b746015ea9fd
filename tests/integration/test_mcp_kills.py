"""Servers that are killed again and again under load: each call has an outcome, and none is done twice."""

from __future__ import annotations

import os
import random
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from processes import MARK, processes

from actors.mcp_session import McpSession, McpToolSession
from agentrt.config import ServerPolicies
from agentrt.config.model import McpServerConfig
from agentrt.kernel import ChildSpec, SupervisorSpec, open_runtime
from agentrt.ports import ToolError

BARE = str(Path(__file__).parent / "servers" / "bare.py")
TIME = (sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC")
GIT = (sys.executable, "-m", "mcp_server_git")
WORKERS = 6


@asynccontextmanager
async def opened(command: tuple[str, ...], mark: str) -> AsyncIterator[McpToolSession]:
    config = McpServerConfig(command=command, env={MARK: mark})
    session = McpToolSession("killed", config, policies=ServerPolicies())
    child = ChildSpec(id="mcp", factory=lambda: McpSession(session), shutdown=12.0)
    async with open_runtime(SupervisorSpec(id="agent", children=(child,))):
        yield session


@attrs.define
class Load:
    """Calls without a pause, each with a text of its own, and what came of each."""

    session: McpToolSession
    tool: str
    arguments: Any
    idempotent: bool
    outcomes: dict[str, str] = attrs.field(factory=dict)
    done: bool = False

    async def work(self, worker: int) -> None:
        count = 0
        while not self.done:
            count += 1
            text = f"{worker}-{count}"
            self.outcomes[text] = "none"
            try:
                await self.session.call(self.tool, self.arguments(text), idempotent=self.idempotent, timeout=60.0)
            except ToolError as error:
                self.outcomes[text] = "perhaps" if error.may_have_happened else "no"
                # What is over the budget fails at once; the load must not be all of that.
                await trio.sleep(0.01)
            else:
                self.outcomes[text] = "yes"


async def kill_again_and_again(load: Load, times: int) -> None:
    """Kill the server at random moments; each new one has answered before the next is killed."""
    chance = random.Random(7)
    for _ in range(times):
        await load.session.wait_ready()
        answered = sum(outcome == "yes" for outcome in load.outcomes.values())
        while sum(outcome == "yes" for outcome in load.outcomes.values()) == answered:  # noqa: ASYNC110 - polled apart.
            await trio.sleep(0.005)
        await trio.sleep(chance.uniform(0.0, 0.05))
        if load.session.pid is not None:
            # It may have ended by itself a moment ago, which is told a little later.
            with suppress(ProcessLookupError):
                os.kill(load.session.pid, signal.SIGKILL)
            await trio.sleep(0.001)
    load.done = True


async def run(
    command: tuple[str, ...], tool: str, arguments: Any, times: int, *, idempotent: bool = False, limit: float = 240.0
) -> dict[str, str]:
    mark = uuid.uuid4().hex
    with trio.fail_after(limit):
        async with opened(command, mark) as session:
            load = Load(session, tool, arguments, idempotent)
            async with trio.open_nursery() as nursery:
                for worker in range(WORKERS):
                    nursery.start_soon(load.work, worker)
                nursery.start_soon(kill_again_and_again, load, times)
            assert await session.call(tool, arguments("after"), timeout=60.0)
    assert processes(mark) == []
    return load.outcomes


def check_effects(outcomes: dict[str, str], effects: Path) -> None:
    """What was answered was done once; what cannot have happened was not done; nothing was done twice."""
    done = Counter(effects.read_text().split())
    assert "none" not in outcomes.values()
    assert [text for text, outcome in outcomes.items() if outcome == "yes" and done[text] != 1] == []
    assert [text for text, outcome in outcomes.items() if outcome == "no" and done[text] != 0] == []
    assert [text for text in done if done[text] > 1] == []


async def test_no_call_is_done_twice_and_none_is_lost_in_twenty_kills(tmp_path):
    """Of calls that are not idempotent, each answered one was done exactly once, whenever the server died."""
    effects = tmp_path / "effects"
    outcomes = await run((sys.executable, BARE, "effects", str(effects)), "echo", lambda text: {"text": text}, 20)
    check_effects(outcomes, effects)


@pytest.mark.parametrize("server", ["time", "git"])
async def test_real_servers_are_killed_under_load(server, tmp_path):
    """Idempotent calls are all answered but those beyond the budget of retries, and each has an outcome."""
    command, tool, arguments = await _real(server, tmp_path)
    outcomes = await run(command, tool, arguments, 2, idempotent=True)
    assert "none" not in outcomes.values()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("server", ["bare", "time", "git"])
async def test_two_hundred_kills(server, tmp_path):
    """The long run."""
    effects = tmp_path / "effects"
    if server == "bare":
        command = (sys.executable, BARE, "effects", str(effects))
        outcomes = await run(command, "echo", lambda text: {"text": text}, 200, limit=1800.0)
        check_effects(outcomes, effects)
    else:
        command, tool, arguments = await _real(server, tmp_path)
        outcomes = await run(command, tool, arguments, 200, idempotent=True, limit=3000.0)
        assert "none" not in outcomes.values()


async def _real(server: str, folder: Path) -> tuple[tuple[str, ...], str, Any]:
    if server == "time":
        return TIME, "get_current_time", lambda _: {"timezone": "UTC"}
    await trio.run_process(["git", "init", "-q", str(folder)])
    return GIT, "git_status", lambda _: {"repo_path": str(folder)}
