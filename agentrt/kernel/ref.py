"""Refs: how others reach an actor, over all its restarts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import trio

from agentrt.kernel.errors import CallCycle
from agentrt.kernel.messages import Envelope, current_serving

if TYPE_CHECKING:
    from agentrt.kernel.actor import Actor
    from agentrt.kernel.cell import ActorStatistics, Cell
    from agentrt.kernel.exits import Exit

#: Seconds that a call waits where neither it nor the caller's own deadline says otherwise.
DEFAULT_CALL_TIMEOUT = 60.0


class ActorRef:
    """The address of an actor. It stays valid over restarts, and tells when the actor is gone for good."""

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

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

    def statistics(self) -> ActorStatistics:
        """Say in figures what became of its messages, and what waits."""
        return self._cell.statistics()

    async def call(self, message: Any, timeout: float | None = None) -> Any:
        """Send *message* and wait for its answer.

        Made inside another actor's handler, a call inherits the deadline of the message handled there. When the caller
        is cancelled or the time is over, the callee's handler is cancelled too.

        Args:
            message: Anything that the actor handles.
            timeout: Seconds for all of it, the wait for room in the mailbox included; by default the inherited
                deadline, else 60 s.

        Raises:
            CallTimeout: No answer in time.
            ActorDied: It died over this message, or is gone for good.
            CallCycle: It waits, directly or not, for the caller.
            MailboxFull: No room, and its mailbox rejects.
            Refusal: The handler said no.
        """
        serving = current_serving.get()
        parent = serving.in_hand if serving is not None else None
        deadline = math.inf if timeout is None else trio.current_time() + timeout
        if parent is not None:
            self._refuse_cycle(parent)
            deadline = min(deadline, parent.deadline)
        if deadline == math.inf:
            deadline = trio.current_time() + DEFAULT_CALL_TIMEOUT
        envelope = Envelope(message, self._cell, parent, deadline, trio.lowlevel.current_task())
        await trio.lowlevel.checkpoint_if_cancelled()
        self._cell.submit_call(envelope)
        timer = self._cell.runtime.timers.at(deadline, envelope.expire)
        try:
            return await trio.lowlevel.wait_task_rescheduled(envelope.abandon)
        finally:
            timer.cancel()

    async def cast(self, message: Any) -> None:
        """Send *message* without waiting for an answer; wait for room in the mailbox where it blocks.

        Raises:
            ActorDied: The actor is gone for good.
            MailboxFull: No room, and its mailbox rejects.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        envelope = Envelope(message, self._cell)
        if not self._cell.mailbox.accept(envelope):
            await self._cell.submit(envelope)

    def cast_nowait(self, message: Any) -> None:
        """As :meth:`cast`, but raise :class:`MailboxFull` instead of waiting."""
        envelope = Envelope(message, self._cell)
        if not self._cell.mailbox.accept(envelope):
            self._cell.submit_nowait(envelope)

    async def wait_gone(self) -> Exit:
        """Wait until the actor ended and will not be started again by itself; return its last exit.

        Returns at once where it is gone already. One whose supervisor ends is gone too, until that is restarted.
        """
        return await self._cell.wait_gone()

    def _refuse_cycle(self, parent: Envelope) -> None:
        """Raise where the actor itself waits, through any number of calls, for the handler that would call it."""
        chain = [self._cell.path]
        link: Envelope | None = parent
        while link is not None and link.target.has_in_hand(link):
            chain.append(link.target.path)
            if link.target is self._cell:
                raise CallCycle(tuple(reversed(chain)))
            link = link.parent

    def __repr__(self) -> str:
        """Path and state."""
        return f"<ActorRef {self._cell.path} {self._cell.state}>"
