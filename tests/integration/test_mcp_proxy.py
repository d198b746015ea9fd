"""`agentrt mcp proxy` between clients and real servers: they come and go behind it, and the client notices a pause."""

from __future__ import annotations

import json
import random
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import mcp
import pytest
import trio
import trustme
from web_process import Web

from actors.mcp_proxy import McpProxy, open_proxy
from agentrt.config.proxy import read_proxy
from agentrt.kernel import Event, EventStream

AGENTRT = str(Path(sys.executable).with_name("agentrt"))
LEGACY, MODERN = "2025-11-25", "2026-07-28"
#: Seconds that anything may take on a machine with much to do.
PATIENCE = 60.0
#: What an error of the proxy's own may say of a call.
KINDS = {"outcome_unknown", "unavailable"}
BOTH = {"accept": "application/json, text/event-stream"}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    server = Web(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "other").mkdir()
    server = Web(tmp_path / "other")
    yield server
    server.kill()


class World:
    """A proxy that runs, what it said, and a client that speaks HTTP."""

    def __init__(self, proxy: McpProxy, events: list[Event], client: httpx2.AsyncClient) -> None:
        self.proxy = proxy
        self.events = events
        self.client = client
        self.session: dict[str, str] = {}

    def url(self, path: str = "/web/mcp") -> str:
        return f"{self.proxy.url}{path}"

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if event.kind.startswith("proxy_")]

    def message(self, method: str, **params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}

    async def post(self, method: str, *, path: str = "/web/mcp", **params: Any) -> httpx2.Response:
        return await self.client.post(
            self.url(path), json=self.message(method, **params), headers={**BOTH, **self.session}
        )

    async def initialize(self, path: str = "/web/mcp") -> None:
        info = {"name": "test", "version": "1"}
        answer = await self.post("initialize", path=path, protocolVersion=LEGACY, capabilities={}, clientInfo=info)
        self.session = {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": LEGACY}
        notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await self.client.post(self.url(path), json=notification, headers={**BOTH, **self.session})

    async def do(self, what: str, *, tool: str = "do", path: str = "/web/mcp", **arguments: Any) -> httpx2.Response:
        return await self.post("tools/call", path=path, name=tool, arguments={"what": what, **arguments})


@asynccontextmanager
async def proxied(backends: dict[str, Any], **more: Any) -> AsyncIterator[World]:
    settings = {"listen": "127.0.0.1:0", "retry_delay": "50ms", **more.pop("proxy", {})}
    file, faults = read_proxy({"backends": backends, "proxy": settings, **more})
    assert faults == ()
    events, stream = [], EventStream()
    stream.listen(events.append)
    with trio.fail_after(PATIENCE):
        async with open_proxy(file, events=stream) as proxy, httpx2.AsyncClient(timeout=PATIENCE) as client:
            yield World(proxy, events, client)


def text_of(answer: httpx2.Response) -> str:
    return str(answer.json()["result"]["content"][0]["text"])


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - most conditions are about another process.
        await trio.sleep(0.02)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_sdk_s_client_goes_on_with_a_server_that_was_killed(web, mode):
    """In the era with sessions and in the one without: each call has its answer, and the client is one all the time."""
    await web.run("partner.py", "--http", str(web.port))
    async with proxied({"web": {"url": [web.url]}}) as world:
        async with mcp.Client(world.url(), mode=mode) as client:
            assert "pid" in {tool.name for tool in (await client.list_tools()).tools}
            before = (await client.call_tool("pid", {})).content[0].text
            await web.restart()
            assert before != (await client.call_tool("pid", {})).content[0].text
            assert "hello" == (await client.call_tool("echo", {"text": "hello"})).content[0].text
        assert (1 if mode == "legacy" else 0) == world.kinds().count("proxy_session_revived")


async def test_a_call_waits_for_a_server_that_starts_again(web):
    """Nothing was sent to a server that is not there, so a call is tried again whatever it does; it is done once."""
    await web.start()
    async with proxied({"web": {"url": [web.url]}}, proxy={"retries": 10, "retry_delay": "200ms"}) as world:
        await world.initialize()
        web.kill()
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                assert "here" == text_of(await world.do("answer", text="here"))

            nursery.start_soon(call)
            await until(lambda: "proxy_call_retried" in world.kinds())
            nursery.start_soon(web.restart)
        assert ["here"] == web.acted_on()
        assert {"proxy_call_recovered", "proxy_session_revived"} <= set(world.kinds())
        assert "proxy_breaker_opened" not in world.kinds()


async def test_kills_at_random_moments_lose_no_call_and_do_none_twice(web):
    """Each call has one outcome: what was answered was done once, and what failed at most once."""
    chance, outcomes = random.Random(5), {}
    await web.start()
    async with proxied({"web": {"url": [web.url]}}, proxy={"retries": 6, "check_interval": "100ms"}) as world:
        await world.initialize()

        async def work(worker: int) -> None:
            for number in range(25):
                what = f"{worker}-{number}"
                answer = await world.do("answer", text=what, seconds=0.01)
                outcomes[what] = answer.status_code
                assert answer.json()["id"] == 7
                assert answer.status_code == 200 or answer.json()["error"]["data"]["kind"] in KINDS

        async def kill() -> None:
            for _ in range(4):
                await trio.sleep(chance.random() * 0.2)
                await web.restart()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            for worker in range(4):
                nursery.start_soon(work, worker)
    done = web.acted_on()
    assert 100 == len(outcomes)
    assert len(done) == len(set(done))
    assert {what for what, status in outcomes.items() if status == 200} <= set(done)


@pytest.mark.parametrize("lost", ["plain", "python", "typescript"])
async def test_a_session_that_was_lost_is_made_anew_under_its_old_name(web, lost):
    """The client's name for it stays, whatever the server says when it does not know it."""
    await web.start("--lost", lost)
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        before = dict(world.session)
        await world.do("forget")
        answer = await world.do("answer", text="still here")
        assert (200, "still here") == (answer.status_code, text_of(answer))
        assert before == world.session
        assert ["proxy_session_revived"] == world.kinds()


async def test_a_new_session_is_told_what_the_old_one_was(web):
    """The log level, and the subscriptions that were not taken back."""
    await web.start()
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        await world.post("logging/setLevel", level="info")
        await world.post("logging/setLevel", level="debug")
        for uri in ("a", "b"):
            await world.post("resources/subscribe", uri=uri)
        await world.post("resources/unsubscribe", uri="a")
        await world.do("forget")
        before = len(web.log())
        await world.do("answer", text="next")
        assert ["logging/setLevel debug", "resources/subscribe b", "next"] == web.log()[before:]


async def test_a_lost_session_is_the_client_s_where_that_is_wanted(web):
    await web.start()
    async with proxied({"web": {"url": [web.url], "revive_sessions": False}}) as world:
        await world.initialize()
        await world.do("forget")
        assert 404 == (await world.do("answer")).status_code


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_burst_of_refusals_by_a_gateway_passes_where_the_tool_only_reads(web, tmp_path, status):
    """The server says so in its list of tools, which the proxy reads as it passes."""
    await web.start()
    burst = {"file": str(tmp_path / "burst"), "times": 2, "status": status}
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        await world.post("tools/list")
        assert 200 == (await world.do("burst", tool="look", **burst)).status_code
        assert ["proxy_call_retried", "proxy_call_retried", "proxy_call_recovered"] == world.kinds()


async def test_a_call_that_may_have_happened_is_not_repeated(web, tmp_path):
    """After a 503 nobody knows; the client is told that, and the call was made once."""
    await web.start()
    burst = {"file": str(tmp_path / "burst"), "times": 1, "status": 503}
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        answer = await world.do("burst", **burst)
        error = answer.json()["error"]
        assert (503, 7, "outcome_unknown") == (answer.status_code, answer.json()["id"], error["data"]["kind"])
        assert "x" == (tmp_path / "burst").read_text()


@pytest.mark.parametrize("how", [{"repeat": "all"}, {"idempotent": ["do"]}])
async def test_a_call_is_repeated_where_the_operator_says_so(web, tmp_path, how):
    await web.start()
    burst = {"file": str(tmp_path / "burst"), "times": 1, "status": 502}
    async with proxied({"web": {"url": [web.url], **how}}) as world:
        await world.initialize()
        assert 200 == (await world.do("burst", **burst)).status_code


@pytest.mark.parametrize("what", ["reset", "close", "cut", "garbage"])
async def test_a_fault_costs_one_call_and_is_an_answer_to_it(web, what):
    """Whatever breaks on the way, the client gets an error of JSON-RPC with its id, and the next call works."""
    await web.start()
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        answer = await world.do(what)
        assert (502, 7) == (answer.status_code, answer.json()["id"])
        assert answer.json()["error"]["data"]["kind"] == "outcome_unknown"
        assert 1 == len(web.acted_on())
        assert "ok" == text_of(await world.do("answer"))


async def test_a_server_s_own_refusal_passes_as_it_is(web):
    await web.start()
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        for status in (400, 401, 429, 500):
            answer = await world.do("status", status=status, body="as you wish", retry_after="7")
            assert (status, "as you wish", "7") == (answer.status_code, answer.text, answer.headers["retry-after"])
        assert [] == world.kinds()


async def test_a_call_that_takes_too_long_fails_in_time(web):
    await web.start()
    async with proxied({"web": {"url": [web.url], "timeout": "300ms"}}) as world:
        await world.initialize()
        answer = await world.do("answer", seconds=30)
        assert (504, "outcome_unknown") == (answer.status_code, answer.json()["error"]["data"]["kind"])


async def test_events_pass_one_by_one(web, tmp_path):
    """The first is with the client before the server makes the second."""
    await web.start()
    go_on = tmp_path / "go-on"
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        call = world.message("tools/call", name="do", arguments={"what": "steps", "until": str(go_on)})
        async with world.client.stream("POST", world.url(), json=call, headers={**BOTH, **world.session}) as answer:
            lines = answer.aiter_lines()
            async for line in lines:
                if line.startswith("data:"):
                    break
            assert not go_on.exists()
            assert "notifications/progress" == json.loads(line[5:])["method"]
            go_on.touch()
            rest = [line async for line in lines if line.startswith("data:")]
        assert "done" == json.loads(rest[-1][5:])["result"]["content"][0]["text"]


async def test_a_stream_that_is_cut_ends_with_an_error_for_its_call(web, tmp_path):
    """Half an event never reaches the client."""
    await web.start()
    (tmp_path / "go-on").touch()
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        answer = await world.do("steps", until=str(tmp_path / "go-on"), then="cut", half="data: {half")
        events = [json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:")]
        assert [None, 7] == [event.get("id") for event in events]
        assert "outcome_unknown" == events[-1]["error"]["data"]["kind"]
        assert ["proxy_stream_lost"] == world.kinds()


async def test_a_client_that_leaves_takes_its_request_along(web, tmp_path):
    """The server sees the connection close, in the middle of a stream."""
    await web.start()
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        call = world.message("tools/call", name="do", arguments={"what": "steps", "until": str(tmp_path / "never")})
        async with world.client.stream("POST", world.url(), json=call, headers={**BOTH, **world.session}) as answer:
            assert 200 == answer.status_code
        await until(lambda: "client gone" in web.log())
        await until(lambda: world.proxy.desk.backends[0].bulkhead.running == 0)


async def test_a_stream_of_the_server_s_own_passes_and_ends_when_the_proxy_stops(web, tmp_path):
    """Calls hold up a stop, streams that stay open do not; they end in order."""
    await web.start("--stream-until", str(tmp_path / "never"))
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        async with world.client.stream("GET", world.url(), headers={**BOTH, **world.session}) as answer:
            lines = answer.aiter_lines()
            assert "event: message" == await anext(lines)
            world.proxy.stop("the test is over")
            rest = [line async for line in lines]
        assert rest[-1] == ""
        await until(lambda: "client gone" in web.log())
        await world.proxy.wait()


async def test_a_stream_is_opened_when_its_server_is_back(web, tmp_path):
    """However long that takes: some clients give theirs up after few attempts, and nobody waits for it."""
    await web.start("--stream-until", str(tmp_path / "never"))
    async with proxied({"web": {"url": [web.url]}}, proxy={"retries": 0}) as world:
        await world.initialize()
        web.kill()
        lines = []

        async def listen() -> None:
            async with world.client.stream("GET", world.url(), headers={**BOTH, **world.session}) as answer:
                async for line in answer.aiter_lines():
                    lines.append(line)  # noqa: PERF401 - it counts when it comes.

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await until(lambda: world.kinds().count("proxy_call_retried") >= 2)
            await web.restart()
            await until(lambda: "event: message" in lines)
            nursery.cancel_scope.cancel()


async def test_a_stream_that_waits_for_its_server_holds_up_no_stop(web):
    await web.start()
    async with proxied({"web": {"url": [web.url]}}, proxy={"drain_timeout": "50s"}) as world:
        await world.initialize()
        web.kill()
        answers = []

        async def listen() -> None:
            answers.append(await world.client.get(world.url(), headers={**BOTH, **world.session}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await until(lambda: "proxy_call_retried" in world.kinds())
            with trio.fail_after(20):
                world.proxy.stop("the test is over")
                await world.proxy.wait()
        assert [503] == [answer.status_code for answer in answers]


async def test_headers_are_passed_on_but_for_those_of_one_hop(web):
    await web.start()
    async with proxied({"web": {"url": [web.url]}}) as world:
        await world.initialize()
        call = world.message("tools/call", name="do", arguments={"what": "headers"})
        sent = {
            **BOTH,
            **world.session,
            "authorization": "Bearer mine",
            "last-event-id": "5",
            "connection": "keep-alive, x-mine",
            "x-mine": "for the proxy",
            "x-other": "for the server",
            "te": "trailers",
            "accept-encoding": "gzip",
        }
        answer = await world.client.post(world.url(), json=call, headers=sent)
        got = {name.lower(): value for name, value in json.loads(text_of(answer)).items()}
        for name in ("mcp-session-id", "mcp-protocol-version", "authorization", "last-event-id", "x-other", "accept"):
            assert (name, sent[name]) == (name, got.get(name))
        assert not {"x-mine", "te"} & got.keys()
        assert "identity" == got["accept-encoding"]
        assert f"127.0.0.1:{web.port}" == got["host"]
        assert got["via"].startswith("1.1 agentrt-")
        assert "yes" == answer.headers["x-kept"]
        assert not {"x-hop", "keep-alive"} & answer.headers.keys()


async def test_a_breaker_opens_and_heals(web):
    """Refused at once while it is open, without a word to the server; a look at the server that answers ends that."""
    await web.start()
    breaker = {"failure_threshold": 2, "recovery_timeout": "300ms", "failure_rate": 0.0}
    settings = {"retries": 0, "check_interval": "0s", "breaker": breaker}
    async with proxied({"web": {"url": [web.url]}}, proxy=settings) as world:
        await world.initialize()
        for _ in range(2):
            assert 502 == (await world.do("reset")).status_code
        before = len(web.acted_on())
        ready = await world.client.get(world.url("/health/ready"))
        assert (503, False) == (ready.status_code, ready.json()["checks"]["web"]["ok"])
        assert "its breaker is open" in ready.json()["checks"]["web"]["reason"]
        answer = await world.do("answer")
        assert (503, before) == (answer.status_code, len(web.acted_on()))
        assert int(answer.headers["retry-after"]) >= 1
        with trio.move_on_after(PATIENCE) as patience:
            while (await world.do("answer")).status_code != 200:  # noqa: ASYNC110 - time alone changes it.
                await trio.sleep(0.05)
        assert not patience.cancelled_caught
        states = [kind for kind in world.kinds() if "breaker" in kind]
        assert ["proxy_breaker_opened", "proxy_breaker_half_opened", "proxy_breaker_closed"] == states
        assert 200 == (await world.client.get(world.url("/health/ready"))).status_code


async def test_a_server_that_comes_back_is_found_by_a_look_at_it(web):
    await web.start()
    async with proxied({"web": {"url": [web.url]}}, proxy={"check_interval": "100ms", "retries": 0}) as world:
        backend = world.proxy.desk.backends[0]
        await until(lambda: backend.replicas[0].is_reachable)
        web.kill()
        await until(lambda: backend.replicas[0].is_reachable is False)
        assert 503 == (await world.client.get(world.url("/health/ready"))).status_code
        await web.restart()
        await until(lambda: backend.replicas[0].is_reachable)
        assert {"proxy_replica_lost", "proxy_replica_up"} <= set(world.kinds())


async def test_a_server_that_answered_a_client_is_ready_before_the_next_look_at_it(web):
    """A look comes once in a while, and what it found then is not how it is now."""
    await web.start()
    async with proxied({"web": {"url": [web.url]}}, proxy={"check_interval": "1h", "retries": 0}) as world:
        backend = world.proxy.desk.backends[0]
        await until(lambda: backend.replicas[0].is_reachable)
        await world.initialize()
        backend.looked_at(backend.replicas[0], "refused", is_reachable=False)
        assert 503 == (await world.client.get(world.url("/health/ready"))).status_code
        assert 200 == (await world.do("answer")).status_code
        ready = await world.client.get(world.url("/health/ready"))
        assert (200, f"{web.url}: answers (200)") == (ready.status_code, ready.json()["checks"]["web"]["reason"])
        assert "proxy_replica_up" in world.kinds()


async def test_sessions_stay_with_their_replica_and_move_when_it_dies(web, other):
    """Each call of a session is the same server's; when that is gone, the session is made anew on the other one."""
    await web.start()
    await other.start()
    async with proxied({"web": {"url": [web.url, other.url]}}) as world:
        await world.initialize()
        for number in range(6):
            assert 200 == (await world.do("answer", text=str(number))).status_code
        home, spare = (web, other) if web.acted_on() else (other, web)
        assert (6, 0) == (len(home.acted_on()), len(spare.acted_on()))
        home.kill()
        assert "moved" == text_of(await world.do("answer", text="moved"))
        assert ["moved"] == spare.acted_on()


async def test_a_session_from_before_the_proxy_s_start_is_found(web, other):
    """Its replica is the one that knows it."""
    await web.start()
    await other.start()
    urls = {"web": {"url": [web.url, other.url]}}
    async with proxied(urls) as world:
        await world.initialize()
        session = world.session
    async with proxied(urls) as world:
        world.session = session
        for _ in range(4):
            assert 200 == (await world.do("answer")).status_code
    assert {0, 4} == {len(web.acted_on()), len(other.acted_on())}


async def test_tenants_are_kept_apart(web, other):
    """By path and by header; a tenant's server that is down, or full, is nobody else's trouble."""
    await web.start()
    await other.start()
    tenants = {"acme": {"web": {"url": [web.url]}}, "beta": {"web": {"url": [other.url]}}}
    settings = {"tenant_header": "X-Tenant", "retries": 0, "bulkhead": {"max_concurrent": 1, "max_queued": 0}}
    async with proxied({}, tenants=tenants, proxy=settings) as world:
        await world.initialize("/acme/web/mcp")
        acme = world.session
        await world.initialize("/beta/web/mcp")
        beta = world.session
        world.session = acme | {"x-tenant": "acme"}
        await world.do("answer", text="for acme")
        world.session = beta | {"x-tenant": "beta"}
        await world.do("answer", text="for beta")
        assert (["for acme"], ["for beta"]) == (web.acted_on(), other.acted_on())
        world.session = acme
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: world.do("answer", path="/acme/web/mcp", seconds=600, text="slow"))
            await until(lambda: "slow" in web.acted_on())
            full = await world.do("answer", path="/acme/web/mcp")
            assert (503, "1") == (full.status_code, full.headers["retry-after"])
            world.session = beta
            assert 200 == (await world.do("answer", path="/beta/web/mcp")).status_code
            nursery.cancel_scope.cancel()


async def test_what_is_not_there_is_said_with_what_is(web):
    await web.start()
    tenants = {"acme": {"search": {"url": [web.url]}}}
    async with proxied({"web": {"url": [web.url]}}, tenants=tenants, proxy={"tenant_header": "x-tenant"}) as world:
        said = {}
        for path in ("/other/mcp", "/acme/web/mcp", "/none/web/mcp", "/nowhere"):
            answer = await world.post("ping", path=path)
            assert (404, "not_found") == (answer.status_code, answer.json()["error"]["data"]["kind"])
            said[path] = answer.json()["error"]["message"]
        assert "there is no backend 'other'; there are: /web/mcp" == said["/other/mcp"]
        assert "there is no backend 'web' of tenant 'acme'; there are: /acme/search/mcp" == said["/acme/web/mcp"]
        assert "there is no tenant 'none'; there are: acme" == said["/none/web/mcp"]
        assert "/health/live, /health/ready, /metrics, /web/mcp" in said["/nowhere"]
        world.session = {}
        await world.initialize("/mcp")
        assert 200 == (await world.post("ping", path="/mcp")).status_code


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example:80"}, 403),
        ({"origin": "http://localhost:6274"}, 404),
        ({"origin": "https://app.example"}, 404),
    ],
)
async def test_web_pages_are_let_in_by_their_origin(web, headers, status):
    """A page that makes its name mean this machine gives itself away by the host that it asks."""
    async with proxied({"web": {"url": [web.url]}}, proxy={"origins": ["https://app.example"]}) as world:
        answer = await world.client.post(world.url("/none/mcp"), json={}, headers=headers)
        assert status == answer.status_code


@pytest.mark.parametrize(("origin", "is_known"), [("https://app.example", True), ("https://evil.example", False)])
async def test_a_browser_is_told_which_pages_may_talk_to_it(web, origin, is_known):
    """It asks before the first request of a page, and shows a page no answer that does not name its origin."""
    await web.start()
    asks = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,mcp-session-id,authorization",
    }
    async with proxied({"web": {"url": [web.url]}}, proxy={"origins": ["https://app.example"]}) as world:
        told = await world.client.options(world.url(), headers=asks)
        assert (200 if is_known else 400) == told.status_code
        assert (origin if is_known else None) == told.headers.get("access-control-allow-origin")
        assert asks["access-control-request-headers"] == told.headers["access-control-allow-headers"]
        info = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "page", "version": "1"}}
        answer = await world.client.post(
            world.url(), json=world.message("initialize", **info), headers={**BOTH, "origin": origin}
        )
        assert (200 if is_known else 403) == answer.status_code
        assert (origin if is_known else None) == answer.headers.get("access-control-allow-origin")
        assert "Mcp-Session-Id" in answer.headers["access-control-expose-headers"]


async def test_a_request_beyond_its_bounds_is_refused(web):
    """One that is too large, and one whose method no MCP server has."""
    await web.start()
    async with proxied({"web": {"url": [web.url]}}, proxy={"max_request": "64KiB"}) as world:
        answer = await world.post("tools/call", name="do", arguments={"text": "x" * 70_000})
        assert 413 == answer.status_code
        assert "the request is larger than 64KiB" == answer.json()["error"]["message"]
        answer = await world.client.put(world.url(), json={})
        assert (405, "POST, GET, DELETE") == (answer.status_code, answer.headers["allow"])
        assert 0 == world.proxy.desk.statistics()["held_bytes"]


async def test_a_backend_that_is_the_proxy_itself_is_noticed(web):
    async with proxied({"web": {"url": [web.url]}}) as world:
        backend = world.proxy.desk.backends[0]
        backend.replicas[0].url = world.url()
        answer = await world.post("ping")
        assert 508 == answer.status_code
        assert "is this proxy itself" in answer.json()["error"]["message"]


async def test_metrics_have_what_happened(web):
    await web.start()
    async with proxied({"web": {"url": [web.url]}}, proxy={"retries": 0}) as world:
        await world.initialize()
        await world.do("answer")
        await world.do("reset")
        text = (await world.client.get(world.url("/metrics"))).text
        for line in (
            'agentrt_proxy_requests_total{backend="web",method="tools/call",outcome="answered",tenant=""} 1.0',
            'agentrt_proxy_requests_total{backend="web",method="tools/call",outcome="failed",tenant=""} 1.0',
            'agentrt_proxy_answer_seconds_count{backend="web",tenant=""} 4.0',
            'agentrt_proxy_sessions{backend="web",tenant=""} 1.0',
        ):
            assert line in text


async def test_it_speaks_tls_where_it_has_a_certificate(web, tmp_path):
    """To a client that trusts its authority, and to no other."""
    await web.start()
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    made.private_key_pem.write_to_path(tmp_path / "key")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    tls = {"tls_cert": str(tmp_path / "cert"), "tls_key": str(tmp_path / "key")}
    async with proxied({"web": {"url": [web.url]}}, proxy=tls) as world:
        assert world.url().startswith("https://127.0.0.1:")
        async with httpx2.AsyncClient(timeout=PATIENCE, verify=trusting) as world.client:
            await world.initialize()
            assert "hi" == text_of(await world.do("answer", text="hi"))
        async with httpx2.AsyncClient(timeout=PATIENCE) as stranger:
            with pytest.raises(httpx2.ConnectError):
                await stranger.get(world.url())


class Run:
    """The program, as a person starts it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.said = folder / "said"
        with self.said.open("w") as said:
            self.process = subprocess.Popen([AGENTRT, "mcp", "proxy", *options], stderr=said)

    async def address(self) -> str:
        await until(lambda: "listening on http://" in self.said.read_text() and "\n" in self.said.read_text())
        return self.said.read_text().partition("listening on http://")[2].split()[0]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*options: str) -> Run:
        runs.append(Run(tmp_path, *options))
        return runs[-1]

    yield start
    for one in runs:
        one.process.kill()
        one.process.wait(30)


def test_a_certificate_that_cannot_be_used_is_named(tmp_path):
    """Before anything listens."""
    options = ["--backend", "web=http://127.0.0.1:1/mcp", "--tls-key", str(tmp_path / "key")]
    done = subprocess.run(
        [AGENTRT, "mcp", "proxy", *options, "--tls-cert", str(tmp_path / "cert")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    told = f"agentrt: tls_cert {tmp_path}/cert with tls_key {tmp_path}/key: no such file or directory"
    assert (71, told) == (done.returncode, done.stderr.strip())


async def test_a_call_in_hand_is_answered_before_the_program_ends(web, run, tmp_path):
    """SIGTERM: no new connections, and what is in hand finishes."""
    await web.start()
    file = tmp_path / "proxy.toml"
    file.write_text(f'[proxy]\nlisten = "127.0.0.1:0"\n[backends.web]\nurl = ["{web.url}"]\n')
    with trio.fail_after(PATIENCE):
        program = run("--config", str(file))
        url = f"http://{await program.address()}/web/mcp"
        async with httpx2.AsyncClient(timeout=PATIENCE) as client, trio.open_nursery() as nursery:
            info = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": info}
            session = (await client.post(url, json=body, headers=BOTH)).headers["mcp-session-id"]
            answers = []

            async def call() -> None:
                arguments = {"what": "answer", "seconds": 1, "text": "slow"}
                body = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"arguments": arguments}}
                answers.append(await client.post(url, json=body, headers={**BOTH, "mcp-session-id": session}))

            nursery.start_soon(call)
            await until(lambda: "slow" in web.acted_on())
            program.process.send_signal(signal.SIGTERM)
        assert ["slow"] == [text_of(answer) for answer in answers]
        await until(lambda: program.process.poll() is not None)
        assert 0 == program.process.returncode


@pytest.mark.soak
async def test_a_client_that_does_not_read_holds_up_no_stop(web, run, tmp_path):
    """Its connection is full and stays so; the program ends all the same."""
    await web.start("--stream-until", str(tmp_path / "never"))
    with trio.fail_after(PATIENCE):
        program = run("--listen", "127.0.0.1:0", "--backend", f"web={web.url}", "--drain-timeout", "1s")
        host, _, port = (await program.address()).rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n" * 2000)
        await trio.sleep(0.5)
        program.process.send_signal(signal.SIGTERM)
        await until(lambda: program.process.poll() is not None)
        await stream.aclose()
