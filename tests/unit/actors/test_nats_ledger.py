"""What went wrong is counted in full and told in a bounded way."""

from __future__ import annotations

from typing import Any

from actors._nats_ledger import Ledger
from agentrt.ports import MessageDropped, PermissionDenied, SlowConsumer


def told(ledger: Ledger) -> list[tuple[str, dict[str, Any]]]:
    events: list[tuple[str, dict[str, Any]]] = []

    def emit(kind: str, **fields: Any) -> Any:
        events.append((kind, fields))

    ledger.tell(emit)
    return events


def test_the_same_trouble_is_told_once_with_its_count() -> None:
    """A thousand refusals of one subject are one event, and the next telling has only what is new."""
    ledger = Ledger()
    for _ in range(1000):
        ledger.problem("t.x", PermissionDenied("no"))
    ledger.drop("t.y", SlowConsumer("slow"), 7)
    assert [
        ("nats_problem", {"error": "PermissionDenied", "subject": "t.x", "count": 1000, "reason": "no"}),
        ("bus_message_dropped", {"error": "SlowConsumer", "subject": "t.y", "count": 7, "reason": "slow"}),
    ] == told(ledger)
    assert [] == told(ledger)
    assert ({"PermissionDenied": 1000}, {"SlowConsumer": 7}) == (ledger.problems, ledger.dropped)


def test_many_subjects_are_told_together_and_none_is_forgotten() -> None:
    """What is told is bounded; the counts are not."""
    ledger = Ledger()
    for number in range(1000):
        ledger.drop(f"t.{number}", MessageDropped("old"))
    events = told(ledger)
    assert 65 == len(events)
    assert 1000 == sum(fields["count"] for _, fields in events)
    assert "(others)" == events[-1][1]["subject"]
    assert {"MessageDropped": 1000} == ledger.dropped
