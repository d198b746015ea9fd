"""Resilience: retries, bulkheads and breakers around any call, carrying out what the policies decide."""

from __future__ import annotations

from agentrt.resilience.breaker import BreakerGate, Ticket
from agentrt.resilience.bulkhead import BulkheadGate
from agentrt.resilience.classify import classify
from agentrt.resilience.errors import BreakerOpen, BulkheadFull, CallFailed
from agentrt.resilience.retrying import Report, Retrying
from agentrt.resilience.wrapper import resilient

__all__ = [
    "BreakerGate",
    "BreakerOpen",
    "BulkheadFull",
    "BulkheadGate",
    "CallFailed",
    "Report",
    "Retrying",
    "Ticket",
    "classify",
    "resilient",
]
