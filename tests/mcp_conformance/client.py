"""The client that the official suite drives: each scenario's calls, made through the session actor and nothing else.

The suite starts it once a scenario, with the address of its server as the last argument. It behaves as an agent would:
it waits until the session is ready, and calls what is offered.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import trio
from mcp.client.auth import AuthorizationCodeResult

from actors.mcp_login_program import LoginFailed, log_in
from actors.mcp_session import McpSession, McpToolSession
from agentrt.config import Secret
from agentrt.config.model import McpServerConfig
from agentrt.config.oauth import OAuthConfig
from agentrt.kernel import ChildSpec, EventStream, SupervisorSpec, open_runtime
from agentrt.ports import ToolDefinition, ToolError

#: Seconds for all of a scenario; the suite itself gives a client thirty.
PATIENCE = 20.0
#: Seconds for one call.
CALL = 10.0
#: An argument of each type of JSON Schema.
ARGUMENTS: dict[str, Any] = {"string": "x", "integer": 1, "number": 1.5, "boolean": True, "object": {}, "array": []}
#: The suite's server takes whatever stream is opened after a call for the one that resumes it. So the call waits until
#: the session has opened the stream of its own, which takes a moment.
SETTLING = {"sse-retry": 1.0}
#: Lists a tool that it does not serve.
LIST_ONLY = {"json-schema-ref-no-deref"}

#: What proves who asks for a token: as the suite calls it, and as the configuration does.
PROOFS = {"client_secret": "client_secret", "private_key_pem": "private_key", "valid_jwt": "assertion"}

#: Scenarios in which the client proves itself who it is; in the others a person agrees in a browser.
BY_ITSELF = {"auth/client-credentials-basic", "auth/client-credentials-jwt", "auth/wif-jwt-bearer"}
#: Where a client says what it is; the suite does not look there.
CLIENT_DOCUMENT = "https://conformance-test.local/client-metadata.json"
#: A person logs in so often before giving up.
LOGINS = 3

Call = tuple[str, dict[str, Any]]


def calls_of(scenario: str, context: dict[str, Any], tools: tuple[ToolDefinition, ...]) -> Iterator[Call]:
    """Say what a scenario wants called: what the suite names, else each tool once."""
    if "toolCalls" in context:
        yield from ((call["name"], call["arguments"]) for call in context["toolCalls"])
    elif scenario not in LIST_ONLY:
        schemas = {tool.name: dict(tool.input_schema) for tool in tools}
        for name, schema in schemas.items():
            arguments = {key: _argument(schema["properties"][key]) for key in schema.get("required", ())}
            if name == "json_schema_echo":
                # The suite wants back what the client made of another tool's schema.
                arguments["schema"] = schemas["json_schema_2020_12_tool"]
            yield name, arguments


def _argument(schema: dict[str, Any]) -> Any:
    return ARGUMENTS.get(schema.get("type", "string"))


class Person:
    """Somebody who says yes to everything, and has no browser but a single request."""

    redirect_uri = "http://127.0.0.1:3333/callback"

    async def visit(self, url: str) -> None:
        async with httpx2.AsyncClient() as browser:
            sent = await browser.get(url, follow_redirects=False)
        query = parse_qs(urlsplit(sent.headers["location"]).query)
        self.came_back = {key: values[0] for key, values in query.items()}

    async def answer(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**{key: self.came_back.get(key) for key in ("code", "state", "iss")})


async def main(scenario: str, config: McpServerConfig, context: dict[str, Any]) -> str | None:
    """Run one scenario: by day a person logs in, where that is needed; at night the session works by itself."""
    if not scenario.startswith("auth/") or config.oauth is None or config.oauth.login_file is None:
        return await work(scenario, config, context)
    for _ in range(LOGINS):
        try:
            await log_in(config, Person())
        except LoginFailed as error:
            return f"nobody is logged in: {error}"
        try:
            return await work(scenario, config, context)
        except ToolError as error:
            # What it says is what a person does next.
            if "agentrt mcp login" not in str(error):
                raise
    return "the server is never content"


async def work(scenario: str, config: McpServerConfig, context: dict[str, Any]) -> str | None:
    """Work with the session; return why it did not even begin, where it did not."""
    session = McpToolSession("suite", config)
    stream = EventStream()
    failed = trio.Event()
    stream.listen(lambda event: print(event.kind, dict(event.fields), file=sys.stderr))
    stream.listen(lambda event: failed.set() if event.kind == "mcp_server_exited" else None)
    child = ChildSpec(id="suite", factory=lambda: McpSession(session), shutdown=12.0)
    with trio.fail_after(PATIENCE):
        async with open_runtime(SupervisorSpec(id="client", children=(child,)), events=stream):
            # It would try again for ever; the suite's server, which is always there, has no use for that.
            if not await is_ready_before(session, failed):
                return f"the session did not begin: {session.reason}"
            await trio.sleep(SETTLING.get(scenario, 0.0))
            for tool, arguments in calls_of(scenario, context, session.definitions):
                try:
                    print(tool, await session.call(tool, arguments, timeout=CALL))
                except ToolError as error:
                    failure = error
                    break
            else:
                return None
    # Raised out here, it has no groups around it.
    raise failure


async def is_ready_before(session: McpToolSession, failed: trio.Event) -> bool:
    """Wait for the session or for its failure."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await failed.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await session.wait_ready()
        nursery.cancel_scope.cancel()
    return session.is_ready


def configured(scenario: str, url: str, version: str, context: dict[str, Any], folder: str) -> McpServerConfig:
    """Configure the server; all older versions begin with the handshake, and the newest one is found by asking."""
    protocol = "auto" if version == "2026-07-28" else "2025-11-25"
    login = login_of(scenario, url, context, folder)
    return McpServerConfig(url=url, protocol=protocol, elicitation="defaults", oauth=login)


def login_of(scenario: str, url: str, context: dict[str, Any], folder: str) -> OAuthConfig | None:
    """Configure the login with what the suite gives away: secrets by reference, as everywhere."""
    if not scenario.startswith("auth/"):
        return None
    given: dict[str, Any] = {key: context[name] for name, key in PROOFS.items() if name in context}
    os.environ.update(given)
    secrets = {key: Secret(f"env:{key}") for key in given}
    if scenario in BY_ITSELF:
        algorithm = context.get("signing_algorithm", "ES256")
        return OAuthConfig(issuer=issuer_of(url), client_id=context["client_id"], key_algorithm=algorithm, **secrets)
    file = Path(folder, "login.json")
    return OAuthConfig(login_file=file, client_id=context.get("client_id", CLIENT_DOCUMENT), **secrets)


def issuer_of(url: str) -> str:
    """Look up what a person who configures a login knows: who gives tokens for the server."""
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path}"
    return str(httpx2.get(where).raise_for_status().json()["authorization_servers"][0])


if __name__ == "__main__":
    played = os.environ["MCP_CONFORMANCE_SCENARIO"]
    given = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    with tempfile.TemporaryDirectory() as kept:
        server = configured(played, sys.argv[-1], os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"], given, kept)
        failure = trio.run(main, played, server, given)
    sys.exit(failure)
