"""``agentrt check --bus`` against a real server: what is declared beside what is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from nats_process import RealServer
from typer.testing import CliRunner, Result

from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge
from agentrt.cli.exits import ExitCode
from agentrt.cli.main import app
from agentrt.config import load
from agentrt.fleet import topology_of
from agentrt.kernel import ChildSpec, SupervisorSpec, open_runtime

CONFIG = """
schema = 1
[fleet]
name = "trial"
[bus]
url = "{url}"
token = "env:BUS_TOKEN"
[agents.editor]
class = "check_bus_agents:Editor"
"""
MODULE = "from agentrt.agent import Agent\nclass Editor(Agent):\n    async def handle(self, task): return 1\n"
DECLARED = {
    ("stream", "trial-tasks"),
    ("stream", "trial-dlq"),
    ("bucket", "trial-outcomes"),
    ("bucket", "trial-registry"),
    *(("consumer", f"trial-tasks/editor-{priority}") for priority in ("high", "normal", "low")),
}


@pytest.fixture
def folder(tmp_path: Path, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    fleet = tmp_path / "fleet"
    fleet.mkdir()
    (fleet / "config.toml").write_text(CONFIG.format(url=nats_server.url))
    (fleet / "check_bus_agents.py").write_text(MODULE)
    monkeypatch.chdir(fleet)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("BUS_TOKEN", "first")
    monkeypatch.delenv("NATS_URL", raising=False)
    yield fleet
    sys.modules.pop("check_bus_agents", None)


def check(*options: str) -> Result:
    return CliRunner().invoke(app, ["check", "config.toml", "--bus", *options])


def found(*options: str) -> dict[tuple[str, str], dict[str, Any]]:
    answer = json.loads(check("--json", *options).stdout)
    assert answer["bus"]["reachable"] is True
    return {(one["kind"], one["name"]): one for one in answer["bus"]["found"]}


def on_the_bus(server: RealServer, folder: Path, what: Callable[[NatsBus], Awaitable[None]]) -> None:
    """Do something with what the fleet declares made."""

    async def main() -> None:
        bus = NatsBus(NatsSettings(url=server.url, credentials=server.credentials))
        bus.declare(topology_of(load(folder / "config.toml", {}).config))
        root = SupervisorSpec(id="test", children=(ChildSpec(id="bus", factory=lambda: NatsConnection(bus)),))
        with trio.fail_after(30):
            async with bridge(), open_runtime(root, seed=1):
                await bus.wait_ready()
                await what(bus)

    trio.run(main)


async def nothing(_bus: NatsBus) -> None:
    await trio.lowlevel.checkpoint()


def test_a_new_bus_has_nothing_and_a_look_changes_that_in_nothing(folder: Path) -> None:
    """Each thing is missing by name, twice."""
    for _ in range(2):
        assert dict.fromkeys(DECLARED, "missing") == {key: one["state"] for key, one in found().items()}
    result = check()
    assert ExitCode.DIFFERS == result.exit_code
    assert "stream   trial-tasks" in result.output
    assert "missing: agentrt run makes it" in result.output


def test_a_bus_that_has_what_is_declared_is_right(folder: Path, nats_server: RealServer) -> None:
    """Exit status 0, and ok in JSON."""
    on_the_bus(nats_server, folder, nothing)
    result = check()
    assert ExitCode.OK == result.exit_code, result.output
    assert "missing" not in result.output
    assert json.loads(check("--json").stdout)["ok"] is True
    assert DECLARED == set(found())


def test_each_difference_is_shown_with_what_becomes_of_it(folder: Path, nats_server: RealServer) -> None:
    """What running sets right and what nobody can change are told apart; durations are in seconds."""

    async def change(bus: NatsBus) -> None:
        api = "$JS.API."

        async def ask(method: str, **request: object) -> dict[str, Any]:
            answer = await bus.link.ask(method, api + method, json.dumps(request).encode(), timeout=5)
            return answer.accepted()

        dlq = (await ask("STREAM.INFO.trial-dlq"))["config"]
        await ask("STREAM.UPDATE.trial-dlq", **{**dlq, "max_age": 5_000_000_000, "duplicate_window": 5_000_000_000})
        tasks = (await ask("STREAM.INFO.trial-tasks"))["config"]
        await ask("STREAM.DELETE.trial-tasks")
        await ask("STREAM.CREATE.trial-tasks", **{**tasks, "retention": "limits"})

    on_the_bus(nats_server, folder, change)
    states = {key: one["state"] for key, one in found().items()}
    assert ("differs", "differs") == (states["stream", "trial-dlq"], states["stream", "trial-tasks"])
    result = check()
    assert ExitCode.DIFFERS == result.exit_code
    assert "max_age: declared 2592000.0, is 5.0 (agentrt run sets it right)" in result.output
    assert "retention: declared workqueue, is limits (cannot be changed" in result.output


def test_a_bus_that_cannot_be_reached_is_said_with_its_reason(folder: Path, nats_server: RealServer) -> None:
    """Exit status 69, in words and in JSON; a wrong login is a reason like any other."""
    nats_server.reload(authorization='{ token: "second" }')
    for options in ((), ("--json",)):
        result = check("--timeout", "1s", *options)
        assert ExitCode.UNAVAILABLE == result.exit_code
    assert json.loads(result.stdout)["bus"]["reachable"] is False
    nats_server.kill()
    result = check("--timeout", "500ms")
    assert ExitCode.UNAVAILABLE == result.exit_code
    assert "the bus cannot be reached" in str(result.exception or "") + result.output


def test_a_bus_of_the_fleet_s_own_is_looked_at_where_the_fleet_runs(folder: Path) -> None:
    """Without a URL only the running fleet knows where it is; none runs here, and that is said."""
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text("\n".join(line for line in text.splitlines() if not line.startswith("url")))
    result = check("--json")
    assert ExitCode.UNAVAILABLE == result.exit_code
    assert "start it with: agentrt run" in json.loads(result.stdout)["bus"]["reason"]
