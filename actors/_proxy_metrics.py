"""What the proxy counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from actors._proxy_backend import Backend
from agentrt.policy import BreakerState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_WHOSE = ("tenant", "backend")
#: A client may call a method what it likes; these have a figure of their own.
_METHODS = frozenset(
    {
        *("GET", "DELETE", "initialize", "ping", "server/discover", "subscriptions/listen"),
        *("tools/list", "tools/call", "resources/list", "resources/read", "resources/templates/list"),
        *("prompts/list", "prompts/get", "completion/complete", "logging/setLevel"),
    }
)


class ProxyMetrics:
    """The counters of one proxy, and its state at the moment that somebody asks.

    Args:
        backends: What it stands before.
    """

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "agentrt_proxy_requests",
            "Requests by outcome: answered, refused (4xx), failed, disconnected (the client left), not_found.",
            (*_WHOSE, "method", "outcome"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "agentrt_proxy_answer_seconds",
            "Seconds until an answer began, with all tries and waits.",
            _WHOSE,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._actions = Counter(
            "agentrt_proxy_actions",
            "What the proxy did by itself, such as call_retried, breaker_opened, session_revived, stream_lost.",
            (*_WHOSE, "action"),
            registry=self._registry,
        )
        self._registry.register(self)

    def counted(self, backend: Backend | None, method: str, outcome: str) -> None:
        """Count a request that is over."""
        whose = (backend.tenant, backend.name) if backend is not None else ("", "")
        self._requests.labels(*whose, method if method in _METHODS else "other", outcome).inc()

    def answered(self, backend: Backend, seconds: float) -> None:
        """Count how long an answer took to begin."""
        self._seconds.labels(backend.tenant, backend.name).observe(seconds)

    def acted(self, backend: Backend, kind: str) -> None:
        """Count an automatic action."""
        self._actions.labels(backend.tenant, backend.name, kind.removeprefix("proxy_")).inc()

    def text(self) -> bytes:
        """Write all of it as Prometheus reads it."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the state at this moment."""
        figures: dict[str, tuple[str, Callable[[Backend], float]]] = {
            "calls_in_hand": ("Calls that a backend works on.", lambda one: one.bulkhead.running),
            "calls_waiting": ("Calls that wait for their turn.", lambda one: one.bulkhead.queued),
            "streams": ("Streams that are open beside the calls.", lambda one: one.streams),
            "sessions": ("Sessions that are remembered.", lambda one: len(one.sessions)),
            "backend_ready": ("Whether any replica seems to work.", lambda one: one.is_ready),
        }
        for name, (text, read) in figures.items():
            gauge = GaugeMetricFamily(f"agentrt_proxy_{name}", text, labels=_WHOSE)
            for backend in self._backends:
                gauge.add_metric((backend.tenant, backend.name), float(read(backend)))
            yield gauge
        opened = GaugeMetricFamily(
            "agentrt_proxy_breaker_open", "Whether the breaker of a replica is open.", labels=(*_WHOSE, "replica")
        )
        for backend in self._backends:
            for replica in backend.replicas:
                is_open = replica.gate.state is BreakerState.OPEN
                opened.add_metric((backend.tenant, backend.name, replica.url), float(is_open))
        yield opened
