"""Refs: how others reach an actor, over all its restarts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, overload

import trio

from agentrt.kernel.errors import CallCycle
from agentrt.kernel.messages import Asks, Call, Cast, M_contra, R, current_serving

if TYPE_CHECKING:
    from agentrt.kernel.actor import Actor
    from agentrt.kernel.cell import ActorStatistics, Cell, Poison
    from agentrt.kernel.exits import Exit
    from agentrt.kernel.incarnation import Incarnation

#: Seconds that a call waits where neither it nor the caller's own deadline says otherwise.
DEFAULT_CALL_TIMEOUT = 60.0


class ActorRef(Generic[M_contra]):
    """The address of an actor. It stays valid over restarts, and tells when the actor is gone for good.

    An ``ActorRef[M]`` takes messages of type ``M``; a bare one takes any.
    """

    __slots__ = ("_cell", "_mailbox")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._mailbox = cell.mailbox

    @property
    def path(self) -> str:
        """The actor's place in the tree."""
        return self._cell.path

    @property
    def actor(self) -> Actor | None:
        """The actor itself, in its present incarnation; None where none lives.

        For pictures and figures: whoever wants something of it sends a message.
        """
        incarnation = self._cell.incarnation
        return incarnation.actor if incarnation is not None and incarnation.state != "ended" else None

    @property
    def incarnation(self) -> Incarnation | None:
        """Its last incarnation, be it alive or not; None where none was ever started."""
        return self._cell.incarnation

    def statistics(self) -> ActorStatistics:
        """Say in figures what became of its messages, and what waits."""
        return self._cell.statistics()

    def quarantine(self) -> tuple[Poison, ...]:
        """Return the last messages that were found to be poison, oldest first."""
        return self._cell.poison

    @overload
    async def call(self, message: Asks[M_contra, R], timeout: float | None = None) -> R: ...

    # To mypy, R is what the answer is assigned to. Where that is wrong the first does not fit, and without this one the
    # last would take the request for a message that does not say what answers it.
    @overload
    async def call(  # type: ignore[overload-cannot-match]
        self, message: Asks[M_contra, object], timeout: float | None = None
    ) -> object: ...

    @overload
    async def call(self, message: M_contra, timeout: float | None = None) -> Any: ...

    async def call(self, message: Any, timeout: float | None = None) -> Any:
        """Send *message* and wait for its answer.

        Made inside another actor's handler, a call inherits the deadline of the message handled there. When the caller
        is cancelled or the time is over, the callee's handler is cancelled too.

        Args:
            message: Anything that the actor handles.
            timeout: Seconds for all of it, the wait for room in the mailbox included; by default the inherited
                deadline, else 60 s. ``math.inf`` waits as long as the caller itself.

        Raises:
            CallTimeout: No answer in time.
            ActorDied: It died over this message, or is gone for good.
            CallCycle: It waits, directly or not, for the caller, which handles a message itself; or it is the caller,
                from its own start or stop hook.
            MailboxFull: No room, and its mailbox rejects.
            Refusal: The handler said no.
            ValueError: *timeout* is no number.
        """
        if timeout is not None and math.isnan(timeout):
            raise ValueError("a call's timeout is not a number; leave it out, or give seconds or math.inf")
        serving, task = current_serving.get(), trio.lowlevel.current_task()
        parent = serving.in_hand_of(task) if serving is not None else None
        deadline = math.inf if timeout is None else trio.current_time() + timeout
        if parent is not None:
            deadline = min(deadline, parent.deadline)
        if timeout is None and deadline == math.inf:
            deadline = trio.current_time() + DEFAULT_CALL_TIMEOUT
        envelope = Call(message, self._cell, parent, deadline, task)
        if parent is not None and (cycle := self._cell.cycle_to(parent.target)):
            raise CallCycle(cycle)
        if self._cell.is_elsewhere(task):
            raise CallCycle((self.path, self.path))
        self._cell.submit_call(envelope)
        if serving is not None and parent is not None:
            # Only now: who was turned away waits for nobody.
            serving.asks(envelope)
        self._cell.runtime.timers.push(deadline, envelope)
        # Where the caller is cancelled already, the call is taken back before anybody sees it.
        return await trio.lowlevel.wait_task_rescheduled(envelope.abandon)

    async def cast(self, message: M_contra) -> None:
        """Send *message* without waiting for an answer; wait for room in the mailbox where it blocks.

        It is a checkpoint only where it waits: what bounds a sender that never pauses is the mailbox, which fills.

        Raises:
            ActorDied: The actor is gone for good.
            MailboxFull: No room, and its mailbox rejects; or who would make room waits, directly or not, for the
                handler that sends, or is the sender itself.
        """
        if not self._mailbox.accept(message):
            await self._cell.submit(Cast(message, self._cell))

    def cast_nowait(self, message: M_contra) -> None:
        """As :meth:`cast`, but raise :class:`MailboxFull` instead of waiting."""
        if not self._mailbox.accept(message):
            self._cell.submit_nowait(Cast(message, self._cell))

    async def wait_gone(self) -> Exit:
        """Wait until the actor ended and will not be started again by itself; return its last exit.

        Returns at once where it is gone already. One whose supervisor ends is gone too, until that is restarted.
        """
        return await self._cell.wait_gone()

    def __repr__(self) -> str:
        """Path and state."""
        return f"<ActorRef {self._cell.path} {self._cell.state}>"
