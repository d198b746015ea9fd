"""What a fleet and its agents need on the bus and do there, from the configuration alone."""

from __future__ import annotations

from agentrt.config import Config
from agentrt.ports import BusUse, Topology
from agentrt.tasks import PRIORITIES, Names

#: The share of a store that tasks may fill. The rest is for outcomes: a task is acknowledged, and so gives back its
#: room, only when its outcome is stored, so a store that is full of tasks would stay full.
_FOR_TASKS = 0.75


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
        writes=((names.registry, ">"),),
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
    is_own = bus.url is None
    return _names(config).shared_topology(
        outcome_ttl=inbox.outcome_ttl,
        dead_letter_ttl=inbox.dead_letter_ttl,
        lease=config.registry.lease,
        # A bus of somebody else's has its bounds and its replicas from that one.
        task_bytes=int(bus.max_store * _FOR_TASKS) if is_own else -1,
        replicas=bus.embedded_nodes if is_own and bus.embedded_nodes > 1 else None,
    )


def _own(config: Config, agent: str) -> Topology:
    return _names(config).agent_topology(agent, ack_wait=config.inbox.ack_wait)
