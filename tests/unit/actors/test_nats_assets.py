"""Declared and actual configuration side by side."""

from __future__ import annotations

import pytest

from actors._jetstream import assets
from actors._nats_assets import differences
from agentrt.ports import BucketSpec, ConsumerSpec, Difference, Json, StreamSpec, Topology

STREAM, BUCKET, CONSUMER = assets(
    Topology(
        (StreamSpec("TASKS", ("t.a", "t.b"), work_queue=True),),
        (ConsumerSpec("TASKS", "editor", "t.a", ack_wait=60.0),),
        (BucketSpec("outcomes", ttl=3600.0),),
    )
)


@pytest.mark.parametrize("asset", [STREAM, BUCKET, CONSUMER], ids=str)
def test_what_is_as_declared_does_not_differ(asset) -> None:
    """Also where the server leaves out what is nothing, adds what is not declared, and sorts subjects its way."""
    actual = {key: value for key, value in asset.config.items() if value} | {"num_replicas": 3, "description": "ours"}
    if "subjects" in actual:
        actual["subjects"] = list(reversed(actual["subjects"]))
    assert [] == list(differences(asset.config, actual))


@pytest.mark.parametrize(
    ("asset", "field", "actual", "expected"),
    [
        (STREAM, "subjects", ["t.a"], Difference("subjects", ["t.a", "t.b"], ["t.a"], fixable=True)),
        (STREAM, "retention", "limits", Difference("retention", "workqueue", "limits", fixable=False)),
        (STREAM, "storage", "memory", Difference("storage", "file", "memory", fixable=False)),
        (STREAM, "max_age", 5_000_000_000, Difference("max_age", 0.0, 5.0, fixable=True)),
        (STREAM, "max_bytes", 10, Difference("max_bytes", -1, 10, fixable=True)),
        (BUCKET, "max_age", None, Difference("max_age", 3600.0, None, fixable=True)),
        (BUCKET, "deny_delete", False, Difference("deny_delete", True, False, fixable=True)),
        (CONSUMER, "ack_wait", 1_500_000_000, Difference("ack_wait", 60.0, 1.5, fixable=True)),
        (CONSUMER, "max_deliver", 5, Difference("max_deliver", -1, 5, fixable=True)),
        (CONSUMER, "ack_policy", "none", Difference("ack_policy", "explicit", "none", fixable=False)),
    ],
)
def test_each_difference_is_named_with_both_sides(asset, field: str, actual: Json, expected: Difference) -> None:
    """Durations in seconds, and whether running the fleet sets it right."""
    assert [expected] == list(differences(asset.config, {**asset.config, field: actual}))
