"""The configuration: TOML in, attrs classes out, or every mistake at once with its line."""

from __future__ import annotations

from agentrt.config.classes import load_class
from agentrt.config.convert import (
    breaker,
    flood_gate,
    memory_guard,
    redelivery,
    restart_backoff,
    restart_intensity,
    retry_policy,
)
from agentrt.config.environment import Source
from agentrt.config.loader import Loaded, load
from agentrt.config.model import (
    ActorsConfig,
    AgentConfig,
    BreakerConfig,
    BusConfig,
    Config,
    Duration,
    FleetConfig,
    FloodGateConfig,
    HealthConfig,
    InboxConfig,
    LogConfig,
    McpConfig,
    McpServerConfig,
    MemoryConfig,
    Name,
    PoliciesConfig,
    RestartConfig,
    RetryConfig,
    Secret,
    Size,
)
from agentrt.config.problems import ConfigError, Invalid, Problem
from agentrt.config.secret import SecretError, resolve_secret
from agentrt.config.servers import ResolvedServer, servers_of
from agentrt.config.units import format_duration, format_size, parse_duration, parse_size

__all__ = [
    "ActorsConfig",
    "AgentConfig",
    "BreakerConfig",
    "BusConfig",
    "Config",
    "ConfigError",
    "Duration",
    "FleetConfig",
    "FloodGateConfig",
    "HealthConfig",
    "InboxConfig",
    "Invalid",
    "Loaded",
    "LogConfig",
    "McpConfig",
    "McpServerConfig",
    "MemoryConfig",
    "Name",
    "PoliciesConfig",
    "Problem",
    "ResolvedServer",
    "RestartConfig",
    "RetryConfig",
    "Secret",
    "SecretError",
    "Size",
    "Source",
    "breaker",
    "flood_gate",
    "format_duration",
    "format_size",
    "load",
    "load_class",
    "memory_guard",
    "parse_duration",
    "parse_size",
    "redelivery",
    "resolve_secret",
    "restart_backoff",
    "restart_intensity",
    "retry_policy",
    "servers_of",
]
