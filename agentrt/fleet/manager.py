"""The fleet's manager: starts the agents, parks those that escalate, probes them later, and routes their work away."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import trio

from agentrt.fleet.member import Member, Shared
from agentrt.fleet.reroute import reroute
from agentrt.kernel import (
    Actor,
    ActorDied,
    ActorRef,
    CallTimeout,
    ChildExists,
    Event,
    Exit,
    Refusal,
    StartChild,
    StartFailed,
)
from agentrt.policy.backoff import Backoff
from agentrt.policy.breaker import BreakerState
from agentrt.ports import Bus, BusRefused, BusUnavailable
from agentrt.tasks import PRIORITIES

#: Where the supervisor of all agents is.
AGENTS_PATH = "fleet/agents"
#: Starts of an agent that may fail before it is parked: what it needs may come up a moment later than the fleet.
_START_TRIES, _START_BACKOFF = 3, Backoff(1.0, 4.0, 10.0, jitter=(0.5, 1.0))
#: Seconds between two looks at the breakers.
_TICK = 0.5
#: Seconds between two readings of the queues.
_DEPTH_INTERVAL = 2.0
#: Seconds for an agent's start; each of its actors has a start timeout of its own.
_START_LIMIT = 300.0


class FleetDesk:
    """What the manager works on; it outlives the manager's restarts.

    Args:
        shared: What all agents share.
        members: The agents.
        bus: The fleet's own connection.
    """

    def __init__(self, shared: Shared, members: Mapping[str, Member], bus: Bus) -> None:
        self.shared = shared
        self.members = dict(members)
        self.bus = bus
        #: Agents whose subtree is being started or runs.
        self.up: set[str] = set()
        #: Tasks that wait for each agent or are in hand, where that could be read.
        self.depths: dict[str, int] = {}
        self.stopping = False
        #: Starts in a row that failed, and when the next is due, by agent.
        self.failed_starts: dict[str, int] = {}
        self.start_at: dict[str, float] = {}
        #: How each agent's supervisor ended last, by its path: the cause of what follows.
        self.last_crash: dict[str, Event] = {}

    def agents(self) -> ActorRef:
        """Give the supervisor of all agents."""
        return self.shared.ref(AGENTS_PATH)


class Manager(Actor):
    """Keep every agent up that its breaker lets be up.

    An agent whose subtree ends, or does not start three times in a row, has escalated: its breaker opens and it is
    parked. When the recovery time is over the breaker is half-open: the subtree is started again, and one task is let
    through as the probe. While an agent's breaker is open its work waits in the queue, or goes to its fallback, else
    its manager, where it has one.
    """

    def __init__(self, desk: FleetDesk) -> None:
        self._desk = desk
        self._rerouting: dict[str, trio.CancelScope] = {}

    async def on_start(self) -> None:
        """See which agents run, and look at the workspace, so that they know of it before their first task."""
        self._desk.shared.runtime = self.context.cell.runtime
        # A manager before this one may not have lived to see a start through, or was stopped by itself.
        self._desk.up = self._in_tree()
        self._desk.stopping = False
        await self._desk.shared.workspace.look()
        self.spawn(self._desk.shared.workspace.watch)
        self.spawn(self._read_depths)

    async def run(self) -> None:
        """Start the agents, and again those whose breaker lets them, until a stop is asked for.

        An agent that does not start is parked and holds up nobody.
        """
        while True:
            for member in self._desk.members.values():
                self._tend(member)
            await trio.sleep(_TICK)

    async def on_stop(self) -> None:
        """From here on, what ends has not failed."""
        self._desk.stopping = True

    async def _read_depths(self) -> None:
        """Read the queues again and again; a bus that is away makes them unknown."""
        desk, names = self._desk, self._desk.shared.names
        while True:
            for agent in desk.members:
                try:
                    lanes = [await desk.bus.depth(names.tasks, names.consumer(agent, lane)) for lane in PRIORITIES]
                except (BusUnavailable, BusRefused):
                    desk.depths.pop(agent, None)
                else:
                    desk.depths[agent] = sum(lanes)
            await trio.sleep(_DEPTH_INTERVAL)

    def _tend(self, member: Member) -> None:
        state = member.breaker.state
        is_due = self._desk.start_at.get(member.name, 0.0) <= trio.current_time()
        if state is not BreakerState.OPEN and member.name not in self._desk.up and is_due:
            self._desk.up.add(member.name)
            self.spawn(self._start, member)
        rerouted = self._rerouting.get(member.name)
        if state is BreakerState.OPEN and member.config.stand_in is not None and rerouted is None:
            self._rerouting[member.name] = scope = trio.CancelScope()
            self.spawn(self._reroute, member, str(member.config.stand_in), scope)
        elif state is not BreakerState.OPEN and rerouted is not None:
            self._rerouting.pop(member.name).cancel()

    async def _start(self, member: Member) -> None:
        desk = self._desk
        spec = attrs.evolve(member.spec(), on_exit=lambda exit_: self._ended(member, exit_))
        try:
            await desk.agents().call(StartChild(spec), timeout=_START_LIMIT)
            desk.failed_starts.pop(member.name, None)
        except StartFailed:
            # Its end was told to _ended.
            return
        except (ActorDied, CallTimeout, ChildExists, Refusal) as error:
            desk.up &= self._in_tree()
            if not desk.stopping:
                self.emit("agent_not_started", agent=member.name, reason=str(error))

    def _in_tree(self) -> set[str]:
        tree = self.context.cell.runtime.tree()
        return {agent.name for node in tree.children if node.path == AGENTS_PATH for agent in node.children}

    def _ended(self, member: Member, exit_: Exit) -> None:
        """Park an agent that failed; one that somebody stopped is started again."""
        desk = self._desk
        desk.up.discard(member.name)
        if not exit_.is_abnormal or desk.stopping:
            return
        tries = desk.failed_starts.get(member.name, 0) + 1
        if not exit_.started and tries < _START_TRIES:
            delay = _START_BACKOFF.delay(tries, self.random.random())
            desk.failed_starts[member.name] = tries
            desk.start_at[member.name] = trio.current_time() + delay
            self.emit("agent_start_failed", agent=member.name, reason=_why(exit_), again_in=round(delay, 3))
        else:
            desk.failed_starts.pop(member.name, None)
            # The end of its supervisor, told a moment ago, is what it is parked for.
            why = _why(exit_)
            event = member.breaker.events.emit(
                "agent_parked",
                member.path,
                desk.last_crash.get(member.path),
                agent=member.name,
                reason=why,
                report=exit_.report(),
            )
            member.breaker.escalated(why, event)

    async def _reroute(self, member: Member, fallback: str, scope: trio.CancelScope) -> None:
        with scope:
            await reroute(self._desk.bus, self._desk.shared.names, member.name, fallback, self.emit)


def _why(exit_: Exit) -> str:
    """Say in a line what an agent ended of: a start that failed says only whose it was."""
    while exit_.cause is not None and exit_.cause.type == StartFailed.__name__ and exit_.cause.exits:
        exit_ = exit_.cause.exits[-1]
    return exit_.summary()
