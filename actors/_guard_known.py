"""What a client and its server agreed on: all that the next server has to be told."""

from __future__ import annotations

from collections.abc import Callable, Container

from actors._guard_wire import Message, fingerprint, table
from agentrt.policy.repeatable import is_harmless, is_harmless_tool

#: What a client may have kept, and what tells it that this changed.
_LISTS = {
    "tools/list": "notifications/tools/list_changed",
    "prompts/list": "notifications/prompts/list_changed",
    "resources/list": "notifications/resources/list_changed",
}
#: What each request says of its client, where there is no handshake that does.
_ENVELOPE = "io.modelcontextprotocol/"

Ask = Callable[[str, Message | None, Callable[[Message], object]], None]


class Known:
    """Learns from what is answered, and repeats it to the next server.

    Attributes:
        initialize: The parameters of the client's handshake; None before it, and where the protocol has none.
        result: What a server answered to it.
        is_initialized: Whether the client said that it is done with the handshake.
        is_modern: Whether a server has answered without a handshake, as from protocol 2026-07-28 on.
    """

    def __init__(self) -> None:
        self.initialize: Message | None = None
        self.result: Message | None = None
        self.is_initialized = False
        self.is_modern = False
        self._log_level: Message | None = None
        self._subscribed: dict[str, None] = {}
        self._lists: dict[str, str] = {}
        self._harmless: set[str] = set()
        self._envelope: Message = {}

    def is_safe(self, method: str, params: Message) -> bool:
        """Whether asking again changes nothing more than asking once."""
        return is_harmless(method, params, self._harmless)

    def handshake(self) -> Message | None:
        """Return the parameters of the handshake with the next server; None where there is nothing to repeat."""
        if self.initialize is None or self.result is None:
            return None
        agreed = {key: self.result[key] for key in ("protocolVersion",) if key in self.result}
        return {**self.initialize, **agreed}

    def learn(self, method: str, params: Message, message: Message) -> None:
        """Take note of what a request of the client was answered."""
        result = table(message["result"]) if "result" in message else None
        if method == "initialize":
            self.result = result
            self.initialize = self.initialize if result is not None else None
        if result is None:
            return
        self.is_modern = self.initialize is None
        if method == "logging/setLevel":
            self._log_level = params
        elif method == "resources/subscribe":
            self._subscribed[str(params.get("uri"))] = None
        elif method == "resources/unsubscribe":
            self._subscribed.pop(str(params.get("uri")), None)
        elif method in _LISTS and "cursor" not in params:
            self._lists[method] = fingerprint(result)
        if method == "tools/list":
            self._learn_tools(result.get("tools"))

    def _learn_tools(self, tools: object) -> None:
        for tool in map(table, tools if isinstance(tools, list) else ()):
            (self._harmless.add if is_harmless_tool(tool) else self._harmless.discard)(str(tool.get("name")))

    def heard(self, params: Message) -> None:
        """Take note of how a client without a handshake says who it is."""
        said = table(params.get("_meta")).items()
        self._envelope = {key: value for key, value in said if key.startswith(_ENVELOPE)}

    def enveloped(self, params: Message | None) -> Message | None:
        """Return *params* as a request of this client has them: by the first one a server knows how it is spoken to."""
        if self.initialize is not None or not self._envelope:
            return params
        return {**(params or {}), "_meta": self._envelope}

    def promised(self) -> set[str]:
        """Return the notifications of changed lists that a server promised in its handshake."""
        capabilities = table(table(self.result).get("capabilities"))
        return {told for told in _LISTS.values() if table(capabilities.get(told.split("/")[1])).get("listChanged")}

    def repeat(self, ask: Ask) -> None:
        """Tell a server that finished its handshake the rest."""
        if self._log_level is not None:
            ask("logging/setLevel", self._log_level, _nothing)
        for uri in self._subscribed:
            ask("resources/subscribe", {"uri": uri}, _nothing)

    def look_for_changes(self, ask: Ask, wanted: Container[str], changed: Callable[[str], object]) -> None:
        """Ask for the lists that the client asked for; call *changed* with each *wanted* notification that is due."""
        for method in self._lists:
            if _LISTS[method] in wanted:
                self._look_for_change(ask, method, changed)

    def _look_for_change(self, ask: Ask, method: str, changed: Callable[[str], object]) -> None:
        def answered(message: Message) -> None:
            if "result" in message and (found := fingerprint(table(message["result"]))) != self._lists[method]:
                self._lists[method] = found
                changed(_LISTS[method])

        ask(method, None, answered)


def _nothing(_message: Message) -> None:
    return
