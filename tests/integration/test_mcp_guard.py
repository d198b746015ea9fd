"""`agentrt mcp guard` between a client and real servers: the session goes on whatever the server does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp
import psutil
import pytest
import trio
from mcp.client.stdio import StdioServerParameters, stdio_client
from processes import MARK, processes

AGENTRT = str(Path(sys.executable).with_name("agentrt"))
COUNTED = (sys.executable, str(Path(__file__).parent / "servers" / "counted.py"))
TIME = (sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC")
#: Tells at its end what a program has imported.
AT_EXIT = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
#: Seconds that anything may take on a machine with much to do.
PATIENCE = 60.0


class Client:
    """A client that speaks in lines, and the guard that it started."""

    def __init__(self, guard: trio.Process, status: Path) -> None:
        self.guard = guard
        self.status_file = status
        self.answers: dict[Any, dict[str, Any]] = {}
        self.told: list[dict[str, Any]] = []
        self.said = ""
        self._numbers = iter(range(1, 1_000_000))
        self._arrived = trio.Event()
        self._sending = trio.Lock()

    async def listen(self) -> None:
        assert self.guard.stdout is not None
        read = b""
        async for chunk in self.guard.stdout:
            *lines, read = (read + chunk).split(b"\n")
            for message in map(json.loads, lines):
                if "method" in message:
                    self.told.append(message)
                else:
                    assert message["id"] not in self.answers, f"answered twice: {message}"
                    self.answers[message["id"]] = message
                self._arrived.set()
                self._arrived = trio.Event()

    async def listen_to_stderr(self) -> None:
        assert self.guard.stderr is not None
        async for chunk in self.guard.stderr:
            self.said += chunk.decode()

    async def send(self, **message: Any) -> None:
        assert self.guard.stdin is not None
        async with self._sending:
            await self.guard.stdin.send_all(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self.send(id=number, method=method, params=params)
        while number not in self.answers:
            await self._arrived.wait()
        return self.answers[number]

    async def initialize(self) -> None:
        answer = await self.ask(
            "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "test", "version": "1"}
        )
        assert "result" in answer
        await self.send(method="notifications/initialized")
        await self.ask("tools/list")

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return await self.ask("tools/call", name=tool, arguments=arguments)

    async def server(self) -> int:
        """Say which process answers."""
        return int((await self.call("look"))["result"]["content"][0]["text"])

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.status_file.read_text())
        return found


@asynccontextmanager
async def guarded(mark: str, folder: Path, *options: str, command: tuple[str, ...] = ()) -> AsyncIterator[Client]:
    status = folder / "status.json"
    server = command or (*COUNTED, str(folder / "done"))
    with trio.fail_after(PATIENCE):
        guard = await trio.lowlevel.open_process(
            [AGENTRT, "mcp", "guard", "--name", "counted", "--status-file", str(status), *options, "--", *server],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, MARK: mark},
        )
        client = Client(guard, status)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.listen)
            nursery.start_soon(client.listen_to_stderr)
            try:
                yield client
            finally:
                with trio.move_on_after(PATIENCE, shield=True):
                    await guard.stdin.aclose()
                    await guard.wait()
                    await until(lambda: not processes(mark))
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the conditions are about other processes.
        await trio.sleep(0.01)


async def test_a_session_goes_on_with_the_next_server(mark, tmp_path):
    """The client initialises once, and every server after the first is initialised for it."""
    async with guarded(mark, tmp_path) as client:
        await client.initialize()
        servers = [await client.server()]
        for _ in range(2):
            os.kill(servers[-1], signal.SIGKILL)
            servers.append(await client.server())
        assert len(set(servers)) == 3
        await until(lambda: client.status()["restarts"] == 2)
    assert client.guard.returncode == 0
    assert client.status()["state"] == "stopped"
    assert "counted: the server was killed by SIGKILL; started again at once, attempt 1" in client.said
    assert "counted is listening" in client.said


async def test_what_read_the_command_line_is_gone(mark, tmp_path):
    """The program that stays is another one, in the same process."""
    async with guarded(mark, tmp_path) as client:
        await client.initialize()
        assert psutil.Process(client.guard.pid).cmdline()[1:4] == ["-P", "-m", "actors.mcp_guard_program"]


def loaded_by(program: str, *arguments: str, mark: str) -> set[str]:
    """Run a program that reads one line, and say which modules it has at its end."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{AT_EXIT}; {program}", *arguments],
        input=b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n',
        capture_output=True,
        env={**os.environ, MARK: mark},
        check=True,
    )
    return set(done.stderr.decode().splitlines()[-1].split())


def test_the_guard_imports_only_what_it_uses(mark):
    """It stays for days, once for each server: no command line, no configuration, no client library, no kernel."""
    settings = {"name": "cat", "status_file": None, "metrics_port": None}
    guard = "import runpy; runpy.run_module('actors.mcp_guard_program', run_name='__main__', alter_sys=True)"
    loaded = loaded_by(guard, json.dumps(settings), "cat", mark=mark)
    ours = {name.removeprefix("agentrt.") for name in loaded if name.startswith("agentrt.")}
    policies = {f"policy.{name}" for name in ("backoff", "memory", "repeatable", "server_restart")}
    assert ours == {"_lazy", "policy", *policies}
    others = {name.partition(".")[0] for name in loaded - loaded_by("import attrs, trio", mark=mark)}
    assert others - sys.stdlib_module_names == {"actors", "agentrt"}


async def test_a_call_in_flight_fails_at_once_and_is_not_done_twice(mark, tmp_path):
    async with guarded(mark, tmp_path) as client:
        await client.initialize()
        server = await client.server()
        async with trio.open_nursery() as nursery:

            async def stall() -> None:
                error = (await client.call("stall"))["error"]
                assert error["data"]["kind"] == "outcome_unknown"
                assert "killed by SIGKILL" in error["message"]

            nursery.start_soon(stall)
            await until((tmp_path / "done.busy").exists)
            os.kill(server, signal.SIGKILL)
        assert await client.server() != server
        await until(lambda: client.status()["unknown"] == 1)


async def test_a_call_that_only_reads_is_answered_by_the_next_server(mark, tmp_path):
    async with guarded(mark, tmp_path) as client:
        await client.initialize()
        server = await client.server()
        async with trio.open_nursery() as nursery:

            async def slow() -> None:
                assert int((await client.call("slow", seconds=1))["result"]["content"][0]["text"]) != server

            nursery.start_soon(slow)
            await until((tmp_path / "done.busy").exists)
            os.kill(server, signal.SIGKILL)
        await until(lambda: client.status()["resent"] == 1)


async def test_a_warm_spare_takes_over(mark, tmp_path):
    """It is the process that stood by, and its like stands by after it."""
    command = (*COUNTED, str(tmp_path / "done"), "--start-seconds", "1")
    async with guarded(mark, tmp_path, "--warm-spare", command=command) as client:
        await client.initialize()
        first = await client.server()

        def servers() -> set[int]:
            return {p.pid for p in processes(mark) if "counted.py" in " ".join(p.cmdline()) and is_server(p)}

        await until(lambda: len(servers()) == 2)
        # It has taken the handshake by the time that it has been idle for a moment.
        await trio.sleep(1.5)
        (spare,) = servers() - {first}
        os.kill(first, signal.SIGKILL)
        assert await client.server() == spare
        await until(lambda: len(servers() - {first}) == 2)


def is_server(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[1:2] == [COUNTED[1]]
    except psutil.NoSuchProcess:
        return False


async def test_a_server_that_is_too_large_is_replaced_when_its_call_is_done(mark, tmp_path):
    """Not within its first minute, which would not help; here that is reported."""
    async with guarded(mark, tmp_path, "--memory-limit", "80MiB") as client:
        await client.initialize()
        await client.call("hoard", mib=100)
        # Its file is written a moment after the answer.
        await until(lambda: client.status()["state"] == "ready")


async def test_a_server_is_replaced_when_it_is_old(mark, tmp_path):
    async with guarded(mark, tmp_path, "--restart-every", "1s") as client:
        await client.initialize()
        server = await client.server()
        await until(lambda: client.status()["restarts"] == 1)
        assert await client.server() != server
    assert "the server was replaced: it ran for 1 s" in client.said


async def test_a_call_that_takes_too_long_fails_and_a_silent_server_is_replaced(mark, tmp_path):
    async with guarded(mark, tmp_path, "--call-timeout", "500ms", "--ping-interval", "300ms") as client:
        await client.initialize()
        server = await client.server()
        error = (await client.call("stall"))["error"]
        assert (error["data"]["kind"], error["message"][:20]) == ("outcome_unknown", "no answer within 0.5")
        # What is asked before the silence was long enough has its own limit.
        while "result" not in (answer := await client.call("look")):
            assert answer["error"]["data"]["kind"] == "outcome_unknown"
        assert int(answer["result"]["content"][0]["text"]) != server
    assert "gave no sign of life" in client.said


async def test_a_limit_for_calls_is_none_for_the_handshake(mark, tmp_path):
    """A server that takes its time to start is not cut off, and the next one is greeted."""
    command = (*COUNTED, str(tmp_path / "done"), "--start-seconds", "1.5")
    async with guarded(mark, tmp_path, "--call-timeout", "300ms", command=command) as client:
        await client.initialize()
        server = await client.server()
        os.kill(server, signal.SIGKILL)
        assert await client.server() != server


async def test_a_server_that_never_answers_the_client_s_handshake_is_replaced(mark, tmp_path):
    """The client waits for the answer, and gets it of the server that takes it."""
    slow_once = (
        "import os, pathlib, sys, time\n"
        "first = pathlib.Path(sys.argv[1])\n"
        "if not first.exists():\n"
        "    first.touch()\n"
        "    time.sleep(600)\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
    )
    command = (sys.executable, "-c", slow_once, str(tmp_path / "first"), *COUNTED[1:], str(tmp_path / "done"))
    async with guarded(mark, tmp_path, "--start-timeout", "5s", command=command) as client:
        await client.initialize()
        assert await client.server()
    assert "did not take the handshake within 5 s" in client.said


async def test_a_stopped_server_is_replaced(mark, tmp_path):
    """Nothing is closed and nothing ends: only unanswered pings tell."""
    async with guarded(mark, tmp_path, "--ping-interval", "300ms") as client:
        await client.initialize()
        server = await client.server()
        os.kill(server, signal.SIGSTOP)
        await until(lambda: client.status()["restarts"] == 1)
        assert await client.server() != server


async def test_a_crash_loop_is_held_back_and_says_why(mark, tmp_path):
    """At once, then after about two seconds, and not hundreds of times."""
    command = (*COUNTED, str(tmp_path / "done"), "--crash-at-start")
    async with guarded(mark, tmp_path, "--wait", "1s", command=command) as client:
        error = (await client.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={}))["error"]
        assert error["data"]["kind"] == "unavailable"
    assert "no database at localhost:1" in client.said
    assert client.said.count("the server exited with code 1") <= 4


@pytest.mark.parametrize("command", [("/no/such/program",), ("/etc",)])
async def test_a_command_that_is_none_ends_the_guard(mark, tmp_path, command):
    async with guarded(mark, tmp_path, command=command) as client:
        await client.guard.wait()
        await until(lambda: "cannot be started" in client.said)
    assert client.guard.returncode == 127
    assert f"'{command[0]}' cannot be started" in client.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_nobody_outlives_the_guard(mark, tmp_path, number):
    async with guarded(mark, tmp_path) as client:
        await client.initialize()
        client.guard.send_signal(number)
        await client.guard.wait()
        await until(lambda: not processes(mark))
    assert client.guard.returncode == (-number if number == signal.SIGKILL else 0)


async def test_metrics_are_served_where_that_is_asked_for(mark, tmp_path):
    async with guarded(mark, tmp_path, "--metrics", "0") as client:
        await client.initialize()
        await until(lambda: "metrics on http://127.0.0.1:" in client.said)
        port = int(client.said.partition("http://127.0.0.1:")[2].partition("/")[0])
        await until(lambda: client.status()["answered"] == 2)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join([chunk async for chunk in stream]).decode()
        await stream.aclose()
    assert 'agentrt_guard_answered_total{server="counted"} 2.0' in text
    assert 'agentrt_guard_up{server="counted"} 1.0' in text


async def test_a_port_that_is_taken_costs_the_metrics_and_not_the_session(mark, tmp_path):
    """A client that starts the same command twice has two guards."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        async with guarded(mark, tmp_path, "--metrics", str(port)) as client:
            await client.initialize()
            assert await client.server() > 0
    assert f"cannot serve metrics on 127.0.0.1:{port}, and goes on without: Address already in use" in client.said
    assert "Traceback" not in client.said


async def test_a_server_that_never_answered_is_not_called_ready(mark, tmp_path):
    """It is started again and again, and told as what is probably permanent."""
    async with guarded(mark, tmp_path, command=("sh", "-c", "exit 3")) as client:
        await until(lambda: "which is probably permanent" in client.said)
        assert "restarting" == client.status()["state"]
    assert "started again after" in client.said
    assert "ready again" not in client.said


async def test_a_server_is_ready_once_it_has_answered(mark, tmp_path):
    """Before that nothing is known of it."""
    async with guarded(mark, tmp_path) as client:
        await until(lambda: client.status_file.exists() and client.status()["pid"] is not None)
        assert "starting" == client.status()["state"]
        await client.initialize()
        await until(lambda: client.status()["state"] == "ready")
        os.kill(await client.server(), signal.SIGKILL)
        await until(lambda: "ready again after" in client.said)


async def test_a_status_file_that_cannot_be_written_harms_nobody(mark, tmp_path):
    async with guarded(mark, tmp_path, "--status-file", str(tmp_path / "none" / "status.json")) as client:
        await client.initialize()
        assert await client.server() > 0
        await until(lambda: "and does not try again: No such file or directory" in client.said)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_sdk_s_client_and_a_real_server_notice_a_pause(mark, tmp_path, mode):
    """In the handshake's era and in the one without; one line of the client's configuration is what changes."""
    status = tmp_path / "status.json"
    parameters = StdioServerParameters(
        command=AGENTRT,
        args=["mcp", "guard", "--status-file", str(status), "--", *TIME],
        env={**os.environ, MARK: mark},
    )
    with trio.fail_after(PATIENCE):
        with (tmp_path / "stderr").open("w") as stderr:
            async with mcp.Client(stdio_client(parameters, errlog=stderr), mode=mode) as client:
                for _ in range(3):
                    result = await client.call_tool("get_current_time", {"timezone": "UTC"})
                    assert not result.is_error
                    pid = json.loads(status.read_text())["pid"]
                    os.kill(pid, signal.SIGKILL)
                    await until(lambda pid=pid: json.loads(status.read_text())["pid"] not in (pid, None))
                assert {tool.name for tool in (await client.list_tools()).tools} >= {"get_current_time", "convert_time"}
        await until(lambda: not processes(mark))
