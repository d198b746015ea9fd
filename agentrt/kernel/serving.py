"""Serving a mailbox: the loop on the path of every message.

Nothing here is made per message: no scope, no nursery, no channel, and one checkpoint per batch. That is what makes a
supervised actor faster than a bare memory channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from agentrt.kernel.errors import ActorDied, Refusal, UnexpectedMessage
from agentrt.kernel.exits import ExitKind
from agentrt.kernel.messages import Cast, Envelope, Redelivered, Stage, current_serving, enveloped

if TYPE_CHECKING:
    from contextvars import Token

    from agentrt.kernel.actor import Actor
    from agentrt.kernel.cell import Cell
    from agentrt.kernel.exits import Exit
    from agentrt.kernel.messages import Call

#: Messages handled between two checkpoints, and seconds, whichever is first: what fairness costs is paid per batch.
#: A message to another actor can meet two batches of a flooded one, in its sender's pass of the scheduler and in its
#: receiver's, so that it waits for 64 messages or 2 ms, also where the last handler of each takes 0.1 ms.
BATCH_MESSAGES = 32
BATCH_SECONDS = 0.0009

#: Where no message is in hand; ``None`` is one, where somebody sent it.
_NOTHING: Any = object()
#: Ends that are no crash over the message in hand: whoever ended the actor cut it off.
_CUT_OFF = (ExitKind.COMPLETED, ExitKind.STOPPED, ExitKind.KILLED)


class Serving:
    """How one incarnation reads its mailbox.

    Args:
        cell: The actor's cell.

    Attributes:
        taken_at: When the last message was taken.
        is_active: Whether the mailbox is being read.
        was_cancelled: Whether a handler was cancelled, and the scope around it with it.
        on_busy: Called once, when the next message comes after a wait.
    """

    __slots__ = (
        "_asked",
        "_cell",
        "_in_hand",
        "_outer",
        "_scope",
        "_sending",
        "_set_aside",
        "_stopping",
        "_task",
        "_token",
        "is_active",
        "on_busy",
        "taken_at",
        "was_cancelled",
    )

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._asked: tuple[Call, ...] = ()
        self._sending: tuple[tuple[Envelope, Envelope], ...] = ()
        self._outer = 0
        self._scope: trio.CancelScope | None = None
        self._set_aside: Envelope | None = None
        self._stopping = False
        self._task: trio.lowlevel.Task | None = None
        self._token: Token[Serving | None] | None = None
        self._in_hand: Any = _NOTHING
        self.taken_at = 0.0
        self.is_active = False
        self.was_cancelled = False
        self.on_busy: Callable[[], None] | None = None

    @property
    def in_hand(self) -> Envelope | None:
        """The message that is handled now, in its envelope; None where there is none."""
        if self._in_hand is _NOTHING:
            return None
        envelope = self._in_hand = enveloped(self._in_hand, self._cell)
        return envelope

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a message."""
        return self.is_active and self._in_hand is _NOTHING

    def in_hand_of(self, task: trio.lowlevel.Task) -> Envelope | None:
        """Give the message that *task* works on: it reads the mailbox, or is in a nursery that the handler opened.

        One in a nursery around the reading outlives the handler that started it, and then another message is in hand.
        """
        return self.in_hand if task is self._task or self._is_below(task) else None

    def _is_below(self, task: trio.lowlevel.Task) -> bool:
        nursery = task.parent_nursery
        while nursery is not None:
            above = nursery.parent_task
            if above is self._task:
                return nursery in above.child_nurseries[self._outer :]
            nursery = above.parent_nursery
        return False

    def stop(self) -> None:
        """Take no more messages; the one in hand is handled to its end."""
        self._stopping = True
        self.look_up()

    def cancel_handler(self, envelope: Envelope) -> None:
        """Cancel the handler of *envelope*, where it is in hand here; the actor goes on with the next message."""
        if self._in_hand is envelope and self._scope is not None:
            self.was_cancelled = True
            self.look_up()
            self._scope.cancel(reason=f"agentrt: {self._cell.path}: nobody waits for the answer")

    def take_cancelled(self) -> bool:
        """Return whether a handler was cancelled, once."""
        was, self.was_cancelled = self.was_cancelled, False
        return was

    def asks(self, call: Call) -> None:
        """Take down that the handler at work waits for the answer to *call*; it may wait for several at once."""
        self._asked = (*(one for one in self._asked if one.is_pending), call)

    @contextmanager
    def sending(self, cast: Envelope, parent: Envelope) -> Iterator[None]:
        """Take down that the handler of *parent* sends *cast*, for which it may have to wait for room."""
        place = (cast, parent)
        self._sending += (place,)
        try:
            yield
        finally:
            self._sending = tuple(one for one in self._sending if one is not place)

    def waits_for(self) -> list[Cell]:
        """List those whom the handler at work waits for, be it for an answer or for room."""
        in_hand = self.in_hand
        asked = [one.target for one in self._asked if one.is_pending and one.parent is in_hand]
        # Who was let in may not have gone on yet.
        sent = [
            cast.target for cast, parent in self._sending if parent is in_hand and cast.target.mailbox.is_blocked(cast)
        ]
        return asked + sent

    def look_up(self) -> None:
        """Look whether it was stopped or cancelled before the next message is begun."""
        if self.is_active:
            # A message to itself before all others: so the loop has no flag to look at before each message.
            self._cell.mailbox.put_control(self, before_all=True)

    def stash(self) -> None:
        """Set the message in hand aside; see :meth:`Mailbox.stash`."""
        envelope = self.in_hand_of(trio.lowlevel.current_task())
        if envelope is None or current_serving.get() is not self:
            raise RuntimeError(f"{self._cell.path}: only a handler can stash, and the message that it handles, once")
        if envelope.stage is not Stage.SETTLED:
            # Else its caller gave up just now, and nobody waits for it.
            self._cell.mailbox.stash(envelope)
        self._set_aside, self._in_hand = envelope, _NOTHING

    def lose_in_hand(self, exit_: Exit) -> None:
        """Settle the message that the actor died over, or leave it to the next incarnation; give back what it stashed.

        A call fails. A cast is put back, if its mailbox's spec wants that, until it is poison. A message that its
        handler stashed before it crashed is one that the actor died over, or it would come back for ever.
        """
        mailbox, envelope, self._in_hand = self._cell.mailbox, self.in_hand, _NOTHING
        aside, self._set_aside = self._set_aside, None
        if aside is not None and exit_.kind not in _CUT_OFF and mailbox.take_out(aside):
            envelope = aside
        if isinstance(envelope, Cast):
            self._lose_cast(envelope, exit_)
        elif envelope is not None:
            envelope.fail(ActorDied(self._cell.path, exit_.generation, exit_))
        mailbox.unstash()

    def _lose_cast(self, cast: Cast, exit_: Exit) -> None:
        cell = self._cell
        crashes = cast.crashes + (exit_.kind not in _CUT_OFF)
        if not cell.redeliveries:
            cell.counts.failed += 1
        elif crashes <= cell.redeliveries:
            cell.mailbox.put_back(Redelivered(cast.message, cell, crashes))
        else:
            cell.quarantine(cast.message, exit_)

    async def wait(self) -> None:
        """Wait until there is something to handle; it is handled by :meth:`serve`."""
        self.is_active = True
        try:
            await self._cell.mailbox.wait()
        finally:
            self.is_active = False
        self._tell_busy()

    def reading(self, scope: trio.CancelScope) -> Serving:
        """Make ready to read the mailbox inside *scope*: ``with serving.reading(scope): await serving.serve(actor)``.

        A handler is cancelled, where nobody waits any more for what it does, by way of *scope*. After that it is spent,
        whether the handler noticed or not: read on in another.
        """
        if self.is_active:
            raise RuntimeError(f"{self._cell.path} serves its mailbox already")
        self._scope = scope
        return self

    def __enter__(self) -> None:
        """Begin to read."""
        self.is_active = True
        self._in_hand = _NOTHING
        self._task = trio.lowlevel.current_task()
        self._outer = len(self._task.child_nurseries)
        self._token = current_serving.set(self)

    def __exit__(self, *_: object) -> None:
        """Read no more; what was in hand stays there, to be settled."""
        self.is_active = False
        self._scope = self._task = None
        if self._token is not None:
            current_serving.reset(self._token)
            self._token = None

    async def serve(self, actor: Actor) -> None:  # noqa: C901, PLR0912 - to call a part costs each message.
        """Have *actor* handle messages, in batches, until a stop is asked for, or until a handler was cancelled."""
        # Who was cancelled on the way here begins no message, or it would be cut off and lost.
        await trio.lowlevel.checkpoint_if_cancelled()
        cell = self._cell
        mailbox, messages, counts = cell.mailbox, cell.mailbox.messages, cell.counts
        receivers = actor.receivers()
        receiver_of, time = receivers.get, trio.lowlevel.current_clock().current_time
        while True:
            ends = time() + BATCH_SECONDS
            for _ in range(BATCH_MESSAGES):
                if (now := time()) > ends:
                    break
                if mailbox.urgent and (item := mailbox.pop_urgent()) is not None:
                    if type(item) is Serving:
                        if item is self:
                            self._in_hand = _NOTHING
                            # Before anything else: who was cancelled was not asked to stop, and did not end by itself.
                            await trio.lowlevel.checkpoint_if_cancelled()
                            if self._stopping or self.was_cancelled:
                                return
                        # It was meant for a handler, or an incarnation, that is no more.
                        continue
                elif messages:
                    item = messages.popleft()
                else:
                    break
                # Before its handler is looked for, or it is lost where there is none to be found.
                self._in_hand = item
                message, handle = item, receiver_of(type(item))
                if handle is None:
                    # It lies in an envelope, or is the first of its class.
                    if isinstance(item, Envelope):
                        if item.stage is Stage.SETTLED:
                            mailbox.met_stale()
                            continue
                        item.move(Stage.IN_HAND)
                        message = item.message
                    handle = receivers[type(message)]
                if mailbox.blocked:
                    # Only now: what was stale had no room to give.
                    mailbox.let_in_blocked()
                self.taken_at = now
                try:
                    answer = await handle(message)
                except (Refusal, UnexpectedMessage) as refusal:
                    self._refuse(refusal)
                if self._in_hand is _NOTHING:
                    # Refused, stashed, or taken from a zombie, which takes no more.
                    self._set_aside = None
                    if self._stopping:
                        return
                elif message is item:
                    counts.answered += 1
                else:
                    item.answer(answer)
            # While it waits it keeps nothing of what it handled last.
            item = message = answer = None
            self._in_hand = _NOTHING
            await mailbox.wait()
            if self.on_busy is not None:
                self._tell_busy()

    def _tell_busy(self) -> None:
        if self.on_busy is not None:
            on_busy, self.on_busy = self.on_busy, None
            on_busy()

    def _refuse(self, refusal: Exception) -> None:
        envelope, self._in_hand = self.in_hand, _NOTHING
        if envelope is not None:
            envelope.refuse(refusal)
            self._cell.runtime.events.emit("message_refused", self._cell.path, reason=str(refusal))
