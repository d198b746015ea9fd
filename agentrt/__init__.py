"""agentrt: a Trio-based actor runtime that keeps fleets of AI agents alive."""

from __future__ import annotations

from agentrt.agent import Agent, NoOutcome, TaskFailed, TaskRefused
from agentrt.config import Config, ConfigError, load
from agentrt.fleet import Fleet, open_fleet
from agentrt.ports import BusRefused, BusUnavailable, ToolError
from agentrt.tasks import Outcome, Status, Task

__all__ = [
    "Agent",
    "BusRefused",
    "BusUnavailable",
    "Config",
    "ConfigError",
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
]
