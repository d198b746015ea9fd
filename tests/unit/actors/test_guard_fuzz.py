"""Whatever JSON a client and its servers say, the guard passes it on and does not fall over it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from actors._guard_session import GuardSession

METHODS = (
    "initialize",
    "ping",
    "tools/list",
    "prompts/list",
    "tools/call",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "subscriptions/listen",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/subscriptions/acknowledged",
)
KEYS = (
    *("params", "result", "error", "_meta", "name", "tools", "uri", "cursor", "requestId", "protocolVersion"),
    *("capabilities", "listChanged", "notifications", "toolsListChanged", "annotations", "readOnlyHint"),
    "io.modelcontextprotocol/subscriptionId",
)
odd = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(("", "a", "tools")),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
messages = st.fixed_dictionaries(
    {}, optional={"id": odd, "method": st.sampled_from(METHODS) | odd, "params": odd, "result": odd, "error": odd}
)
steps = st.lists(st.tuples(st.sampled_from(("client", "server", "spare", "dies")), messages | odd), max_size=12)


class Server:
    """Takes lines, and answers what the guard itself asks with something odd."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def send(self, line: bytes) -> int:
        message = json.loads(line)
        if isinstance(message, dict) and str(message.get("id")).startswith("agentrt-guard-"):
            self.asked.append(message["id"])
        return 1

    def may_have_read(self, _mark: int) -> bool:
        return False


def attach(session: GuardSession, server: Server, works: object) -> None:
    """Take over a server that took the handshake."""
    if works:
        session.attach(server)


@given(steps, odd)
@example([("client", {"id": 1, "method": "tools/list", "params": [None]})], None)
@example([("client", {"id": 1, "method": "initialize"}), ("server", {"id": 1, "result": {}}), ("dies", None)], None)
def test_nothing_that_is_said_ends_a_session(said: list[tuple[str, Any]], answer: Any):
    """Neither a client nor a server has to keep to the protocol for the other to be served."""
    session = GuardSession(10.0, lambda _: None)
    server = Server()
    session.attach(server)
    for who, message in said:
        line = json.dumps(message).encode()
        if who == "client":
            session.from_client(line, 0.0)
        elif who == "server":
            session.from_server(line)
        elif who == "spare":
            session.from_spare(line)
        else:
            session.lost("the server died", 0.0)
            server = Server()
            session.greet(server, partial(attach, session, server))
        for identity in server.asked:
            session.from_server(json.dumps({"jsonrpc": "2.0", "id": identity, "result": answer}).encode())
        server.asked.clear()
    session.tick(100.0)
    assert all(isinstance(json.loads(line), dict) for line in session.to_client)


def test_a_line_that_is_nested_too_deep_to_read_is_none():
    """It takes a few bytes to say, and more of the stack than there is."""
    session = GuardSession(10.0, lambda _: None)
    session.from_client(b"[" * 100_000, 0.0)
    assert [-32700] == [json.loads(line)["error"]["code"] for line in session.to_client]
