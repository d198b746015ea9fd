"""Sessions with real MCP servers as child processes, in real time."""

from __future__ import annotations

import os
import random
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from processes import MARK, processes

from actors._mcp_launch import launcher_of, spawn_process
from actors._mcp_owner import Owner
from actors.mcp_session import McpSession, McpToolSession
from agentrt.config.model import McpServerConfig
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.ports import ToolError

SERVERS = Path(__file__).parent / "servers"
PARTNER = (sys.executable, str(SERVERS / "partner.py"))
BARE = (sys.executable, str(SERVERS / "bare.py"))
TIME = (sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC")


class Opened:
    """A session whose actor runs, and what it said."""

    def __init__(self, session: McpToolSession) -> None:
        self.session = session
        self.events: list[Event] = []

    def named(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]


@pytest.fixture
def marker() -> Iterator[str]:
    """Mark all processes of a test in their environment; none may be left after it."""
    mark = uuid.uuid4().hex
    yield mark
    assert processes(mark) == []


@asynccontextmanager
async def opened(
    command: tuple[str, ...], mark: str, *, log: Path | None = None, limit: float = 60.0, **config: Any
) -> AsyncIterator[Opened]:
    settings = McpServerConfig(command=command, env={MARK: mark}, **config)
    opened_session = Opened(McpToolSession("partner", settings, log=log))
    stream = EventStream()
    stream.listen(opened_session.events.append)
    child = ChildSpec(id="mcp", factory=lambda: McpSession(opened_session.session), shutdown=12.0)
    with trio.fail_after(limit):
        async with open_runtime(SupervisorSpec(id="agent", children=(child,)), events=stream):
            yield opened_session


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - most conditions are about another process.
        await trio.sleep(0.01)


async def test_answers_come_as_the_tool_gave_them(marker):
    """Structured content, else text, else the content blocks; a tool's error is an error of kind tool."""
    async with opened(PARTNER, marker) as world:
        await world.session.wait_ready()
        assert await world.session.call("pid") == {"result": world.session.pid}
        assert await world.session.call("echo", {"text": "grüß dich"}) == "grüß dich"
        assert await world.session.call("picture") == [
            {"type": "text", "text": "look"},
            {"type": "image", "data": "aGk=", "mimeType": "image/png"},
        ]
        with pytest.raises(ToolError) as caught:
            await world.session.call("fail", {"reason": "no page"})
        assert caught.value.kind == "tool"


async def test_mcp_server_git_works_and_keeps_its_errors(marker, tmp_path):
    """A server from the wild: an answer, a tool's error, and a refusal."""
    await trio.run_process(["git", "init", "-q", str(tmp_path)])
    async with opened((sys.executable, "-m", "mcp_server_git"), marker) as world:
        assert "No commits yet" in str(await world.session.call("git_status", {"repo_path": str(tmp_path)}))
        with pytest.raises(ToolError) as caught:
            await world.session.call("git_status", {"repo_path": "/nowhere"})
        assert caught.value.kind in {"tool", "permanent"}
        with pytest.raises(ToolError, match="no such tool"):
            await world.session.call("git_bisect")


async def test_the_server_sees_a_safe_environment(marker, monkeypatch):
    """Secrets of the fleet are not the server's; what is configured is."""
    monkeypatch.setenv("FLEET_SECRET", "hush")
    async with opened(PARTNER, marker) as world:
        await world.session.wait_ready()
        environment = psutil.Process(world.session.pid).environ()
    assert "FLEET_SECRET" not in environment
    assert environment["AGENTRT_TEST"] == marker


@pytest.mark.parametrize("command", [TIME, PARTNER])
async def test_a_server_killed_when_idle_is_there_for_the_next_call(marker, command):
    """The call that follows a SIGKILL waits for the new server and is answered by it."""
    tool, arguments = ("get_current_time", {"timezone": "UTC"}) if command is TIME else ("echo", {"text": "hi"})
    async with opened(command, marker) as world:
        await world.session.wait_ready()
        first = world.session.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: not world.session.is_ready)
        assert await world.session.call(tool, arguments)
        assert world.session.pid != first
    restarted = world.named("mcp_server_restarted")[0]
    assert restarted.cause == world.named("mcp_server_exited")[0].id
    assert world.named("mcp_server_exited")[0].fields["signal"] == "SIGKILL"
    assert world.named("tool_call_retried") == []


async def test_a_call_in_hand_at_a_kill_fails_at_once_and_the_next_works(marker):
    """It may have happened: the caller decides."""
    async with opened(PARTNER, marker) as world:
        await world.session.wait_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_kill_in_call, world.session)
            with pytest.raises(ToolError, match="was killed by SIGKILL during the call") as caught:
                await world.session.call("sleep", {"seconds": 60})
        assert (caught.value.kind, caught.value.may_have_happened) == ("transient", True)
        assert await world.session.call("echo", {"text": "again"}) == "again"


async def _kill_in_call(session: McpToolSession) -> None:
    await trio.sleep(0.2)
    assert session.pid is not None
    os.kill(session.pid, signal.SIGKILL)


async def test_an_idempotent_call_survives_the_death_of_its_server(marker, tmp_path):
    """It is repeated, and says so by events."""
    async with opened(PARTNER, marker) as world:
        call = world.session.call("crash_once", {"marker": str(tmp_path / "died")}, idempotent=True)
        assert await call == {"result": "second time lucky"}
    assert [event.fields["attempt"] for event in world.named("tool_call_retried")] == [1]
    assert [event.fields["attempt"] for event in world.named("tool_call_recovered")] == [2]


async def test_a_call_that_the_dead_server_never_read_is_repeated(marker, tmp_path):
    """What is left in a dead server's pipe cannot have happened; the call that it was busy with can."""
    async with opened((*BARE, "dies-when-told"), marker) as world, trio.open_nursery() as nursery:
        await world.session.wait_ready()
        nursery.start_soon(_expect_may_have_happened, world.session, {"text": str(tmp_path)})
        await until((tmp_path / "busy").exists)
        nursery.start_soon(_answer_after, world.session, tmp_path / "go")
        assert await world.session.call("echo", {"text": "hi"}) == "hi"
    assert len(world.named("tool_call_retried")) == 1


async def _expect_may_have_happened(session: McpToolSession, arguments: dict[str, str]) -> None:
    with pytest.raises(ToolError, match="exited with code 9") as caught:
        await session.call("echo", arguments)
    assert caught.value.may_have_happened


async def _answer_after(session: McpToolSession, go: Path) -> None:
    await until(lambda: session.desk.calls == 2)
    await trio.Path(go).touch()


async def test_a_server_killed_again_and_again_is_held_back(marker):
    """The first restart is at once, the second is not."""
    async with opened(PARTNER, marker) as world:
        for _ in range(3):
            await world.session.wait_ready()
            os.kill(world.session.pid, signal.SIGKILL)
            await until(lambda: not world.session.is_ready)
        await until(lambda: len(world.named("mcp_server_exited")) == 3)
    backoffs = [event.fields["backoff"] for event in world.named("mcp_server_exited")]
    assert backoffs[0] == 0.0
    assert 1.6 <= backoffs[1] <= 2.0
    assert 3.2 <= backoffs[2] <= 4.0


async def test_a_server_that_crashes_at_start_says_why(marker):
    """Exit code and stderr are in the event, and in the reason."""
    async with opened((*PARTNER, "--fail-at-start", "3"), marker) as world:
        await until(lambda: len(world.named("mcp_server_exited")) == 2)
        assert "no database at localhost:1" in world.session.reason
    fields = world.named("mcp_server_exited")[0].fields
    assert (fields["exit_code"], fields["stderr"]) == (3, "no database at localhost:1")


async def test_a_stopped_server_is_noticed_and_healed_by_a_restart(marker):
    """SIGSTOP closes nothing: only unanswered pings tell."""
    async with opened(PARTNER, marker) as world:
        await world.session.wait_ready()
        os.kill(world.session.pid, signal.SIGSTOP)
        with trio.fail_after(30):
            await until(lambda: not world.session.is_ready)
            assert world.session.reason.startswith("no answer to ping for ")
            await world.session.wait_ready()
    assert world.named("mcp_server_exited")[0].cause == world.named("mcp_server_unresponsive")[0].id


async def test_a_stopped_server_that_goes_on_is_ready_again(marker):
    """SIGCONT in time saves it."""
    async with opened(PARTNER, marker, ping_interval=4.0) as world:
        await world.session.wait_ready()
        first = world.session.pid
        os.kill(first, signal.SIGSTOP)
        await until(lambda: not world.session.is_ready)
        os.kill(first, signal.SIGCONT)
        await world.session.wait_ready()
        assert world.session.pid == first


async def test_a_full_pipe_to_a_stopped_server_hangs_no_call(marker):
    """The SDK's own writes hang beyond their timeout then; ours end at their deadline, and the server is replaced."""
    async with opened(PARTNER, marker) as world:
        await world.session.wait_ready()
        os.kill(world.session.pid, signal.SIGSTOP)
        with trio.fail_after(20):
            for text in ("x" * 500_000, "small"):
                with pytest.raises(ToolError):
                    await world.session.call("echo", {"text": text}, timeout=1.0)
            assert await world.session.call("echo", {"text": "back"}, idempotent=True) == "back"


async def test_an_exit_is_seen_while_a_grandchild_holds_the_output(marker):
    """Death is the process's exit, and not the end of its output."""
    async with opened((*BARE, "crash-under-grandchild"), marker) as world:
        await world.session.wait_ready()
        with trio.fail_after(10), pytest.raises(ToolError, match="exited with code 9"):
            await world.session.call("echo", {"text": "hi"})
    # It left the server's group, so it is nobody's; it would end by itself.
    for stray in processes(marker):
        stray.kill()
        stray.wait(10)


async def test_a_child_in_the_group_of_a_dead_server_is_killed(marker):
    """Also when the server died by itself."""
    async with opened(PARTNER, marker) as world:
        child = (await world.session.call("leave_child"))["result"]
        with pytest.raises(ToolError):
            await world.session.call("crash", {"code": 1})
        await until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


async def test_a_server_that_closes_its_output_is_replaced(marker):
    """It lives, but nobody will hear from it again."""
    async with opened((*BARE, "closes-stdout"), marker) as world:
        await world.session.wait_ready()
        with trio.fail_after(10), pytest.raises(ToolError, match="during the call"):
            await world.session.call("echo", {"text": "hi"})
        await world.session.wait_ready()
    assert len(world.named("mcp_server_started")) == 2


async def test_a_server_that_exits_on_discover_is_spoken_to_in_the_old_way(marker):
    """Started a second time, at once, and remembered."""
    async with opened((*BARE, "exits-on-discover"), marker) as world:
        assert await world.session.call("echo", {"text": "hi"}) == "hi"
    assert world.named("mcp_server_exited")[0].fields["stderr"] == "what is server/discover?"


async def test_noise_on_stdout_does_no_harm(marker):
    """Banners and bytes that are no UTF-8 are ignored, and reported once."""
    async with opened((*PARTNER, "--noise"), marker) as world:
        assert await world.session.call("echo", {"text": "hi"}) == "hi"
    assert [event.fields["line"] for event in world.named("mcp_line_ignored")] == ["Welcome!"]


async def test_a_line_above_the_bound_is_dropped_and_the_session_goes_on(marker):
    """33 MiB in one line cost an event, and neither the memory nor the session."""
    async with opened((*BARE, "huge-line"), marker) as world:
        assert await world.session.call("echo", {"text": "hi"}) == "hi"
    assert len(world.named("mcp_line_dropped")) == 1


async def test_a_flood_of_stderr_blocks_nobody(marker, tmp_path):
    """It is read, kept at its end, and copied to the log."""
    log = tmp_path / "partner.log"
    async with opened((*BARE, "floods-stderr"), marker, log=log) as world:
        await world.session.wait_ready()
        assert await world.session.call("echo", {"text": "hi"}) == "hi"
        await until(log.exists)


async def test_a_server_that_ignores_sigterm_is_killed_at_the_stop(marker):
    """The stop escalates within the grace, and nothing is left."""
    async with opened((*PARTNER, "--ignore-sigterm"), marker, stop_grace=1.5) as world:
        await world.session.wait_ready()
        first = psutil.Process(world.session.pid)
    assert not first.is_running()


class Reporter:
    """Stands for the actor where a test drives the owner itself, so that a cancellation hits it wherever it is."""

    random = random.Random(5)

    def __init__(self) -> None:
        self.stream = EventStream()

    def emit(self, kind: str, /, *, cause: Event | int | None = None, **fields: Any) -> Event:
        return self.stream.emit(kind, "agent/mcp", cause, **fields)

    def progress(self, what: str = "") -> None:
        pass


async def _call_in_vain(session: McpToolSession) -> None:
    with suppress(ToolError):
        await session.call("sleep", {"seconds": 60})


async def test_no_cancellation_leaves_an_orphan(marker):
    """Whenever it comes: in the start, in the handshake, in a call, in a restart."""
    chance = random.Random(11)
    for _ in range(12):
        session = McpToolSession("partner", McpServerConfig(command=PARTNER, env={"AGENTRT_TEST": marker}))
        with trio.fail_after(30), trio.move_on_after(chance.uniform(0.0, 1.5)):
            async with trio.open_nursery() as nursery:
                launcher = launcher_of(session.config, log=None, spawn=spawn_process)
                owner = Owner(
                    "partner",
                    session.config,
                    session.desk,
                    Reporter(),
                    launcher=launcher,
                    restart=session.policies.restart,
                )
                nursery.start_soon(owner.run)
                nursery.start_soon(_call_in_vain, session)
                await session.wait_ready()
                await trio.sleep(chance.uniform(0.0, 0.3))
                await session.request_restart("chaos", finish_within=0.1)
                await session.wait_ready()
        assert processes(marker) == []
