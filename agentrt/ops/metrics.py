"""Prometheus metrics: counters from events, gauges from the board at the moment that somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from agentrt.ops.snapshot import is_stale

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agentrt.kernel.events import Event
    from agentrt.ops.board import SnapshotBoard
    from agentrt.ops.snapshot import AgentSnapshot, FleetSnapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Distinct values of one label; whatever comes later counts as "other". Types come from users, so they get fewer.
MAX_VALUES = 200
MAX_TYPES = 32
OTHER = "other"

_DURATIONS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_LATENCIES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900)


@attrs.frozen
class _Counted:
    """A counter of events of one kind, by agent and by the fields named as labels.

    Where *amount* names a field, an event counts as often as that says.
    """

    kind: str
    metric: str
    labels: tuple[str, ...]
    help: str
    amount: str | None = None

    def amount_of(self, event: Event) -> float:
        amount = event.fields.get(self.amount, 1) if self.amount is not None else 1
        return max(0.0, amount) if isinstance(amount, int | float) else 1


@attrs.frozen
class _Observed:
    """A histogram of one field of events of one kind, in seconds."""

    kind: str
    metric: str
    field: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]
    help: str


_COUNTED = (
    _Counted("task_received", "agent_tasks_received_total", ("type",), "Tasks that an agent took in hand."),
    _Counted("task_finished", "agent_tasks_completed_total", ("type", "status"), "Tasks that came to an end."),
    _Counted("message_sent", "agent_messages_sent_total", ("destination", "type"), "Messages sent to other agents."),
    _Counted("message_received", "agent_messages_received_total", ("source", "type"), "Messages from other agents."),
    _Counted("nats_connection_lost", "agentrt_nats_disconnections_total", (), "Connections to NATS that were lost."),
    _Counted("nats_connection_rebuilt", "agentrt_nats_reconnections_total", (), "Connections to NATS made again."),
    _Counted("nats_problem", "agentrt_bus_problems_total", ("error",), "What went wrong on a bus.", "count"),
    _Counted("bus_message_dropped", "agentrt_bus_dropped_total", ("error",), "Messages that were given up.", "count"),
    _Counted("connection_lost", "agentrt_connection_losses_total", ("connection",), "Connections that were lost."),
    _Counted("connection_rebuilt", "agentrt_connection_rebuilds_total", ("connection",), "Connections made again."),
    _Counted(
        "connection_messages_dropped",
        "agentrt_connection_dropped_total",
        ("connection",),
        "Messages that waited too long for a connection.",
        "count",
    ),
    _Counted(
        "connection_messages_in_doubt",
        "agentrt_connection_in_doubt_total",
        ("connection",),
        "Messages that may not have arrived.",
        "count",
    ),
    _Counted("jetstream_asset_lost", "agentrt_jetstream_losses_total", (), "Streams and consumers made anew."),
    _Counted("actor_restarting", "agentrt_actor_restarts_total", ("actor",), "Actors that their supervisor restarted."),
    _Counted("mcp_server_restarted", "agentrt_mcp_server_restarts_total", ("server",), "Tool servers started again."),
    _Counted("tool_call_retried", "agentrt_tool_retries_total", ("server",), "Tool calls that were tried again."),
    _Counted("registration_failed", "agentrt_registration_failures_total", ("registry",), "Registrations that failed."),
    _Counted("task_dead_lettered", "agentrt_dead_letters_total", ("why",), "Tasks that went to the dead letters."),
    _Counted("flood_gate_refused", "agentrt_flood_gate_refusals_total", ("reason",), "Messages refused as a flood."),
    _Counted("breaker_opened", "agentrt_breaker_openings_total", (), "Times that an agent's breaker opened."),
    _Counted("breaker_closed", "agentrt_breaker_closings_total", (), "Times that an agent's breaker closed."),
)
_OBSERVED = (
    _Observed("task_finished", "agent_task_duration_seconds", "seconds", ("type",), _DURATIONS, "Time a task took."),
    _Observed("message_received", "agent_message_latency_seconds", "latency", (), _LATENCIES, "Sending to receipt."),
)


class Metrics:
    """All metrics of one fleet, in a registry of its own, so that several fleets fit into one process.

    Counters follow the events. Gauges are read from the board when they are asked for, so that they do not go on
    saying that all is well when the event loop stands: then every agent counts as unhealthy.

    Args:
        board: Where the fleet's state is published.
        stall_limit: Age in seconds at which a snapshot no longer counts.
        agents: Agents known from the start: what has no label but the agent begins at 0 for them, so that the first
            lost connection is seen as an increase.
    """

    def __init__(self, board: SnapshotBoard, stall_limit: float = 30.0, agents: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Gauges(board, stall_limit))
        self._values: dict[str, set[str]] = {}
        self._counters: dict[str, list[tuple[_Counted, Counter]]] = {}
        self._histograms: dict[str, list[tuple[_Observed, Histogram]]] = {}
        known = [self._bounded("agent", agent) for agent in agents]
        for row in _COUNTED:
            counter = Counter(row.metric, row.help, ("agent", *row.labels), registry=self.registry)
            self._counters.setdefault(row.kind, []).append((row, counter))
            for agent in known if not row.labels else ():
                counter.labels(agent)
        for line in _OBSERVED:
            labels = ("agent", *line.labels)
            histogram = Histogram(line.metric, line.help, labels, buckets=line.buckets, registry=self.registry)
            self._histograms.setdefault(line.kind, []).append((line, histogram))

    def __repr__(self) -> str:
        return f"<Metrics of {len(self._counters)} kinds of events>"

    def on_event(self, event: Event) -> None:
        """Count *event*; a listener for :class:`~agentrt.kernel.events.EventStream`. Unknown kinds are left alone."""
        for row, counter in self._counters.get(event.kind, ()):
            counter.labels(*self._labels(event, row.labels)).inc(row.amount_of(event))
        for line, histogram in self._histograms.get(event.kind, ()):
            seconds = event.fields.get(line.field)
            if isinstance(seconds, int | float):
                # Clocks of two machines differ, and a message cannot arrive before it was sent.
                histogram.labels(*self._labels(event, line.labels)).observe(max(0.0, seconds))

    def exposition(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)

    def _labels(self, event: Event, names: tuple[str, ...]) -> list[str]:
        agent, actor = _agent_and_actor(event.path)
        values = [self._bounded("agent", agent)]
        for name in names:
            value = actor if name == "actor" else str(event.fields.get(name, "unknown"))
            values.append(self._bounded(name, value))
        return values

    def _bounded(self, label: str, value: str) -> str:
        values = self._values.setdefault(label, set())
        if value not in values:
            if len(values) >= (MAX_TYPES if label == "type" else MAX_VALUES):
                return OTHER
            values.add(value)
        return value


def _agent_and_actor(path: str) -> tuple[str, str]:
    """Give the agent that an actor belongs to, and its place in it; what belongs to none belongs to the fleet."""
    _, _, below = path.partition("/agents/")
    agent, _, actor = below.partition("/")
    if agent:
        # An agent's own supervisor has no place inside the agent, so it goes by the agent's name.
        return agent, actor or agent
    root, _, actor = path.partition("/")
    return root, actor or root


@attrs.frozen
class _Gauges:
    """Collects the gauges from the board, each time that the registry is asked."""

    board: SnapshotBoard
    stall_limit: float

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield every gauge; before the first snapshot the fleet's have no value."""
        lag = GaugeMetricFamily("agentrt_event_loop_lag_seconds", "Worst delay of the event loop, lately or right now.")
        lag.add_metric((), self.board.lag)
        yield lag
        snapshot = self.board.read()
        stale = snapshot is not None and is_stale(snapshot, self.board.now(), self.stall_limit)
        yield from _of_agents(snapshot.agents if snapshot else (), stale=stale)
        yield from _of_fleet(snapshot, stale=stale)


def _of_agents(agents: Iterable[AgentSnapshot], *, stale: bool) -> Iterator[GaugeMetricFamily]:
    def family(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, text, labels=("agent",))

    in_progress = family("agent_tasks_in_progress", "Tasks in hand.")
    health = family("agent_health_status", "1 where every check of the agent is good, else 0.")
    activity = family("agent_last_activity_timestamp", "Unix time of the last thing that the agent did.")
    memory = family("agent_memory_usage_bytes", "Resident memory of what the agent runs.")
    context = family("agent_context_window_usage_pct", "Use of the model's context window, as the agent said.")
    for agent in agents:
        in_progress.add_metric((agent.name,), agent.tasks_in_hand)
        health.add_metric((agent.name,), float(agent.healthy and not stale))
        optional = ((activity, agent.last_activity), (memory, agent.memory_bytes), (context, agent.context_usage))
        for gauge, value in optional:
            if value is not None:
                gauge.add_metric((agent.name,), value)
    yield from (in_progress, health, activity, memory, context)


def _of_fleet(snapshot: FleetSnapshot | None, *, stale: bool) -> Iterator[GaugeMetricFamily]:
    healthy = GaugeMetricFamily("fleet_agents_healthy_total", "Agents whose checks are all good.")
    unhealthy = GaugeMetricFamily("fleet_agents_unhealthy_total", "Agents with a check that is not good.")
    depth = GaugeMetricFamily("fleet_total_queue_depth", "Tasks that wait, over all agents.")
    breakers = GaugeMetricFamily("fleet_circuit_breakers_open_total", "Agents whose breaker is open.")
    if snapshot is not None:
        well = 0 if stale else sum(agent.healthy for agent in snapshot.agents)
        healthy.add_metric((), well)
        unhealthy.add_metric((), len(snapshot.agents) - well)
        depth.add_metric((), sum(agent.queue_depth or 0 for agent in snapshot.agents))
        breakers.add_metric((), sum(agent.breaker == "open" for agent in snapshot.agents))
    yield from (healthy, unhealthy, depth, breakers)
