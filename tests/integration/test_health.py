"""Health over HTTP from outside the event loop: what it says while the loop stands, and who can keep it from that."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import structlog
import trio

from agentrt.ops.board import SnapshotBoard
from agentrt.ops.health import MAX_CONNECTIONS, HealthListenError, HealthServer
from agentrt.ops.loopwatch import LoopWatch
from agentrt.ops.metrics import Metrics
from agentrt.ops.snapshot import AgentSnapshot, Check, FleetSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping, Sequence

PATIENCE = 30.0


@attrs.frozen
class Answer:
    """What an HTTP client got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(server: HealthServer, path: str, method: str = "GET") -> Answer:
    host, _, port = server.address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=PATIENCE)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def connect(server: HealthServer) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


@pytest.fixture
def board() -> SnapshotBoard:
    return SnapshotBoard(beat_interval=0.05)


@pytest.fixture
def metrics(board: SnapshotBoard) -> Metrics:
    return Metrics(board)


@pytest.fixture
def server(board: SnapshotBoard, metrics: Metrics) -> Iterator[HealthServer]:
    """A server with its usual limits, which nobody beats for: it is alive for the first 30 seconds."""
    server = HealthServer("127.0.0.1:0", board, metrics)
    server.start()
    yield server
    server.stop()


def think_very_hard(done: threading.Event) -> None:
    """Block the thread, as a synchronous call in an agent does."""
    for _ in range(int(PATIENCE / 0.01)):
        if done.is_set():
            return
        time.sleep(0.01)


async def test_a_blocked_loop_is_seen_from_outside_with_the_stack_of_who_blocks(
    board: SnapshotBoard, metrics: Metrics
) -> None:
    """Liveness and readiness fail while it stands, the log names the function, and all is well again afterwards."""
    stall_limit = 0.5
    server = HealthServer("127.0.0.1:0", board, metrics, stall_limit=stall_limit)
    watch = LoopWatch(board, stall_limit)
    server.start()
    watch.start()
    done = threading.Event()
    seen: dict[str, Answer] = {}

    def look_from_outside(logs: Sequence[MutableMapping[str, Any]]) -> None:
        try:
            until(lambda: ask(server, "/health/live").status == 503)
            until(lambda: len(_named(logs, "event_loop_blocked")) >= 2)
            until(lambda: ask(server, "/health/ready").status == 503)
            for path in ("/health/live", "/health/ready", "/metrics"):
                seen[path] = ask(server, path)
        finally:
            done.set()

    try:
        with structlog.testing.capture_logs() as logs, trio.fail_after(2 * PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.beat_forever)
                board.publish(_fleet(board))
                assert (await trio.to_thread.run_sync(ask, server, "/health/live")).status == 200
                outside = threading.Thread(target=look_from_outside, args=(logs,))
                outside.start()
                think_very_hard(done)
                await trio.to_thread.run_sync(outside.join)
                await trio.to_thread.run_sync(until, lambda: bool(_named(logs, "event_loop_unblocked")))
                assert (await trio.to_thread.run_sync(ask, server, "/health/live")).status == 200
                nursery.cancel_scope.cancel()
    finally:
        watch.stop()
        server.stop()
    _assert_the_block_was_told(seen, _named(logs, "event_loop_blocked"), stall_limit)


def _assert_the_block_was_told(
    seen: dict[str, Answer], blocked: Sequence[MutableMapping[str, Any]], stall_limit: float
) -> None:
    live, ready, scraped = (seen[path] for path in ("/health/live", "/health/ready", "/metrics"))
    assert live.status == ready.status == 503
    assert live.json["failed"] == ["event_loop"]
    assert "has not turned for" in live.json["process"][0]["reason"]
    assert ready.json["failed"] == ["snapshot_fresh"]
    lag = next(line for line in scraped.body.decode().splitlines() if line.startswith("agentrt_event_loop_lag"))
    assert float(lag.split()[1]) > stall_limit - 0.05
    assert blocked[0]["seconds"] < blocked[1]["seconds"]
    assert blocked[1]["seconds"] >= stall_limit
    assert all("think_very_hard" in entry["stack"] for entry in blocked)
    assert all(entry["log_level"] == "warning" for entry in blocked)


def _named(logs: Sequence[MutableMapping[str, Any]], event: str) -> Sequence[MutableMapping[str, Any]]:
    return [entry for entry in tuple(logs) if entry["event"] == event]


def _fleet(board: SnapshotBoard, **more: Any) -> FleetSnapshot:
    return FleetSnapshot(fleet="newsroom", taken_at=board.now(), **more)


SLEEPER = """
import sys
import trio
from agentrt.config.model import LogConfig
from agentrt.ops.board import SnapshotBoard
from agentrt.ops.logs import configure
from agentrt.ops.loopwatch import LoopWatch

configure(LogConfig(format="json"))
board = SnapshotBoard()
watch = LoopWatch(board, stall_limit=30.0, warn_after=1.0)

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.beat_forever)
        watch.start()
        await trio.sleep(1)
        print("ready", flush=True)

trio.run(main)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_process_that_was_suspended_does_not_blame_its_loop() -> None:
    """Neither the loop nor the watcher ran: the log says so, and nobody is accused."""
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    guard = threading.Timer(2 * PATIENCE, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        # The only way to be suspended for a while is to wait for a while; longer changes nothing.
        time.sleep(2.0)
        process.send_signal(signal.SIGCONT)
        kinds = []
        for line in process.stderr:
            entry = json.loads(line)
            kinds.append(entry["event"])
            if entry["event"] == "process_suspended" and entry["seconds"] > 1.0:
                break
        assert "process_suspended" in kinds
        assert "event_loop_blocked" not in kinds
    finally:
        guard.cancel()
        process.kill()
        process.communicate()


def test_each_path_answers_in_json_with_every_check(board: SnapshotBoard, server: HealthServer) -> None:
    """By name, result and reason, grouped by process and agent; 200 where all is well and 503 where not."""
    bad = Check("mcp:archive", ok=False, reason="exit status 1")
    agents = (
        AgentSnapshot(name="editor", state="running", checks=(bad,), tasks_in_hand=1, seconds_since_progress=700),
    )
    board.publish(_fleet(board, agents=agents, checks=(Check("memory_below_limit", ok=True, reason="12 %"),)))
    assert ask(server, "/health/live").status == 200
    ready, alias = ask(server, "/health/ready"), ask(server, "/ready?verbose")
    assert ready.status == alias.status == 503
    assert ready.headers["Content-Type"] == "application/json"
    assert ready.json["failed"] == alias.json["failed"] == ["editor/mcp:archive"]
    assert ready.json["agents"] == {"editor": [{"name": "mcp:archive", "ok": False, "reason": "exit status 1"}]}
    assert [check["name"] for check in ready.json["process"]] == [
        "snapshot_fresh",
        "not_stopping",
        "memory_below_limit",
    ]
    moving = ask(server, "/health/progress")
    assert moving.status == 503
    assert moving.json["failed"] == ["editor/progress"]
    board.publish(_fleet(board))
    assert [ask(server, path).status for path in ("/health/ready", "/health/progress")] == [200, 200]


def test_metrics_are_served_as_prometheus_reads_them(server: HealthServer) -> None:
    """In its text format."""
    answer = ask(server, "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\n# TYPE fleet_agents_healthy_total gauge\n" in answer.body


def test_a_metric_that_cannot_be_read_is_a_500_and_no_end(server: HealthServer, metrics: Metrics) -> None:
    """The log has the reason, and the other paths go on."""

    class Broken:
        def collect(self) -> list[Any]:
            raise ZeroDivisionError

    metrics.registry.register(Broken())
    with structlog.testing.capture_logs() as logs:
        assert ask(server, "/metrics").status == 500
        assert ask(server, "/health/live").status == 200
    assert [(entry["event"], entry["error"]) for entry in logs] == [("health_request_failed", "ZeroDivisionError()")]


def test_an_unknown_path_lists_those_that_there_are(server: HealthServer) -> None:
    """Whoever mistypes a probe sees at once what to write."""
    answer = ask(server, "/healthz")
    assert answer.status == 404
    expected = ["/health/live", "/health/progress", "/health/ready", "/metrics", "/ready"]
    assert expected == answer.json["paths"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_only_reading_is_allowed(server: HealthServer, method: str) -> None:
    """Everything else is told what is."""
    answer = ask(server, "/health/live", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_head_has_the_status_and_no_body(server: HealthServer) -> None:
    """As some load balancers ask."""
    with connect(server) as client:
        client.sendall(b"HEAD /health/ready HTTP/1.1\r\n\r\n")
        head, end, body = _everything_from(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 503 ")
    assert b"Content-Length: " in head
    assert (end, body) == (b"\r\n\r\n", b"")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\n\r\n", 400),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"BREW /health/live HTTP/1.1\r\n\r\n", 501),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
    ],
)
def test_nonsense_is_answered_in_json_and_the_server_goes_on(server: HealthServer, sent: bytes, status: int) -> None:
    """TLS against a plain port, endless paths, too many headers, unknown methods."""
    with connect(server) as client:
        client.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            answer = _everything_from(client)
            head, _, body = answer.rpartition(b"\r\n\r\n")
            assert "error" in json.loads(body)
            assert (str(status).encode() in head.split(b"\r\n")[0]) or not head
    assert ask(server, "/health/live").status == 200


def _everything_from(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def test_slow_clients_do_not_keep_a_probe_waiting(board: SnapshotBoard, metrics: Metrics) -> None:
    """However many there are: one more than fits ends the oldest, never the newest."""
    server = HealthServer("127.0.0.1:0", board, metrics, request_limit=3600.0)
    server.start()
    with contextlib.ExitStack() as stack, structlog.testing.capture_logs() as logs:
        stack.callback(server.stop)
        slow = [stack.enter_context(connect(server)) for _ in range(3 * MAX_CONNECTIONS)]
        for client in slow[-3:]:
            client.sendall(b"GET /health/live HTTP/1.1\r\nX-Slow: ")
        assert ask(server, "/health/live").status == 200
        assert slow[0].recv(1) == b""
        assert logs == []


def test_a_request_that_trickles_is_ended(board: SnapshotBoard, metrics: Metrics) -> None:
    """The limit is for the whole request: a byte now and then does not buy more time."""
    server = HealthServer("127.0.0.1:0", board, metrics, request_limit=0.2)
    server.start()
    try:
        with connect(server) as client, structlog.testing.capture_logs() as logs:
            client.settimeout(0.02)
            ended = False

            def trickle() -> bool:
                nonlocal ended
                try:
                    client.send(b"x")
                    ended = client.recv(1) == b""
                except TimeoutError:
                    pass
                except OSError:
                    ended = True
                return ended

            until(trickle)
            assert logs == []
    finally:
        server.stop()


def test_a_port_in_use_is_named_with_what_to_set(server: HealthServer, board: SnapshotBoard, metrics: Metrics) -> None:
    """The second fleet on a machine is the usual case."""
    second = HealthServer(server.address, board, metrics)
    with pytest.raises(HealthListenError) as raised:
        second.start()
    text = str(raised.value)
    assert f'cannot listen on "{server.address}": Address already in use' in text
    assert "listen in [health]" in text
    second.stop()


@pytest.mark.parametrize(
    "listen", ["8080", "localhost", "127.0.0.1:", "127.0.0.1:http", "::1:8080", "127.0.0.1:99999", "192.0.2.1:0", ""]
)
def test_an_address_that_is_none_is_refused(listen: str, board: SnapshotBoard, metrics: Metrics) -> None:
    """With the same clear error."""
    with pytest.raises(HealthListenError, match=r"cannot listen on .*listen in \[health\]"):
        HealthServer(listen, board, metrics).start()


def test_an_empty_host_is_every_address(board: SnapshotBoard, metrics: Metrics) -> None:
    """As a pod in Kubernetes needs it."""
    server = HealthServer(":0", board, metrics)
    server.start()
    try:
        assert server.address.startswith("0.0.0.0:")
        assert ask(server, "/health/live").status == 200
    finally:
        server.stop()


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="needs IPv6")
def test_an_ipv6_host_stands_in_brackets(board: SnapshotBoard, metrics: Metrics) -> None:
    """In the setting as in the address."""
    server = HealthServer("[::1]:0", board, metrics)
    server.start()
    try:
        assert server.address.startswith("[::1]:")
        assert ask(server, "/health/live").status == 200
    finally:
        server.stop()


def test_a_stopped_server_leaves_nothing(board: SnapshotBoard, metrics: Metrics) -> None:
    """No thread, no port and no client that hangs; it may be stopped twice and started again."""
    before = set(threading.enumerate())
    server = HealthServer("127.0.0.1:0", board, metrics)
    server.stop()
    server.start()
    address = server.address
    with connect(server) as hanging:
        hanging.sendall(b"GET /hea")
        # Once this is answered, the one before it was accepted.
        assert ask(server, "/health/live").status == 200
        server.stop()
        server.stop()
        assert hanging.recv(1) == b""
    until(lambda: set(threading.enumerate()) <= before)
    with pytest.raises(RuntimeError, match="not started"):
        assert server.address
    again = HealthServer(address, board, metrics)
    again.start()
    assert ask(again, "/health/live").status == 200
    again.stop()


async def test_a_watch_says_nothing_once_its_loop_is_done(board: SnapshotBoard) -> None:
    """A loop that ended is not blocked; the thread looks on for a while and keeps silent."""
    watch = LoopWatch(board, stall_limit=0.5)
    watch.start()
    with structlog.testing.capture_logs() as logs, trio.fail_after(PATIENCE):
        with trio.move_on_after(0.2):
            await watch.beat_forever()
        beat = board.last_beat
        # What a busy machine did to the loop while it ran is not asked here.
        await trio.to_thread.run_sync(until, lambda: board.now() - beat > 0.2)
        logs.clear()
        await trio.to_thread.run_sync(until, lambda: board.now() - beat > 1.0)
        watch.stop()
    assert _named(logs, "event_loop_blocked") == []


async def test_a_watch_that_is_used_again_does_not_count_the_time_between() -> None:
    """Nobody beat meanwhile because nobody had to."""
    seconds = 1000.0
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += threading.current_thread().name == "agentrt-loopwatch"
        return seconds

    watch = LoopWatch(SnapshotBoard(beat_interval=0.05, clock=clock), stall_limit=0.5)
    watch.start()
    with structlog.testing.capture_logs() as logs, trio.fail_after(PATIENCE):
        for _ in range(2):
            enough = looks + 3
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.beat_forever)
                await trio.to_thread.run_sync(until, lambda enough=enough: looks >= enough)
                nursery.cancel_scope.cancel()
            seconds += 3600.0
        watch.stop()
    assert logs == []
