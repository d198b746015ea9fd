"""Which messages may be sent twice."""

from __future__ import annotations

import pytest

from agentrt.policy.repeatable import is_harmless_tool, is_repeatable


def request(method: str, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (request("initialize"), True),
        (request("ping"), True),
        (request("tools/list"), True),
        (request("resources/read", uri="x"), True),
        (request("prompts/get", name="x"), True),
        (request("tools/call", name="look"), True),
        (request("tools/call", name="delete"), False),
        (request("tools/call"), False),
        (request("tasks/cancel"), False),
        (request("something/new"), False),
        ({"method": "notifications/cancelled"}, True),
        ({"method": "something"}, False),
        ({"id": 1, "result": {}}, True),
        ({"id": 1, "error": {}}, True),
        ({"id": 1}, False),
        ([request("ping"), request("tools/list")], True),
        ([request("ping"), request("tools/call", name="delete")], False),
        ([], False),
        (None, False),
        ("ping", False),
        ({"id": 1, "method": "tools/call", "params": ["look"]}, False),
    ],
)
def test_what_does_no_harm_twice_may_be_repeated(message, expected):
    """A batch only where all of it may, and what nobody knows never."""
    assert expected == is_repeatable(message, {"look"})


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ({"annotations": {"readOnlyHint": True}}, True),
        ({"annotations": {"idempotentHint": True}}, True),
        ({"annotations": {"destructiveHint": False}}, False),
        ({"annotations": None}, False),
        ({"annotations": [True]}, False),
        ({}, False),
    ],
)
def test_a_tool_is_harmless_where_its_server_says_so(tool, expected):
    assert expected == is_harmless_tool(tool)
