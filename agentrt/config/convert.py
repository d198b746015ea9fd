"""From settings to the policies that carry them out."""

from __future__ import annotations

from typing import Any

from agentrt.config.model import (
    BreakerConfig,
    FloodGateConfig,
    InboxConfig,
    McpServerConfig,
    MemoryConfig,
    RestartConfig,
    RetryConfig,
)
from agentrt.policy import Backoff, Breaker, FloodGate, MemoryGuardPolicy, Redelivery, RestartIntensity, RetryPolicy


def retry_policy(config: RetryConfig) -> RetryPolicy:
    """Make a retry policy; the jitter is added to each delay, never taken away."""
    backoff = Backoff(config.initial, config.factor, config.maximum, jitter=(1.0, 1.0 + config.jitter))
    return RetryPolicy(config.retries, backoff)


def breaker(config: BreakerConfig) -> Breaker:
    """Make a breaker, closed; each agent needs its own."""
    return Breaker(config.failure_threshold, config.recovery_timeout, config.max_recovery_timeout)


def restart_backoff(config: RestartConfig) -> Backoff:
    """Make the backoff between restarts, with full jitter."""
    return Backoff(config.initial, config.factor, config.maximum)


def restart_intensity(config: RestartConfig) -> RestartIntensity:
    """Make a budget of restarts; each child needs its own."""
    return RestartIntensity(config.max_restarts, config.max_seconds)


def flood_gate(config: FloodGateConfig) -> FloodGate:
    """Make a flood gate; each inbox needs its own."""
    return FloodGate(config.max_hops, config.max_visits, config.self_messages, config.self_window, config.repeats)


def redelivery(config: InboxConfig) -> Redelivery:
    """Make the redelivery policy of an inbox."""
    delays: Any = config.redelivery  # The policy's converter leaves its type open.
    return Redelivery(config.max_deliveries, delays)


def memory_guard(config: MemoryConfig, server: McpServerConfig) -> MemoryGuardPolicy:
    """Make the memory guard of one tool server, whose own limits win; each server needs its own."""
    warn = config.server_warn if server.memory_warn is None else server.memory_warn
    limit = config.server_limit if server.memory_limit is None else server.memory_limit
    return MemoryGuardPolicy(warn, limit, config.settle)
