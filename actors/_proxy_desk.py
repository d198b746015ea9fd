"""What all requests through the proxy share: its backends, what they hold in memory, and whether it still takes any."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import trio

from actors._http import HttpClient
from actors._proxy_backend import Backend
from actors._proxy_metrics import ProxyMetrics
from agentrt.config.proxy import ProxyFile
from agentrt.config.units import format_size
from agentrt.policy.origin import OriginPolicy, is_loopback


class NotRouted(Exception):
    """There is no such backend; the message says which there are."""


class Refused(Exception):
    """A request is not taken.

    Attributes:
        status: What HTTP says of it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ProxyDesk:
    """The proxy behind its HTTP server.

    Args:
        file: Its configuration.
        client: Makes the requests to backends.
    """

    def __init__(self, file: ProxyFile, client: HttpClient) -> None:
        self.config = file.proxy
        self.client = client
        self.backends = tuple(
            Backend(name, tenant, config, file.proxy)
            for tenant, named in (("", file.backends), *file.tenants.items())
            for name, config in named.items()
        )
        self.metrics = ProxyMetrics(self.backends)
        host = file.proxy.listen.rpartition(":")[0].strip("[]")
        self.origins = OriginPolicy(file.proxy.origins, is_loopback(host))
        #: Names this proxy in ``Via``, so that it knows its own requests.
        self.via = f"agentrt-{secrets.token_hex(4)}"
        #: Set when no stream is to stay open, because the proxy stops.
        self.is_draining = False
        self._held = 0
        self._streams: set[trio.CancelScope] = set()
        self._by_place = {(one.tenant, one.name): one for one in self.backends}

    def find(self, tenant: str, name: str, header: str | None) -> Backend:
        """Find the backend that a request is for.

        Args:
            tenant: The tenant in its path; empty where there is none.
            name: The backend in its path; empty where there is none, which is enough where there is only one.
            header: The tenant in its header; None where there is none, or none is looked at.

        Raises:
            NotRouted: There is none.
        """
        if header and tenant and header != tenant:
            raise NotRouted(f"the path says tenant {tenant!r} and the header says {header!r}")
        whose = tenant or header or ""
        theirs = {one.name: one for one in self.backends if one.tenant == whose}
        if not theirs:
            tenants = sorted({one.tenant for one in self.backends if one.tenant})
            there_are = ", ".join(tenants) or "none"
            if whose:
                raise NotRouted(f"there is no tenant {whose!r}; there are: {there_are}")
            raise NotRouted(
                f"there is no backend for everybody; write /TENANT/BACKEND/mcp, with the tenants {there_are}"
            )
        if not name and len(theirs) == 1:
            return next(iter(theirs.values()))
        if name not in theirs:
            paths = ", ".join(one.path for one in theirs.values())
            what = f"there is no backend {name!r}" if name else "the path names no backend"
            raise NotRouted(f"{what}{f' of tenant {whose!r}' if whose else ''}; there are: {paths}")
        return theirs[name]

    def health(self) -> dict[str, Any]:
        """Say of each backend whether it can be used."""
        checks = {one.label: {"ok": one.is_ready, "reason": one.reason} for one in self.backends}
        is_ok = not self.is_draining and any(check["ok"] for check in checks.values())
        return {"ok": is_ok, "draining": self.is_draining, "checks": checks}

    def hold(self, size: int) -> None:
        """Account for a part of a request in memory, until :meth:`let_go`.

        Raises:
            Refused: All of them together would be too much.
        """
        if self._held + size > self.config.max_buffered:
            raise Refused(503, f"requests in hand hold {format_size(self._held)}: too much")
        self._held += size

    def let_go(self, size: int) -> None:
        """Account for what is not in memory any more."""
        self._held -= size

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Keep a stream open, until the proxy stops."""
        with trio.CancelScope() as scope:
            if self.is_draining:
                scope.cancel()
            self._streams.add(scope)
            try:
                yield
            finally:
                self._streams.discard(scope)

    def open(self) -> None:
        """Take requests, again after an end that was asked for."""
        self.is_draining = False

    def drain(self) -> None:
        """Close all streams that stay open, for the others may come back elsewhere; calls in hand go on."""
        self.is_draining = True
        for scope in tuple(self._streams):
            scope.cancel(reason="agentrt: the proxy stops")

    def statistics(self) -> Mapping[str, int]:
        """Say what it holds."""
        return {"held_bytes": self._held, "streams": len(self._streams)}
