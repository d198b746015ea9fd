"""From settings to the policies that carry them out."""

from __future__ import annotations

from typing import Any

import attrs

from agentrt.config.model import (
    BreakerConfig,
    BulkheadConfig,
    Config,
    FloodGateConfig,
    InboxConfig,
    McpServerConfig,
    MemoryConfig,
    RestartConfig,
    RetryConfig,
    ServerRestartConfig,
)
from agentrt.config.scalars import Duration
from agentrt.policy import (
    Backoff,
    Breaker,
    Bulkhead,
    CallWindow,
    FloodGate,
    MemoryGuardPolicy,
    Redelivery,
    RestartIntensity,
    RetryBudget,
    RetryPolicy,
    ServerRestart,
)

#: The breaker of a tool server that names no other. It opens later than an agent's and is probed sooner: a server that
#: answers again costs nothing.
SERVER_BREAKER = BreakerConfig(
    failure_threshold=5,
    recovery_timeout=Duration(10.0),
    max_recovery_timeout=Duration(300.0),
    failure_rate=0.5,
)
#: Seconds that a probe may take, beyond the limit of the call that it is.
_PROBE_MARGIN = 5.0


@attrs.define
class ServerPolicies:
    """What decides about one tool server; each session needs its own.

    Args:
        retry: Which calls are tried again.
        budget: How many, in all.
        breaker: When calls are kept away from it.
        bulkhead: How many calls it has in hand, and how many wait.
        max_wait: Seconds that a call may wait for its turn.
        restart: When it is started again.
    """

    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    budget: RetryBudget = attrs.field(factory=RetryBudget)
    breaker: Breaker = attrs.field(factory=lambda: breaker(SERVER_BREAKER))
    bulkhead: Bulkhead = attrs.field(factory=Bulkhead)
    max_wait: float = 60.0
    restart: ServerRestart = attrs.field(factory=ServerRestart)


def server_policies(config: Config, server: McpServerConfig) -> ServerPolicies:
    """Make the policies of one tool server from those that it names, or from the defaults."""
    named = config.policies
    retry = named.retry[server.retry] if server.retry is not None else RetryConfig()
    bulkhead = named.bulkhead[server.bulkhead] if server.bulkhead is not None else BulkheadConfig()
    restart = named.server_restart[server.restart] if server.restart is not None else ServerRestartConfig()
    made = breaker(named.breaker[server.breaker] if server.breaker is not None else SERVER_BREAKER)
    if server.breaker is None or named.breaker[server.breaker].probe_lease is None:
        made = attrs.evolve(made, probe_lease=server.call_timeout + _PROBE_MARGIN)
    return ServerPolicies(
        retry=retry_policy(retry),
        budget=RetryBudget(retry.budget, retry.budget_minimum, retry.budget_window),
        breaker=made,
        bulkhead=Bulkhead(bulkhead.max_concurrent, bulkhead.max_queued, bulkhead.max_queued_bytes),
        max_wait=bulkhead.max_wait,
        restart=server_restart(restart),
    )


def server_restart(config: ServerRestartConfig) -> ServerRestart:
    """Make the restart policy of a tool server; ordinary delays are shortened by up to a fifth, extended ones vary."""
    return ServerRestart(
        Backoff(config.initial, config.factor, config.maximum, jitter=(0.8, 1.0)),
        Backoff(config.extended, 1.0, config.extended * 1.2, jitter=(0.8, 1.2)),
        config.extended_after,
        config.same_failures,
    )


def retry_policy(config: RetryConfig) -> RetryPolicy:
    """Make a retry policy; the jitter is added to each delay, never taken away."""
    backoff = Backoff(config.initial, config.factor, config.maximum, jitter=(1.0, 1.0 + config.jitter))
    return RetryPolicy(config.retries, backoff)


def breaker(config: BreakerConfig) -> Breaker:
    """Make a breaker, closed; each agent and each tool server needs its own."""
    made = Breaker(config.failure_threshold, config.recovery_timeout, config.max_recovery_timeout)
    if config.probe_lease is not None:
        made = attrs.evolve(made, probe_lease=config.probe_lease)
    if not config.failure_rate and not config.slow_rate:
        return made
    window = CallWindow(config.failure_rate, config.slow_rate, config.slow_call, config.min_calls, config.window)
    return attrs.evolve(made, window=window)


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
