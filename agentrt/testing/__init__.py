"""The kit for embedding a fleet in a test."""

from __future__ import annotations

from agentrt.testing.chaos import Chaos
from agentrt.testing.connections import InProcessConnection
from agentrt.testing.fleet import FleetUnderTest, fleet_under_test
from agentrt.testing.tools import InProcessSession

__all__ = ["Chaos", "FleetUnderTest", "InProcessConnection", "InProcessSession", "fleet_under_test"]
