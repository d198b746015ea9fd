"""A backend as the proxy knows it: its replicas with their breakers, its sessions, and which tools may be repeated."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs

from actors._proxy_sessions import Sessions
from actors._proxy_wire import events_of, parse
from agentrt.config import breaker
from agentrt.config.proxy import BackendConfig, ProxyConfig
from agentrt.policy import Backoff, BreakerState, Bulkhead, RetryBudget, RetryPolicy, Transition
from agentrt.policy.repeatable import is_harmless_tool, is_repeatable
from agentrt.policy.replicas import ReplicaLoad, order_of
from agentrt.resilience import BreakerGate, BulkheadGate

_EVENTS = {
    BreakerState.OPEN: "proxy_breaker_opened",
    BreakerState.HALF_OPEN: "proxy_breaker_half_opened",
    BreakerState.CLOSED: "proxy_breaker_closed",
}
#: Seconds that a probe may take beyond the limit of the request that it is.
_PROBE_MARGIN = 5.0

Report = Callable[[str, Mapping[str, Any]], object]


@attrs.define(eq=False)
class Replica:
    """One server of a backend.

    Attributes:
        url: Its endpoint.
        gate: Its breaker.
        in_flight: Requests that it has in hand, streams included.
        is_reachable: Whether it answered when it was looked at last; None before that.
        said: What it answered, or why it did not, for people.
    """

    url: str
    gate: BreakerGate
    in_flight: int = 0
    is_reachable: bool | None = None
    said: str = "not looked at yet"

    @property
    def is_usable(self) -> bool:
        """Whether it seems to work."""
        return self.is_reachable is not False and self.gate.state is not BreakerState.OPEN

    @property
    def state(self) -> str:
        """How it is, for people."""
        if self.gate.state is BreakerState.OPEN:
            return f"its breaker is open: {self.gate.reason}"
        return self.said


class Backend:
    """One route of the proxy, of which nothing is shared with another: not even the same server's breaker.

    Args:
        name: Its name.
        tenant: Whose it is; empty for everybody's.
        config: Its settings.
        proxy: The settings of all.
    """

    def __init__(self, name: str, tenant: str, config: BackendConfig, proxy: ProxyConfig) -> None:
        self.name = name
        self.tenant = tenant
        self.config = config
        self.proxy = proxy
        #: Told of each automatic action; the actor that watches the backend puts itself here.
        self.report: Report = _nothing
        self.sessions = Sessions(proxy.max_sessions)
        self.budget = RetryBudget()
        self.random = random.Random()  # noqa: S311 - jitter, no secret.
        self.retry = RetryPolicy(proxy.retries, Backoff(proxy.retry_delay, jitter=(1.0, 1.3)))
        held = proxy.bulkhead
        policy = Bulkhead(held.max_concurrent, held.max_queued, held.max_queued_bytes)
        self.bulkhead = BulkheadGate(self.label, policy, held.max_wait)
        self.replicas = tuple(self._replica(url) for url in config.url)
        #: Streams that are open beside the calls.
        self.streams = 0
        self._declared: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """Its name, with its tenant's where it has one."""
        return f"{self.tenant}/{self.name}" if self.tenant else self.name

    @property
    def path(self) -> str:
        """Where the proxy has it."""
        return f"/{self.label}/mcp"

    @property
    def is_ready(self) -> bool:
        """Whether any replica seems to work."""
        return any(replica.is_usable for replica in self.replicas)

    @property
    def reason(self) -> str:
        """How its replicas are, for people."""
        return "; ".join(f"{replica.url}: {replica.state}" for replica in self.replicas)

    def looked_at(self, replica: Replica, said: str, *, is_reachable: bool) -> None:
        """Take note of how a replica is: by a look at it, or by what it answered a client."""
        was, replica.is_reachable, replica.said = replica.is_reachable, is_reachable, said
        if is_reachable and was is False:
            self.report("proxy_replica_up", {"replica": replica.url})
            # It deserves a request, however long its breaker would have waited.
            replica.gate.hint()
        elif not is_reachable and was is not False:
            self.report("proxy_replica_lost", {"replica": replica.url, "reason": said})

    def order(self, home: int | None) -> tuple[int, ...]:
        """Return the places of its replicas in the order to try them."""
        loads = [ReplicaLoad(replica.is_usable, replica.in_flight) for replica in self.replicas]
        return order_of(loads, self.random.random(), home)

    def may_repeat(self, message: Any) -> bool:
        """Whether a message may be sent again although an earlier try may have happened."""
        if self.config.repeat == "all":
            return True
        declared = self._declared if self.config.trust_annotations else frozenset()
        return is_repeatable(message, declared | frozenset(self.config.idempotent))

    def learn_tools(self, params: Mapping[str, Any], body: bytes) -> None:
        """Learn from an answer to ``tools/list`` what the server says of its tools."""
        for message in (parse(body), *events_of(body)):
            result = message.get("result") if isinstance(message, Mapping) else None
            if isinstance(result, Mapping) and isinstance(result.get("tools"), list):
                tools = [tool for tool in result["tools"] if isinstance(tool, Mapping)]
                found = {str(tool.get("name")) for tool in tools if is_harmless_tool(tool)}
                listed = {str(tool.get("name")) for tool in tools}
                kept = self._declared - listed if params.get("cursor") is not None else frozenset()
                self._declared = kept | found
                return

    def _replica(self, url: str) -> Replica:
        made = breaker(self.proxy.breaker)
        if self.proxy.breaker.probe_lease is None:
            made = attrs.evolve(made, probe_lease=self.config.timeout + _PROBE_MARGIN)
        return Replica(url, BreakerGate(url, made, partial(self._breaker_changed, url)))

    def _breaker_changed(self, url: str, transition: Transition, reason: str) -> None:
        self.report(_EVENTS[transition.new], {"replica": url, "was": transition.old.value, "reason": reason})


def _nothing(_kind: str, _fields: Mapping[str, Any]) -> None:
    return
