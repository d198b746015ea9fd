"""From settings to policies."""

from __future__ import annotations

from agentrt.config import (
    BreakerConfig,
    FloodGateConfig,
    InboxConfig,
    McpServerConfig,
    MemoryConfig,
    RestartConfig,
    RetryConfig,
    breaker,
    flood_gate,
    memory_guard,
    redelivery,
    restart_backoff,
    restart_intensity,
    retry_policy,
)
from agentrt.policy import Backoff, Breaker, MemoryGuardPolicy, Redelivery, RestartIntensity, RetryPolicy


def test_the_defaults_of_the_settings_are_those_of_the_policies():
    """One product has one set of figures."""
    assert retry_policy(RetryConfig()) == RetryPolicy()
    assert restart_backoff(RestartConfig()) == Backoff()
    assert redelivery(InboxConfig()) == Redelivery()
    assert repr(breaker(BreakerConfig())) == repr(Breaker())


def test_each_figure_goes_where_it_belongs():
    """No two are mixed up."""
    retry = RetryConfig(retries=1, initial=2.0, factor=3.0, maximum=4.0, jitter=0.5)
    assert retry_policy(retry) == RetryPolicy(1, Backoff(initial=2.0, factor=3.0, maximum=4.0, jitter=(1.0, 1.5)))
    restart = RestartConfig(max_restarts=1, max_seconds=2.0, initial=3.0, factor=4.0, maximum=5.0)
    assert restart_backoff(restart) == Backoff(initial=3.0, factor=4.0, maximum=5.0, jitter=(0.0, 1.0))
    assert restart_intensity(restart) == RestartIntensity(max_restarts=1, max_seconds=2.0)
    assert redelivery(InboxConfig(max_deliveries=2, redelivery=(3.0,))) == Redelivery(max_deliveries=2, delays=(3.0,))
    slow = breaker(BreakerConfig(failure_threshold=1, recovery_timeout=2.0, max_recovery_timeout=3.0))
    assert (slow.failure_threshold, slow.recovery_timeout, slow.max_recovery_timeout) == (1, 2.0, 3.0)
    gate = flood_gate(FloodGateConfig(max_hops=1, max_visits=2, self_messages=3, self_window=4, repeats=5))
    assert (gate.max_hops, gate.max_visits, gate.self_messages, gate.self_window, gate.repeats) == (1, 2, 3, 4, 5)


def test_a_tool_server_may_have_memory_limits_of_its_own():
    """What it leaves out is that of ``[memory]``."""
    config = MemoryConfig(server_warn=1, server_limit=4, settle=5.0)
    server = McpServerConfig(command=("archive",))
    own = McpServerConfig(command=("archive",), memory_warn=2, memory_limit=3)
    assert memory_guard(config, server) == MemoryGuardPolicy(warn=1, limit=4, settle=5.0)
    assert memory_guard(config, own) == MemoryGuardPolicy(warn=2, limit=3, settle=5.0)
