"""Making a session anew that its server lost, behind its client's back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from actors._http import HttpClient
from actors._proxy_backend import Backend
from actors._proxy_sessions import Session
from actors._proxy_wire import LAST_EVENT, SESSION, VERSION, Headers, events_of, header, parse, with_header
from agentrt.resilience import CallFailed

_MULTIPLE = 300
_ACCEPT = "application/json, text/event-stream"


async def revive(
    backend: Backend, client: HttpClient, session: Session, place: int, seen: str, headers: Headers
) -> bool:
    """Make a session anew on a replica, unless somebody else did meanwhile; return whether it is there now.

    The next server gets the client's handshake with the version that was agreed on, its log level and subscriptions.
    What the server kept in its memory is gone, as after each of its restarts.

    Args:
        backend: Whose session.
        client: Makes the requests.
        session: The session.
        place: The replica.
        seen: The name of the session that was lost.
        headers: The headers of the request that found it lost; they say who asks.
    """
    async with session.lock:
        if session.backend_id != seen:
            return True
        if session.handshake is None:
            return False
        version = header(headers, VERSION) or session.handshake.get("protocolVersion")
        renewal = _Renewal(backend, client, backend.replicas[place].url, _plain(headers))
        try:
            told = await renewal.greet({**session.handshake, "protocolVersion": version})
            if told is None:
                return False
            renewal.headers = with_header(with_header(renewal.headers, SESSION, told), VERSION, str(version))
            await renewal.post({"method": "notifications/initialized"})
            for method, params in session.repeated():
                await renewal.post({"id": f"agentrt-{method}", "method": method, "params": params})
        except CallFailed as error:
            backend.report("proxy_session_lost", {"replica": renewal.url, "reason": str(error)})
            return False
        session.backend_id, session.home, session.is_fresh = told, place, True
        backend.report("proxy_session_revived", {"replica": renewal.url})
        return True


class _Renewal:
    def __init__(self, backend: Backend, client: HttpClient, url: str, headers: Headers) -> None:
        self.url = url
        self.headers = headers
        self._backend = backend
        self._client = client

    async def greet(self, params: Mapping[str, Any]) -> str | None:
        """Repeat the handshake; return the new session's name, None where there is none."""
        told, messages = await self.post({"id": "agentrt-initialize", "method": "initialize", "params": params})
        return told if any(isinstance(one, Mapping) and "result" in one for one in messages) else None

    async def post(self, message: Mapping[str, Any]) -> tuple[str | None, list[Any]]:
        """Send a message; return the session's name in the answer, and what was answered."""
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        answer = await self._client.open(
            "POST", self.url, self.headers, body, connect_timeout=self._backend.config.connect_timeout
        )
        try:
            found = await answer.read(self._backend.proxy.max_answer)
        finally:
            await answer.aclose()
        if answer.status >= _MULTIPLE:
            raise CallFailed(answer.failure())
        return answer.header(SESSION), [parse(found), *events_of(found)]


def _plain(headers: Headers) -> Headers:
    """The headers of a request that begins a session."""
    for name in (SESSION, VERSION, LAST_EVENT):
        headers = with_header(headers, name, None)
    headers = with_header(headers, b"accept", _ACCEPT)
    headers = with_header(headers, b"accept-encoding", "identity")
    return with_header(headers, b"content-type", "application/json")
