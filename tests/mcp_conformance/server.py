"""A tool server over stdio, without an SDK, with all that the official suite asks a server for, in both eras.

The first request decides on the era: a handshake, or requests that say of themselves what they are.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

from mcpsuite import fixtures

LEGACY, MODERN = "2025-11-25", "2026-07-28"
INFO = {"name": "agentrt-fixture", "version": "1"}
META = "io.modelcontextprotocol/"
#: What the newer protocol has no more.
REMOVED = {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
CACHEABLE = {
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
}
INVALID_PARAMS, NOT_FOUND, UNSUPPORTED, MISSING = -32602, -32601, -32022, -32021

Json = dict[str, Any]


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        self.error = {"code": code, "message": message, **({} if data is None else {"data": data})}


class Server:
    """One connection."""

    def __init__(self) -> None:
        self.capabilities: Json = {}
        self.is_legacy = False
        self.levels = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
        self.level = "debug"
        #: Streams of the newer protocol: what each wants to be told.
        self.listening: dict[str | int, Json] = {}
        self.key = secrets.token_bytes()
        self.asked = 0

    # Lines

    def write(self, message: Json) -> None:
        """Send a message."""
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()

    def tell(self, method: str, params: Json) -> None:
        """Send a notification."""
        self.write({"method": method, "params": params})

    def ask(self, method: str, params: Json) -> Json:
        """Ask the client, and take what comes before its answer meanwhile."""
        self.asked += 1
        identity = f"server-{self.asked}"
        self.write({"id": identity, "method": method, "params": params})
        for line in sys.stdin:
            message = json.loads(line)
            if message.get("id") == identity and "method" not in message:
                if "error" in message:
                    raise Refused(message["error"]["code"], message["error"]["message"])
                return dict(message["result"])
            self.take(message)
        raise SystemExit

    def run(self) -> None:
        """Answer until there is nothing more."""
        for line in sys.stdin:
            self.take(json.loads(line))

    def take(self, message: Json) -> None:
        """Take one message."""
        method, params = message.get("method"), message.get("params") or {}
        if method == "notifications/cancelled":
            self.listening.pop(params.get("requestId"), None)
        if method is None or "id" not in message:
            return
        try:
            result = self.answer(method, params, message["id"])
        except Refused as refusal:
            self.write({"id": message["id"], "error": refusal.error})
        else:
            if result is not None:
                self.write({"id": message["id"], "result": result})

    # Requests

    def answer(self, method: str, params: Json, identity: str | int) -> Json | None:
        """Answer one request; None where the answer comes at the end of a stream."""
        if method == "initialize" and META + "protocolVersion" not in (params.get("_meta") or {}):
            self.is_legacy, self.capabilities = True, params["capabilities"]
            offered = params["protocolVersion"]
            version = offered if offered in {"2025-03-26", "2025-06-18", LEGACY} else LEGACY
            return {"protocolVersion": version, "capabilities": self.offers(), "serverInfo": INFO}
        if not self.is_legacy:
            self.check(params)
            if method in REMOVED:
                raise Refused(NOT_FOUND, f"Method not found: {method}")
            if method == "subscriptions/listen":
                self.listen(identity, params)
                return None
        found = getattr(self, "do_" + method.replace("/", "_"), None)
        if found is None:
            raise Refused(NOT_FOUND, f"Method not found: {method}")
        return self.complete(method, found(params))

    def check(self, params: Json) -> None:
        """Let in what says of itself what it has to."""
        meta = params.get("_meta")
        needed = ("protocolVersion", "clientCapabilities")
        if not isinstance(meta, dict) or any(META + name not in meta for name in needed):
            raise Refused(INVALID_PARAMS, "Invalid params: _meta lacks what every request has to say")
        version = meta[META + "protocolVersion"]
        if version != MODERN:
            data = {"supported": [MODERN], "requested": version}
            raise Refused(UNSUPPORTED, "Unsupported protocol version", data)
        self.capabilities = meta[META + "clientCapabilities"]

    def complete(self, method: str, result: Json) -> Json:
        """Add what the newer protocol wants in each result."""
        if self.is_legacy:
            return result
        hints = {"ttlMs": 0, "cacheScope": "private"} if method in CACHEABLE else {}
        return {"resultType": "complete", **hints, "_meta": {META + "serverInfo": INFO}, **result}

    def offers(self) -> Json:
        """Say what this server can do."""
        changes = {"listChanged": True}
        offers: Json = {"tools": changes, "prompts": changes, "resources": {"subscribe": True}, "completions": {}}
        return offers | ({"logging": {}} if self.is_legacy else {})

    def listen(self, identity: str | int, params: Json) -> None:
        """Open a stream of changes."""
        wanted = {name: value for name, value in params.get("notifications", {}).items() if value}
        self.listening[identity] = wanted
        self.told(identity, "notifications/subscriptions/acknowledged", {"notifications": wanted})

    def told(self, identity: str | int, method: str, params: Json) -> None:
        """Tell something on a stream of changes."""
        self.tell(method, {**params, "_meta": {META + "subscriptionId": identity}})

    def changed(self, what: str) -> None:
        """Tell those who want to know that a list is another now."""
        for identity, wanted in self.listening.items():
            if wanted.get(f"{what}ListChanged"):
                self.told(identity, f"notifications/{what}/list_changed", {})

    def log(self, text: str) -> None:
        """Tell what happens, where somebody wants to know."""
        if self.is_legacy and self.levels.index("info") >= self.levels.index(self.level):
            self.tell("notifications/message", {"level": "info", "logger": "fixture", "data": text})

    # Methods, one each

    def do_server_discover(self, _: Json) -> Json:
        return {"supportedVersions": [MODERN], "capabilities": self.offers()}

    def do_ping(self, _: Json) -> Json:
        return {}

    def do_logging_setLevel(self, params: Json) -> Json:
        self.level = params["level"]
        return {}

    def do_resources_subscribe(self, _: Json) -> Json:
        return {}

    def do_resources_unsubscribe(self, _: Json) -> Json:
        return {}

    def do_completion_complete(self, params: Json) -> Json:
        values = [value for value in ("paris", "park", "party") if value.startswith(params["argument"]["value"])]
        return {"completion": {"values": values, "total": len(values), "hasMore": False}}

    def do_tools_list(self, _: Json) -> Json:
        return {"tools": fixtures.TOOLS}

    def do_prompts_list(self, _: Json) -> Json:
        return {"prompts": fixtures.PROMPTS}

    def do_resources_list(self, _: Json) -> Json:
        return {"resources": fixtures.RESOURCES}

    def do_resources_templates_list(self, _: Json) -> Json:
        return {"resourceTemplates": fixtures.TEMPLATES}

    def do_resources_read(self, params: Json) -> Json:
        uri = params["uri"]
        content = fixtures.content_of(uri)
        if content is None:
            raise Refused(INVALID_PARAMS, "Resource not found", {"uri": uri})
        return {"contents": [{"uri": uri, **content}]}

    def do_prompts_get(self, params: Json) -> Json:
        if params["name"] == "test_input_required_result_prompt":
            form = fixtures.form("What context should the prompt use?", context={"type": "string"})
            return self.with_input(params, {"user_context": form}, lambda _: fixtures.prompt("test_simple_prompt", {}))
        return fixtures.prompt(params["name"], params.get("arguments") or {})

    def do_tools_call(self, params: Json) -> Json:
        name, arguments = params["name"], params.get("arguments") or {}
        if name in fixtures.ANSWERS:
            return fixtures.ANSWERS[name]
        tool: Callable[[Json, Json], Json] | None = getattr(self, f"call_{name.removeprefix('test_')}", None)
        if tool is None:
            raise Refused(INVALID_PARAMS, f"Unknown tool: {name}")
        return tool(params, arguments)

    # Tools that do more than answer

    def call_tool_with_logging(self, _: Json, __: Json) -> Json:
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            self.log(text)
            time.sleep(0.05)
        return fixtures.text("Logged.")

    def call_logging_tool(self, params: Json, arguments: Json) -> Json:
        return self.call_tool_with_logging(params, arguments)

    def call_tool_with_progress(self, params: Json, _: Json) -> Json:
        token = (params.get("_meta") or {}).get("progressToken")
        for progress in (0, 50, 100):
            if token is not None:
                self.tell("notifications/progress", {"progressToken": token, "progress": progress, "total": 100})
            time.sleep(0.05)
        return fixtures.text("Done.")

    def call_sampling(self, _: Json, arguments: Json) -> Json:
        messages = [{"role": "user", "content": {"type": "text", "text": arguments["prompt"]}}]
        answer = self.ask("sampling/createMessage", {"messages": messages, "maxTokens": 100})
        return fixtures.text(f"LLM response: {answer['content'].get('text')}")

    def call_elicitation(self, _: Json, arguments: Json) -> Json:
        return self.elicit(fixtures.form(arguments["message"], **fixtures.USER))

    def call_elicitation_sep1034_defaults(self, _: Json, __: Json) -> Json:
        return self.elicit(fixtures.form("With defaults", required=(), **fixtures.DEFAULTS))

    def call_elicitation_sep1330_enums(self, _: Json, __: Json) -> Json:
        return self.elicit(fixtures.form("Choose", required=(), **fixtures.ENUMS))

    def elicit(self, form: Json) -> Json:
        answer = self.ask(form["method"], form["params"])
        return fixtures.text(f"Elicitation completed: action={answer['action']}, content={answer.get('content')}")

    def call_trigger_tool_change(self, _: Json, __: Json) -> Json:
        self.changed("tools")
        return fixtures.text("Told.")

    def call_trigger_prompt_change(self, _: Json, __: Json) -> Json:
        self.changed("prompts")
        return fixtures.text("Told.")

    def call_missing_capability(self, _: Json, __: Json) -> Json:
        if "sampling" not in self.capabilities:
            data = {"requiredCapabilities": {"sampling": {}}}
            raise Refused(MISSING, "Missing required client capability", data)
        return fixtures.text("It is there.")

    # Tools that want input first

    def call_streaming_elicitation(self, params: Json, _: Json) -> Json:
        return self.with_input(params, {"user_name": fixtures.NAME}, lambda _: fixtures.text("Thank you."))

    def call_input_required_result_elicitation(self, params: Json, _: Json) -> Json:
        def greet(given: Json) -> Json:
            return fixtures.text(f"Hello, {given['user_name']['content']['name']}!")

        return self.with_input(params, {"user_name": fixtures.NAME}, greet)

    def call_input_required_result_sampling(self, params: Json, _: Json) -> Json:
        wanted = {"capital_question": fixtures.sampling("What is the capital of France?")}
        return self.with_input(params, wanted, lambda given: fixtures.text(json.dumps(given)))

    def call_input_required_result_list_roots(self, params: Json, _: Json) -> Json:
        wanted = {"client_roots": fixtures.ROOTS}
        return self.with_input(params, wanted, lambda given: fixtures.text(json.dumps(given)))

    def call_input_required_result_request_state(self, params: Json, _: Json) -> Json:
        return self.with_input(params, {"confirm": fixtures.CONFIRM}, lambda _: fixtures.text("state-ok"), state="1")

    def call_input_required_result_tampered_state(self, params: Json, _: Json) -> Json:
        return self.with_input(params, {"confirm": fixtures.CONFIRM}, lambda _: fixtures.text("state-ok"), state="1")

    def call_input_required_result_multiple_inputs(self, params: Json, _: Json) -> Json:
        wanted = {
            "user_name": fixtures.NAME,
            "greeting": fixtures.sampling("Generate a greeting"),
            "client_roots": fixtures.ROOTS,
        }
        return self.with_input(params, wanted, lambda _: fixtures.text("All there."), state="1")

    def call_input_required_result_multi_round(self, params: Json, _: Json) -> Json:
        color = fixtures.form("Step 2: What is your favorite color?", color={"type": "string"})

        def second(_: Json) -> Json:
            return self.with_input(params, {"step2": color}, lambda _: fixtures.text("Both there."), state="2")

        if self.opened(params) == "2":
            return second({})
        return self.with_input(params, {"step1": fixtures.NAME}, second, state="1")

    def call_input_required_result_capabilities(self, params: Json, _: Json) -> Json:
        wanted = {"user_name": fixtures.NAME, "greeting": fixtures.sampling("Generate a greeting")}
        needs = {"user_name": "elicitation", "greeting": "sampling"}
        possible = {key: request for key, request in wanted.items() if needs[key] in self.capabilities}
        return self.with_input(params, possible, lambda _: fixtures.text("All there."))

    def with_input(self, params: Json, wanted: Json, then: Callable[[Json], Json], *, state: str = "") -> Json:
        """Go on where all that is wanted was given; else ask for it."""
        given = params.get("inputResponses") or {}
        known = self.opened(params)
        if set(wanted) <= set(given) and known == (state or None):
            if not all(isinstance(given[key], dict) for key in wanted):
                raise Refused(INVALID_PARAMS, "Invalid params: an input response is an object")
            return then(given)
        sealed = {"requestState": f"{state}.{self.seal(state)}"} if state else {}
        return {"resultType": "input_required", "inputRequests": wanted, **sealed}

    def opened(self, params: Json) -> str | None:
        """Read the state that came back; nobody but this server can have written it."""
        if params.get("requestState") is None:
            return None
        state, _, seal = params["requestState"].partition(".")
        if not hmac.compare_digest(seal.encode(), self.seal(state).encode()):
            raise Refused(INVALID_PARAMS, "Invalid or expired requestState")
        return str(state)

    def seal(self, state: str) -> str:
        return hmac.new(self.key, state.encode(), hashlib.sha256).hexdigest()


if __name__ == "__main__":
    Server().run()
