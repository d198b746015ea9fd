"""agentrt: a Trio-based actor runtime that keeps fleets of AI agents alive."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentrt.agent import Agent, NoOutcome, TaskFailed, TaskRefused
    from agentrt.config import Config, ConfigError, load
    from agentrt.fleet import Fleet, open_fleet
    from agentrt.ports import BusRefused, BusUnavailable, ConnectionUnavailable, ToolError
    from agentrt.resilience import BreakerOpen, BulkheadFull, resilient
    from agentrt.tasks import Outcome, Status, Task

#: Where each name is. They are imported when they are first used: the kernel, or one small program, costs only itself.
_WHERE = {
    "Agent": "agent",
    "NoOutcome": "agent",
    "TaskFailed": "agent",
    "TaskRefused": "agent",
    "Config": "config",
    "ConfigError": "config",
    "load": "config",
    "Fleet": "fleet",
    "open_fleet": "fleet",
    "BusRefused": "ports",
    "BusUnavailable": "ports",
    "ConnectionUnavailable": "ports",
    "ToolError": "ports",
    "BreakerOpen": "resilience",
    "BulkheadFull": "resilience",
    "resilient": "resilience",
    "Outcome": "tasks",
    "Status": "tasks",
    "Task": "tasks",
}

__all__ = [
    "Agent",
    "BreakerOpen",
    "BulkheadFull",
    "BusRefused",
    "BusUnavailable",
    "Config",
    "ConfigError",
    "ConnectionUnavailable",
    "Fleet",
    "NoOutcome",
    "Outcome",
    "Status",
    "Task",
    "TaskFailed",
    "TaskRefused",
    "ToolError",
    "load",
    "open_fleet",
    "resilient",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
