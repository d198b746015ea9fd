"""JSON-RPC lines as the guard reads and writes them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

#: JSON-RPC's own number for a line that is no JSON, and the first of those that are a server's to give away.
PARSE_ERROR = -32700
SERVER_ERROR = -32000

Message = dict[str, Any]


def key_of(identity: Any) -> str:
    """Return what to find a request by: 1 and "1" are two ids."""
    return json.dumps(identity)


def write(message: Message) -> bytes:
    """Return a message as a line."""
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode()


def parse(line: bytes) -> Message | None:
    """Return a line's message; None where it is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and isinstance(message.get("method", ""), str) else None


def table(value: Any) -> Message:
    """Return an object of JSON; an empty one in the place of what should be one and is not."""
    return value if isinstance(value, dict) else {}


def fingerprint(result: Message) -> str:
    """Return what is the same for two results that say the same, whoever says it."""
    said = {key: value for key, value in result.items() if key != "_meta"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
