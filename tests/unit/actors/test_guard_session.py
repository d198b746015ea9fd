"""What the guard does with the lines between a client and its servers, without any process."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from actors._guard_session import GuardSession

INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"sampling": {}},
    "clientInfo": {"name": "c", "version": "1"},
}
RESULT = {
    "protocolVersion": "2025-03-26",
    "capabilities": {"tools": {"listChanged": True}, "resources": {"subscribe": True}},
    "serverInfo": {"name": "s", "version": "1"},
}
READS = {"name": "look", "annotations": {"readOnlyHint": True}}
AGAIN = {"name": "put", "annotations": {"idempotentHint": True}}
ONCE = {"name": "pay"}


@attrs.define(eq=False)
class Server:
    """What it was sent, and up to where it read."""

    sent: list[dict[str, Any]] = attrs.field(factory=list)
    raw: list[bytes] = attrs.field(factory=list)
    has_read: int | None = None

    def send(self, line: bytes) -> int:
        self.raw.append(line)
        self.sent.append(json.loads(line))
        return len(self.sent)

    def may_have_read(self, mark: int) -> bool:
        return self.has_read is None or mark <= self.has_read

    def methods(self) -> list[str]:
        return [message.get("method", "answer") for message in self.sent]


class World:
    """A guarded session, its client, and the servers that it had."""

    def __init__(self, *, legacy: bool = True) -> None:
        self.noise: list[bytes] = []
        self.session = GuardSession(10.0, self.noise.append)
        self.now = 0.0
        self.greeted: list[bool] = []
        self.server = self.start()
        if legacy:
            self.ask(1, "initialize", INITIALIZE)
            self.answer(1, RESULT)
            self.tell("notifications/initialized")

    def start(self) -> Server:
        self.server = server = Server()

        def greeted(works: object) -> None:
            self.greeted.append(bool(works))
            if works:
                self.session.attach(server)

        self.session.greet(server, greeted)
        return server

    def greet(self) -> Server:
        """Start a server, and let it take the handshake."""
        server = self.start()
        self.answer(server.sent[0]["id"], RESULT)
        return server

    def client(self, message: dict[str, Any]) -> None:
        self.session.from_client(json.dumps({"jsonrpc": "2.0", **message}).encode(), self.now)

    def ask(self, identity: Any, method: str, params: Any = None) -> None:
        self.client({"id": identity, "method": method, "params": params or {}})

    def call(self, identity: Any, tool: str) -> None:
        self.ask(identity, "tools/call", {"name": tool})

    def tell(self, method: str, **params: Any) -> None:
        self.client({"method": method, "params": params})

    def answer(self, identity: Any, result: Any) -> None:
        self.says({"id": identity, "result": result})

    def says(self, message: dict[str, Any]) -> None:
        self.session.from_server(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def heard(self) -> list[dict[str, Any]]:
        """What the client was told since this was asked last."""
        lines, self.session.to_client = self.session.to_client, []
        return [json.loads(line) for line in lines]

    def dies(self, *, has_read: int | None = None) -> None:
        self.server.has_read = has_read
        self.session.lost("the server was killed by SIGKILL", self.now)

    def list_tools(self, *tools: dict[str, Any]) -> None:
        self.ask("list", "tools/list")
        self.answer("list", {"tools": [*tools]})
        self.heard()


@pytest.fixture
def world() -> World:
    made = World()
    made.heard()
    return made


def test_lines_pass_as_they_came(world: World) -> None:
    """Byte for byte, in both directions."""
    odd = b'{ "method":"tools/call", "jsonrpc":"2.0","id":"\\u00e9", "params":{"name":"x"}}'
    world.session.from_client(odd, 0.0)
    answer = b'{"id":"\\u00e9","result":{"a": 1.0},"jsonrpc":"2.0"}'
    world.session.from_server(answer)
    assert (odd, [answer]) == (world.server.raw[-1], world.session.to_client)


def test_the_next_server_gets_the_handshake_with_the_version_that_was_agreed_on(world: World) -> None:
    """Under an id of its own, which no client has; and not what the client asked for at first."""
    world.dies()
    server = world.start()
    assert [{**INITIALIZE, "protocolVersion": "2025-03-26"}] == [message["params"] for message in server.sent]
    assert str(server.sent[0]["id"]).startswith("agentrt-guard-")
    world.answer(server.sent[0]["id"], RESULT)
    assert ["initialize", "notifications/initialized"] == server.methods()
    assert [] == world.heard()


def test_a_client_that_did_not_say_initialized_is_not_spoken_for() -> None:
    world = World(legacy=False)
    world.ask(1, "initialize", INITIALIZE)
    world.answer(1, RESULT)
    world.dies()
    assert ["initialize"] == world.greet().methods()


def test_a_handshake_that_was_not_answered_is_asked_for_again() -> None:
    """By the client's own request, so the answer is the client's."""
    world = World(legacy=False)
    world.ask(7, "initialize", INITIALIZE)
    world.dies()
    server = world.start()
    assert [(7, "initialize")] == [(message["id"], message["method"]) for message in server.sent]
    world.answer(7, RESULT)
    assert [7] == [message["id"] for message in world.heard()]


def test_a_server_that_refuses_the_handshake_gets_nothing(world: World) -> None:
    world.dies()
    server = world.start()
    world.call(2, "look")
    world.says({"id": server.sent[0]["id"], "error": {"code": -32602, "message": "no"}})
    assert ([True, False], ["initialize"]) == (world.greeted, server.methods())
    assert 1 == world.session.waiting


@pytest.mark.parametrize(("tool", "again"), [("look", True), ("put", True), ("pay", False), ("unknown", False)])
def test_a_call_in_flight_is_sent_again_only_where_its_tool_says_that_this_is_harmless(
    world: World, tool: str, *, again: bool
) -> None:
    world.list_tools(READS, AGAIN, ONCE)
    world.call(2, tool)
    world.dies()
    errors = world.heard()
    server = world.greet()
    assert again == (errors == [])
    assert again == ("tools/call" in server.methods())
    if not again:
        assert (2, "outcome_unknown") == (errors[0]["id"], errors[0]["error"]["data"]["kind"])
        assert "killed by SIGKILL" in errors[0]["error"]["message"]


def test_a_call_that_the_dead_server_never_read_is_sent_again_whatever_it_does(world: World) -> None:
    world.call(2, "pay")
    world.call(3, "pay")
    world.dies(has_read=len(world.server.sent) - 1)
    assert [2] == [message["id"] for message in world.heard()]
    assert [3] == [message["id"] for message in world.greet().sent if message.get("method") == "tools/call"]


@pytest.mark.parametrize(
    "method", ["tools/list", "resources/read", "prompts/get", "completion/complete", "server/discover"]
)
def test_what_only_reads_is_sent_again(world: World, method: str) -> None:
    world.ask(2, method)
    world.dies()
    assert ([], method) == (world.heard(), world.greet().sent[-1]["method"])


def test_a_method_that_nobody_knows_is_not_sent_again(world: World) -> None:
    world.ask(2, "vendor/launch")
    world.dies()
    assert ["outcome_unknown"] == [message["error"]["data"]["kind"] for message in world.heard()]


def test_a_request_over_which_servers_die_is_given_up(world: World) -> None:
    """After the third."""
    world.list_tools(READS)
    world.call(2, "look")
    for _ in range(3):
        assert [] == world.heard()
        world.dies()
        world.greet()
    errors = world.heard()
    assert [(2, "poison")] == [(error["id"], error["error"]["data"]["kind"]) for error in errors]


def test_requests_wait_in_their_order_behind_those_that_are_sent_again(world: World) -> None:
    world.list_tools(READS)
    world.call(2, "look")
    world.dies()
    world.call(3, "pay")
    world.call(4, "look")
    assert [2, 3, 4] == [message["id"] for message in world.greet().sent if message.get("method") == "tools/call"]


def test_a_request_waits_no_longer_than_it_may(world: World) -> None:
    world.dies()
    world.now = 5.0
    world.call(2, "look")
    world.session.tick(14.9)
    assert [] == world.heard()
    world.session.tick(15.0)
    assert [(2, "unavailable")] == [(error["id"], error["error"]["data"]["kind"]) for error in world.heard()]
    assert "tools/call" not in world.greet().methods()


def test_no_more_wait_than_there_is_room_for(world: World) -> None:
    world.dies()
    for number in range(1024):
        world.call(number + 10, "look")
    assert [] == world.heard()
    world.call(2, "look")
    assert [(2, "unavailable")] == [(error["id"], error["error"]["data"]["kind"]) for error in world.heard()]


def test_a_ping_is_answered_while_there_is_no_server(world: World) -> None:
    """The session lives, and a client that gives up on it would lose it."""
    world.dies()
    world.ask(2, "ping")
    assert [{"jsonrpc": "2.0", "id": 2, "result": {}}] == world.heard()


def test_what_is_cancelled_while_it_waits_is_never_sent(world: World) -> None:
    world.dies()
    world.call(2, "pay")
    world.tell("notifications/cancelled", requestId=2)
    assert ["initialize", "notifications/initialized"] == world.greet().methods()
    assert [] == world.heard()


def test_what_was_cancelled_in_flight_is_neither_sent_again_nor_answered(world: World) -> None:
    world.list_tools(READS)
    world.call(2, "look")
    world.tell("notifications/cancelled", requestId=2)
    assert "notifications/cancelled" == world.server.sent[-1]["method"]
    world.dies()
    assert ([], False) == (world.heard(), "tools/call" in world.greet().methods())


def test_the_next_server_gets_log_level_and_subscriptions(world: World) -> None:
    world.ask(2, "logging/setLevel", {"level": "debug"})
    world.answer(2, {})
    for number, uri in enumerate(("file:///a", "file:///b", "file:///c")):
        world.ask(10 + number, "resources/subscribe", {"uri": uri})
        if uri != "file:///c":
            world.answer(10 + number, {})
        else:
            world.says({"id": 12, "error": {"code": 1, "message": "no"}})
    world.ask(20, "resources/unsubscribe", {"uri": "file:///a"})
    world.answer(20, {})
    world.heard()
    world.dies()
    told = [(message["method"], message.get("params")) for message in world.greet().sent[2:]]
    assert [("logging/setLevel", {"level": "debug"}), ("resources/subscribe", {"uri": "file:///b"})] == told
    for message in world.server.sent[2:]:
        world.answer(message["id"], {})
    assert [] == world.heard()


@pytest.mark.parametrize("changed", [True, False])
def test_a_client_is_told_of_another_list_of_tools_only_where_it_is_another(world: World, *, changed: bool) -> None:
    world.list_tools(READS)
    world.dies()
    server = world.greet()
    assert "tools/list" == server.sent[-1]["method"]
    world.answer(server.sent[-1]["id"], {"tools": [AGAIN if changed else READS]})
    assert ["notifications/tools/list_changed"] * changed == [message["method"] for message in world.heard()]


def test_a_client_that_was_not_promised_to_hear_of_changes_does_not() -> None:
    world = World(legacy=False)
    world.ask(1, "initialize", INITIALIZE)
    world.answer(1, {**RESULT, "capabilities": {"tools": {}}})
    world.list_tools(READS)
    world.dies()
    server = world.start()
    world.answer(server.sent[0]["id"], RESULT)
    assert ["initialize"] == server.methods()


def test_what_a_server_asked_is_cancelled_when_it_ends_and_late_answers_go_nowhere(world: World) -> None:
    world.says({"id": 0, "method": "sampling/createMessage", "params": {}})
    world.dies()
    heard = world.heard()
    assert ["sampling/createMessage", "notifications/cancelled"] == [message["method"] for message in heard]
    assert 0 == heard[1]["params"]["requestId"]
    server = world.greet()
    world.client({"id": 0, "result": {}})
    assert ["initialize", "notifications/initialized"] == server.methods()


def test_two_servers_that_ask_under_one_id_are_told_apart(world: World) -> None:
    """The client may still answer the first one."""
    world.says({"id": 0, "method": "roots/list"})
    world.dies()
    server = world.greet()
    world.says({"id": 0, "method": "roots/list"})
    second = world.heard()[-1]
    assert 0 != second["id"]
    world.client({"id": 0, "result": {"roots": ["old"]}})
    world.client({"id": second["id"], "result": {"roots": ["new"]}})
    answers = [message for message in server.sent if "result" in message]
    assert [{"jsonrpc": "2.0", "id": 0, "result": {"roots": ["new"]}}] == answers


def test_ids_of_different_types_are_different(world: World) -> None:
    world.call(2, "pay")
    world.call("2", "pay")
    world.answer("2", {"it": "text"})
    assert [("2", {"it": "text"})] == [(message["id"], message["result"]) for message in world.heard()]
    assert 1 == world.session.calls


def test_without_a_handshake_only_open_subscriptions_are_repeated() -> None:
    """Protocol 2026-07-28: each request says for itself who asks."""
    world = World(legacy=False)
    world.ask("s", "subscriptions/listen", {"notifications": {}})
    world.call(2, "pay")
    world.dies()
    assert ["outcome_unknown"] == [message["error"]["data"]["kind"] for message in world.heard()]
    assert ["subscriptions/listen"] == world.start().methods()
    assert 0 == world.session.calls


WHO = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientInfo": {"name": "c"}}
ABOUT = "io.modelcontextprotocol/subscriptionId"


@pytest.fixture
def subscribed() -> World:
    """Without a handshake: the client has listed the tools, and wants to hear of changes."""
    world = World(legacy=False)
    world.ask("list", "tools/list", {"_meta": {**WHO, "progressToken": 1}})
    world.answer("list", {"tools": [READS], "_meta": {"server": "1"}})
    world.ask("s", "subscriptions/listen", {"notifications": {"toolsListChanged": True}, "_meta": WHO})
    acknowledge(world)
    world.heard()
    return world


def acknowledge(world: World) -> None:
    params = {"notifications": {"toolsListChanged": True}, "_meta": {ABOUT: "s"}}
    world.says({"method": "notifications/subscriptions/acknowledged", "params": params})


@pytest.mark.parametrize("changed", [True, False])
def test_a_subscriber_is_told_of_another_list_of_tools_only_where_it_is_another(
    subscribed: World, *, changed: bool
) -> None:
    """By its subscription, which the next server took; who the server is makes no difference."""
    subscribed.dies()
    server = subscribed.greet()
    acknowledge(subscribed)
    assert ["server/discover", "subscriptions/listen", "tools/list"] == server.methods()
    assert [] == subscribed.heard()
    subscribed.answer(server.sent[-1]["id"], {"tools": [AGAIN if changed else READS], "_meta": {"server": "2"}})
    told = {"method": "notifications/tools/list_changed", "params": {"_meta": {ABOUT: "s"}}}
    assert [{"jsonrpc": "2.0", **told}] * changed == subscribed.heard()


def test_who_did_not_subscribe_is_told_nothing_by_itself() -> None:
    world = World(legacy=False)
    world.ask("list", "tools/list", {"_meta": WHO})
    world.answer("list", {"tools": [READS]})
    world.dies()
    assert ["server/discover"] == world.greet().methods()


def test_what_the_guard_asks_is_asked_as_the_client_does(subscribed: World) -> None:
    """By the first request a server decides how it is spoken to; what belongs to a request of the client's does not."""
    subscribed.dies()
    server = subscribed.greet()
    subscribed.session.ask(server, "server/discover", None, lambda _: None)
    own = [message["params"] for message in server.sent if message["id"] != "s"]
    assert [{"_meta": WHO}] * 3 == own


def test_a_subscription_outlives_any_number_of_servers(subscribed: World) -> None:
    """It is open when they die, and not what they die of."""
    for _ in range(10):
        subscribed.dies()
        subscribed.greet()
        acknowledge(subscribed)
    assert [] == subscribed.heard()
    assert "subscriptions/listen" in subscribed.server.methods()


def test_without_a_handshake_a_server_is_ready_when_it_answers_anything(subscribed: World) -> None:
    """Until then nothing is sent to it that it could die of."""
    subscribed.dies()
    server = subscribed.start()
    subscribed.call(7, "pay")
    assert ["server/discover"] == server.methods()
    subscribed.says({"id": server.sent[0]["id"], "error": {"code": -32601, "message": "what is that?"}})
    assert ["server/discover", "subscriptions/listen", "tools/call", "tools/list"] == server.methods()


def test_a_subscription_that_servers_die_of_is_given_up(world: World) -> None:
    world.ask("s", "subscriptions/listen", {"notifications": {}})
    for _ in range(2):
        world.dies()
        world.greet()
    world.dies()
    assert ["poison"] == [message["error"]["data"]["kind"] for message in world.heard()]


def test_what_is_no_message_is_no_line_for_the_client(world: World) -> None:
    world.session.from_server(b"Server listening on stdio")
    world.session.from_server(b"[1, 2]")
    assert ([b"Server listening on stdio", b"[1, 2]"], []) == (world.noise, world.heard())


def test_a_client_that_sends_no_json_is_told(world: World) -> None:
    world.session.from_client(b"{", 0.0)
    assert [-32700] == [message["error"]["code"] for message in world.heard()]


def test_an_answer_that_nobody_waits_for_is_dropped(world: World) -> None:
    """Such as one to a request that was given up."""
    world.call(2, "pay")
    pending = world.session.oldest_call()
    assert pending is not None
    world.session.give_up(pending, "no answer within 5 s")
    world.answer(2, {})
    assert ["outcome_unknown"] == [message["error"]["data"]["kind"] for message in world.heard()]
    assert {"requestId": 2, "reason": "no answer within 5 s"} == world.server.sent[-1]["params"]
