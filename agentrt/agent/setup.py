"""What an agent's own actors are made from: the host of the user's instance, and the inbox."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import attrs

from agentrt.agent.base import Agent, AgentSetup, no_exit
from agentrt.agent.work import Slot, Slots, TaskActor
from agentrt.kernel import Actor, ActorRef, Event
from agentrt.policy.flood import FloodGate
from agentrt.policy.redelivery import Redelivery
from agentrt.policy.watchdog import Limits
from agentrt.ports import Bus, Delivery
from agentrt.tasks import Names, Task

#: Tasks in hand per agent, those that wait for another agent included.
MAX_IN_HAND = 64
#: Ids of finished tasks that an inbox remembers without asking the bus.
_FINISHED_KEPT = 1024


class Admission(Protocol):
    """What the fleet's breaker for an agent says to the agent's inbox."""

    def closed(self) -> str | None:
        """Say why no task may be taken now; None where one may."""
        ...

    def admit(self, task: str) -> bool:
        """Take the permission for one task; report how it went with one of the three below."""
        ...

    def succeeded(self, task: str) -> None:
        """A task was done."""

    def failed(self, task: str, reason: str, cause: Event) -> None:
        """An attempt at a task failed."""

    def released(self, task: str) -> None:
        """A task was given back without a result."""


@attrs.define(eq=False)
class Entry:
    """A task in hand.

    Attributes:
        task: The task.
        delivery: Its newest delivery: what has to be acknowledged.
        slot: Its share of what the agent works on at once.
        since: Trio time at which it was taken.
        worker: The ref of the actor that does it, once it runs.
        actor: That actor.
    """

    task: Task
    delivery: Delivery
    slot: Slot
    since: float
    worker: ActorRef | None = None
    actor: TaskActor | None = None


class TaskBook:
    """The tasks that one agent has in hand; it outlives restarts of the inbox."""

    def __init__(self, max_tasks: int) -> None:
        self.slots = Slots(max_tasks)
        self.in_hand: dict[str, Entry] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()

    async def wait_room(self) -> None:
        """Wait until one more task may be taken in hand."""
        while self.slots.free == 0 or len(self.in_hand) >= MAX_IN_HAND:
            await self.slots.freed.park()

    def finish(self, task: Task) -> None:
        """Take a task out of hand for good."""
        self.drop(task.id)
        self._finished[task.msg_id] = None
        while len(self._finished) > _FINISHED_KEPT:
            self._finished.popitem(last=False)

    def drop(self, task: str) -> None:
        """Take a task out of hand; it comes again."""
        entry = self.in_hand.pop(task, None)
        if entry is not None:
            entry.slot.close()
            self.slots.freed.unpark_all()

    def is_finished(self, task: Task) -> bool:
        """Whether a task ended here a while ago at most; one that is replayed since is a new one."""
        return task.msg_id in self._finished


@attrs.frozen(kw_only=True)
class InboxSetup:
    """What an inbox is made from; all of it outlives the inbox's restarts.

    Args:
        agent: The agent's name.
        bus: Its connection.
        names: The fleet's names on the bus.
        wall: Unix time; virtual in tests.
        book: The tasks in hand.
        gate: The flood gate.
        redelivery: What becomes of a failed attempt.
        admission: The agent's breaker.
        limits: Of one task.
        task_grace: Seconds that a task may take to stop.
        keepalive: Seconds between two signs that a task in hand is worked on.
        drain: Seconds that tasks in hand may take to end at an ordered stop.
        is_hopeless: Whether a task in hand waits for an agent that does not work on what it was asked, so that no
            answer comes while nobody takes new tasks.
        unready: Names, with reasons, of the needs that are not ready.
        instance: Gives the user's agent, made by the host.
        work: Gives the supervisor of task actors.
    """

    agent: str
    bus: Bus
    names: Names
    wall: Callable[[], float]
    book: TaskBook
    gate: FloodGate
    redelivery: Redelivery
    admission: Admission
    limits: Limits
    task_grace: float
    keepalive: float
    drain: float
    is_hopeless: Callable[[Entry], bool]
    unready: Callable[[], tuple[str, ...]]
    instance: Callable[[], Agent]
    work: Callable[[], ActorRef]


class Host:
    """Holds the user's instance; it outlives restarts of the actor that makes it."""

    def __init__(self, cls: type[Agent], setup: AgentSetup) -> None:
        self.cls = cls
        self.setup = setup
        self.agent: Agent | None = None

    def instance(self) -> Agent:
        """Give the instance that lives now."""
        if self.agent is None:
            raise RuntimeError(f"agent {self.setup.name!r} has no instance yet")
        return self.agent


class HostActor(Actor):
    """Makes the user's instance and runs its hooks."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def on_start(self) -> None:
        """Make a new instance and run its start hook."""
        with no_exit(f"{self._host.cls.__name__}.on_start"):
            agent = self._host.cls(self._host.setup)
            await agent.on_start()
        self._host.agent = agent

    async def on_stop(self) -> None:
        """Run the stop hook."""
        if self._host.agent is not None:
            with no_exit(f"{self._host.cls.__name__}.on_stop"):
                await self._host.agent.on_stop()
