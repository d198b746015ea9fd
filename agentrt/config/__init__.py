"""The configuration: TOML in, attrs classes out, or every mistake at once with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrt._lazy import lazily

if TYPE_CHECKING:
    from agentrt.config.classes import load_class, load_function
    from agentrt.config.connection import ConnectionConfig
    from agentrt.config.convert import (
        SERVER_BREAKER,
        ServerPolicies,
        breaker,
        flood_gate,
        memory_guard,
        redelivery,
        restart_backoff,
        restart_intensity,
        retry_policy,
        server_policies,
        server_restart,
    )
    from agentrt.config.environment import Source
    from agentrt.config.loader import Loaded, load
    from agentrt.config.login import bus_login, login_of
    from agentrt.config.model import (
        ActorsConfig,
        AgentBusConfig,
        AgentConfig,
        BreakerConfig,
        BulkheadConfig,
        BusConfig,
        Config,
        FleetConfig,
        FloodGateConfig,
        HealthConfig,
        InboxConfig,
        LogConfig,
        McpConfig,
        McpServerConfig,
        MemoryConfig,
        PoliciesConfig,
        RegistryConfig,
        RestartConfig,
        RetryConfig,
        ServerRestartConfig,
    )
    from agentrt.config.problems import ConfigError, Invalid, Problem
    from agentrt.config.scalars import Duration, Name, Secret, Size
    from agentrt.config.secret import SecretError, resolve_secret
    from agentrt.config.servers import ResolvedServer, path_of, servers_of
    from agentrt.config.units import format_duration, format_size, parse_duration, parse_size
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "classes": ("load_class", "load_function"),
            "connection": ("ConnectionConfig",),
            "convert": (
                "SERVER_BREAKER",
                "ServerPolicies",
                "breaker",
                "flood_gate",
                "memory_guard",
                "redelivery",
                "restart_backoff",
                "restart_intensity",
                "retry_policy",
                "server_policies",
                "server_restart",
            ),
            "environment": ("Source",),
            "loader": ("Loaded", "load"),
            "login": ("bus_login", "login_of"),
            "model": (
                "ActorsConfig",
                "AgentBusConfig",
                "AgentConfig",
                "BreakerConfig",
                "BulkheadConfig",
                "BusConfig",
                "Config",
                "FleetConfig",
                "FloodGateConfig",
                "HealthConfig",
                "InboxConfig",
                "LogConfig",
                "McpConfig",
                "McpServerConfig",
                "MemoryConfig",
                "PoliciesConfig",
                "RegistryConfig",
                "RestartConfig",
                "RetryConfig",
                "ServerRestartConfig",
            ),
            "problems": ("ConfigError", "Invalid", "Problem"),
            "scalars": ("Duration", "Name", "Secret", "Size"),
            "secret": ("SecretError", "resolve_secret"),
            "servers": ("ResolvedServer", "path_of", "servers_of"),
            "units": ("format_duration", "format_size", "parse_duration", "parse_size"),
        },
    )

__all__ = [
    "SERVER_BREAKER",
    "ActorsConfig",
    "AgentBusConfig",
    "AgentConfig",
    "BreakerConfig",
    "BulkheadConfig",
    "BusConfig",
    "Config",
    "ConfigError",
    "ConnectionConfig",
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
    "RegistryConfig",
    "ResolvedServer",
    "RestartConfig",
    "RetryConfig",
    "Secret",
    "SecretError",
    "ServerPolicies",
    "ServerRestartConfig",
    "Size",
    "Source",
    "breaker",
    "bus_login",
    "flood_gate",
    "format_duration",
    "format_size",
    "load",
    "load_class",
    "load_function",
    "login_of",
    "memory_guard",
    "parse_duration",
    "parse_size",
    "path_of",
    "redelivery",
    "resolve_secret",
    "restart_backoff",
    "restart_intensity",
    "retry_policy",
    "server_policies",
    "server_restart",
    "servers_of",
]
