"""Counters from events, gauges from the board."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from agentrt.kernel.events import Event, EventStream
from agentrt.ops.board import SnapshotBoard
from agentrt.ops.metrics import MAX_TYPES, MAX_VALUES, OTHER, Metrics
from agentrt.ops.snapshot import AgentSnapshot, Check, FleetSnapshot

#: Names and labels that operators' dashboards and alerts rely on, with the type that each has.
PROMISED = {
    "agent_tasks_received_total": ("counter", {"agent", "type"}),
    "agent_tasks_completed_total": ("counter", {"agent", "type", "status"}),
    "agent_task_duration_seconds": ("histogram", {"agent", "type"}),
    "agent_tasks_in_progress": ("gauge", {"agent"}),
    "agent_messages_sent_total": ("counter", {"agent", "destination", "type"}),
    "agent_messages_received_total": ("counter", {"agent", "source", "type"}),
    "agent_message_latency_seconds": ("histogram", {"agent"}),
    "agent_health_status": ("gauge", {"agent"}),
    "agent_last_activity_timestamp": ("gauge", {"agent"}),
    "agent_memory_usage_bytes": ("gauge", {"agent"}),
    "agent_context_window_usage_pct": ("gauge", {"agent"}),
    "fleet_agents_healthy_total": ("gauge", set()),
    "fleet_agents_unhealthy_total": ("gauge", set()),
    "fleet_total_queue_depth": ("gauge", set()),
    "fleet_circuit_breakers_open_total": ("gauge", set()),
    "agentrt_nats_disconnections_total": ("counter", {"agent"}),
    "agentrt_nats_reconnections_total": ("counter", {"agent"}),
    "agentrt_bus_problems_total": ("counter", {"agent", "error"}),
    "agentrt_bus_dropped_total": ("counter", {"agent", "error"}),
    "agentrt_connection_losses_total": ("counter", {"agent", "connection"}),
    "agentrt_connection_rebuilds_total": ("counter", {"agent", "connection"}),
    "agentrt_connection_dropped_total": ("counter", {"agent", "connection"}),
    "agentrt_connection_in_doubt_total": ("counter", {"agent", "connection"}),
    "agentrt_jetstream_losses_total": ("counter", {"agent"}),
    "agentrt_actor_restarts_total": ("counter", {"agent", "actor"}),
    "agentrt_mcp_server_restarts_total": ("counter", {"agent", "server"}),
    "agentrt_registration_failures_total": ("counter", {"agent", "registry"}),
    "agentrt_dead_letters_total": ("counter", {"agent", "why"}),
    "agentrt_flood_gate_refusals_total": ("counter", {"agent", "reason"}),
    "agentrt_tool_retries_total": ("counter", {"agent", "server"}),
    "agentrt_breaker_openings_total": ("counter", {"agent"}),
    "agentrt_breaker_closings_total": ("counter", {"agent"}),
    "agentrt_event_loop_lag_seconds": ("gauge", set()),
}
#: One event of each kind that is counted.
EVENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("task_received", {"type": "report"}),
    ("task_finished", {"type": "report", "status": "completed", "seconds": 7.0}),
    ("message_sent", {"destination": "writer", "type": "report"}),
    ("message_received", {"source": "writer", "type": "report", "latency": 0.25}),
    ("nats_connection_lost", {}),
    ("nats_connection_rebuilt", {}),
    ("nats_problem", {"error": "PermissionDenied", "count": 1}),
    ("bus_message_dropped", {"error": "SlowConsumer", "count": 1}),
    ("connection_lost", {"connection": "feed"}),
    ("connection_rebuilt", {"connection": "feed"}),
    ("connection_messages_dropped", {"connection": "feed", "count": 1}),
    ("connection_messages_in_doubt", {"connection": "feed", "count": 1}),
    ("jetstream_asset_lost", {"what": "stream 'TASKS'"}),
    ("actor_restarting", {"attempt": 1}),
    ("mcp_server_restarted", {"server": "archive"}),
    ("tool_call_retried", {"server": "archive"}),
    ("registration_failed", {"registry": "nats", "reason": "away"}),
    ("task_dead_lettered", {"why": "failed"}),
    ("flood_gate_refused", {"reason": "hops"}),
    ("breaker_opened", {}),
    ("breaker_closed", {}),
)
EDITOR = AgentSnapshot(
    name="editor",
    state="running",
    checks=(Check("nats_connected", ok=True),),
    tasks_in_hand=2,
    queue_depth=5,
    memory_bytes=1_000_000,
    last_activity=1_700_000_000.0,
    context_usage=41.5,
)
WRITER = AgentSnapshot(name="writer", state="parked", queue_depth=7, breaker="open")


class Clock:
    """Seconds that stand until they are moved."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> SnapshotBoard:
    return SnapshotBoard(clock=clock)


@pytest.fixture
def metrics(board: SnapshotBoard) -> Metrics:
    return Metrics(board, stall_limit=30.0, agents=("editor",))


def publish(board: SnapshotBoard, *agents: AgentSnapshot) -> None:
    board.publish(FleetSnapshot(fleet="newsroom", agents=agents, taken_at=board.now()))


def event(kind: str, path: str = "fleet/agents/editor/inbox", **fields: Any) -> Event:
    return Event(1, kind, path, 0.0, None, fields)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_every_promised_metric_is_there_by_its_name_type_and_labels(board: SnapshotBoard, metrics: Metrics) -> None:
    """As a Prometheus server reads them."""
    publish(board, EDITOR)
    for kind, fields in EVENTS:
        metrics.on_event(event(kind, **fields))
    text = metrics.exposition().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        if not family.name.endswith("_created"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, set(family.samples[0].labels) - {"le"})
    assert found == PROMISED


def test_gauges_show_what_the_board_holds(board: SnapshotBoard, metrics: Metrics) -> None:
    """At the moment of the question, with no update in between."""
    publish(board, EDITOR, WRITER)
    expected = {
        "agent_tasks_in_progress": 2.0,
        "agent_health_status": 1.0,
        "agent_last_activity_timestamp": 1_700_000_000.0,
        "agent_memory_usage_bytes": 1_000_000.0,
        "agent_context_window_usage_pct": 41.5,
    }
    assert expected == {name: value(metrics, name, agent="editor") for name in expected}
    fleet = {
        "fleet_agents_healthy_total": 1.0,
        "fleet_agents_unhealthy_total": 1.0,
        "fleet_total_queue_depth": 12.0,
        "fleet_circuit_breakers_open_total": 1.0,
    }
    assert fleet == {name: value(metrics, name) for name in fleet}
    assert value(metrics, "agent_health_status", agent="writer") == 0.0


def test_what_is_not_known_has_no_value(board: SnapshotBoard, metrics: Metrics) -> None:
    """Zero bytes of memory or activity in 1970 would be a lie."""
    publish(board, WRITER)
    assert value(metrics, "agent_memory_usage_bytes", agent="writer") is None
    assert value(metrics, "agent_last_activity_timestamp", agent="writer") is None
    assert value(metrics, "agent_context_window_usage_pct", agent="writer") is None


def test_a_fleet_that_published_nothing_has_no_agents_and_no_totals(metrics: Metrics) -> None:
    """Neither healthy nor unhealthy ones."""
    assert value(metrics, "fleet_agents_healthy_total") is None
    assert value(metrics, "fleet_agents_unhealthy_total") is None


def test_an_agent_that_is_gone_leaves_no_gauge(board: SnapshotBoard, metrics: Metrics) -> None:
    """The last value of what no longer exists does not stay."""
    publish(board, EDITOR, WRITER)
    publish(board, EDITOR)
    assert value(metrics, "agent_health_status", agent="writer") is None


def test_nobody_is_healthy_when_the_snapshot_is_old(board: SnapshotBoard, metrics: Metrics, clock: Clock) -> None:
    """The loop stands, so nobody works, whatever was true before."""
    publish(board, EDITOR, EDITOR)
    clock.seconds += 31
    assert value(metrics, "agent_health_status", agent="editor") == 0.0
    assert value(metrics, "fleet_agents_healthy_total") == 0.0
    assert value(metrics, "fleet_agents_unhealthy_total") == 2.0


def test_the_lag_of_the_loop_is_true_while_it_stands(metrics: Metrics, clock: Clock) -> None:
    """It is read when it is asked for."""
    clock.seconds += 4.25
    assert value(metrics, "agentrt_event_loop_lag_seconds") == 4.0


def test_lost_connections_begin_at_zero_for_known_agents(metrics: Metrics) -> None:
    """Otherwise the first one is not seen as an increase."""
    assert value(metrics, "agentrt_nats_disconnections_total", agent="editor") == 0.0
    metrics.on_event(event("nats_connection_lost"))
    assert value(metrics, "agentrt_nats_disconnections_total", agent="editor") == 1.0


@pytest.mark.parametrize(
    ("path", "agent", "actor"),
    [
        ("fleet/agents/editor/connection", "editor", "connection"),
        ("fleet/agents/editor/tools/archive", "editor", "tools/archive"),
        ("fleet/agents/editor", "editor", "editor"),
        ("fleet/bus", "fleet", "bus"),
        ("fleet", "fleet", "fleet"),
    ],
)
def test_agent_and_actor_come_from_the_path(metrics: Metrics, path: str, agent: str, actor: str) -> None:
    """The agent is named behind ``agents``, and the rest is the actor inside it; infrastructure is the fleet's."""
    metrics.on_event(event("actor_restarting", path))
    assert value(metrics, "agentrt_actor_restarts_total", agent=agent, actor=actor) == 1.0


def test_durations_are_observed(metrics: Metrics) -> None:
    """A task that took seven seconds lies in the bucket of ten and not in the one of five."""
    metrics.on_event(event("task_finished", type="report", status="completed", seconds=7.0))
    assert value(metrics, "agent_task_duration_seconds_sum", agent="editor", type="report") == 7.0
    buckets = {
        le: value(metrics, "agent_task_duration_seconds_bucket", agent="editor", type="report", le=le)
        for le in ("5.0", "10.0")
    }
    assert buckets == {"5.0": 0.0, "10.0": 1.0}


def test_a_latency_below_zero_counts_as_none(metrics: Metrics) -> None:
    """The clocks of two machines differ."""
    metrics.on_event(event("message_received", source="writer", type="report", latency=-0.5))
    assert value(metrics, "agent_message_latency_seconds_sum", agent="editor") == 0.0


def test_an_event_that_lacks_a_field_is_counted_as_unknown(metrics: Metrics) -> None:
    """Whoever listens must not fail, or it hears nothing more."""
    metrics.on_event(event("task_finished"))
    labels = {"agent": "editor", "type": "unknown", "status": "unknown"}
    assert value(metrics, "agent_tasks_completed_total", **labels) == 1.0
    assert value(metrics, "agent_task_duration_seconds_count", agent="editor", type="unknown") is None


def test_an_event_with_a_count_counts_as_often(metrics: Metrics) -> None:
    """Trouble that repeats is told once a second, with its number; a count that is none is one."""
    for count in (3, 4, "many", -1):
        metrics.on_event(event("bus_message_dropped", error="SlowConsumer", count=count))
    assert 8 == value(metrics, "agentrt_bus_dropped_total", agent="editor", error="SlowConsumer")


def test_types_are_bounded(metrics: Metrics) -> None:
    """They come from users, and each one costs memory for ever; the ones known already go on being counted."""
    for number in range(MAX_TYPES + 10):
        metrics.on_event(event("task_received", type=f"type-{number}"))
    metrics.on_event(event("task_received", type="type-0"))
    name = "agent_tasks_received_total"
    assert value(metrics, name, agent="editor", type=OTHER) == 10.0
    assert value(metrics, name, agent="editor", type="type-0") == 2.0
    assert value(metrics, name, agent="editor", type=f"type-{MAX_TYPES}") is None


def test_senders_are_bounded(metrics: Metrics) -> None:
    """Anybody can write a name into a message."""
    for number in range(MAX_VALUES + 3):
        metrics.on_event(event("message_received", source=f"s{number}", type="t"))
    assert value(metrics, "agent_messages_received_total", agent="editor", source=OTHER, type="t") == 3.0


def test_other_kinds_of_events_are_left_alone(metrics: Metrics) -> None:
    """An event without a metric changes nothing."""
    before = metrics.exposition()
    metrics.on_event(event("fleet_started"))
    assert before == metrics.exposition()


def test_two_fleets_fit_into_one_process(board: SnapshotBoard, metrics: Metrics) -> None:
    """Each has a registry of its own."""
    other = Metrics(board)
    other.on_event(event("nats_connection_lost"))
    assert value(metrics, "agentrt_nats_disconnections_total", agent="editor") == 0.0
    assert value(other, "agentrt_nats_disconnections_total", agent="editor") == 1.0


async def test_it_listens_to_a_stream(metrics: Metrics) -> None:
    """No event of the table makes the stream drop it."""
    stream = EventStream()
    stream.listen(metrics.on_event)
    with structlog.testing.capture_logs():
        for kind, fields in EVENTS:
            stream.emit(kind, "fleet/agents/editor/inbox", **fields)
    stream.emit("nats_connection_lost", "fleet/agents/editor/inbox")
    assert value(metrics, "agentrt_nats_disconnections_total", agent="editor") == 2.0
