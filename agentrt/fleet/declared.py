"""What a fleet and its agents need on the bus and do there, from the configuration alone."""

from __future__ import annotations

from agentrt.config import Config
from agentrt.ports import BusUse, Topology
from agentrt.tasks import PRIORITIES, Names


def topology_of(config: Config) -> Topology:
    """Return all that the fleet of *config* declares."""
    shared = _shared(config)
    agents = [_own(config, str(agent)) for agent in config.agents]
    return Topology(shared.streams, tuple(consumer for agent in agents for consumer in agent.consumers), shared.buckets)


def needs_of(config: Config, agent: str) -> Topology:
    """Return what has to exist for one agent."""
    shared, own = _shared(config), _own(config, agent)
    return Topology(shared.streams, own.consumers, shared.buckets)


def use_of_fleet(config: Config) -> BusUse:
    """Return what the fleet's own connection does, and ``agentrt send``, ``outcome`` and ``check --bus``.

    It makes all that is declared, sends the work of parked agents on, which it takes from their queues, and keeps the
    registry: no agent writes an entry there.
    """
    names = _names(config)
    return BusUse(
        inbox=names.inbox(),
        declares=topology_of(config),
        makes=True,
        publishes=(names.task_subject("*", "*"),),
        subscribes=(names.outcome_subject("*"),),
        consumes=tuple(pair for agent in config.agents for pair in _queues(names, str(agent))),
        reads=(names.outcomes, names.registry),
        writes=((names.registry, "*"),),
    )


def use_of_agent(config: Config, agent: str) -> BusUse:
    """Return what the connection of one agent does: it sends to anybody, and takes what is sent to it alone."""
    names = _names(config)
    return BusUse(
        inbox=names.inbox(agent),
        declares=needs_of(config, agent),
        publishes=(names.task_subject("*", "*"), names.dead_letter_subject(agent), names.outcome_subject("*")),
        subscribes=(names.outcome_subject("*"),),
        consumes=_queues(names, agent),
        reads=(names.outcomes,),
        writes=((names.outcomes, "*"),),
    )


def _names(config: Config) -> Names:
    return Names(str(config.fleet.name))


def _queues(names: Names, agent: str) -> tuple[tuple[str, str], ...]:
    return tuple((names.tasks, names.consumer(agent, priority)) for priority in PRIORITIES)


def _shared(config: Config) -> Topology:
    inbox, bus = config.inbox, config.bus
    # On a bus of somebody else's how many there are is that one's to say.
    replicas = bus.embedded_nodes if bus.url is None and bus.embedded_nodes > 1 else None
    return _names(config).shared_topology(
        outcome_ttl=inbox.outcome_ttl,
        dead_letter_ttl=inbox.dead_letter_ttl,
        lease=config.registry.lease,
        replicas=replicas,
    )


def _own(config: Config, agent: str) -> Topology:
    return _names(config).agent_topology(agent, ack_wait=config.inbox.ack_wait)
