"""What an operator sees of a fleet whose parts are killed or stopped: the probe says so, and the task is done."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet_process import FleetProcess, until
from nats_process import RealServer

#: Seconds.
CALL_TIMEOUT = 8

#: How long it took to notice a fault is told at the end of a run, and judged by nobody who shares a machine.
Record = Callable[[str, object], None]

AGENTS = """
import time
from agentrt import Agent

class Clock(Agent):
    async def handle(self, task):
        return await self.tools.call("time", "get_current_time", {"timezone": "UTC"}, idempotent=True)

class Clerk(Agent):
    async def handle(self, task):
        return {"clock": await self.ask("clock", task.payload)}

class Poisoned(Agent):
    async def handle(self, task):
        raise ValueError("this payload is poison")

class Blocker(Agent):
    async def handle(self, task):
        block_the_loop()

def block_the_loop():
    time.sleep(60)
"""


def write_fleet(folder: Path, bus: str = "") -> None:
    python = json.dumps(sys.executable)
    (folder / "config.toml").write_text(f"""
schema = 1
[fleet]
name = "trial"
drain_timeout = "1s"
{bus}
[health]
listen = "127.0.0.1:0"
[inbox]
max_deliveries = 3
redelivery = ["200ms", "400ms"]
[agents.clerk]
class = "trial_agents:Clerk"
[agents.clock]
class = "trial_agents:Clock"
mcp = ["time"]
[agents.poisoned]
class = "trial_agents:Poisoned"
[agents.blocker]
class = "trial_agents:Blocker"
[mcp.global.time]
command = [{python}, "-m", "mcp_server_time", "--local-timezone", "UTC"]
call_timeout = "{CALL_TIMEOUT}s"
""")
    (folder / "trial_agents.py").write_text(AGENTS)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetProcess]:
    write_fleet(tmp_path)
    running = FleetProcess(tmp_path)
    try:
        yield running
    finally:
        running.end()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    folder = tmp_path / "nats"
    folder.mkdir()
    real = RealServer(folder)
    real.start()
    yield real
    real.kill()


def answer_of(send: subprocess.Popen[str]) -> dict[str, object]:
    out, err = send.communicate(timeout=60)
    assert send.returncode == 0, err
    return json.loads(out)


def mcp_pid(fleet: FleetProcess) -> int:
    return _pid(fleet, "mcp_server_started")


def nats_pid(fleet: FleetProcess) -> int:
    return _pid(fleet, "nats_server_started")


def _pid(fleet: FleetProcess, kind: str) -> int:
    """The process, as the file of events tells it."""

    def read() -> int | None:
        lines = (fleet.folder / ".agentrt" / "events.jsonl").read_text().splitlines()
        started = [event for event in map(json.loads, lines) if event["kind"] == kind]
        return started[-1]["fields"]["pid"] if started else None

    found, _ = until(read)
    assert found is not None
    return found


def test_a_killed_nats_server_is_named_by_the_probe_and_a_task_sent_meanwhile_is_answered(
    tmp_path: Path, server: RealServer, record_property: Record
) -> None:
    """External nats-server, kill -9, started again after 5 s: 503 naming the check, 200 by itself, nothing lost."""
    write_fleet(tmp_path, f'[bus]\nurl = "{server.url}"\ntoken = "env:BUS_TOKEN"')
    fleet = FleetProcess(tmp_path, BUS_TOKEN=server.token)
    try:
        fleet.wait_ready()
        server.kill()
        noticed = fleet.wait_unready("nats_connected")
        send = fleet.send("clerk", "{}", "--wait", "--timeout", "50s")
        time.sleep(max(0.0, 5.0 - noticed))
        server.start()
        fleet.wait_ready()
        assert "datetime" in json.dumps(answer_of(send))
        record_property("noticed", noticed)
    finally:
        fleet.end()


def test_a_killed_server_of_the_fleet_s_own_is_named_by_the_probe_and_is_back(
    fleet: FleetProcess, record_property: Record
) -> None:
    """The embedded nats-server is up again in milliseconds, and yet the probe shows that it was away."""
    fleet.wait_ready()
    os.kill(nats_pid(fleet), signal.SIGKILL)
    record_property("noticed", fleet.wait_unready("nats_connected"))
    fleet.wait_ready()
    assert "datetime" in json.dumps(answer_of(fleet.send("clerk", "{}", "--wait", "--timeout", "50s")))


def test_a_killed_tool_server_is_named_by_the_probe_and_a_task_sent_meanwhile_is_answered(
    fleet: FleetProcess, record_property: Record
) -> None:
    """A kill -9 on the MCP server: it is back by itself, as a new process, and the task is answered."""
    fleet.wait_ready()
    pid = mcp_pid(fleet)
    os.kill(pid, signal.SIGKILL)
    record_property("noticed", fleet.wait_unready("mcp:time"))
    send = fleet.send("clerk", "{}", "--wait", "--timeout", "50s")
    assert "datetime" in json.dumps(answer_of(send))
    fleet.wait_ready()
    assert mcp_pid(fleet) != pid


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_stopped_tool_server_is_named_by_the_probe_within_seconds_and_heals(
    fleet: FleetProcess, record_property: Record, *, is_busy: bool
) -> None:
    """SIGSTOP for longer than the call timeout: 503 with ``mcp:time``, 200 by itself, the task answered.

    While a call is in hand and within its limit the server counts as busy: the fault can be noticed from then on, a
    moment after the task became a call.
    """
    fleet.wait_ready()
    pid = mcp_pid(fleet)
    os.kill(pid, signal.SIGSTOP)
    send = fleet.send("clerk", "{}", "--wait", "--timeout", "50s") if is_busy else None
    try:
        noticed = fleet.wait_unready("mcp:time")
        send = send or fleet.send("clerk", "{}", "--wait", "--timeout", "50s")
        time.sleep(CALL_TIMEOUT + 1)
    finally:
        # It may have been replaced meanwhile, which is what it deserved.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    fleet.wait_ready()
    assert "datetime" in json.dumps(answer_of(send))
    record_property("noticed", noticed - (CALL_TIMEOUT if is_busy else 0))


def test_a_poisoned_task_ends_as_a_dead_letter_and_its_sender_is_told(fleet: FleetProcess) -> None:
    """A handler that raises on every delivery: ``send --wait`` says so with the reason instead of hanging."""
    fleet.wait_ready()
    send = fleet.send("poisoned", "{}", "--wait", "--timeout", "50s")
    _, err = send.communicate(timeout=60)
    assert send.returncode != 0
    assert "this payload is poison" in err
    assert "dead letters" in err


def test_a_blocked_event_loop_fails_liveness_from_outside_and_its_stack_is_logged(
    fleet: FleetProcess, record_property: Record
) -> None:
    """``time.sleep(60)`` in a handler: /health/live is 503 before that is over, and the log names the line."""
    fleet.wait_ready()
    send = fleet.send("blocker", "{}")
    send.communicate(timeout=30)
    _, seconds = until(lambda: fleet.health("/health/live")[0] == 503, limit=55)
    status, report = fleet.health("/health/live")
    assert status == 503
    assert "event_loop" in report["failed"]
    log = fleet.log.read_text()
    assert "event_loop_blocked" in log
    assert "block_the_loop" in log
    record_property("noticed", seconds)
