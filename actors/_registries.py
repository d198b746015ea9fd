"""The registries that entries are kept in: a bucket of the bus, and others over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Literal, Protocol
from urllib.parse import quote

import attrs

from actors._http import HttpClient
from agentrt.ports import Bus, RegistryEntry
from agentrt.resilience import CallFailed

#: Seconds that one entry may take.
LIMIT = 5.0
_MULTIPLE, _NOT_FOUND, _GONE = 300, 404, 410
#: Bytes of an answer, which nobody looks at.
_MAX_ANSWER = 64 * 1024


class Sink(Protocol):
    """One registry."""

    @property
    def name(self) -> str:
        """What it is called in events and checks."""
        ...

    def takes(self, entry: RegistryEntry) -> bool:
        """Whether it is one for this kind of entry."""
        ...

    async def write(self, entry: RegistryEntry) -> None:
        """Write an entry, or renew it."""

    async def remove(self, key: str) -> None:
        """Remove an entry; nothing happens where there is none."""


def as_json(entry: RegistryEntry) -> bytes:
    """Write an entry as others read it."""
    value = {**attrs.asdict(entry), "renewed_at": round(time.time(), 3)}
    return json.dumps(value, separators=(",", ":")).encode()


class BucketSink:
    """A bucket of the bus, whose own limit on age is the lease.

    Args:
        bus: The bus.
        bucket: The bucket, which is declared elsewhere.
    """

    name = "nats"

    def __init__(self, bus: Bus, bucket: str) -> None:
        self._bus = bus
        self._bucket = bucket

    def takes(self, _entry: RegistryEntry) -> bool:
        """All of them."""
        return True

    async def write(self, entry: RegistryEntry) -> None:
        """Write an entry, or renew it."""
        await self._bus.put(self._bucket, entry.key, as_json(entry), timeout=LIMIT)

    async def remove(self, key: str) -> None:
        """Remove an entry."""
        await self._bus.delete(self._bucket, key, timeout=LIMIT)


class HttpSink:
    """A registry over HTTP, where an entry is what stands at its URL.

    Args:
        name: What it is called.
        kind: What it is for.
        url: Where entries are, without the key.
        client: Makes the requests.
        token: Reads what it lets us in by; None where it asks for nothing.
    """

    def __init__(
        self,
        name: str,
        kind: Literal["agent", "mcp_server"],
        url: str,
        client: HttpClient,
        token: Callable[[], str] | None,
    ) -> None:
        self.name = name
        self._kind = kind
        self._url = url.rstrip("/")
        self._client = client
        self._token = token

    def takes(self, entry: RegistryEntry) -> bool:
        """Those of its kind."""
        return entry.kind == self._kind

    async def write(self, entry: RegistryEntry) -> None:
        """Write an entry, or renew it.

        Raises:
            CallFailed: It did not take it.
        """
        await self._send("PUT", entry.key, as_json(entry))

    async def remove(self, key: str) -> None:
        """Remove an entry.

        Raises:
            CallFailed: It did not take that.
        """
        await self._send("DELETE", key, None)

    async def _send(self, method: str, key: str, body: bytes | None) -> None:
        headers = [(b"content-type", b"application/json")] if body is not None else []
        if self._token is not None:
            headers.append((b"authorization", f"Bearer {self._token()}".encode()))
        answer = await self._client.open(method, f"{self._url}/{quote(key)}", headers, body, connect_timeout=LIMIT)
        try:
            if answer.status >= _MULTIPLE and not (method == "DELETE" and answer.status in {_NOT_FOUND, _GONE}):
                raise CallFailed(answer.failure())
            # Read to its end, the connection can be used again.
            await answer.read(_MAX_ANSWER)
        finally:
            await answer.aclose()
