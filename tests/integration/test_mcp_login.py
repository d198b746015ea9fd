"""Sessions that log in to a tool server over HTTP by themselves, at a real authorization server."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import attrs
import httpx2
import jwt
import pytest
import trio
from authority import Authority, Form, authority
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from web_process import Web

from actors._mcp_person import KeptLogin
from actors.mcp_login_program import Browser, LoginFailed, log_in
from actors.mcp_session import McpSession, McpToolSession
from agentrt.config import Secret, ServerPolicies
from agentrt.config.model import McpServerConfig
from agentrt.config.oauth import OAuthConfig
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.policy import Backoff, RetryPolicy, ServerRestart
from agentrt.ports import ToolError

AGENTRT = str(Path(sys.executable).with_name("agentrt"))
ERAS = ("2025-11-25", "2026-07-28")
QUICKLY = Backoff(0.02, 1.0, 0.02)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Authority]:
    with authority(tmp_path / "let-in") as made:
        made.token_file.write_text("nobody")
        yield made


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path)
    yield made
    made.kill()


class Opened:
    """A session whose actor runs, and what it said."""

    def __init__(self, session: McpToolSession) -> None:
        self.session = session
        self.events: list[Event] = []

    async def do(self, what: str = "answer", **more: Any) -> Any:
        return await self.session.call("do", {"what": what, **more}, timeout=20.0)

    def named(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]


@asynccontextmanager
async def opened(web: Web, server: Authority, era: str = ERAS[1], **oauth: Any) -> AsyncIterator[Opened]:
    await web.start("--era", era, "--token-file", str(server.token_file), "--authority", server.issuer)
    async with reopened(web, server, **oauth) as world:
        yield world


@asynccontextmanager
async def reopened(web: Web, server: Authority, **oauth: Any) -> AsyncIterator[Opened]:
    given = {} if "login_file" in oauth else {"issuer": server.issuer, "client_id": "newsroom"}
    login = OAuthConfig(**{**given, **oauth})
    policies = ServerPolicies(retry=RetryPolicy(retries=3, backoff=QUICKLY), restart=ServerRestart(QUICKLY))
    config = McpServerConfig(url=web.url, oauth=login, ping_interval=30.0)
    world = Opened(McpToolSession("web", config, policies=policies))
    stream = EventStream()
    stream.listen(world.events.append)
    child = ChildSpec(id="mcp", factory=lambda: McpSession(world.session), shutdown=12.0)
    with trio.fail_after(60):
        async with open_runtime(SupervisorSpec(id="agent", children=(child,)), events=stream):
            yield world


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    (tmp_path / "secret").write_text("s3/cret\n")
    return Secret(f"file:{tmp_path / 'secret'}")


@pytest.mark.parametrize(("era", "way"), [(ERAS[0], "basic"), (ERAS[1], "post")])
async def test_a_client_logs_in_with_its_secret(web, server, secret, era, way):
    """In a header or in the request, and for the server that it wants to talk to."""
    seen = []
    server.accepts = lambda form, basic: seen.append((form.get("client_secret"), basic)) is None
    async with opened(web, server, era, client_secret=secret, client_auth=way) as world:
        assert await world.do() == "ok"
    assert seen == [(None, "newsroom:s3%2Fcret") if way == "basic" else ("s3/cret", "")]
    (form,) = server.asked
    assert (form["grant_type"], form["resource"]) == ("client_credentials", web.url)
    told = world.named("mcp_logged_in")[0].fields
    assert {"server": "web", "issuer": server.issuer, "expires_in": 3600}.items() <= told.items()


async def test_a_client_proves_who_it_is_with_its_key(web, server, tmp_path):
    """It signs for the authorization server, and nobody else can use that."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key").write_bytes(pem)

    def accepts(form: Form, _basic: str) -> bool:
        audience = [server.issuer, f"{server.issuer}/"]
        claims = jwt.decode(form["client_assertion"], key.public_key(), algorithms=["ES256"], audience=audience)
        return claims["iss"] == claims["sub"] == "newsroom"

    server.accepts = accepts
    async with opened(web, server, private_key=Secret(f"file:{tmp_path / 'key'}")) as world:
        assert await world.do() == "ok"
    assert len(server.asked) == 1


async def test_a_workload_shows_what_its_platform_gave_it(web, server, tmp_path):
    """Read at each login: a platform replaces it."""
    given = tmp_path / "jwt"
    given.write_text("first")
    async with opened(web, server, assertion=Secret(f"file:{given}")) as world:
        assert await world.do() == "ok"
        given.write_text("second")
        server.token_file.write_text("another")
        assert await world.do() == "ok"
    grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert [(grant, "first"), (grant, "second")] == [(one["grant_type"], one["assertion"]) for one in server.asked]


async def test_a_token_that_is_not_let_in_any_more_is_renewed_once_for_all(web, server, secret):
    """No call fails of it, and those that are refused at the same time wait for the same one."""
    async with opened(web, server, client_secret=secret) as world:
        await world.do()
        server.token_file.write_text("another")
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(world.do)
    assert len(server.asked) == len(world.named("mcp_logged_in")) == 2
    assert world.named("tool_call_retried") == []


async def test_a_token_that_expired_is_not_sent(web, server, secret):
    """The next call waits for another one."""
    server.expires_in = 1
    async with opened(web, server, client_secret=secret) as world:
        await world.do()
        before = len(server.asked)
        await trio.sleep(1.1)
        assert await world.do() == "ok"
        assert len(server.asked) == before + 1


async def test_a_rotated_secret_is_read_anew(web, server, secret, tmp_path):
    """Where the authorization server takes another one than at the start."""
    async with opened(web, server, client_secret=secret, client_auth="post") as world:
        await world.do()
        (tmp_path / "secret").write_text("new")
        server.accepts = lambda form, _basic: form["client_secret"] == "new"
        server.token_file.write_text("another")
        assert await world.do() == "ok"


async def test_a_refresh_token_that_is_replaced_is_kept_in_its_file(web, server, tmp_path):
    """For this user alone; the next run begins with it, for the first one is of no use any more."""
    kept = tmp_path / "refresh"
    kept.write_text("first")
    server.rotates = True
    for _ in range(2):
        used = kept.read_text()
        async with opened(web, server, refresh_token=Secret(f"file:{kept}")) as world:
            assert await world.do() == "ok"
        assert (server.asked[-1]["grant_type"], server.asked[-1]["refresh_token"]) == ("refresh_token", used)
        assert kept.read_text() != used
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        web.kill()


async def test_a_refresh_token_that_cannot_be_kept_is_told(web, server, tmp_path):
    """The session goes on with it from memory."""
    folder = tmp_path / "gone"
    folder.mkdir()
    (folder / "refresh").write_text("first")
    server.rotates = True

    def accepts(_form: Form, _basic: str) -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return True

    server.accepts = accepts
    async with opened(web, server, refresh_token=Secret(f"file:{folder / 'refresh'}")) as world:
        await world.do()
        server.token_file.write_text("another")
        assert await world.do() == "ok"
    assert server.asked[0]["refresh_token"] == "first"
    assert server.asked[1]["refresh_token"] not in {"first", ""}
    assert world.named("mcp_refresh_token_write_failed")[0].fields["file"] == str(folder / "refresh")


async def test_credentials_go_to_no_other_authorization_server(web, server, secret, tmp_path):
    """Whatever the tool server says."""
    with authority(tmp_path / "other") as other:
        async with opened(web, server, client_secret=secret, issuer=other.issuer) as world:
            while not world.named("mcp_server_exited"):  # noqa: ASYNC110 - the events have no event of Trio's.
                await trio.sleep(0.02)
        assert server.asked == other.asked == []
    reason = world.named("mcp_server_exited")[0].fields["reason"]
    assert f"cannot log in at {other.issuer}: the server wants tokens of {server.issuer}" in reason


@pytest.mark.parametrize(("refusal", "kind"), [("invalid_client", "auth"), (503, "transient"), (429, "throttled")])
async def test_a_login_that_fails_fails_the_call_that_needs_it(web, server, secret, refusal, kind):
    """It was not sent, and its kind says whether trying again is of use."""
    async with opened(web, server, client_secret=secret) as world:
        await world.do()
        server.token_file.write_text("another")
        server.answers = [refusal] * 10
        with pytest.raises(ToolError, match="cannot log in") as caught:
            await world.do()
    assert (caught.value.kind, caught.value.sent.value) == (kind, "not_sent")


async def test_an_authorization_server_that_is_away_for_a_moment_costs_nothing(web, server, secret):
    """The call is tried again."""
    async with opened(web, server, client_secret=secret) as world:
        await world.do()
        server.token_file.write_text("another")
        server.answers = [503, 503]
        assert await world.do() == "ok"


async def test_a_scope_is_asked_for_where_the_server_wants_none_in_particular(web, server, secret):
    """As it is configured."""
    async with opened(web, server, client_secret=secret, scope="read write") as world:
        await world.do()
    assert server.asked[0]["scope"] == "read write"


async def test_a_token_that_allows_too_little_is_replaced_by_one_that_allows_more(web, server, secret, tmp_path):
    """The server says what it wants; what was asked for before is asked for as well. Once: it may never be content."""
    refusal = {"status": 403, "www_authenticate": 'Bearer error="insufficient_scope", scope="write"'}
    async with opened(web, server, client_secret=secret, scope="read") as world:
        assert await world.do("status", once=str(tmp_path / "once"), **refusal) == "ok"
        with pytest.raises(ToolError) as caught:
            await world.do("status", **refusal)
    assert [one["scope"] for one in server.asked] == ["read", "read write", "read write"]
    assert (caught.value.kind, caught.value.sent.value) == ("auth", "not_sent")


# A person's login


async def agree(web: Web, login: OAuthConfig, told: list[str]) -> int:
    """Run the login, with a browser that follows where it is sent, and looks for an icon there, as a person's does."""

    def opens(url: str) -> None:
        (back,) = parse_qs(urlsplit(url).query)["redirect_uri"]
        assert httpx2.get(urljoin(back, "/favicon.ico")).status_code == 404
        httpx2.get(url, follow_redirects=True).raise_for_status()

    (listener,) = await trio.open_tcp_listeners(KeptLogin(login.login_file, print).port(), host="127.0.0.1")
    async with listener:
        return await log_in(McpServerConfig(url=web.url, oauth=login), Browser(listener, told.append, opens))


@pytest.fixture
def login(tmp_path: Path) -> OAuthConfig:
    return OAuthConfig(login_file=tmp_path / "login.json")


async def test_what_a_person_agreed_to_is_used_at_night(web, server, login):
    """The client registers itself; the browser comes back; the session needs nobody, nor a token of its own."""
    server.rotates = True
    told: list[str] = []
    await web.start("--era", ERAS[1], "--token-file", str(server.token_file), "--authority", server.issuer)
    with trio.fail_after(60):
        assert await agree(web, login, told) == 2
    assert "agree to it in a browser" in told[0]
    assert stat.S_IMODE(login.login_file.stat().st_mode) == 0o600
    async with reopened(web, server, login_file=login.login_file) as world:
        assert await world.do() == "ok"
        assert [one["grant_type"] for one in server.asked] == ["authorization_code"]
        # And it is refreshed by itself, again and again.
        for count in (2, 3):
            server.token_file.write_text("another")
            assert await world.do() == "ok"
            assert (len(server.asked), server.asked[-1]["grant_type"]) == (count, "refresh_token")
    tokens = [one.get("refresh_token") for one in server.asked]
    assert len({*tokens}) == 3
    assert len(server.registered) == 1
    # The next login is of the same client, which comes back to the same port.
    with trio.fail_after(60):
        await agree(web, login, told)
    assert len(server.registered) == 1
    assert server.agreed[0]["redirect_uri"] == server.agreed[1]["redirect_uri"]


async def test_a_session_without_a_login_says_what_a_person_has_to_do(web, server, login):
    """And goes on as soon as that is done, without a restart of the fleet."""
    async with opened(web, server, login_file=login.login_file) as world:
        while not world.named("mcp_server_exited"):  # noqa: ASYNC110 - the events have no event of Trio's.
            await trio.sleep(0.02)
        assert "nobody has logged in yet: a person has to run" in world.named("mcp_server_exited")[0].fields["reason"]
        assert server.registered == []
        await agree(web, login, [])
        assert await world.do() == "ok"


async def test_a_login_that_is_over_or_too_little_is_asked_for_anew(web, server, login, tmp_path):
    """The next login asks for what the server had wanted."""
    await web.start("--era", ERAS[1], "--token-file", str(server.token_file), "--authority", server.issuer)
    server.rotates = True
    with trio.fail_after(60):
        await agree(web, login, [])
    async with reopened(web, server, login_file=login.login_file) as world:
        refusal = {"status": 403, "www_authenticate": 'Bearer error="insufficient_scope", scope="write"'}
        with pytest.raises(ToolError, match="wants more than was agreed to: a person has to run") as caught:
            await world.do("status", **refusal)
        assert (caught.value.kind, caught.value.sent.value) == ("auth", "not_sent")
        server.token_file.write_text("another")
        server.answers = ["invalid_grant"]
        with pytest.raises(ToolError, match="not good any more: a person has to run"):
            await world.do()
        await agree(web, login, [])
        assert server.agreed[-1]["scope"] == "write"
        assert await world.do() == "ok"


async def test_a_person_may_say_no(web, server, login):
    """Nothing is kept of it but the client."""
    server.consents = False
    await web.start("--era", ERAS[1], "--token-file", str(server.token_file), "--authority", server.issuer)
    with trio.fail_after(60), pytest.raises(LoginFailed, match="access_denied"):
        await agree(web, login, [])
    assert KeptLogin(login.login_file, print).read().tokens is None


async def test_a_secret_that_is_not_there_yet_is_waited_for(web, server, login, tmp_path):
    """As any other reason why a session cannot begin."""
    missing = Secret(f"file:{tmp_path / 'missing'}")
    async with opened(web, server, login_file=login.login_file, client_id="newsroom", client_secret=missing) as world:
        while not world.named("mcp_server_exited"):  # noqa: ASYNC110 - the events have no event of Trio's.
            await trio.sleep(0.02)
        assert "no such file or directory" in world.named("mcp_server_exited")[0].fields["reason"]
        (tmp_path / "missing").write_text("s3/cret")
        await agree(web, attrs.evolve(login, client_id="newsroom", client_secret=missing), [])
        assert await world.do() == "ok"


async def test_a_registered_client_needs_no_other(web, server, login, secret):
    """It says who it is with its secret, also at night."""
    given = attrs.evolve(login, client_id="newsroom", client_secret=secret)
    seen: list[str] = []
    server.accepts = lambda _form, basic: seen.append(basic) is None
    server.rotates = True
    await web.start("--era", ERAS[0], "--token-file", str(server.token_file), "--authority", server.issuer)
    with trio.fail_after(60):
        await agree(web, given, [])
    async with reopened(web, server, login_file=login.login_file, client_id="newsroom", client_secret=secret) as world:
        server.token_file.write_text("another")
        assert await world.do() == "ok"
    assert server.registered == []
    assert seen == ["newsroom:s3%2Fcret"] * 2


async def test_the_command_opens_a_browser_and_keeps_what_came_of_it(web, server, login, tmp_path):
    """As a person gives it; the browser is the one that the environment names."""
    browser = tmp_path / "browser"
    browser.write_text(f"#!{sys.executable}\nimport sys, urllib.request\nurllib.request.urlopen(sys.argv[1])\n")
    browser.chmod(0o755)
    (tmp_path / "config.toml").write_text(
        'schema = 1\n[fleet]\nname = "trial"\n[agents.editor]\nclass = "a:B"\nmcp = ["notes"]\n'
        f'[mcp.global.notes]\nurl = "{web.url}"\noauth = {{ login_file = "login.json" }}\n'
    )
    await web.start("--era", ERAS[1], "--token-file", str(server.token_file), "--authority", server.issuer)
    command = [AGENTRT, "mcp", "login", "editor", "notes", "--config", str(tmp_path / "config.toml")]
    environment = os.environ | {"BROWSER": f"{browser} %s"}
    with trio.fail_after(60):
        done = await trio.run_process(command, env=environment, capture_stdout=True)
    assert done.stdout.decode() == f"logged in: notes has 2 tools; kept in {login.login_file}\n"
    async with reopened(web, server, login_file=login.login_file) as world:
        assert await world.do() == "ok"
    assert len(server.agreed) == 1
