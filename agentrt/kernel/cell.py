"""The cell: what stays of an actor over its restarts. Its mailbox, its ref, its generation and its counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import attrs
import trio

from agentrt.kernel.errors import ActorDied, MailboxFull
from agentrt.kernel.exits import Exit
from agentrt.kernel.mailbox import Mailbox
from agentrt.kernel.mailbox_spec import MailboxSpec, MailboxStatistics
from agentrt.kernel.messages import Stage, current_serving
from agentrt.kernel.ref import ActorRef

if TYPE_CHECKING:
    from agentrt.kernel.children import Child
    from agentrt.kernel.incarnation import Incarnation
    from agentrt.kernel.messages import Envelope
    from agentrt.kernel.runtime import Runtime

#: Exit records kept per actor.
EXITS_KEPT = 10
#: Poison messages kept per actor.
POISON_KEPT = 16
#: Seconds between two events that say that messages were dropped; the last of them has the total.
DROPS_TOLD_EVERY = 1.0


@attrs.define
class Counts:
    """What became of an actor's messages; each message is counted once.

    Those that a full mailbox dropped are counted there.
    """

    answered: int = 0
    failed: int = 0
    expired: int = 0
    refused: int = 0
    undelivered: int = 0
    quarantined: int = 0


@attrs.frozen
class Poison:
    """A message over which as many incarnations died as its mailbox's spec lets.

    Args:
        message: The message itself.
        exit: The last of those exits.
    """

    message: Any
    exit: Exit


@attrs.frozen
class ActorStatistics:
    """One actor in figures."""

    generation: int
    state: str
    mailbox: MailboxStatistics
    counts: Counts


_NONE: Mapping[str, Any] = MappingProxyType({})


class Cell:
    """One place in the tree.

    Its exit records and poison messages are the last few, oldest first.

    It is closed when its actor ended and will not be started again by itself, and opened when somebody starts it after
    all: an operator, or a supervisor that was itself restarted. So a ref stays valid as long as the place has a spec.
    """

    # Most of it is never set in most places.
    generation = 0
    exits: tuple[Exit, ...] = ()
    poison: tuple[Poison, ...] = ()
    incarnation: Incarnation | None = None
    below: MutableMapping[str, Cell] = cast("MutableMapping[str, Cell]", _NONE)
    #: What a supervisor knows of its children, in its present or last incarnation.
    children: Mapping[str, Child] = _NONE
    #: It is being stopped for good.
    turns_callers_away = False
    _is_gone = False
    _gone: trio.Event | None = None
    _drops_told_at = -math.inf
    _drops_are_due = False

    def __init__(self, name: str, parent: Cell | None, runtime: Runtime, mailbox: MailboxSpec) -> None:
        self.name = name
        self.path: str = f"{parent.path}/{name}" if parent is not None else name
        self.runtime = runtime
        self.mailbox = Mailbox(mailbox, self)
        self.redeliveries = mailbox.redeliveries
        self.ref: ActorRef[Any] = ActorRef(self)
        self.counts = Counts()
        self._parent = parent

    @property
    def state(self) -> str:
        """What it does now, in a word."""
        if self._is_gone:
            return "gone"
        return self.incarnation.state if self.incarnation is not None else "down"

    @property
    def last_exit(self) -> Exit | None:
        """How it ended last."""
        return self.exits[-1] if self.exits else None

    def record(self, exit_: Exit) -> None:
        """Keep an exit record."""
        self.exits = (*self.exits[1 - EXITS_KEPT :], exit_)
        if exit_.suspected_masked is not None:
            events, masked = self.runtime.events, exit_.suspected_masked
            events.emit(
                "crash_suspected_masked",
                self.path,
                generation=exit_.generation,
                error=str(masked),
                traceback=masked.traceback if events.has_listeners else None,
            )

    def statistics(self) -> ActorStatistics:
        """Say it in figures."""
        return ActorStatistics(self.generation, self.state, self.mailbox.statistics(), attrs.evolve(self.counts))

    # Messages

    def submit_call(self, envelope: Envelope) -> None:
        """Queue a call; see :meth:`Mailbox.put_call`."""
        self._check_open()
        if self.turns_callers_away:
            self.counts.undelivered += 1
            raise self._stopping()
        if self.mailbox.put_call(envelope):
            self._tell_of_drops()

    def submit_nowait(self, envelope: Envelope) -> None:
        """Queue a message or raise."""
        self._check_open()
        if self.mailbox.put_nowait(envelope):
            self._tell_of_drops()

    async def submit(self, envelope: Envelope) -> None:
        """Queue a message, waiting for room where the mailbox blocks."""
        self._check_open()
        with self._waiting_for_room(envelope) if self.mailbox.would_block else nullcontext():
            if await self.mailbox.put(envelope):
                self._tell_of_drops()

    def _waiting_for_room(self, envelope: Envelope) -> AbstractContextManager[None]:
        """Take down who waits; whoever would wait for itself, or in a circle, would wait for ever."""
        serving, task = current_serving.get(), trio.lowlevel.current_task()
        parent = serving.in_hand_of(task) if serving is not None else None
        circle = self.cycle_to(parent.target) if parent is not None else ()
        if circle or self.is_elsewhere(task):
            self._reject(envelope, circle or (self.path, self.path))
        return serving.sending(envelope, parent) if serving is not None and parent is not None else nullcontext()

    def _reject(self, envelope: Envelope, circle: tuple[str, ...]) -> None:
        try:
            self.mailbox.put_nowait(envelope)
        except MailboxFull as full:
            raise MailboxFull(f"{full}, and waits for its sender: {' -> '.join(circle)}") from None

    def forsake(self, envelope: Envelope, stage: Stage) -> None:
        """Take note that nobody waits for *envelope* any more; cancel the handler that works on it, if one does."""
        self.counts.expired += 1
        if stage is not Stage.IN_HAND:
            self.mailbox.discard(envelope, stage)
        elif self.incarnation is not None:
            self.incarnation.serving.cancel_handler(envelope)

    def quarantine(self, message: Any, exit_: Exit) -> None:
        """Set a poison message aside for good."""
        self.counts.quarantined += 1
        self.poison = (*self.poison[1 - POISON_KEPT :], Poison(message, exit_))
        self.runtime.events.emit(
            "message_quarantined",
            self.path,
            message=type(message).__name__,
            crashes=self.redeliveries + 1,
            error=exit_.summary(),
        )

    def waits_for(self) -> list[Cell]:
        """List those whom the handler at work waits for; it handles nothing else meanwhile."""
        return self.incarnation.serving.waits_for() if self.incarnation is not None else []

    def cycle_to(self, caller: Cell) -> tuple[str, ...]:
        """Name the circle that is closed where *caller* waits for this actor, which waits for it; nothing without one.

        Whoever handles a message takes no other, so it does not matter whether that one has to do with this.
        """
        chains: list[tuple[Cell, ...]] = [(self,)]
        seen: set[Cell] = set()
        while chains:
            chain = chains.pop()
            last = chain[-1]
            if last is caller:
                return tuple(cell.path for cell in (*chain, self))
            if last not in seen:
                seen.add(last)
                chains += [(*chain, cell) for cell in last.waits_for()]
        return ()

    def is_elsewhere(self, task: trio.lowlevel.Task) -> bool:
        """Whether *task* is the one that would have to handle a message here, and starts or stops the actor instead."""
        life = self.incarnation
        if life is None or life.task is not task or life.serving.is_active:
            return False
        return life.started_at is None or life.is_stopping

    # Its places and its end

    def place(self, name: str, mailbox: MailboxSpec) -> Cell:
        """Find the cell of a child, or make one."""
        if self.below is _NONE:
            self.below = {}
        if name not in self.below:
            self.below[name] = Cell(name, self, self.runtime, mailbox)
        return self.below[name]

    def open(self) -> None:
        """Take messages: an incarnation begins."""
        if self.turns_callers_away:
            self.welcome_callers()
        if self._is_gone:
            self._is_gone = False
            self.mailbox.open()
            self._gone = None

    def welcome_callers(self) -> None:
        """Let callers wait again: it is to come back after all."""
        if self.turns_callers_away:
            self.turns_callers_away = False
            self.mailbox.let_in_blocked()

    def turn_callers_away(self) -> None:
        """Fail whoever waits for an answer, or will ask: the actor is being stopped, and begins no further message.

        What nobody waits for stays: it may be started again after all.
        """
        if self._is_gone or self.turns_callers_away:
            return
        self.turns_callers_away = True
        if left := self.mailbox.bury_calls(self._stopping):
            self.runtime.events.emit("messages_undelivered", self.path, count=left)

    def close(self) -> None:
        """Fail whatever waits: the actor will not be started again by itself."""
        if self._is_gone:
            return
        self._is_gone = True
        if left := self.mailbox.close(self._died):
            self.runtime.events.emit("messages_undelivered", self.path, count=left)
        if self._gone is not None:
            self._gone.set()

    def forget(self) -> None:
        """Close it and give its name free; a fleet of short-lived actors does not grow for ever."""
        self.close()
        if self._parent is not None and self._parent.below.get(self.name) is self:
            del self._parent.below[self.name]

    async def wait_gone(self) -> Exit:
        """Wait until it is closed; return the last exit."""
        if self._is_gone:
            await trio.lowlevel.checkpoint()
        else:
            if self._gone is None:
                self._gone = trio.Event()
            await self._gone.wait()
        return self.last_exit or Exit.never_started(self.path)

    def _died(self) -> ActorDied:
        return ActorDied(self.path, self.generation, self.last_exit)

    def _stopping(self) -> ActorDied:
        return ActorDied(self.path, self.generation, None, "is being stopped")

    def _check_open(self) -> None:
        if self._is_gone:
            raise self._died()

    def _tell_of_drops(self) -> None:
        now = self.runtime.timers.now()
        if now >= self._drops_told_at + DROPS_TOLD_EVERY:
            self._drops_told_at = now
            self._tell_dropped()
        elif not self._drops_are_due:
            # Those that follow at once are told together, in a while.
            self._drops_are_due = True
            self.runtime.timers.at(self._drops_told_at + DROPS_TOLD_EVERY, self._tell_due_drops)

    def _tell_due_drops(self) -> None:
        self._drops_are_due = False
        self._drops_told_at = self.runtime.timers.now()
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        self.runtime.events.emit("messages_dropped", self.path, total=self.mailbox.statistics().dropped)
