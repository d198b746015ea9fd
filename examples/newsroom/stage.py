"""What the demo stands on: it watches the fleet's events, keeps book of every task, and tells what happens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import trio
from rich.console import Console
from rich.text import Text

from agentrt import BusUnavailable, Fleet, NoOutcome, Outcome, Status, Task
from agentrt.kernel import Event, EventStream
from agentrt.tasks import PRIORITIES

#: Seconds that a task may take before the demo stops waiting for it.
PATIENCE = 30.0
_PREFIX = "fleet/agents/"


class NotHealed(Exception):
    """An incident did not end as it has to."""


class Watch:
    """Remembers the fleet's events, and waits for some of them."""

    def __init__(self, events: EventStream) -> None:
        self.events: list[Event] = []
        self._more = trio.Event()
        events.listen(self._note)

    def _note(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()
        self._more = trio.Event()

    async def first(self, *kinds: str, since: int, path: str = "", **fields: Any) -> Event:
        """Wait for the first event after number *since* of one of *kinds*, at *path* and with these *fields*."""
        at = since
        while True:
            for event in self.events[at:]:
                if event.kind in kinds and path in event.path and fields.items() <= event.fields.items():
                    return event
            at = len(self.events)
            await self._more.wait()

    def count(self, kind: str, *, since: int, path: str = "") -> int:
        """Count the events of *kind* at *path* after number *since*."""
        return sum(event.kind == kind and path in event.path for event in self.events[since:])

    def tasks(self) -> set[str]:
        """Give the ids of all tasks that arrived anywhere, those between agents included."""
        return {event.fields["task"] for event in self.events if event.kind == "message_received"}

    def finished(self) -> dict[str, str]:
        """Say of each task that finished how it did, as the agents saw it."""
        done = [event.fields for event in self.events if event.kind == "task_finished"]
        return {fields["task"]: fields["status"] for fields in done}


@attrs.define(eq=False)
class Sent:
    """A task that the demo sent."""

    task: Task
    outcome: Outcome | None = None
    done: trio.Event = attrs.field(factory=trio.Event)

    async def ended(self, status: Status = Status.ANSWERED) -> Outcome:
        """Wait for its outcome, which has to be *status*."""
        await self.done.wait()
        if self.outcome is None:
            raise NotHealed(f"task {self.task.id} for {self.task.agent} has no outcome after {PATIENCE:g} s")
        if self.outcome.status is not status:
            raise NotHealed(f"{self.task.agent}'s task was {self.outcome.status.value}: {self.outcome.reason}")
        return self.outcome


@attrs.define
class Incident:
    """What is done to the fleet, and how that went; times are Trio's."""

    title: str
    injected: float = math.nan
    noticed: float = math.nan
    healed: float = math.nan
    problem: str = ""
    #: Events that there were before it.
    since: int = 0

    def after(self, when: float) -> str:
        """Give the milliseconds from the injection to *when*."""
        return "-" if math.isnan(when) else f"{(when - self.injected) * 1000:.0f} ms"


class Stage:
    """The running fleet, and what the incidents need to break it and to see it heal."""

    def __init__(self, fleet: Fleet, watch: Watch, nursery: trio.Nursery, tell: Narrator) -> None:
        self.fleet = fleet
        self.watch = watch
        self.tell = tell
        self.sent: list[Sent] = []
        self.incidents: list[Incident] = []
        self.nursery = nursery

    # Tasks

    def send(self, agent: str, payload: Any) -> Sent:
        """Send a task, and follow it beside whatever comes next."""
        sent = Sent(self.fleet.client.new_task(agent, payload))
        self.sent.append(sent)
        self.nursery.start_soon(self._follow, sent)
        return sent

    async def ask(self, agent: str, payload: Any) -> Outcome:
        """Send a task, which has to be answered."""
        return await self.send(agent, payload).ended()

    async def _follow(self, sent: Sent) -> None:
        client = self.fleet.client
        try:
            await client.send(sent.task, PATIENCE)
            sent.outcome = await client.outcome(sent.task.id, PATIENCE)
        except (BusUnavailable, NoOutcome):
            # Counted in the end, when the stored outcomes are read.
            return
        finally:
            sent.done.set()

    # Incidents

    @property
    def incident(self) -> Incident:
        """The one that is under way."""
        return self.incidents[-1]

    def begin(self, title: str) -> Incident:
        """Begin an incident."""
        self.incidents.append(Incident(title))
        self.tell.title(len(self.incidents), title)
        return self.incident

    def injected(self, what: str) -> None:
        """Say what was just done to the fleet; call it with no checkpoint in between."""
        self.incident.injected = trio.current_time()
        self.incident.since = len(self.watch.events)
        self.tell.line(">> injected", "red", what)

    async def noticed(self, *kinds: str, say: Callable[[Event], str], path: str = "", **fields: Any) -> Event:
        """Wait for the event that shows that the fleet noticed."""
        event = await self.seen(*kinds, path=path, **fields)
        self.incident.noticed = event.time
        where = event.path.removeprefix(_PREFIX)
        self.tell.line("!! noticed", "yellow", f"{where}: {say(event)} ({self.incident.after(event.time)})", event.time)
        return event

    async def seen(self, *kinds: str, path: str = "", **fields: Any) -> Event:
        """Wait for an event of this incident."""
        return await self.watch.first(*kinds, since=self.incident.since, path=path, **fields)

    def healed(self, how: str) -> None:
        """Say that all is well again, which the caller has checked."""
        self.incident.healed = trio.current_time()
        self.tell.line("OK healed", "green", f"{how} ({self.incident.after(self.incident.healed)})")

    def failed(self, why: str) -> None:
        """Say that it is not."""
        self.incident.problem = why
        self.tell.line("XX failed", "bold red", why)

    # The end

    def tasks(self) -> set[str]:
        """Give the ids of all tasks, those between agents included."""
        return {sent.task.id for sent in self.sent} | self.watch.tasks()

    async def stored_outcomes(self) -> dict[str, str | None]:
        """Read how each task ended; None where nothing is stored."""
        client = self.fleet.client
        stored: dict[str, str | None] = {}
        for task in self.tasks():
            found = await client.bus.get(client.names.outcomes, task)
            stored[task] = None if found is None else Outcome.decode(found[0]).status.value
        return stored

    async def tasks_waiting(self) -> int:
        """Count the tasks that are in the queues, those in hand included."""
        client = self.fleet.client
        consumers = [client.names.consumer(agent, lane) for agent in self.fleet.members for lane in PRIORITIES]
        return sum([await client.bus.depth(client.names.tasks, consumer) for consumer in consumers])


class Narrator:
    """Prints one line for each thing that happens, with the seconds since the start; in colour on a terminal."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._began = trio.current_time()

    def line(self, mark: str, style: str, text: str, when: float | None = None) -> None:
        """Print what happened, now or at *when*."""
        seconds = (trio.current_time() if when is None else when) - self._began
        self.console.print(Text.assemble((f"[{seconds:6.2f}s] ", "dim"), (f"{mark:<12}", style), text))

    def title(self, number: int, title: str) -> None:
        """Print the headline of an incident."""
        self.console.print(Text.assemble("\n", (f"{number}. {title}", "bold")))

    def table(self, incidents: list[Incident]) -> None:
        """Print all incidents with their times."""
        width = max(len(incident.title) for incident in incidents)
        self.console.print(Text(f"\n{'incident':<{width}}  {'noticed':>9}  {'healed':>9}", "bold"))
        for incident in incidents:
            times = f"{incident.after(incident.noticed):>9}  {incident.after(incident.healed):>9}"
            self.console.print(Text(f"{incident.title:<{width}}  {times}", "red" if incident.problem else ""))

    def tally(self, stored: dict[str, str | None]) -> None:
        """Print how all tasks ended."""
        counts = Counter(stored.values())
        by_status = ", ".join(f"{counts[status.value]} {status.value.replace('_', '-')}" for status in Status)
        self.console.print(Text(f"\ntasks: {len(stored)} sent, {by_status}, {counts[None]} lost", "bold"))
