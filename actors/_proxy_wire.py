"""What the proxy reads and writes on the wire: headers, messages, errors of its own, and streams of events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

Headers = list[tuple[bytes, bytes]]

SESSION, VERSION, LAST_EVENT = b"mcp-session-id", b"mcp-protocol-version", b"last-event-id"
EVENTS = "text/event-stream"
#: JSON-RPC's first number that is a server's to give away.
SERVER_ERROR = -32000
#: What one connection says to its other end, and no further; what Connection names is added.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
#: The client says these anew, to another host or of another length.
_OWN = frozenset({b"host", b"content-length", b"expect"})
_BOUNDARY = re.compile(rb"\r\n\r\n|\n\n|\r\r")
#: Lines that belong to no event.
_IDLE = re.compile(rb"(?:(?::[^\r\n]*)?[\r\n])*")
#: Of a boundary, this much may have come without the rest.
_BOUNDARY_REST = 3
#: Bytes of an event that are held back until it is whole; of a longer one nobody can tell where it was cut.
_MAX_HELD = 64 * 1024
#: Bytes of the last event that are kept to see whether it was the answer.
_MAX_EVENT = 1024 * 1024


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers that are for the other end, in lower case."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {
        token.strip().lower()
        for name, value in lowered
        if name == b"connection"
        for token in value.split(b",")
        if token
    }
    return [(name, value) for name, value in lowered if name not in _HOP_BY_HOP and name not in named]


def for_backend(headers: Iterable[tuple[bytes, bytes]], via: str) -> Headers:
    """Return a request's headers as the backend gets them."""
    kept = [(name, value) for name, value in end_to_end(headers) if name not in _OWN]
    # What is packed cannot be passed on event by event.
    kept = with_header(kept, b"accept-encoding", "identity")
    return with_header(kept, b"via", ", ".join(filter(None, [header(kept, b"via"), f"1.1 {via}"])))


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the first header of this name, in lower case; None where there is none."""
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def with_header(headers: Headers, name: bytes, value: str | None) -> Headers:
    """Return headers with another value of one, or without it."""
    kept = [(key, old) for key, old in headers if key != name]
    return kept if value is None else [*kept, (name, value.encode("latin-1"))]


def parse(body: bytes) -> Any:
    """Return a body's JSON; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def request_of(message: Any) -> tuple[str, Mapping[str, Any], Any]:
    """Return a message's method, parameters and id; what it does not have is empty or None."""
    if not isinstance(message, Mapping):
        return "", {}, None
    method, params = message.get("method"), message.get("params")
    return (
        method if isinstance(method, str) else "",
        params if isinstance(params, Mapping) else {},
        message.get("id"),
    )


def rpc_error(identity: Any, reason: str, **data: Any) -> bytes:
    """Write an error of the proxy's own as an answer to the request *identity*."""
    error = {"code": SERVER_ERROR, "message": reason, "data": data}
    return json.dumps({"jsonrpc": "2.0", "id": identity, "error": error}).encode()


def events_of(body: bytes) -> list[Any]:
    """Return the messages in a stream of events that was read whole."""
    blocks = re.split(_BOUNDARY, body)
    return [message for block in blocks if (message := _message_of(block)) is not None]


def _message_of(event: bytes) -> Any:
    lines = [line for line in re.split(rb"\r\n|\n|\r", event) if line.startswith(b"data:")]
    return parse(b"\n".join(line[len(b"data:") :].removeprefix(b" ") for line in lines)) if lines else None


@attrs.define
class EventRelay:
    """Passes a stream of events on, event by event, and knows what to say where it is cut.

    An event is passed on as soon as it is whole, so that half of one never is; of a long one, what there is.

    Args:
        identity: The request that the stream answers; None where it is no answer.
        is_packed: It is not to be read here, only passed on.
    """

    identity: Any = None
    is_packed: bool = False
    _held: bytearray = attrs.field(init=False, factory=bytearray)
    _last: bytes | None = attrs.field(init=False, default=b"")
    _is_in_event: bool = attrs.field(init=False, default=False)
    _has_ids: bool = attrs.field(init=False, default=False)

    def feed(self, data: bytes) -> bytes:
        """Take what came, and return what is to be passed on."""
        if self.is_packed:
            self._is_in_event, self._last = True, None
            return data
        self._held += data
        end = 0
        for match in _BOUNDARY.finditer(self._held):
            self._saw(bytes(self._held[end : match.start()]))
            end = match.end()
        # Comments, which keep the connection alive, and what is left of their ends.
        idle = _IDLE.match(self._held, end)
        end = idle.end() if idle is not None else end
        if len(self._held) - end > _MAX_HELD:
            self._is_in_event, self._last = True, None
            # The event may end here, which the rest of its boundary then tells.
            end = len(self._held) - _BOUNDARY_REST
        ready = bytes(self._held[:end])
        del self._held[:end]
        return ready

    @property
    def last_event(self) -> bytes:
        """The last event that was whole; empty where it was too long to keep."""
        return self._last or b""

    def end(self) -> bytes:
        """Return what is left at the stream's own end."""
        return bytes(self._held)

    def cut(self, reason: str) -> bytes | None:
        """Return what to say at the end of a stream that was cut; None where only closing the connection tells.

        A client that knows ids of events asks for the rest itself; the error would keep it from that.
        """
        if self._is_in_event:
            return None
        if self.identity is None or self._has_ids or self._is_answered():
            return b""
        error = rpc_error(self.identity, f"outcome unknown: {reason}", kind="outcome_unknown")
        return b"event: message\ndata: " + error + b"\n\n"

    def _saw(self, event: bytes) -> None:
        self._is_in_event = False
        if event.startswith(b"id:") or b"\nid:" in event:
            self._has_ids = True
        if b"data:" in event:
            self._last = event if len(event) <= _MAX_EVENT else None

    def _is_answered(self) -> bool:
        if self._last is None:
            return True
        message = _message_of(self._last)
        return (
            isinstance(message, Mapping)
            and message.get("id") == self.identity
            and ("result" in message or "error" in message)
        )
