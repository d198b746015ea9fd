"""The command line as a person uses it: real processes, real signals, and the nats-server of the fleet's own."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import trio
from fleet_process import kill_family

from agentrt.cli.exits import ExitCode
from agentrt.cli.serve import Service
from agentrt.cli.statedir import RunInfo, hold
from agentrt.config import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 60.0
CONFIG = """
schema = 1
[fleet]
name = "trial"
drain_timeout = "1s"
[health]
listen = "127.0.0.1:0"
[inbox]
ack_wait = "2s"
keepalive = "1s"
"""
AGENTS = '''
import contextlib
import time
from pathlib import Path
import trio
from agentrt import Agent, TaskRefused
from agentrt.ports import ClientAdapter

class Echo(Agent):
    async def handle(self, task):
        return {"said": task.payload}

class Choosy(Agent):
    async def handle(self, task):
        raise TaskRefused("not for me")

class Broken(Agent):
    async def handle(self, task):
        raise ValueError("no idea")

class Blocker(Agent):
    """Blocks the event loop: what must not be done, and is."""
    async def handle(self, task):
        Path("blocked").touch()
        time.sleep(3600)

class Slow(Agent):
    async def handle(self, task):
        Path("in-hand").touch()
        while not Path("go").exists():
            await trio.sleep(0.02)
        return "done"

class Undying(Agent):
    """Neither stops nor lets itself be cancelled, whatever becomes of its shield."""
    async def handle(self, task):
        Path("in-hand").touch()
        while True:
            with contextlib.suppress(trio.Cancelled), trio.CancelScope(shield=True):
                await trio.sleep_forever()

class Leaver(Agent):
    """Calls what ends a program."""
    async def handle(self, task):
        raise SystemExit(0)

class Gone(ClientAdapter):
    async def connect(self, nursery):
        raise SystemExit("no licence")

    async def probe(self, client): ...

class Late(Agent):
    """Never comes to the end of its start hook."""
    async def on_start(self):
        Path("starting").touch()
        await trio.sleep_forever()

    async def handle(self, task): ...
'''


def write(folder: Path, *agents: str, deliveries: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tables = (f'[agents.{agent}]\nclass = "trial_agents:{agent.capitalize()}"\n' for agent in agents)
    (folder / "config.toml").write_text(f"{CONFIG}max_deliveries = {deliveries}\n{''.join(tables)}")
    (folder / "trial_agents.py").write_text(AGENTS)
    return folder


def agentrt(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *args], cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False, env=_environ()
    )


# A test run under nohup hands its ignored SIGHUP on, and then so does agentrt, rightly.
_PROGRAM = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); from agentrt.cli.main import app; app()"
_COMMAND = (sys.executable, "-c", _PROGRAM)


def _environ() -> dict[str, str]:
    return {**os.environ, "NATS_URL": "", "PYTHONDONTWRITEBYTECODE": "1"}


def until(what: Callable[[], Any]) -> Any:
    """Look until it is so: there is nothing to wait on in another process."""
    deadline = time.monotonic() + LIMIT
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)
    return found


class Run:
    """A fleet in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "run.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*_COMMAND, "run", "config.toml"], cwd=folder, stdout=log, stderr=log, env=_environ()
            )

    @property
    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = until(self._read_info)
        return found

    def _read_info(self) -> dict[str, Any] | None:
        assert self.process.poll() is None, self.log.read_text()
        try:
            found: dict[str, Any] = json.loads((self.folder / ".agentrt" / "run.json").read_text())
        except FileNotFoundError:
            return None
        # One of a run before this one may still be there.
        return found if found["pid"] == self.process.pid else None

    def started(self) -> Run:
        assert self.info["fleet"]
        return self

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(LIMIT)

    def is_stopping(self) -> bool:
        return "received SIG" in (self.folder / ".agentrt" / "events.jsonl").read_text()

    def end(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        kill_family(self.process)


@contextmanager
def running(folder: Path, *agents: str, deliveries: int = 1) -> Iterator[Run]:
    run = Run(write(folder, *agents, deliveries=deliveries))
    try:
        yield run
    finally:
        run.end()


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=LIMIT)
    return not alive


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run one fleet for all tests that only talk to it."""
    with running(tmp_path_factory.mktemp("fleet"), "echo", "choosy", "broken", "slow") as run:
        yield run.started()


# Talking to a fleet


def test_a_task_s_answer_is_printed(fleet: Run) -> None:
    """As JSON, for whatever comes next in the pipe."""
    result = agentrt(fleet.folder, "send", "echo", '{"topic": "NATS"}', "--wait")
    assert result.stderr == ""
    assert json.loads(result.stdout) == {"said": {"topic": "NATS"}}
    assert result.returncode == ExitCode.OK


def test_without_waiting_the_id_is_printed_and_the_outcome_can_be_asked_for(fleet: Run) -> None:
    """The task goes on without whoever sent it."""
    task = agentrt(fleet.folder, "send", "echo", '"hi"').stdout.strip()
    result = agentrt(fleet.folder, "outcome", task, "--json")
    found = json.loads(result.stdout)
    assert (found["task"], found["agent"], found["status"]) == (task, "echo", "answered")
    assert found["answer"] == {"said": "hi"}


@pytest.mark.parametrize(
    ("agent", "code", "sentence"),
    [
        ("choosy", ExitCode.REFUSED, "for choosy was refused (1 attempt): not for me"),
        ("broken", ExitCode.DEAD_LETTERED, "for broken is with the dead letters (1 attempt): "),
    ],
)
def test_a_task_that_is_not_answered_ends_in_a_sentence_and_a_code(
    fleet: Run, agent: str, code: ExitCode, sentence: str
) -> None:
    """The reason is on standard error, and nothing that looks like an answer on standard output."""
    result = agentrt(fleet.folder, "send", agent, "{}", "--wait")
    assert sentence in result.stderr
    assert (result.returncode, result.stdout) == (code, "")


def test_whoever_waits_for_the_next_attempt_is_told_how_the_last_one_failed(tmp_path: Path) -> None:
    """It stands in the log of another terminal only, and the next attempt may be minutes away."""
    with running(tmp_path, "broken", "late", deliveries=2) as run:
        run.started()
        failed = agentrt(tmp_path, "send", "broken", "1", "--wait", "--timeout", "4s")
        assert failed.returncode == ExitCode.NO_OUTCOME
        assert re.search(
            r"; attempt 1 failed: ValueError: no idea; tried again in \d+ s; ask again with", failed.stderr
        )
        task = failed.stderr.rpartition("agentrt outcome ")[2].split()[0]
        assert "attempt 1 failed: ValueError: no idea" in agentrt(tmp_path, "outcome", task, "--timeout", "8s").stderr
        late = agentrt(tmp_path, "send", "late", "1", "--wait", "--timeout", "2s")
        assert "; late is not ready: started: its start hook has not returned; ask again with" in late.stderr


def test_whoever_waited_too_short_is_told_how_to_ask_again(fleet: Run) -> None:
    """And does, and gets the answer."""
    result = agentrt(fleet.folder, "send", "slow", "1", "--wait", "--timeout", "3s", "--json")
    task = json.loads(result.stdout)["task"]
    assert result.returncode == ExitCode.NO_OUTCOME
    again = f"agentrt outcome {task} --config config.toml"
    assert again in result.stderr
    (fleet.folder / "go").touch()
    assert agentrt(fleet.folder, *again.split()[1:], "--timeout", "30s").stdout == '"done"\n'


def test_ps_shows_every_agent_and_the_server_that_the_fleet_brings(fleet: Run) -> None:
    """One line each; the same in JSON."""
    agents_shown, servers_shown = agentrt(fleet.folder, "ps").stdout.split("\n\n")
    lines = agents_shown.splitlines()
    assert lines[0].split() == ["AGENT", "STATE", "HEALTH", "BREAKER", "TASK", "AGE", "INBOX", "RESTARTS", "WHY"]
    agents = ["echo", "choosy", "broken", "slow"]
    assert [line.split()[0] for line in lines[1:]] == agents
    found = json.loads(agentrt(fleet.folder, "ps", "--json").stdout)
    assert [agent["name"] for agent in found["agents"]] == agents
    header, server = (line.split() for line in servers_shown.splitlines())
    assert (header, server[:2]) == (["SERVER", "STATE", "URL", "WHY"], ["nats-server", "running"])
    assert ("nats-server", True) == (found["servers"][0]["name"], found["servers"][0]["is_running"])


def test_tree_shows_every_actor(fleet: Run) -> None:
    """From the root down to the inboxes."""
    text = agentrt(fleet.folder, "tree").stdout
    assert text.startswith("fleet running")
    root = json.loads(agentrt(fleet.folder, "tree", "--json").stdout)
    names = {node["path"] for node in walk(root)}
    assert {"fleet/nats-server", "fleet/bus"} <= names
    assert len([name for name in names if name.endswith("/inbox")]) == 4


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node["children"]:
        yield from walk(child)


def test_health_is_served_where_the_run_file_says(fleet: Run) -> None:
    """Live at once, and ready when everything that the agents need is."""
    address = fleet.info["health"]
    assert get(address, "/health/live")[0] == HTTPStatus.OK
    until(lambda: get(address, "/health/ready")[0] == HTTPStatus.OK)
    agents = get(address, "/health/ready")[1]["agents"]
    assert set(agents) == {"echo", "choosy", "broken", "slow"}
    assert {"nats_connected", "jetstream", "memory_below_limit"} <= {check["name"] for check in agents["echo"]}


def get(address: str, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(address, timeout=LIMIT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_second_run_on_the_same_directory_is_refused(fleet: Run) -> None:
    """With the process that holds it; the first one does not notice."""
    result = agentrt(fleet.folder, "run", "config.toml")
    assert result.returncode == ExitCode.TRY_LATER
    assert f"(pid {fleet.process.pid})" in result.stderr
    assert agentrt(fleet.folder, "send", "echo", "1", "--wait").returncode == ExitCode.OK


# Ending a run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_fleet_in_order(tmp_path: Path, number: int) -> None:
    """Exit code 0, no process left behind, and nothing that says a fleet runs."""
    with running(tmp_path, "echo") as run:
        family = run.started().family()
        assert family
        run.signal(number)
        assert run.wait() == ExitCode.OK
        assert gone(family)
    left = {path.name for path in (tmp_path / ".agentrt").iterdir()}
    assert left.isdisjoint({"run.json", "control.sock"})
    assert agentrt(tmp_path, "ps").returncode == ExitCode.UNAVAILABLE


def test_a_terminal_shows_what_runs_and_how_to_end_it(tmp_path: Path) -> None:
    """On standard error: standard output is nobody's but the caller's."""
    screen, terminal = os.openpty()
    write(tmp_path, "echo")
    environ = {**_environ(), "TERM": "dumb"}
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [*_COMMAND, "run", "config.toml"], cwd=tmp_path, stdout=out, stderr=terminal, env=environ
        )
    os.close(terminal)
    try:
        text = read_until(screen, "agent   echo")
        assert "fleet trial" in text
        assert "health  http://127.0.0.1:" in text
        assert "bus     nats://127.0.0.1:" in text
        process.send_signal(signal.SIGINT)
        read_until(screen, "once more to stop at once")
        # Nobody reads any more, as where a terminal's output is held: that is no reason not to end.
        assert process.wait(LIMIT) == ExitCode.OK
    finally:
        process.kill()
        process.wait(LIMIT)
        os.close(screen)
    assert (tmp_path / "out").read_bytes() == b""


def read_until(screen: int, mark: str) -> str:
    text = ""
    while mark not in text:
        readable, _, _ = select.select([screen], [], [], LIMIT)
        assert readable, text
        text += os.read(screen, 4096).decode()
    return text


def test_stop_waits_until_the_fleet_is_down(tmp_path: Path) -> None:
    """What a script does next finds the state directory free."""
    with running(tmp_path, "echo") as run:
        family = run.started().family()
        assert agentrt(tmp_path, "stop").returncode == ExitCode.OK
        assert run.wait() == ExitCode.OK
        assert gone(family)


async def test_a_stop_that_comes_before_the_start_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal may come at any moment; here it is the first."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    loaded = load(write(tmp_path, "echo") / "config.toml", {})
    announced: list[RunInfo] = []
    with trio.fail_after(LIMIT), hold(tmp_path / ".agentrt") as state:
        service = Service(loaded, state, announce=lambda _fleet, info: announced.append(info))
        service.stop("received SIGTERM")
        await service.run()
    assert announced == []


def test_a_signal_while_an_agent_starts_ends_the_fleet(tmp_path: Path) -> None:
    """A start hook that hangs is no reason to wait."""
    with running(tmp_path, "late") as run:
        until((tmp_path / "starting").exists)
        family = run.family()
        run.signal(signal.SIGTERM)
        assert run.wait() == ExitCode.OK
        assert gone(family)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)]
)
def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: int, code: ExitCode) -> None:
    """With the tasks in hand, and with every process that it started."""
    with running(tmp_path, "undying") as run:
        run.started()
        agentrt(tmp_path, "send", "undying", "1")
        until((tmp_path / "in-hand").exists)
        family = run.family()
        run.signal(number)
        until(run.is_stopping)
        run.signal(number)
        assert run.wait() == code
        assert gone(family)


def test_two_signals_end_a_fleet_whose_event_loop_is_blocked(tmp_path: Path) -> None:
    """And before that, ps says that it is blocked, and where health is served beside it."""
    with running(tmp_path, "blocker") as run:
        health = run.started().info["health"]
        agentrt(tmp_path, "send", "blocker", "1")
        until((tmp_path / "blocked").exists)
        result = agentrt(tmp_path, "ps")
        assert result.returncode == ExitCode.NO_ANSWER
        assert f"http://{health}/health/live" in result.stderr
        family = run.family()
        run.signal(signal.SIGTERM)
        run.signal(signal.SIGINT)
        assert run.wait() in {ExitCode.INTERRUPTED, ExitCode.TERMINATED}
        assert gone(family)


def test_an_agent_that_blocks_the_event_loop_is_interrupted_where_that_is_asked_for(tmp_path: Path) -> None:
    """Its attempt has failed, as with any exception, and the fleet goes on."""
    config = write(tmp_path, "blocker", "echo") / "config.toml"
    config.write_text(config.read_text().replace("[inbox]", 'interrupt_after = "500ms"\n[inbox]'))
    run = Run(tmp_path)
    try:
        run.started()
        result = agentrt(tmp_path, "send", "blocker", "1", "--wait")
        assert result.returncode == ExitCode.DEAD_LETTERED
        assert "held the event loop for" in result.stderr
        assert agentrt(tmp_path, "send", "echo", "1", "--wait").returncode == ExitCode.OK
        assert agentrt(tmp_path, "stop").returncode == ExitCode.OK
    finally:
        run.end()
    assert "event_loop_interrupted" in run.log.read_text()


def test_an_actor_that_cannot_be_ended_does_not_keep_the_process(tmp_path: Path) -> None:
    """It is named in the log, and the exit code says that the stop was not in order."""
    with running(tmp_path, "undying") as run:
        run.started()
        agentrt(tmp_path, "send", "undying", "1")
        until((tmp_path / "in-hand").exists)
        family = run.family()
        run.signal(signal.SIGTERM)
        assert run.wait() == ExitCode.BROKEN
        assert gone(family)
        assert "zombie_left_behind" in run.log.read_text()


def test_after_a_kill_the_fleet_runs_again_on_the_same_directory(tmp_path: Path) -> None:
    """What the killed run left, files and a nats-server, is in nobody's way, and stored tasks are still there."""
    with running(tmp_path, "slow") as run:
        run.started()
        task = agentrt(tmp_path, "send", "slow", "1").stdout.strip()
        until((tmp_path / "in-hand").exists)
        orphans = run.family()
        run.process.kill()
        run.wait()
    assert agentrt(tmp_path, "ps").returncode == ExitCode.UNAVAILABLE
    (tmp_path / "go").touch()
    with running(tmp_path, "slow", deliveries=2) as again:
        again.started()
        assert gone(orphans)
        assert agentrt(tmp_path, "outcome", task, "--timeout", "30s").stdout == '"done"\n'
        assert agentrt(tmp_path, "stop").returncode == ExitCode.OK


def test_an_agent_that_calls_sys_exit_fails_its_task_and_the_fleet_goes_on(tmp_path: Path) -> None:
    """What one agent calls ends no other one."""
    with running(tmp_path, "leaver", "echo") as run:
        run.started()
        left = agentrt(tmp_path, "send", "leaver", "1", "--wait")
        assert (ExitCode.DEAD_LETTERED, True) == (left.returncode, "Leaver.handle called sys.exit(0)" in left.stderr)
        assert ExitCode.OK == agentrt(tmp_path, "send", "echo", "1", "--wait").returncode


def test_an_adapter_that_calls_sys_exit_ends_the_fleet_and_that_is_no_success(tmp_path: Path) -> None:
    """What is beside the agents is the fleet's; a service manager starts it again, and a person reads what happened."""
    config = write(tmp_path, "echo") / "config.toml"
    used = config.read_text().replace('trial_agents:Echo"', 'trial_agents:Echo"\nconnections = ["gone"]')
    config.write_text(used + '[connections.gone]\nkind = "trial_agents:Gone"\n')
    result = agentrt(tmp_path, "run", "config.toml")
    assert ExitCode.BROKEN == result.returncode
    assert "code of yours called sys.exit('no licence'), which ended the fleet in order" in result.stderr


# Starting


def test_a_health_address_that_is_taken_is_said_in_words(fleet: Run, tmp_path: Path) -> None:
    """With what to change; the fleet is not started."""
    write(tmp_path, "echo")
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace("127.0.0.1:0", fleet.info["health"]))
    result = agentrt(tmp_path, "run", "config.toml")
    assert result.returncode == ExitCode.SYSTEM
    assert "the health server cannot listen on" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_stall_limit_that_nobody_can_measure_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    """Said before anything runs."""
    write(tmp_path, "echo")
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace("[inbox]", 'stall_limit = "100ms"\n[inbox]'))
    result = agentrt(tmp_path, "run", "config.toml")
    assert result.returncode == ExitCode.CONFIG
    assert "agentrt: [health] stall_limit: " in result.stderr


@pytest.mark.parametrize("args", [("send", "echo", "1"), ("outcome", "1234abcd")])
def test_a_bus_that_cannot_be_reached_is_said_in_words(tmp_path: Path, args: tuple[str, ...]) -> None:
    """After the time that was given, with where it should be."""
    write(tmp_path, "echo")
    config = tmp_path / "config.toml"
    config.write_text(f'{config.read_text()}[bus]\nurl = "nats://me:hunter2@127.0.0.1:1"\n')
    result = agentrt(tmp_path, *args, "--timeout", "500ms")
    assert result.returncode == ExitCode.UNAVAILABLE
    assert "the bus at nats://127.0.0.1:1 did not do it within 500ms: " in result.stderr
    assert "hunter2" not in result.stderr


def test_a_state_directory_with_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    """A Unix socket's path is limited to about a hundred bytes, a folder's is not."""
    folder = tmp_path / ("x" * 120)
    with running(folder, "echo") as run:
        control = Path(run.info["control"])
        assert folder not in control.parents
        assert agentrt(folder, "ps").returncode == ExitCode.OK
        run.signal(signal.SIGTERM)
        assert run.wait() == ExitCode.OK
        assert not control.parent.exists()


def test_what_init_writes_runs_as_it_stands(tmp_path: Path) -> None:
    """The fleet, and its test."""
    assert agentrt(tmp_path, "init", "first").returncode == ExitCode.OK
    folder = tmp_path / "first"
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert "1 passed" in tested.stdout
    config = folder / "config.toml"
    # The port that people use may be taken on this machine.
    config.write_text(config.read_text().replace("127.0.0.1:8080", "127.0.0.1:0"))
    run = Run(folder)
    try:
        run.started()
        result = agentrt(folder, "send", "greeter", '{"name": "Ada", "language": "fr"}', "--wait")
        assert json.loads(result.stdout) == {"greeting": "Bonjour, Ada!"}
        assert agentrt(folder, "stop").returncode == ExitCode.OK
        assert run.wait() == ExitCode.OK
    finally:
        run.end()
