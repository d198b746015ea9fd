"""``agentrt mcp proxy``: streamable HTTP in front of MCP backends, for agents that cannot be changed."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from actors._http import HttpClient, open_client
from actors._proxy_app import make_app
from actors._proxy_backend import Backend, Replica
from actors._proxy_desk import ProxyDesk
from actors._proxy_server import CannotListen, Certificate, address_of, bind, serve_app
from agentrt.config.proxy import ProxyFile
from agentrt.kernel import Actor, ChildSpec, EventStream, Runtime, SupervisorSpec, open_runtime
from agentrt.policy.failures import Phase, classify_network
from agentrt.resilience import CallFailed

__all__ = ["CannotListen", "McpProxy", "open_proxy"]

#: Seconds that the server has beyond the drain, to close its connections.
_CLOSING = 1.0
#: Statuses by which a gateway says that the server behind it is not there.
_ABSENT = frozenset({502, 503, 504})


class ProxyServer(Actor):
    """Serves HTTP; at an ordered end, requests in hand finish first.

    Args:
        desk: The proxy.
        listening: The socket, which outlives this actor.
        certificate: What it shows for itself; None speaks no TLS.
    """

    def __init__(self, desk: ProxyDesk, listening: socket.socket, certificate: Certificate | None) -> None:
        self._desk = desk
        self._listening = listening
        self._certificate = certificate
        self._stopping = trio.Event()
        self._served = trio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        self.spawn(self._serve)
        await trio.sleep_forever()

    async def on_stop(self) -> None:
        """Take no more requests, and let those in hand finish."""
        self._desk.drain()
        self._stopping.set()
        await self._served.wait()

    async def _serve(self) -> None:
        self._desk.open()
        app = make_app(self._desk, lambda kind, fields: self.emit(kind, **fields))
        try:
            drain = self._desk.config.drain_timeout
            await serve_app(app, self._listening, self._stopping.wait, drain, self._certificate)
        finally:
            self._served.set()


class BackendWatch(Actor):
    """Looks at one backend's replicas, and speaks for it.

    Args:
        backend: The backend.
        desk: The proxy.
    """

    def __init__(self, backend: Backend, desk: ProxyDesk) -> None:
        self._backend = backend
        self._desk = desk

    async def run(self) -> None:
        """Look at each replica in turn until cancelled."""
        self._backend.report = self._report
        interval = self._desk.config.check_interval
        if not interval:
            await trio.sleep_forever()
        while True:
            async with trio.open_nursery() as nursery:
                for replica in self._backend.replicas:
                    nursery.start_soon(self._look_at, replica, self._desk.client, interval)
            await trio.sleep(interval * (0.9 + 0.2 * self.random.random()))

    async def _look_at(self, replica: Replica, client: HttpClient, limit: float) -> None:
        """Ask for something harmless: any answer of the server's own will do."""
        try:
            with trio.move_on_after(limit):
                answer = await client.open("OPTIONS", replica.url, connect_timeout=limit)
                await answer.aclose()
                is_there = answer.status not in _ABSENT
                self._backend.looked_at(replica, f"answers ({answer.status})", is_reachable=is_there)
                return
            failure = classify_network(Phase.WAITING, f"no answer within {limit:g} s", is_timeout=True)
        except CallFailed as error:
            failure = error.failure
        self._backend.looked_at(replica, failure.reason, is_reachable=False)

    def _report(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._desk.metrics.acted(self._backend, kind)
        self.emit(kind, backend=self._backend.label, **fields)


class McpProxy:
    """A proxy that runs.

    Attributes:
        url: Where it listens, as ``http://host:port``, or ``https``.
        desk: What it knows.
    """

    def __init__(self, runtime: Runtime, url: str, desk: ProxyDesk) -> None:
        self.url = url
        self.desk = desk
        self._runtime = runtime

    def stop(self, reason: str) -> None:
        """Ask it to stop in order."""
        self._runtime.stop(reason)

    def cancel(self) -> None:
        """End it at once."""
        self._runtime.kill("asked to stop at once")

    async def wait(self) -> None:
        """Wait until it is down."""
        await self._runtime.wait()


@asynccontextmanager
async def open_proxy(file: ProxyFile, *, events: EventStream | None = None) -> AsyncIterator[McpProxy]:
    """Run a proxy for as long as an ``async with``.

    Args:
        file: Its configuration.
        events: Told of each automatic action.

    Raises:
        CannotListen: Its address or its certificate cannot be used.
        TreeFailed: It failed as a whole.
    """
    certificate = None
    if file.proxy.tls_cert is not None and file.proxy.tls_key is not None:
        certificate = Certificate(str(file.proxy.tls_cert), str(file.proxy.tls_key))
    with bind(file.proxy.listen) as listening:
        async with open_client() as client:
            desk = ProxyDesk(file, client)
            async with open_runtime(_tree(desk, listening, certificate), events=events) as runtime:
                scheme = "http" if certificate is None else "https"
                yield McpProxy(runtime, f"{scheme}://{address_of(listening)}", desk)


def _tree(desk: ProxyDesk, listening: socket.socket, certificate: Certificate | None) -> SupervisorSpec:
    watches = tuple(
        ChildSpec(id=backend.label.replace("/", "."), factory=partial(BackendWatch, backend, desk))
        for backend in desk.backends
    )
    server = ChildSpec(
        id="server",
        factory=partial(ProxyServer, desk, listening, certificate),
        shutdown=desk.config.drain_timeout + _CLOSING,
    )
    return SupervisorSpec(id="proxy", children=(SupervisorSpec(id="backends", children=watches), server))
