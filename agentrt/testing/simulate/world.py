"""What is seen of one run: every life of every actor, every message with its outcome, and the log of it all."""

from __future__ import annotations

import marshal
import weakref
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import attrs
import trio

from agentrt.kernel import ActorRef, Event, EventStream, Runtime
from agentrt.testing.simulate.orders import Order
from agentrt.testing.simulate.plan import ActorPlan, Admin, How, SupervisorPlan

if TYPE_CHECKING:
    from agentrt.testing.simulate.puppet import Puppet

#: Events that tell of the end of an incarnation.
EXITS = frozenset({"actor_crashed", "actor_exited"})
#: Fields that say where the code stands: a digest of them would be one of the installation.
_NOT_DIGESTED = frozenset({"stack", "traceback"})


@attrs.frozen
class Violation:
    """A promise of the kernel that was not kept.

    Args:
        invariant: Which promise, in a few words.
        what: What was seen.
    """

    invariant: str
    what: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.invariant}: {self.what}"


@attrs.define(eq=False)
class Note:
    """Something that the actors themselves tell; it stands in the log among the kernel's events."""

    kind: str
    path: str
    time: float
    fields: dict[str, Any]


@attrs.frozen
class Tie:
    """The life of an actor that another one has to do with, from a place in the log on.

    Args:
        generation: None where none lived.
    """

    ref: ActorRef
    generation: int | None
    place: int


@attrs.define(eq=False)
class Life:
    """One life of one actor, as the actor itself sees it. Places are those in the log.

    Attributes:
        parts: How many parts of it are at work: its methods, and its tasks beside.
        begun: Where its start hook began.
        up: Where its start hook returned; *up_at* is when.
        stop_begun: Where its stop hook began; *stop_at* is when.
        stop_cut: When its stop hook was cancelled.
        is_own_end: It came to its end by itself.
        busy_until: When it was done with its last message.
        progressed: It said that the work moved.
        fault: What it raised while it lived.
        ends_run: It raised what ends the whole run.
        in_hand: How many messages it handles.
        links, monitors: Whom it tied itself to; *unlinked* is from whom it took that back.
        downs: Whose ends it was told of.
        end: Where the log tells of its end.
        is_zombie: It was given up.
        asked_for: How many timers and monitors it made.
        ticks: How many messages of its own timers and monitors it began to handle.
        did_stash: It set messages aside.
    """

    number: int
    plan: ActorPlan
    path: str
    ref: ActorRef
    generation: int
    parts: int = 0
    begun: int = 0
    up: int | None = None
    up_at: float | None = None
    stop_begun: int | None = None
    stop_at: float = 0.0
    stop_cut: float | None = None
    is_own_end: bool = False
    busy_until: float = -1.0
    progressed: bool = False
    fault: str = ""
    ends_run: bool = False
    in_hand: int = 0
    links: list[Tie] = attrs.field(factory=list)
    monitors: list[Tie] = attrs.field(factory=list)
    unlinked: set[ActorRef] = attrs.field(factory=set)
    downs: list[Tie] = attrs.field(factory=list)
    end: int | None = None
    end_event: Event | None = None
    is_zombie: bool = False
    asked_for: int = 0
    ticks: int = 0
    did_stash: bool = False

    def __str__(self) -> str:
        """Name it."""
        return f"{self.path} (generation {self.generation})"


@attrs.define(eq=False)
class Handling:
    """A message in a handler.

    Attributes:
        place: Where it began.
        how: How the handler ended.
        was_stashed: The message was set aside, so that this was no end of it.
    """

    life: Life
    place: int
    begun_at: float
    ended_at: float | None = None
    how: str = ""
    was_stashed: bool = False


@attrs.define(eq=False)
class Message:
    """A message, and all that became of it.

    Attributes:
        parent: The message whose handler waits for this one.
        due: When it must have its outcome.
        is_submitted: It was not turned away at the door: a mailbox had to do with it.
        outcome: What its sender got: ``answered``, ``accepted``, ``cancelled``, or the name of an error.
        handlings: Each time that a handler began with it.
    """

    number: int
    ref: ActorRef
    how: How
    order: Order | None
    admin: Admin | None
    parent: Message | None
    sent_at: float
    due: float
    is_submitted: bool = False
    outcome: str = ""
    ended_at: float | None = None
    handlings: list[Handling] = attrs.field(factory=list)

    @property
    def path(self) -> str:
        """Whom it goes to."""
        return self.ref.path

    def __str__(self) -> str:
        """Name it."""
        return f"message {self.number} to {self.path} ({self.order or self.admin})"


class Urgent(Message):
    """A message that goes first, where the mailbox knows that."""


class Log(EventStream):
    """The kernel's events, kept."""

    def __init__(self, keep: Callable[[Event], None]) -> None:
        super().__init__()
        self._keep = keep

    @property
    def has_listeners(self) -> bool:
        """Have all that there is to say said."""
        return True

    def emit(self, kind: str, path: str, /, cause: Event | int | None = None, **fields: Any) -> Event:
        """Make an event and keep it."""
        event = super().emit(kind, path, cause, **fields)
        self._keep(event)
        return event


class World:
    """What the actors of one run share.

    Args:
        top: The planned tree.
        make: Makes an actor.

    Attributes:
        was_broken_off: It never came to its end.
        log: The kernel's events and the actors' notes.
        starts: What the next starts of each actor do.
        stops: What the stops of each actor do.
        calm: Where each actor was when all was calm; None where the run did not get there. In the log that is at
            *calm_place*.
        mended: And when all that was down had been restarted.
        zombies_left: How many zombies there were when all was calm.
        busy: Who was at work on a message then.
        pending_timers: How many timers the runtime had when all was calm.
        first_ping: The number of the first message by which calm actors were tried.
        dead_kept: Actors that are kept though they ended, by name, when all was calm.
    """

    def __init__(self, top: SupervisorPlan, make: Callable[[World, ActorPlan], Puppet]) -> None:
        self.top = top
        self._make = make
        self.log: list[Event | Note] = []
        self.events = Log(self._take)
        self.runtime: Runtime | None = None
        self.lives: list[Life] = []
        self.last_life: dict[str, Life] = {}
        self.messages: list[Message] = []
        self.starts: dict[str, list[Order]] = {}
        self.stops: dict[str, Order] = {}
        self.violations: list[Violation] = []
        self.was_broken_off = False
        self.puppets: list[weakref.ref[Puppet]] = []
        self.calm: dict[str, str] | None = None
        self.calm_place = 0
        self.mended: dict[str, str] | None = None
        self.pending_timers = 0
        self.dead_kept: list[str] = []
        self.first_ping: int | None = None
        self.zombies_left = 0
        self.busy: set[str] = set()
        self._alive: dict[int, Life] = {}

    def violate(self, invariant: str, what: str) -> None:
        """Take down that a promise was not kept."""
        self.violations.append(Violation(invariant, what))

    def break_off(self, invariant: str, what: str) -> None:
        """Take down that the run did not come to its end, so that nothing of it adds up."""
        self.was_broken_off = True
        self.violate(invariant, what)

    def note(self, kind: str, path: str, **fields: Any) -> int:
        """Write something into the log; return its place."""
        self.log.append(Note(kind, path, trio.current_time(), fields))
        return len(self.log) - 1

    def supervisors(self) -> dict[str, SupervisorPlan]:
        """Give the planned supervisors by path, the top first."""
        below = {path: node for path, node in self.top.walk() if isinstance(node, SupervisorPlan)}
        return {self.top.id: self.top, **below}

    def digest(self) -> str:
        """Make a digest of the whole log."""
        lines = [
            (one.time, one.kind, one.path, *(str(value) for name, value in one.fields.items() if _is_digested(name)))
            for one in self.log
        ]
        # Version 2 writes each value anew, whoever else holds it.
        return blake2b(marshal.dumps(lines, 2), digest_size=16).hexdigest()

    # Lives

    def factory(self, plan: ActorPlan) -> Puppet:
        """Make an actor of this world."""
        puppet = self._make(self, plan)
        self.puppets.append(weakref.ref(puppet))
        return puppet

    def born(self, puppet: Puppet) -> Life:
        """Take down that an actor begins to start."""
        path, generation = puppet.path, puppet.generation
        life = Life(len(self.lives), puppet.plan, path, puppet.ref, generation)
        before = self.last_life.get(path)
        if before is not None:
            if before.parts and not before.is_zombie:
                self.violate("one life at a time", f"{life} starts while {before} lives")
            if before.ref is life.ref and generation <= before.generation:
                self.violate("generations grow", f"{life} follows upon {before}")
        life.begun = self.note("starting", path, generation=generation)
        self.lives.append(life)
        self.last_life[path] = life
        return life

    def part_begins(self, life: Life) -> None:
        """Take down that a part of *life* is at work."""
        life.parts += 1
        self._alive[life.number] = life

    def part_ends(self, life: Life) -> None:
        """Take down that a part of *life* is done."""
        life.parts -= 1
        if not life.parts:
            del self._alive[life.number]

    def _take(self, event: Event) -> None:
        """Keep an event, and look whether the world is as it says."""
        place = len(self.log)
        self.log.append(event)
        if event.kind in EXITS:
            self._ended(event, place)
        elif event.kind == "actor_zombie":
            if (life := self._life_of(event)) is not None:
                life.is_zombie = True
        elif event.kind == "actor_started":
            life = self._life_of(event)
            if life is not None and life.up is None:
                self.violate("a start is over before it counts", f"{life} counts as started inside its start hook")

    def _life_of(self, event: Event) -> Life | None:
        """Find the life that *event* is about; None for a supervisor, and for one that never got to run."""
        life = self.last_life.get(event.path)
        return life if life is not None and life.generation == event.fields.get("generation") else None

    def _ended(self, event: Event, place: int) -> None:
        life = self._life_of(event)
        if life is not None and life.end is None:
            life.end, life.end_event = place, event
        below = f"{event.path}/"
        for one in self._alive.values():
            if (one is life or one.path.startswith(below)) and not one.is_zombie:
                self.violate("no task outlives its actor", f"{one} is at work when {event.path} is told to have ended")

    # Messages

    def message(
        self,
        ref: ActorRef,
        how: How,
        order: Order | None = None,
        *,
        admin: Admin | None = None,
        parent: Message | None = None,
        due: float,
        urgent: bool = False,
    ) -> Message:
        """Take down that a message is about to be sent."""
        kind = Urgent if urgent else Message
        message = kind(len(self.messages), ref, how, order, admin, parent, trio.current_time(), due)
        self.note("send", ref.path, how=how.value, number=message.number)
        # Nothing comes between this look and the door.
        message.is_submitted = ref.statistics().state != "gone"
        self.messages.append(message)
        return message

    def settled(self, message: Message, outcome: str) -> None:
        """Take down what the sender got."""
        message.outcome = outcome
        message.ended_at = trio.current_time()
        self.note("outcome", message.path, number=message.number, outcome=outcome)


def _is_digested(name: str) -> bool:
    return name not in _NOT_DIGESTED
