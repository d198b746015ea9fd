"""Repeatable: which messages of MCP change nothing more when the other side gets them twice."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

#: Requests that only read, or say again what holds already.
_HARMLESS = frozenset(
    {
        "completion/complete",
        "initialize",
        "logging/setLevel",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "server/discover",
        "subscriptions/listen",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tools/list",
    }
)


def is_harmless(method: str, params: Mapping[str, Any], tools: Container[Any]) -> bool:
    """Whether asking again changes nothing more than asking once.

    Args:
        method: What is asked.
        params: Its parameters.
        tools: Names of the tools that may be called twice.
    """
    if method == "tools/call":
        name = params.get("name")
        return isinstance(name, str) and name in tools
    return method in _HARMLESS


def is_repeatable(message: object, tools: Container[Any]) -> bool:
    """Whether what a client sends may be sent twice: a message or a batch of them, as parsed from JSON.

    Notifications of the protocol and answers to the server's own requests may: the second one finds nothing left to do.
    What is no message of JSON-RPC may not, for nobody knows what it does.
    """
    if isinstance(message, Sequence) and not isinstance(message, str):
        return bool(message) and all(is_repeatable(one, tools) for one in message)
    if not isinstance(message, Mapping):
        return False
    method, params = message.get("method"), message.get("params")
    if not isinstance(method, str):
        return "id" in message and ("result" in message or "error" in message)
    if "id" not in message:
        return method.startswith("notifications/")
    return is_harmless(method, params if isinstance(params, Mapping) else {}, tools)


def is_harmless_tool(tool: Mapping[str, Any]) -> bool:
    """Whether its server says that a second call of it changes nothing more; hints as in the protocol's annotations."""
    annotations = tool.get("annotations")
    if not isinstance(annotations, Mapping):
        return False
    return bool(annotations.get("readOnlyHint") or annotations.get("idempotentHint"))
