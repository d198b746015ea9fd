"""What a fleet needs on the bus, from its configuration alone."""

from __future__ import annotations

from agentrt.config import Config
from agentrt.ports import Topology
from agentrt.tasks import Names


def topology_of(config: Config) -> Topology:
    """Return all that the fleet of *config* declares."""
    names, inbox = Names(str(config.fleet.name)), config.inbox
    shared = names.shared_topology(
        outcome_ttl=inbox.outcome_ttl, dead_letter_ttl=inbox.dead_letter_ttl, lease=config.registry.lease
    )
    agents = [names.agent_topology(str(agent), ack_wait=inbox.ack_wait) for agent in config.agents]
    return Topology(shared.streams, tuple(consumer for agent in agents for consumer in agent.consumers), shared.buckets)
