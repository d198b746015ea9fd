"""A bounded mailbox with a control lane: the queue between refs and the one task that reads it."""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import outcome
import trio
from attrs import validators

from agentrt.kernel.errors import MailboxFull
from agentrt.kernel.messages import Stage

if TYPE_CHECKING:
    from agentrt.kernel.messages import Envelope


class Overflow(enum.Enum):
    """What happens to a message that finds no room."""

    BLOCK = "block"
    """The sender waits, until its deadline."""
    REJECT = "reject"
    """The sender gets :class:`MailboxFull`."""
    DROP_OLDEST = "drop_oldest"
    """The oldest message makes room; it fails as dropped, which is counted and an event."""


@attrs.frozen
class MailboxSpec:
    """How a mailbox is built: *capacity* messages, not counting the control lane, which is never full."""

    capacity: int = attrs.field(default=256, validator=validators.ge(1))
    overflow: Overflow = attrs.field(default=Overflow.BLOCK, validator=validators.instance_of(Overflow))


@attrs.frozen
class MailboxStatistics:
    """Counts of one mailbox: what waits now, and the totals of its life.

    Args:
        waiting: Messages that have their room.
        blocked_senders: Messages that wait for room.
        received: Messages that were let in.
        dropped: Messages that were pushed out as the oldest.
        rejected: Messages that found no room; their senders were told.
    """

    waiting: int
    blocked_senders: int
    received: int
    dropped: int
    rejected: int


class Mailbox:
    """Messages that wait for one actor; it outlives the actor's restarts.

    One task reads: :meth:`pop` never waits, :meth:`wait` parks until there may be something. Blocked senders are let in
    one at a time, in order, so that a crowd of them cannot hold the reader up. A call that nobody waits for any more
    takes no room: it is stale, and is thrown away when it is met.
    """

    __slots__ = (
        "_blocked",
        "_capacity",
        "_control",
        "_dropped",
        "_messages",
        "_overflow",
        "_reader",
        "_received",
        "_rejected",
        "_simple_room",
        "_stale",
    )

    def __init__(self, spec: MailboxSpec) -> None:
        self._capacity = spec.capacity
        self._overflow = spec.overflow
        # What accept() fills: the short way, on which there is nothing to decide.
        self._simple_room = 0
        self.open()
        self._control: deque[Any] = deque()
        self._messages: deque[Envelope] = deque()
        # Ordered, and any of them may leave at any time.
        self._blocked: OrderedDict[Envelope, trio.lowlevel.Task | None] = OrderedDict()
        self._reader: trio.lowlevel.Task | None = None
        self._stale = 0
        self._received = 0
        self._dropped = 0
        self._rejected = 0

    def __len__(self) -> int:
        """Messages that wait, blocked senders' included, without the control lane."""
        return len(self._messages) - self._stale + len(self._blocked)

    def statistics(self) -> MailboxStatistics:
        """Count what is here."""
        return MailboxStatistics(
            len(self._messages) - self._stale, len(self._blocked), self._received, self._dropped, self._rejected
        )

    def put_control(self, item: Any) -> None:
        """Put *item* into the control lane, which goes first and is never full."""
        self._control.append(item)
        self.wake()

    def accept(self, envelope: Envelope) -> bool:
        """Put a message in and return True where that is simple: it is open, has room, and its policy is to block."""
        if len(self._messages) - self._stale >= self._simple_room:
            return False
        self._messages.append(envelope)
        self._received += 1
        if self._reader is not None:
            self.wake()
        return True

    def put_nowait(self, envelope: Envelope) -> bool:
        """Put a message in, or raise :class:`MailboxFull`; return whether the oldest one was dropped for it."""
        drops = self._is_full()
        if drops:
            if self._overflow is not Overflow.DROP_OLDEST:
                self._rejected += 1
                raise MailboxFull(f"{len(self)} messages wait; the mailbox holds {self._capacity}")
            self._drop_oldest()
        self._accept(envelope)
        return drops

    def put_call(self, envelope: Envelope) -> bool:
        """Put a call in, as :meth:`put_nowait`; where the policy is to block, it waits for room with its caller."""
        if self._overflow is Overflow.BLOCK and self._is_full():
            self._blocked[envelope] = None
            return False
        return self.put_nowait(envelope)

    async def put(self, envelope: Envelope) -> bool:
        """Put a message in, waiting for room where the policy is to block. A cancelled put was not put.

        It does not yield where there is room: what bounds a sender that never pauses is the mailbox, which fills. One
        that never blocks would not, so there it does.
        """
        if self._overflow is not Overflow.BLOCK:
            await trio.lowlevel.checkpoint()
            return self.put_nowait(envelope)
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._is_full():
            self._accept(envelope)
            return False
        self._blocked[envelope] = trio.lowlevel.current_task()

        def abort(_: Any) -> trio.lowlevel.Abort:
            del self._blocked[envelope]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return False

    def pop(self) -> Any | None:
        """Take what is next: control first, then messages in order; None where there is nothing."""
        if self._control:
            return self._control.popleft()
        while self._messages:
            envelope = self._messages.popleft()
            if envelope.stage is Stage.SETTLED:
                self._stale -= 1
                continue
            if self._blocked:
                self._let_one_in()
            return envelope
        return None

    def discard(self, envelope: Envelope) -> None:
        """Take back a call that waits here and was settled: its room is free at once."""
        if envelope in self._blocked:
            del self._blocked[envelope]
            return
        self._stale += 1
        if self._blocked:
            self._let_one_in()
        if self._stale > self._capacity:
            # Nobody reads, so nobody meets them: an actor that hangs must not hoard the calls that gave up on it.
            self._messages = deque(one for one in self._messages if one.stage is not Stage.SETTLED)
            self._stale = 0

    def wake(self) -> None:
        """Let the reader look again."""
        if self._reader is not None:
            reader, self._reader = self._reader, None
            trio.lowlevel.reschedule(reader)

    async def wait(self) -> None:
        """Park the reader until something is put or :meth:`wake` is called."""
        if self._control or self._messages:
            await trio.lowlevel.checkpoint()
            return
        self._reader = trio.lowlevel.current_task()

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._reader = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def open(self) -> None:
        """Take messages, again."""
        self._simple_room = self._capacity if self._overflow is Overflow.BLOCK else 0

    def close(self, error: Callable[[], Exception]) -> int:
        """Fail all that waits, and those who wait for room, each with its own *error*; return how many there were.

        Whoever owns it puts nothing more in until it is opened again.
        """
        self._simple_room = 0
        left = [*self._messages, *self._blocked]
        senders = [sender for sender in self._blocked.values() if sender is not None]
        self._messages.clear()
        self._blocked.clear()
        self._control.clear()
        self._stale = 0
        for sender in senders:
            trio.lowlevel.reschedule(sender, outcome.Error(error()))
        return sum(envelope.bury(error()) for envelope in left)

    def _is_full(self) -> bool:
        # Whoever is blocked is let in as soon as there is room, so while anybody is, there is none.
        return len(self._messages) - self._stale >= self._capacity

    def _accept(self, envelope: Envelope) -> None:
        self._messages.append(envelope)
        self._received += 1
        if self._reader is not None:
            self.wake()

    def _let_one_in(self) -> None:
        envelope, sender = self._blocked.popitem(last=False)
        self._messages.append(envelope)
        self._received += 1
        if sender is not None:
            trio.lowlevel.reschedule(sender)

    def _drop_oldest(self) -> None:
        while (oldest := self._messages.popleft()).stage is Stage.SETTLED:
            self._stale -= 1
        oldest.drop()
        self._dropped += 1
