"""Fleets: agents under one supervisor, each with a breaker, and the work of parked ones routed away."""

from __future__ import annotations

from agentrt.fleet.batteries import Batteries, Battery
from agentrt.fleet.declared import topology_of, use_of_agent, use_of_fleet
from agentrt.fleet.fleet import AgentStatus, Fleet, open_fleet
from agentrt.fleet.member import Member

__all__ = [
    "AgentStatus",
    "Batteries",
    "Battery",
    "Fleet",
    "Member",
    "open_fleet",
    "topology_of",
    "use_of_agent",
    "use_of_fleet",
]
