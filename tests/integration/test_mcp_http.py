"""Sessions with tool servers over HTTP, in real time: a fault costs one call, and a lost session is made anew."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from web_process import Web

from actors.mcp_session import McpSession, McpToolSession
from agentrt.config import Secret, ServerPolicies
from agentrt.config.model import McpServerConfig
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.policy import Backoff, RetryPolicy, ServerRestart
from agentrt.ports import ToolError

LEGACY, MODERN = "2025-11-25", "2026-07-28"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    server = Web(tmp_path)
    yield server
    server.kill()


class Opened:
    """A session whose actor runs, and what it said."""

    def __init__(self, session: McpToolSession) -> None:
        self.session = session
        self.events: list[Event] = []

    def named(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    async def do(self, what: str = "answer", *, timeout: float = 20.0, idempotent: bool = False, **more: Any) -> Any:
        return await self.session.call("do", {"what": what, **more}, timeout=timeout, idempotent=idempotent)

    async def failure(self, what: str, **more: Any) -> tuple[str, str]:
        with pytest.raises(ToolError) as caught:
            await self.do(what, **more)
        return caught.value.kind, caught.value.sent.value


@asynccontextmanager
async def opened(
    url: str, *, policies: ServerPolicies | None = None, limit: float = 60.0, **config: Any
) -> AsyncIterator[Opened]:
    world = Opened(McpToolSession("web", McpServerConfig(url=url, **config), policies=policies))
    stream = EventStream()
    stream.listen(world.events.append)
    child = ChildSpec(id="mcp", factory=lambda: McpSession(world.session), shutdown=12.0)
    with trio.fail_after(limit):
        async with open_runtime(SupervisorSpec(id="agent", children=(child,)), events=stream):
            yield world


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - most conditions are about another process.
        await trio.sleep(0.02)


async def relay_to(port: int, heard: list[bytes], client: trio.SocketStream) -> None:
    """Be an HTTP proxy: what is asked of a host is asked of *port*, with the path alone."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as server, client, trio.open_nursery() as nursery:

        async def answer() -> None:
            async for chunk in server:
                await client.send_all(chunk)

        nursery.start_soon(answer)
        async for chunk in client:
            heard.append(chunk)
            await server.send_all(chunk.replace(b" http://tools.example/", b" /"))
        nursery.cancel_scope.cancel()


async def test_a_server_elsewhere_is_reached_by_the_proxy_of_the_environment(web, monkeypatch):
    """By its name, which nobody here can resolve."""
    await web.start("--era", LEGACY)
    heard: list[bytes] = []
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, partial(relay_to, web.port, heard), [listener])
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
        async with opened("http://tools.example/mcp") as world:
            assert await world.do(text="hi") == "hi"
        nursery.cancel_scope.cancel()
    assert [chunk for chunk in heard if chunk.startswith(b"POST http://tools.example/mcp ")] != []


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_a_server_is_called_in_either_era(web, era):
    """As JSON and as a stream of events."""
    await web.start("--era", era)
    async with opened(web.url) as world:
        await world.session.wait_ready()
        assert await world.do(text="hi") == "hi"
        assert await world.do("events", text="ho") == "ho"
        assert world.session.pid is None


async def test_a_result_without_a_type_is_a_complete_one(web):
    """As the protocol has it since it has types."""
    await web.start("--era", MODERN)
    async with opened(web.url) as world:
        assert await world.do("untyped") == "untyped"


FAULTS = [
    ("reset", {}, ("transient", "sent")),
    ("close", {}, ("transient", "sent")),
    ("cut", {}, ("transient", "sent")),
    ("garbage", {}, ("transient", "sent")),
    ("cut_events", {}, ("transient", "sent")),
    ("accepted", {}, ("permanent", "not_sent")),
    ("html", {}, ("permanent", "not_sent")),
    ("redirect", {}, ("permanent", "not_sent")),
    ("bad_json", {}, ("permanent", "not_sent")),
    ("status", {"status": 400}, ("permanent", "not_sent")),
    ("status", {"status": 401}, ("auth", "not_sent")),
    ("status", {"status": 403}, ("auth", "not_sent")),
    ("status", {"status": 405}, ("permanent", "not_sent")),
    ("status", {"status": 429}, ("throttled", "not_sent")),
    ("status", {"status": 500}, ("transient", "unknown")),
    ("status", {"status": 502}, ("transient", "unknown")),
    ("status", {"status": 503}, ("transient", "unknown")),
    ("status", {"status": 504}, ("transient", "unknown")),
    ("error", {"code": -32602}, ("permanent", "not_sent")),
    ("error", {"code": -32602, "status": 400}, ("permanent", "not_sent")),
    ("error", {"code": -32603}, ("transient", "sent")),
    ("error", {"code": 7}, ("tool", "sent")),
    ("answer", {"seconds": 30, "timeout": 0.5}, ("timeout", "unknown")),
]


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_a_fault_costs_its_own_call_and_no_other(web, era):
    """Each fault of the matrix has its kind, and neither ends the session nor the call beside it."""
    await web.start("--era", era)
    # Twenty faults in a row are no reason here to keep calls away.
    policies = ServerPolicies(retry=RetryPolicy(retries=0))
    policies.breaker.failure_threshold = 1000
    policies.breaker.window = None
    async with opened(web.url, policies=policies, ping_interval=30.0) as world:
        await world.session.wait_ready()
        found = []
        async with trio.open_nursery() as nursery:
            sibling: list[str] = []

            async def beside() -> None:
                sibling.append(await world.do(seconds=2.0, text="unharmed"))

            nursery.start_soon(beside)
            await trio.sleep(0.2)
            for what, more, _ in FAULTS:
                found.append((what, more, await world.failure(what, **more)))
        assert found == FAULTS
        assert sibling == ["unharmed"]
        assert await world.do(text="on we go") == "on we go"
    assert world.named("mcp_server_exited") == []


@pytest.mark.parametrize("lost", ["plain", "python", "typescript"])
async def test_a_lost_session_is_made_anew_and_the_call_answered(web, lost):
    """However the server puts it: the call was not acted on, so it is sent again over the new session."""
    await web.start("--lost", lost)
    async with opened(web.url, ping_interval=60.0) as world:
        await world.session.wait_ready()
        await world.do("forget", text="forget")
        assert await world.do(text="once") == "once"
    assert web.acted_on() == ["forget", "once"]
    assert "lost its session" in world.named("mcp_server_exited")[0].fields["reason"]
    assert [event.fields["result"] for event in world.named("mcp_server_restarted")] == ["ready"]


async def test_calls_in_hand_survive_the_loss_of_their_session(web):
    """What the server still works on is answered, while new calls have a new session already."""
    await web.start()
    async with opened(web.url, ping_interval=60.0) as world, trio.open_nursery() as nursery:
        await world.session.wait_ready()
        answers: list[str] = []

        async def slow() -> None:
            answers.append(await world.do(seconds=3.0, text="slow"))

        nursery.start_soon(slow)
        await trio.sleep(0.3)
        await world.do("forget")
        answers.append(await world.do(text="quick"))
    assert answers == ["quick", "slow"]


@pytest.mark.parametrize(("era", "lost"), [(LEGACY, "python"), (LEGACY, "typescript"), (MODERN, "plain")])
async def test_the_session_goes_on_when_the_server_is_restarted(web, era, lost):
    """Killed and started again: calls wait or are repeated where that is safe, and the next one is answered."""
    await web.start("--era", era, "--lost", lost)
    async with opened(web.url, ping_interval=0.5) as world:
        await world.session.wait_ready()
        assert await world.do(text="before") == "before"
        web.kill()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(web.restart)
            assert await world.do(text="after") == "after"
        assert world.session.is_ready
    assert web.acted_on() == ["before", "after"]


async def test_a_server_that_is_away_makes_the_session_not_ready_until_it_is_back(web):
    """Refused connections are no answer to a ping; and no failure to reach it is called permanent."""
    await web.start()
    policies = ServerPolicies(restart=ServerRestart(Backoff(initial=0.1, maximum=0.5)))
    async with opened(web.url, policies=policies, ping_interval=0.2) as world:
        await world.session.wait_ready()
        web.kill()
        await until(lambda: len(world.named("mcp_server_exited")) == 5)
        assert not world.session.is_ready
        await web.restart()
        await world.session.wait_ready()
    assert world.named("mcp_server_failing") == []


async def test_a_hung_server_is_found_by_pings_and_used_again_when_it_is_back(web):
    """SIGSTOP closes nothing: only pings tell."""
    await web.start()
    async with opened(web.url, ping_interval=0.5, start_timeout=2.0) as world:
        await world.session.wait_ready()
        web.send_signal(signal.SIGSTOP)
        await until(lambda: world.named("mcp_server_unresponsive"))
        assert not world.session.is_ready
        web.send_signal(signal.SIGCONT)
        assert await world.do(text="back") == "back"


async def test_what_may_have_happened_is_repeated_only_where_it_is_idempotent(web, tmp_path):
    """A connection that was cut after the call was sent."""
    await web.start()
    async with opened(web.url) as world:
        assert await world.failure("cut", text="mail", once=str(tmp_path / "one")) == ("transient", "sent")
        assert await world.do("cut", text="read", once=str(tmp_path / "two"), idempotent=True) == "read"
    assert web.acted_on() == ["mail", "read", "read"]
    assert [event.fields["attempt"] for event in world.named("tool_call_recovered")] == [2]


async def test_a_throttled_call_waits_as_long_as_the_server_says(web, tmp_path):
    """Retry-After counts before the backoff, and what is beyond the deadline is not waited for but told."""
    await web.start()
    async with opened(web.url) as world:
        await world.session.wait_ready()
        more = {"status": 429, "retry_after": "1", "once": str(tmp_path / "one")}
        assert await world.do("status", text="later", **more) == "later"
        assert world.named("tool_call_retried")[0].fields["wait"] >= 1.0
        with pytest.raises(ToolError) as caught:
            await world.do("status", status=429, retry_after="3600")
        assert (caught.value.kind, caught.value.retry_after, caught.value.attempt) == ("throttled", 3600.0, 1)


async def test_a_rotated_token_is_read_again(web, tmp_path):
    """The server refuses the old one; the call was not acted on, and goes out again with the new one."""
    token = tmp_path / "token"
    token.write_text("first")
    await web.start("--token-file", str(token))
    async with opened(web.url, token=Secret(f"file:{token}")) as world:
        await world.session.wait_ready()
        token.write_text("second\n")
        assert await world.do(text="in") == "in"
        assert world.named("mcp_server_exited") == []


async def test_a_token_that_is_refused_is_probably_permanent(web, tmp_path):
    """Three starts that fail in the same way are loud, and say what the server said."""
    (tmp_path / "right").write_text("right")
    (tmp_path / "wrong").write_text("wrong")
    await web.start("--token-file", str(tmp_path / "right"))
    async with opened(web.url, token=Secret(f"file:{tmp_path / 'wrong'}")) as world:
        await until(lambda: world.named("mcp_server_failing"))
    failing = world.named("mcp_server_failing")[0].fields
    assert failing["probably_permanent"] is True
    assert "HTTP 401: who are you?" in failing["reason"]
    assert "wrong" not in str([event.fields for event in world.events])


@pytest.mark.parametrize("protocol", [LEGACY, MODERN])
async def test_a_server_of_the_sdk_is_killed_and_the_session_goes_on(web, protocol):
    """The real thing, in either era: tools, content, a tool's error, and a new process on the same port."""
    await web.run("partner.py", "--http", str(web.port))
    async with opened(web.url, protocol=protocol, ping_interval=0.5) as world:
        call = world.session.call
        first = (await call("pid"))["result"]
        assert await call("echo", {"text": "grüß dich"}) == "grüß dich"
        with pytest.raises(ToolError) as caught:
            await call("fail", {"reason": "no page"})
        assert caught.value.kind == "tool"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(web.restart)
        assert (await call("pid"))["result"] != first
        assert world.session.is_ready


async def test_a_session_that_is_not_used_any_more_is_ended(web):
    """At a stop the server is told, so that it need not wait for that."""
    await web.start()
    async with opened(web.url) as world:
        await world.session.wait_ready()
    assert web.log() == ["session ended"]
