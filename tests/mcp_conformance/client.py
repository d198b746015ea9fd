"""The client that the official suite drives: each scenario's calls, made through the session actor and nothing else.

The suite starts it once a scenario, with the address of its server as the last argument. It behaves as an agent would:
it waits until the session is ready, and calls what is offered.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import trio

from actors.mcp_session import McpSession, McpToolSession
from agentrt.config import Secret
from agentrt.config.model import McpServerConfig
from agentrt.config.oauth import OAuthConfig
from agentrt.kernel import ChildSpec, EventStream, SupervisorSpec, open_runtime
from agentrt.ports import ToolDefinition

#: Seconds for all of a scenario; the suite itself gives a client thirty.
PATIENCE = 10.0
#: Seconds for one call.
CALL = 5.0
#: An argument of each type of JSON Schema.
ARGUMENTS: dict[str, Any] = {"string": "x", "integer": 1, "number": 1.5, "boolean": True, "object": {}, "array": []}
#: The suite's server takes whatever stream is opened after a call for the one that resumes it. So the call waits until
#: the session has opened the stream of its own, which takes a moment.
SETTLING = {"sse-retry": 1.0}
#: Lists a tool that it does not serve.
LIST_ONLY = {"json-schema-ref-no-deref"}

#: What proves who asks for a token: as the suite calls it, and as the configuration does.
PROOFS = {"client_secret": "client_secret", "private_key_pem": "private_key", "valid_jwt": "assertion"}

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


async def main(scenario: str, config: McpServerConfig, context: dict[str, Any]) -> None:
    """Run one scenario."""
    session = McpToolSession("suite", config)
    stream = EventStream()
    stream.listen(lambda event: print(event.kind, dict(event.fields), file=sys.stderr))
    child = ChildSpec(id="suite", factory=lambda: McpSession(session), shutdown=12.0)
    with trio.fail_after(PATIENCE):
        async with open_runtime(SupervisorSpec(id="client", children=(child,)), events=stream):
            await session.wait_ready()
            await trio.sleep(SETTLING.get(scenario, 0.0))
            for tool, arguments in calls_of(scenario, context, session.definitions):
                print(tool, await session.call(tool, arguments, timeout=CALL))


def configured(url: str, version: str, context: dict[str, Any]) -> McpServerConfig:
    """Configure the server; scenarios of 2025-03-26 begin with the same handshake as those of 2025-11-25."""
    protocol = "2026-07-28" if version == "2026-07-28" else "2025-11-25"
    return McpServerConfig(url=url, protocol=protocol, elicitation="defaults", oauth=login_of(url, context))


def login_of(url: str, context: dict[str, Any]) -> OAuthConfig | None:
    """Configure the login with what the suite gives away: secrets by reference, as everywhere."""
    given = {key: context[name] for name, key in PROOFS.items() if name in context}
    if "client_id" not in context or not given:
        return None
    os.environ.update(given)
    return OAuthConfig(
        issuer=issuer_of(url),
        client_id=context["client_id"],
        key_algorithm=context.get("signing_algorithm", "ES256"),
        **{key: Secret(f"env:{key}") for key in given},
    )


def issuer_of(url: str) -> str:
    """Look up what a person who configures a login knows: who gives tokens for the server."""
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path}"
    return str(httpx2.get(where).raise_for_status().json()["authorization_servers"][0])


if __name__ == "__main__":
    given = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    server = configured(sys.argv[-1], os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"], given)
    trio.run(main, os.environ["MCP_CONFORMANCE_SCENARIO"], server, given)
