"""Envelopes: a message on its way, with the one outcome that it will have."""

from __future__ import annotations

import enum
import math
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import outcome
import trio

from agentrt.kernel.errors import CallTimeout, MailboxFull

if TYPE_CHECKING:
    from agentrt.kernel.cell import Cell
    from agentrt.kernel.serving import Serving


class Stage(enum.Enum):
    """Where an envelope is."""

    QUEUED = "queued"
    IN_HAND = "in_hand"
    SETTLED = "settled"


class Envelope:
    """A message, who waits for its answer and until when.

    It is settled once, by one of the methods below, and whoever settles it first is the one that is counted.

    Args:
        message: The message itself.
        target: The cell that it goes to.
        parent: For a call, the envelope whose handler waits for it; the chain of parents is the chain of calls.
        deadline: Trio time after which nobody wants the answer.
        caller: The task that waits for the answer; None for a cast.
    """

    __slots__ = ("caller", "deadline", "message", "parent", "stage", "target")

    def __init__(
        self,
        message: Any,
        target: Cell,
        parent: Envelope | None = None,
        deadline: float = math.inf,
        caller: trio.lowlevel.Task | None = None,
    ) -> None:
        self.message = message
        self.target = target
        self.parent = parent
        self.deadline = deadline
        self.caller = caller
        self.stage = Stage.QUEUED

    def answer(self, value: Any) -> None:
        """Settle it as answered."""
        if self.stage is not Stage.SETTLED:
            self.stage = Stage.SETTLED
            self.target.counts.answered += 1
            if self.caller is not None:
                trio.lowlevel.reschedule(self.caller, outcome.Value(value))

    def refuse(self, error: Exception) -> None:
        """Settle it as refused: the actor will not do what it asks for."""
        if self._settle(error):
            self.target.counts.refused += 1

    def fail(self, error: Exception) -> None:
        """Settle it as failed: something died over it."""
        if self._settle(error):
            self.target.counts.failed += 1

    def bury(self, error: Exception) -> bool:
        """Settle it as undelivered: nobody is left to handle it. Return whether it had no outcome before."""
        if not self._settle(error):
            return False
        self.target.counts.undelivered += 1
        return True

    def drop(self) -> None:
        """Settle it as pushed out of a full mailbox, which is where it is counted."""
        self._settle(MailboxFull("dropped as the oldest message of a full mailbox"))

    def expire(self) -> None:
        """Settle it as too late; a handler that works on it is cancelled."""
        stage = self.stage
        if self._settle(CallTimeout(f"no answer from {self.target.path} before the deadline")):
            self.target.forsake(self, stage)

    def abandon(self, _: Any = None) -> trio.lowlevel.Abort:
        """Settle it because its caller was cancelled; a handler that works on it is cancelled too."""
        stage, self.stage = self.stage, Stage.SETTLED
        self.target.forsake(self, stage)
        return trio.lowlevel.Abort.SUCCEEDED

    def _settle(self, error: Exception) -> bool:
        if self.stage is Stage.SETTLED:
            return False
        self.stage = Stage.SETTLED
        if self.caller is not None:
            trio.lowlevel.reschedule(self.caller, outcome.Error(error))
        return True


#: Which actor's messages the current task handles; calls made from there inherit the deadline and the chain of the one
#: in hand. Set once for the loop that serves a mailbox, because to set it for each message costs as much as a message.
current_serving: ContextVar[Serving | None] = ContextVar("agentrt_current_serving", default=None)
