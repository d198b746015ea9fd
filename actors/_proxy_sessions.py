"""Sessions through the proxy: who keeps each, and what the next server would have to be told."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import attrs
import trio

#: Subscriptions that are repeated for one session; a client with more has to repeat the others itself.
_MAX_SUBSCRIBED = 1000


@attrs.define(eq=False)
class Session:
    """One session, as its client and as its backend know it.

    Attributes:
        client_id: What the client calls it, from its beginning to its end.
        backend_id: What the backend calls it; another one after each time that it was made anew.
        home: Which replica keeps it.
        handshake: The parameters of its ``initialize``; None where the proxy did not see it, and cannot repeat it.
        is_fresh: It was made anew, and no stream of events was opened since: the ids of old events mean nothing.
        lock: Held by who makes it anew.
    """

    client_id: str
    backend_id: str
    home: int
    handshake: Mapping[str, Any] | None = None
    is_fresh: bool = False
    lock: trio.Lock = attrs.field(factory=trio.Lock, repr=False)
    _log_level: Mapping[str, Any] | None = None
    _subscribed: dict[str, None] = attrs.field(factory=dict)

    def learn(self, method: str, params: Mapping[str, Any]) -> None:
        """Take note of a request that its backend took."""
        uri = str(params.get("uri", ""))
        if method == "logging/setLevel":
            self._log_level = params
        elif method == "resources/subscribe" and len(self._subscribed) < _MAX_SUBSCRIBED:
            self._subscribed[uri] = None
        elif method == "resources/unsubscribe":
            self._subscribed.pop(uri, None)

    def repeated(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return what the next server has to be asked for, beyond the handshake."""
        level = [("logging/setLevel", self._log_level)] if self._log_level is not None else []
        return [*level, *(("resources/subscribe", {"uri": uri}) for uri in self._subscribed)]


class Sessions:
    """The sessions of one backend, by the client's name for each; bounded, the one that rested longest goes first.

    Args:
        limit: How many are remembered.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, client_id: str | None) -> Session | None:
        """Find a session, and count it as used."""
        if client_id is None or client_id not in self._sessions:
            return None
        self._sessions.move_to_end(client_id)
        return self._sessions[client_id]

    def add(self, client_id: str, home: int, handshake: Mapping[str, Any] | None) -> Session:
        """Take note of a session that a replica keeps."""
        session = self._sessions[client_id] = Session(client_id, client_id, home, handshake)
        self._sessions.move_to_end(client_id)
        while len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)
        return session

    def remove(self, client_id: str) -> None:
        """Forget a session that its client ended."""
        self._sessions.pop(client_id, None)

    def kept_by(self, home: int) -> int:
        """How many of them a replica keeps."""
        return sum(1 for session in self._sessions.values() if session.home == home)
