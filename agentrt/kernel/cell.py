"""The cell: what stays of an actor over its restarts. Its mailbox, its ref, its generation and its counts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import trio

from agentrt.kernel.errors import ActorDied
from agentrt.kernel.exits import Exit, ExitKind
from agentrt.kernel.mailbox import Mailbox, MailboxSpec, MailboxStatistics
from agentrt.kernel.messages import Stage
from agentrt.kernel.ref import ActorRef

if TYPE_CHECKING:
    from agentrt.kernel.children import Child
    from agentrt.kernel.incarnation import Incarnation
    from agentrt.kernel.messages import Envelope
    from agentrt.kernel.runtime import Runtime

#: Exit records kept per actor.
EXITS_KEPT = 10
#: Seconds between two events that say that messages are dropped; each drop is counted.
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


@attrs.frozen
class ActorStatistics:
    """One actor in figures."""

    generation: int
    state: str
    mailbox: MailboxStatistics
    counts: Counts


class Cell:
    """One place in the tree.

    It is closed when its actor ended and will not be started again by itself, and opened when somebody starts it after
    all: an operator, or a supervisor that was itself restarted. So a ref stays valid as long as the place has a spec.
    """

    def __init__(self, name: str, parent: Cell | None, runtime: Runtime, mailbox: MailboxSpec) -> None:
        self.name = name
        self.path: str = f"{parent.path}/{name}" if parent is not None else name
        self.runtime = runtime
        self.mailbox = Mailbox(mailbox)
        self.ref = ActorRef(self)
        self.generation: int = 0
        self.counts = Counts()
        self.exits: deque[Exit] = deque(maxlen=EXITS_KEPT)
        self.incarnation: Incarnation | None = None
        self.below: dict[str, Cell] = {}
        #: What a supervisor knows of its children, in its present or last incarnation.
        self.children: Mapping[str, Child] = {}
        self._parent = parent
        self._is_gone = False
        self._gone = trio.Event()
        self._drops_told_at = -math.inf

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

    def statistics(self) -> ActorStatistics:
        """Say it in figures."""
        return ActorStatistics(self.generation, self.state, self.mailbox.statistics(), attrs.evolve(self.counts))

    # Messages

    def submit_call(self, envelope: Envelope) -> None:
        """Queue a call; see :meth:`Mailbox.put_call`."""
        self._check_open()
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
        if await self.mailbox.put(envelope):
            self._tell_of_drops()

    def forsake(self, envelope: Envelope, stage: Stage) -> None:
        """Take note that nobody waits for *envelope* any more; cancel the handler that works on it, if one does."""
        self.counts.expired += 1
        if stage is Stage.QUEUED:
            self.mailbox.discard(envelope)
        elif self.incarnation is not None:
            self.incarnation.serving.cancel_handler(envelope)

    def has_in_hand(self, envelope: Envelope) -> bool:
        """Whether the actor works on *envelope* right now."""
        return self.incarnation is not None and self.incarnation.serving.in_hand is envelope

    # Its places and its end

    def place(self, name: str, mailbox: MailboxSpec) -> Cell:
        """Find the cell of a child, or make one."""
        if name not in self.below:
            self.below[name] = Cell(name, self, self.runtime, mailbox)
        return self.below[name]

    def open(self) -> None:
        """Take messages: an incarnation begins."""
        if self._is_gone:
            self._is_gone = False
            self.mailbox.open()
            self._gone = trio.Event()

    def close(self) -> None:
        """Fail whatever waits: the actor will not be started again by itself."""
        if self._is_gone:
            return
        self._is_gone = True
        if left := self.mailbox.close(self._died):
            self.runtime.events.emit("messages_undelivered", self.path, count=left)
        self._gone.set()

    def forget(self) -> None:
        """Close it and give its name free; a fleet of short-lived actors does not grow for ever."""
        self.close()
        if self._parent is not None and self._parent.below.get(self.name) is self:
            del self._parent.below[self.name]

    async def wait_gone(self) -> Exit:
        """Wait until it is closed; return the last exit."""
        await self._gone.wait()
        return self.last_exit or Exit(self.path, self.generation, ExitKind.STOPPED, "never started", started=False)

    def _died(self) -> ActorDied:
        return ActorDied(self.path, self.generation, self.last_exit)

    def _check_open(self) -> None:
        if self._is_gone:
            raise self._died()

    def _tell_of_drops(self) -> None:
        now = trio.current_time()
        if now - self._drops_told_at >= DROPS_TOLD_EVERY:
            self._drops_told_at = now
            self.runtime.events.emit("messages_dropped", self.path, total=self.mailbox.statistics().dropped)
