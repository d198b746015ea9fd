"""What every client is told and tells: files in a folder say what to do, and lines of JSON say what happened.

Nothing but the standard library: it runs in the environment of each peer.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STREAM, DURABLE, BUCKET, KEY = "FEED", "worker", "state", "beat"
TASKS, CORE, DENIED = "t.tasks", "t.core", "t.denied"
USER = "agent"
HOST = "bus.test"

#: Seconds between two messages, and between two signs of the subscription and of the watch.
PACE, SIGN = 0.02, 0.1
#: Publishes that are under way at once, and seconds after which one that failed is repeated.
IN_FLIGHT, AGAIN = 64, 0.05
#: Seconds that one fetch waits, where a client fetches; its default would find a restarted server later.
FETCH = 1.0

FOLDER = Path(sys.argv[2] if len(sys.argv) > 2 else ".")
URLS = sys.argv[1].split(",") if len(sys.argv) > 1 else []

_resolve = socket.getaddrinfo


def say(kind: str, number: int = 0, **fields: Any) -> None:
    """Tell the rig; the clock is the machine's, so that the rig can compare."""
    sys.stdout.write(json.dumps({"kind": kind, "number": number, "at": time.monotonic(), **fields}) + "\n")
    sys.stdout.flush()


def password() -> str:
    """Read the password, as from a vault that may be down."""
    if (FOLDER / "vault_down").exists():
        raise RuntimeError("the vault does not answer")
    return (FOLDER / "password").read_text()


def declared() -> bool:
    """Whether the stream and the bucket are there already, as an operator made them."""
    return (FOLDER / "declared").exists()


def stopped() -> bool:
    """Whether no more is to be published."""
    return (FOLDER / "stop").exists()


def commands() -> Iterator[str]:
    """Give each command that came since the last time, once."""
    for name in ("oversize", "denied"):
        if (FOLDER / name).exists():
            (FOLDER / name).unlink()
            yield name


def numbers() -> Iterator[int]:
    """Count the messages."""
    return itertools.count()


def _late(host: Any, *args: Any, **options: Any) -> Any:
    if isinstance(host, bytes):
        host = host.decode()
    if host != HOST:
        return _resolve(host, *args, **options)
    while (FOLDER / "late_dns").exists():
        time.sleep(0.01)
    return _resolve("127.0.0.1", *args, **options)


def resolve_here() -> None:
    """Answer for the rig's own host name, and late where the rig says so; for every resolver of the process."""
    socket.getaddrinfo = _late


def oversize() -> tuple[bytes, dict[str, str]]:
    """Return a body that fits in a message, and headers with which it does not."""
    return b"x" * int((FOLDER / "max_payload").read_text()), {"x-more": "y" * 200}


def pid() -> int:
    """Return this process."""
    return os.getpid()
