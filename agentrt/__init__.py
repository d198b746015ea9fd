"""agentrt: a Trio-based actor runtime that keeps fleets of AI agents alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrt._lazy import lazily

if TYPE_CHECKING:
    from agentrt.agent import Agent, NoOutcome, TaskFailed, TaskRefused
    from agentrt.config import Config, ConfigError, load
    from agentrt.fleet import Fleet, open_fleet
    from agentrt.ports import BusRefused, BusUnavailable, ConnectionUnavailable, ToolError
    from agentrt.resilience import BreakerOpen, BulkheadFull, resilient
    from agentrt.tasks import Outcome, Status, Task
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent": ("Agent", "NoOutcome", "TaskFailed", "TaskRefused"),
            "config": ("Config", "ConfigError", "load"),
            "fleet": ("Fleet", "open_fleet"),
            "ports": ("BusRefused", "BusUnavailable", "ConnectionUnavailable", "ToolError"),
            "resilience": ("BreakerOpen", "BulkheadFull", "resilient"),
            "tasks": ("Outcome", "Status", "Task"),
        },
    )

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
