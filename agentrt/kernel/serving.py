"""Serving a mailbox: the loop on the path of every message.

Nothing here is made per message: no scope, no nursery, no channel, and one checkpoint per batch. That is what makes a
supervised actor faster than a bare memory channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from agentrt.kernel.errors import ActorDied, Refusal, UnexpectedMessage
from agentrt.kernel.messages import Envelope, Stage, current_serving

if TYPE_CHECKING:
    from agentrt.kernel.actor import Actor
    from agentrt.kernel.cell import Cell
    from agentrt.kernel.exits import Exit

#: Messages handled between two checkpoints, and seconds, whichever is first: what fairness costs is paid per batch.
BATCH_MESSAGES = 64
BATCH_SECONDS = 0.002


class Serving:
    """How one incarnation reads its mailbox.

    Attributes:
        in_hand: The envelope that is handled now.
        taken_at: When the last message was taken.
        is_active: Whether the mailbox is being read.
    """

    __slots__ = ("_cell", "_reopen", "_scope", "_stopping", "in_hand", "is_active", "taken_at")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._scope: trio.CancelScope | None = None
        self._reopen = False
        self._stopping = False
        self.in_hand: Envelope | None = None
        self.taken_at = 0.0
        self.is_active = False

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a message."""
        return self.is_active and self.in_hand is None

    def stop(self) -> None:
        """Take no more messages; the one in hand is handled to its end."""
        self._stopping = True
        if self.is_active:
            self._cell.mailbox.wake()

    def cancel_handler(self, envelope: Envelope) -> None:
        """Cancel the handler of *envelope*, where it is in hand here; the actor goes on with the next message."""
        if self.in_hand is envelope and self._scope is not None:
            self._reopen = True
            self._scope.cancel(reason=f"agentrt: {self._cell.path}: nobody waits for the answer")

    def fail_in_hand(self, exit_: Exit) -> None:
        """Tell the caller of the message in hand that the actor died over it."""
        if self.in_hand is not None:
            self.in_hand.fail(ActorDied(self._cell.path, exit_.generation, exit_))
            self.in_hand = None

    async def serve(self, actor: Actor) -> None:
        """Have *actor* handle messages until a stop is asked for.

        One cancel scope serves for all messages; it is made anew only after a handler was cancelled.
        """
        if self.is_active:
            raise RuntimeError(f"{self._cell.path} serves its mailbox already")
        self.is_active = True
        token = current_serving.set(self)
        try:
            while not self._stopping:
                self._reopen = False
                with trio.CancelScope() as self._scope:
                    await self._handle_messages(actor)
                self.in_hand = None
        finally:
            self.is_active = False
            current_serving.reset(token)

    async def _handle_messages(self, actor: Actor) -> None:
        mailbox = self._cell.mailbox
        handle, time = actor.handle, trio.lowlevel.current_clock().current_time
        handled, since = 0, time()
        while not (self._stopping or self._reopen):
            self.taken_at = now = time()
            if handled >= BATCH_MESSAGES or now - since > BATCH_SECONDS:
                await trio.lowlevel.checkpoint()
                handled, since = 0, now
                continue
            envelope = mailbox.pop()
            if envelope is None:
                await mailbox.wait()
                handled, since = 0, time()
                continue
            handled += 1
            envelope.stage = Stage.IN_HAND
            self.in_hand = envelope
            try:
                envelope.answer(await handle(envelope.message))
            except (Refusal, UnexpectedMessage) as refusal:
                envelope.refuse(refusal)
                self._cell.runtime.events.emit("message_refused", self._cell.path, reason=str(refusal))
            self.in_hand = None
