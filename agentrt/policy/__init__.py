"""Pure decisions: each takes the time and the jitter it needs, and returns a verdict that somebody else carries out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrt._lazy import lazily

if TYPE_CHECKING:
    from agentrt.policy.backoff import FULL_JITTER, Backoff, ReconnectBackoff
    from agentrt.policy.breaker import TRANSITIONS, Breaker, BreakerEvent, BreakerState, Transition
    from agentrt.policy.bulkhead import Admission, Bulkhead
    from agentrt.policy.call_window import CallWindow
    from agentrt.policy.close_codes import judge_close, judge_handshake
    from agentrt.policy.complaint import Complaint, ConnectionVerdict, Judgement, judge_complaint
    from agentrt.policy.departure import Departure, Whereabouts
    from agentrt.policy.failures import Failure, FailureKind, SendState
    from agentrt.policy.flood import Action, FloodGate, GateReason, GateVerdict, MessageMeta
    from agentrt.policy.intensity import RestartIntensity, RunningClock, Verdict
    from agentrt.policy.latch import Latch
    from agentrt.policy.lease import Leases, LeaseWork
    from agentrt.policy.memory import IdleRecycling, MemoryGuardPolicy, MemoryVerdict
    from agentrt.policy.pool import PoolServer, ServerPool
    from agentrt.policy.precedence import NotConfigured, Resolved, Scopes, resolve
    from agentrt.policy.probe import Health, ProbeHealth
    from agentrt.policy.redelivery import DeadLetter, DeadLetterReason, Redeliver, Redelivery, RedeliveryVerdict
    from agentrt.policy.retry import GiveUp, GiveUpReason, Retry, RetryPolicy, RetryVerdict
    from agentrt.policy.retry_budget import RetryBudget
    from agentrt.policy.server_restart import RestartDelay, ServerRestart
    from agentrt.policy.setback import Pace, ReconnectPace, Setback
    from agentrt.policy.watchdog import Limits, LimitVerdict, judge, next_due
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "backoff": ("FULL_JITTER", "Backoff", "ReconnectBackoff"),
            "breaker": ("TRANSITIONS", "Breaker", "BreakerEvent", "BreakerState", "Transition"),
            "bulkhead": ("Admission", "Bulkhead"),
            "call_window": ("CallWindow",),
            "close_codes": ("judge_close", "judge_handshake"),
            "complaint": ("Complaint", "ConnectionVerdict", "Judgement", "judge_complaint"),
            "departure": ("Departure", "Whereabouts"),
            "failures": ("Failure", "FailureKind", "SendState"),
            "flood": ("Action", "FloodGate", "GateReason", "GateVerdict", "MessageMeta"),
            "intensity": ("RestartIntensity", "RunningClock", "Verdict"),
            "latch": ("Latch",),
            "lease": ("Leases", "LeaseWork"),
            "memory": ("IdleRecycling", "MemoryGuardPolicy", "MemoryVerdict"),
            "pool": ("PoolServer", "ServerPool"),
            "precedence": ("NotConfigured", "Resolved", "Scopes", "resolve"),
            "probe": ("Health", "ProbeHealth"),
            "redelivery": ("DeadLetter", "DeadLetterReason", "Redeliver", "Redelivery", "RedeliveryVerdict"),
            "retry": ("GiveUp", "GiveUpReason", "Retry", "RetryPolicy", "RetryVerdict"),
            "retry_budget": ("RetryBudget",),
            "server_restart": ("RestartDelay", "ServerRestart"),
            "setback": ("Pace", "ReconnectPace", "Setback"),
            "watchdog": ("Limits", "LimitVerdict", "judge", "next_due"),
        },
    )

__all__ = [
    "FULL_JITTER",
    "TRANSITIONS",
    "Action",
    "Admission",
    "Backoff",
    "Breaker",
    "BreakerEvent",
    "BreakerState",
    "Bulkhead",
    "CallWindow",
    "Complaint",
    "ConnectionVerdict",
    "DeadLetter",
    "DeadLetterReason",
    "Departure",
    "Failure",
    "FailureKind",
    "FloodGate",
    "GateReason",
    "GateVerdict",
    "GiveUp",
    "GiveUpReason",
    "Health",
    "IdleRecycling",
    "Judgement",
    "Latch",
    "LeaseWork",
    "Leases",
    "LimitVerdict",
    "Limits",
    "MemoryGuardPolicy",
    "MemoryVerdict",
    "MessageMeta",
    "NotConfigured",
    "Pace",
    "PoolServer",
    "ProbeHealth",
    "ReconnectBackoff",
    "ReconnectPace",
    "Redeliver",
    "Redelivery",
    "RedeliveryVerdict",
    "Resolved",
    "RestartDelay",
    "RestartIntensity",
    "Retry",
    "RetryBudget",
    "RetryPolicy",
    "RetryVerdict",
    "RunningClock",
    "Scopes",
    "SendState",
    "ServerPool",
    "ServerRestart",
    "Setback",
    "Transition",
    "Verdict",
    "Whereabouts",
    "judge",
    "judge_close",
    "judge_complaint",
    "judge_handshake",
    "next_due",
    "resolve",
]
