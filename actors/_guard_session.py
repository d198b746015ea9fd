"""What the guard knows of the session between a client and its server, so that the next server can take it over.

Everything here is decided from the lines that pass, without Trio and without a clock. What passes is passed as it came,
byte for byte; only what the session depends on is read.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import attrs

from actors._guard_known import Known
from actors._guard_wire import PARSE_ERROR, SERVER_ERROR, Message, key_of, parse, table, write

#: Open for as long as the client wants; nobody waits for its answer. First comes which of the wishes are honoured, and
#: all that comes for it says under which id it was asked for.
_LISTEN = "subscriptions/listen"
_ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
#: The wish for a notification.
_WISHES = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
#: A request over which the server died so often is taken for the cause.
_MAX_SENDS = 3
_MAX_WAITING = 1024
_MAX_WAITING_BYTES = 64 * 1024 * 1024


class Link(Protocol):
    """The server of the moment, such as :class:`actors._stdio.ServerProcess`."""

    def send(self, line: bytes) -> int: ...
    def may_have_read(self, mark: int) -> bool: ...


@attrs.define(eq=False)
class Pending:
    """A request of the client that is not answered.

    Args:
        id: As the client gave it.
        line: The request as it came.
        method: What is asked.
        params: With what.
        since: When it came.
        mark: By which the server of the moment is asked whether it has read it.
        sends: How often it was sent.
        is_cancelled: Whether the client does not want it any more.
        honoured: The wishes of a subscription that its first server took.
    """

    id: Any
    line: bytes
    method: str
    params: Message
    since: float
    mark: int = 0
    sends: int = 0
    is_cancelled: bool = False
    honoured: Message | None = None


@attrs.define
class Counts:
    """What became of requests around restarts, since the guard was started."""

    answered: int = 0
    resent: int = 0
    unknown: int = 0
    refused: int = 0


class GuardSession:
    """One client, and one server after the other.

    Lines for the client are left in :attr:`to_client`. Requests that come while there is no server wait; those that
    were in flight when it ended are sent to the next one where that is safe, and fail otherwise.

    Args:
        wait: Seconds that a request waits for a server.
        noise: Called with each line of a server that is no JSON-RPC.
    """

    def __init__(self, wait: float, noise: Callable[[bytes], object]) -> None:
        self._wait = wait
        self._noise = noise
        self.to_client: list[bytes] = []
        self.counts = Counts()
        #: Whether requests go to a server at once.
        self.is_open = False
        self.why_not = "the server is starting"
        self._link: Link | None = None
        self._in_flight: dict[str, Pending] = {}
        self._waiting: dict[str, Pending] = {}
        self._waiting_bytes = 0
        self._known = Known()
        # Requests of the server to the client: the id that the client knows, and the one that the server gave.
        self._asked: Message = {}
        self._stale: set[str] = set()
        self._own: dict[str, tuple[Link, Callable[[Message], object]]] = {}
        self._prefix = f"agentrt-guard-{secrets.token_hex(4)}-"
        self._numbers = itertools.count(1)

    @property
    def is_legacy(self) -> bool:
        """Whether the client began with a handshake, as up to protocol 2025-11-25."""
        return self._known.initialize is not None

    @property
    def is_undecided(self) -> bool:
        """Whether it is open yet what the next server will have to be told."""
        return self._known.handshake() is None and not self._known.is_modern

    @property
    def calls(self) -> int:
        """Requests that the server works on."""
        return sum(pending.method != _LISTEN for pending in self._in_flight.values())

    @property
    def waiting(self) -> int:
        """Requests that wait for a server."""
        return len(self._waiting)

    def oldest_call(self) -> Pending | None:
        """Return the request that the server works on for the longest; the handshake has a limit of its own."""
        without = (_LISTEN, "initialize")
        return next((pending for pending in self._in_flight.values() if pending.method not in without), None)

    @property
    def handshake_since(self) -> float | None:
        """When the client began its handshake, while the server has not answered that."""
        return next((pending.since for pending in self._in_flight.values() if pending.method == "initialize"), None)

    # The server

    def greet(self, link: Link, greeted: Callable[[bool], object]) -> None:
        """Repeat the client's handshake with a server; *greeted* is told whether that took it.

        Where the protocol has none, a server is ready as soon as it answers anything.
        """
        handshake = self._known.handshake()
        if handshake is not None:
            self.ask(link, "initialize", handshake, lambda message: greeted("result" in message))
        elif self._known.is_modern:
            self.ask(link, "server/discover", None, lambda _: greeted(True))
        else:
            # Nobody has begun; or the client waits for its first answer, which is asked for again.
            greeted(True)

    def attach(self, link: Link) -> None:
        """Take over a server that was greeted: it is told the rest, and what waits goes to it."""
        self._link = link
        ask = partial(self.ask, link)
        if self._known.handshake() is not None:
            if self._known.is_initialized:
                link.send(write({"method": "notifications/initialized"}))
            self._known.repeat(ask)
            self._known.look_for_changes(ask, self._known.promised(), self._tell_changed)
            self._open()
        else:
            self._open()
            self._known.look_for_changes(ask, self._subscribed(), self._tell_changed)

    def _subscribed(self) -> set[str]:
        """Return the notifications of changed lists that the client has subscribed to."""
        honoured = [table(pending.honoured) for pending in self._in_flight.values()]
        return {told for told, wish in _WISHES.items() if any(wishes.get(wish) for wishes in honoured)}

    def _tell_changed(self, notification: str) -> None:
        if self.is_legacy:
            self._tell_client({"method": notification})
        for pending in self._in_flight.values():
            if table(pending.honoured).get(_WISHES[notification]):
                self._tell_client({"method": notification, "params": {"_meta": {_SUBSCRIPTION: pending.id}}})

    def hold(self, why: str) -> None:
        """Let requests wait from now on; those in flight go on."""
        self.is_open, self.why_not = False, why

    def lost(self, why: str, now: float) -> None:
        """Take note that the server ended; *why* for people."""
        link, self._link = self._link, None
        self.hold(why)
        self.forget(link)
        again: dict[str, Pending] = {}
        for key, pending in self._in_flight.items():
            if pending.is_cancelled:
                continue
            undelivered = link is None or not link.may_have_read(pending.mark)
            if not (undelivered or self._known.is_safe(pending.method, pending.params)):
                self.counts.unknown += 1
                self._fail(pending, "outcome_unknown", f"{why}; whether this was done is not known")
            elif pending.sends >= _MAX_SENDS:
                self.counts.unknown += 1
                self._fail(pending, "poison", f"{why}, {pending.sends} times over this request; it is not sent again")
            else:
                pending.since = now
                again[key] = pending
        self._in_flight.clear()
        self._waiting = {**again, **self._waiting}
        self._waiting_bytes = sum(len(pending.line) for pending in self._waiting.values())
        for key in self._asked:
            self._stale.add(key)
            params = {"requestId": json.loads(key), "reason": "the server was started again"}
            self._tell_client({"method": "notifications/cancelled", "params": params})
        self._asked.clear()

    def forget(self, link: Link | None) -> None:
        """Wait no more for what a server was asked on the guard's own account."""
        self._own = {key: own for key, own in self._own.items() if own[0] is not link}

    def tick(self, now: float) -> None:
        """Fail what has waited for too long."""
        for key, pending in [*self._waiting.items()]:
            if now - pending.since >= self._wait:
                del self._waiting[key]
                self._waiting_bytes -= len(pending.line)
                self.counts.refused += 1
                self._fail(pending, "unavailable", f"{self.why_not}; not sent within {self._wait:g} s")

    def give_up(self, pending: Pending, why: str) -> None:
        """Fail a request that the server works on for too long, and tell the server that nobody waits for it."""
        self._in_flight.pop(key_of(pending.id), None)
        params = {"requestId": pending.id, "reason": why}
        self._send(write({"method": "notifications/cancelled", "params": params}))
        self.counts.unknown += 1
        self._fail(pending, "outcome_unknown", f"{why}; whether this was done is not known")

    def ask(self, link: Link, method: str, params: Message | None, answered: Callable[[Message], object]) -> None:
        """Ask the server something on the guard's own account; the client does not see the answer."""
        identity = f"{self._prefix}{next(self._numbers)}"
        self._own[key_of(identity)] = (link, answered)
        params = self._known.enveloped(params)
        message = {"id": identity, "method": method, **({"params": params} if params is not None else {})}
        link.send(write(message))

    def from_spare(self, line: bytes) -> None:
        """Take a line of a server that is not attached yet: only what it was asked counts."""
        message = parse(line)
        if message is not None and "method" not in message:
            own = self._own.pop(key_of(message.get("id")), None)
            if own is not None:
                own[1](message)

    def from_server(self, line: bytes) -> None:
        """Take a line of the server."""
        message = parse(line)
        if message is None:
            self._noise(line)
        elif "method" not in message:
            self._answered(message, line)
        elif "id" in message:
            self._asked_by_server(message, line)
        elif message["method"] != _ACKNOWLEDGED or self._acknowledged(table(message.get("params"))):
            self.to_client.append(line)

    def _acknowledged(self, params: Message) -> bool:
        """Take note of a subscription that is open; the client hears that once."""
        pending = self._in_flight.get(key_of(table(params.get("_meta")).get(_SUBSCRIPTION)))
        if pending is None:
            return True
        is_first = pending.honoured is None
        pending.honoured = table(params.get("notifications"))
        # No server dies of one that it has taken.
        pending.sends = 1
        return is_first

    def _answered(self, message: Message, line: bytes) -> None:
        key = key_of(message.get("id"))
        if (own := self._own.pop(key, None)) is not None:
            own[1](message)
        elif (pending := self._in_flight.pop(key, None)) is not None:
            self.counts.answered += 1
            self._known.learn(pending.method, pending.params, message)
            self.to_client.append(line)

    def _asked_by_server(self, message: Message, line: bytes) -> None:
        key = key_of(message["id"])
        if key in self._stale or key in self._asked:
            # The client may still answer an earlier server's request of that id.
            key = key_of(f"{self._prefix}{next(self._numbers)}")
            line = write({**message, "id": json.loads(key)})
        self._asked[key] = message["id"]
        self.to_client.append(line)

    # The client

    def from_client(self, line: bytes, now: float) -> None:
        """Take a line of the client."""
        message = parse(line)
        if message is None:
            self._tell_client(
                {"id": None, "error": {"code": PARSE_ERROR, "message": "this line is no JSON-RPC message"}}
            )
        elif "method" not in message:
            self._answered_by_client(message, line)
        elif "id" in message:
            self._request(Pending(message["id"], line, message["method"], table(message.get("params")), now))
        else:
            self._notified(message["method"], table(message.get("params")), line)

    def _request(self, pending: Pending) -> None:
        if pending.method == "initialize":
            self._known.initialize, self._known.result = pending.params, None
        elif pending.method != "ping" and self._known.initialize is None:
            self._known.heard(pending.params)
        if self.is_open:
            self._pass_on(pending)
        elif pending.method == "ping":
            # The session lives, which is what is asked.
            self._tell_client({"id": pending.id, "result": {}})
        elif len(self._waiting) >= _MAX_WAITING or self._waiting_bytes + len(pending.line) > _MAX_WAITING_BYTES:
            self.counts.refused += 1
            self._fail(pending, "unavailable", f"{self.why_not}, and {len(self._waiting)} requests wait already")
        else:
            self._waiting[key_of(pending.id)] = pending
            self._waiting_bytes += len(pending.line)

    def _notified(self, method: str, params: Message, line: bytes) -> None:
        if method == "notifications/initialized":
            self._known.is_initialized = True
        elif method == "notifications/cancelled":
            key = key_of(params.get("requestId"))
            if (waiting := self._waiting.pop(key, None)) is not None:
                self._waiting_bytes -= len(waiting.line)
                return
            if (pending := self._in_flight.get(key)) is not None:
                pending.is_cancelled = True
        if self.is_open:
            self._send(line)

    def _answered_by_client(self, message: Message, line: bytes) -> None:
        key = key_of(message.get("id"))
        if key not in self._asked:
            self._stale.discard(key)
            return
        identity = self._asked.pop(key)
        self._send(line if key_of(identity) == key else write({**message, "id": identity}))

    def _open(self) -> None:
        self.is_open, self.why_not = True, ""
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        for pending in waiting.values():
            self.counts.resent += pending.sends > 0
            self._pass_on(pending)

    # Out

    def _pass_on(self, pending: Pending) -> None:
        pending.sends += 1
        pending.mark = self._send(pending.line)
        self._in_flight[key_of(pending.id)] = pending

    def _send(self, line: bytes) -> int:
        # What a server that just ended does not take is found by its mark, when its end is told.
        return self._link.send(line) if self._link is not None else 0

    def _fail(self, pending: Pending, kind: str, message: str) -> None:
        data = {"kind": kind, "method": pending.method, "by": "agentrt mcp guard"}
        self._tell_client({"id": pending.id, "error": {"code": SERVER_ERROR, "message": message, "data": data}})

    def _tell_client(self, message: Message) -> None:
        self.to_client.append(write(message))
