"""A bounded mailbox with lanes and a stash: the queue between refs and the one task that reads it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

import trio

from agentrt.kernel.errors import MailboxFull
from agentrt.kernel.mailbox_spec import MailboxSpec, MailboxStatistics, Overflow
from agentrt.kernel.messages import Call, Stage, enveloped, is_settled
from agentrt.kernel.stash import Stash
from agentrt.kernel.waiting import Waiting

if TYPE_CHECKING:
    from agentrt.kernel.cell import Cell
    from agentrt.kernel.messages import Envelope


class Mailbox:
    """Messages that wait for one actor; it outlives the actor's restarts.

    One task reads: :meth:`pop` never waits, :meth:`wait` parks until there may be something. Blocked senders are let in
    one at a time, by priority and in order, so that a crowd of them cannot hold the reader up. A call that nobody waits
    for any more takes no room: it is stale, and is thrown away when it is met.

    What most actors never use (lanes, blocked senders, a stash) is made when it is needed.

    Args:
        spec: What it holds, and what it does when it is full.
        owner: Whose mailbox it is.

    Attributes:
        messages: The ordinary lane: envelopes, and casts as they are. The reader that is on the path of every message
            takes from it without :meth:`pop`.
        urgent: How many items wait in the lanes that go before it.
        blocked: How many messages wait for room.
    """

    __slots__ = (
        "_control_waits",
        "_dropped",
        "_is_open",
        "_lanes",
        "_limit",
        "_owner",
        "_reader",
        "_received",
        "_rejected",
        "_spec",
        "_stale",
        "_stash",
        "_waiting",
        "blocked",
        "messages",
        "urgent",
    )

    def __init__(self, spec: MailboxSpec, owner: Cell) -> None:
        self._spec = spec
        self._owner = owner
        self.messages: deque[Any] = deque()
        self.urgent = self.blocked = 0
        # By rank: 0 is the control lane, then comes one for each class that has priority. The ordinary lane is last.
        self._lanes: tuple[deque[Any], ...] = ()
        # Who waits for room, by rank too.
        self._waiting: Waiting | None = None
        self._stash: Stash | None = None
        self._reader: trio.lowlevel.Task | None = None
        self._control_waits = self._stale = self._limit = 0
        self._received = self._dropped = self._rejected = 0
        self.open()

    def __len__(self) -> int:
        """Messages that wait, blocked senders' and stashed ones included, without the control lane."""
        return self._fill() + self.blocked + len(self._stash or ())

    def statistics(self) -> MailboxStatistics:
        """Count what is here."""
        return MailboxStatistics(
            waiting=self._fill(),
            blocked_senders=self.blocked,
            stashed=len(self._stash or ()),
            received=self._received,
            dropped=self._dropped,
            rejected=self._rejected,
        )

    # Senders

    @property
    def would_block(self) -> bool:
        """Whether a sender would wait for room now."""
        return self._spec.overflow is Overflow.BLOCK and self._is_full()

    def is_blocked(self, envelope: Envelope) -> bool:
        """Whether it waits for room."""
        return self._waiting is not None and envelope in self._waiting

    def put_control(self, item: Any, *, before_all: bool = False) -> None:
        """Put *item* into the control lane, which goes first and is never full; at its end or before all others."""
        lane = self._lane(0)
        lane.insert(0 if before_all else len(lane), item)
        self.urgent += 1
        self._control_waits += 1
        self.wake()

    def accept(self, item: Any) -> bool:
        """Take a call, or a cast as it is, where it is simple: it is open, has room, blocks when full, has one lane."""
        messages = self.messages
        if len(messages) >= self._limit:
            return False
        if self._reader is not None:
            # First: in another thread this raises, and then nothing was sent.
            self.wake()
        messages.append(item)
        self._received += 1
        return True

    def put_nowait(self, envelope: Envelope) -> bool:
        """Put a message in, or raise :class:`MailboxFull`; return whether the oldest one was dropped for it."""
        drops = self._is_full()
        if drops and not self._drop_oldest(self._spec.rank_of(envelope.message)):
            self._rejected += 1
            raise MailboxFull(f"{self._owner.path}: {len(self)} messages wait; the mailbox holds {self._spec.capacity}")
        self.put_extra(envelope)
        return drops

    def put_call(self, envelope: Envelope) -> bool:
        """Put a call in, as :meth:`put_nowait`; where the policy is to block, it waits for room with its caller."""
        if self.accept(envelope):
            return False
        if self.would_block:
            self._block(envelope, None)
            return False
        return self.put_nowait(envelope)

    async def put(self, envelope: Envelope) -> bool:
        """Put a message in, waiting for room where the policy is to block. A cancelled put was not put.

        It does not yield where there is room: what bounds a sender that never pauses is the mailbox, which fills. One
        that never blocks would not, so there it does.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.would_block:
            self._block(envelope, trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(lambda _: self._abort_put(envelope))
            return False
        # Put first and yield then: who yields first may find it closed when he comes back.
        try:
            return self.put_nowait(envelope)
        finally:
            if self._spec.overflow is not Overflow.BLOCK:
                await trio.lowlevel.cancel_shielded_checkpoint()

    def _abort_put(self, envelope: Envelope) -> trio.lowlevel.Abort:
        self._unblock(envelope)
        return trio.lowlevel.Abort.SUCCEEDED

    def put_first(self, envelope: Envelope) -> None:
        """Put a message into the control lane: before all others, and whatever the fill is."""
        self._received += 1
        self.put_control(envelope)

    def put_extra(self, envelope: Envelope) -> None:
        """Put a message in whatever the fill is: for what is bounded otherwise, as an actor's own timers are."""
        self.wake()
        self._received += 1
        self._line_for(envelope).append(envelope)

    def discard(self, envelope: Envelope, stage: Stage) -> None:
        """Take back a call that waited here, at *stage*, and was settled: its room is free at once."""
        if stage is Stage.STASHED:
            assert self._stash is not None
            self._stash.remove(envelope)
            return
        if self.blocked and self._unblock(envelope):
            return
        self._count_stale(1)
        self.let_in_blocked()
        if self._stale > self._spec.capacity:
            # Nobody reads, so nobody meets them: an actor that hangs must not hoard the calls that gave up on it.
            self._throw_out_stale()

    def take_back(self, item: Any) -> None:
        """Take *item* back from the control lane, in which it waits."""
        # A search from the left: few wait there, and who takes back many begins with the oldest.
        self._lanes[0].remove(item)
        self.urgent -= 1
        self._control_waits -= 1

    # The reader

    def pop(self) -> Any | None:
        """Take what is next: control first, then by priority, then in order; None where there is nothing."""
        if self.urgent and (item := self.pop_urgent()) is not None:
            return item
        while self.messages:
            item = self.messages.popleft()
            if is_settled(item):
                self.met_stale()
                continue
            if self.blocked:
                self.let_in_blocked()
            return enveloped(item, self._owner)
        return None

    def pop_urgent(self) -> Any | None:
        """Take what is next in the lanes that go first; None where there is nothing but what is stale."""
        for lane in self._lanes:
            while lane:
                item = lane.popleft()
                self.urgent -= 1
                if lane is self._lanes[0]:
                    self._control_waits -= 1
                    return item
                if item.stage is Stage.SETTLED:
                    self.met_stale()
                    continue
                if self.blocked:
                    self.let_in_blocked()
                return item
        return None

    def met_stale(self) -> None:
        """Take down that the reader threw a settled call away."""
        self._count_stale(-1)

    def let_in_blocked(self) -> None:
        """Give the room that there is to whoever waits for it, by priority and in order."""
        while self.blocked and self._waiting is not None and self._fill() < self._spec.capacity:
            envelope, sender = self._waiting.pop()
            self.blocked -= 1
            self.put_extra(envelope)
            if sender is not None:
                trio.lowlevel.reschedule(sender)

    def wake(self) -> None:
        """Let the reader look again."""
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None

    @property
    def has_news(self) -> bool:
        """Whether there may be something to take."""
        return bool(self.urgent or self.messages)

    async def wait(self) -> None:
        """Park the reader until something is put or :meth:`wake` is called."""
        if self.urgent or self.messages:
            await trio.lowlevel.checkpoint()
            return
        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort_wait)

    def _abort_wait(self, _: Any) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    # What is set aside

    def stash(self, envelope: Envelope) -> None:
        """Set a message aside, until :meth:`unstash`.

        Raises:
            StashFull: There is no room for it.
        """
        if self._stash is None:
            self._stash = Stash(self._spec.stash)
        self._stash.add(envelope)

    def unstash(self) -> int:
        """Put all that was set aside back, before all others in their lanes and in its order; return how many."""
        stashed, self._stash = self._stash, None
        for envelope in reversed(stashed or ()):
            self.put_back(envelope)
        return len(stashed or ())

    def put_back(self, envelope: Envelope) -> None:
        """Put a message that was taken out before all others in its lane."""
        envelope.move(Stage.QUEUED)
        self._line_for(envelope).appendleft(envelope)
        self.wake()

    def take_out(self, envelope: Envelope) -> bool:
        """Take a message out that was stashed, or put back since; return whether it was there and not yet settled."""
        if envelope.stage is Stage.SETTLED:
            return False
        lane = self._lane(self._spec.rank_of(envelope.message))
        for place in filter(None, (self._stash, lane)):
            # By identity: a message may say that it equals anything.
            for at in [at for at, item in enumerate(place) if item is envelope]:
                del place[at]
                self.urgent -= place is lane and lane is not self.messages
                self.let_in_blocked()
                return True
        return False

    # Its life

    def open(self) -> None:
        """Take messages, again."""
        self._is_open = True
        self._count_stale(0)

    def bury_calls(self, error: Callable[[], Exception]) -> int:
        """Fail the calls that wait, be it for room or set aside, each with its own *error*; return how many."""
        waiting = chain(*self._lanes[1:], self.messages, self._stash or (), self._waiting or ())
        calls = [one for one in waiting if isinstance(one, Call) and one.is_pending]
        for call in calls:
            stage = call.stage
            call.bury(error())
            if stage is Stage.STASHED and self._stash is not None:
                self._stash.remove(call)
            elif not self._unblock(call):
                # Nobody is let in for it: a cast that waits for room is told when the actor is down.
                self._count_stale(1)
        return len(calls)

    def close(self, error: Callable[[], Exception]) -> int:
        """Fail all that waits, and those who wait for room, each with its own *error*; return how many there were.

        Whoever owns it puts nothing more in until it is opened again.
        """
        self._is_open = False
        waiting = chain(*self._lanes[1:], self.messages, self._stash or (), self._waiting or ())
        left = [enveloped(item, self._owner) for item in waiting]
        if self._waiting is not None:
            self._waiting.send_away(error)
            self._waiting = None
        self.messages.clear()
        self._lanes = ()
        self._stash = None
        self.urgent = self.blocked = self._control_waits = 0
        self._count_stale(-self._stale)
        return sum(envelope.bury(error()) for envelope in left)

    def _fill(self) -> int:
        return len(self.messages) + self.urgent - self._control_waits - self._stale

    def _is_full(self) -> bool:
        # Whoever is blocked is let in as soon as there is room, so while anybody is, there is none.
        return self.blocked > 0 or self._fill() >= self._spec.capacity

    def _count_stale(self, change: int) -> None:
        self._stale += change
        # What accept() may fill: the short way, on which there is nothing to decide.
        simple = self._is_open and self._spec.overflow is Overflow.BLOCK and not self._spec.priorities
        self._limit = self._spec.capacity + self._stale if simple else 0

    def _block(self, envelope: Envelope, sender: trio.lowlevel.Task | None) -> None:
        if self._waiting is None:
            self._waiting = Waiting(2 + len(self._spec.priorities))
        self._waiting.add(envelope, self._spec.rank_of(envelope.message), sender)
        self.blocked += 1

    def _unblock(self, envelope: Envelope) -> bool:
        was_there = self._waiting is not None and self._waiting.remove(envelope)
        self.blocked -= was_there
        return was_there

    def _lane(self, rank: int) -> deque[Any]:
        if rank > len(self._spec.priorities):
            return self.messages
        if not self._lanes:
            self._lanes = tuple(deque() for _ in range(1 + len(self._spec.priorities)))
        return self._lanes[rank]

    def _line_for(self, envelope: Envelope) -> deque[Any]:
        lane = self._lane(self._spec.rank_of(envelope.message)) if self._spec.priorities else self.messages
        self.urgent += lane is not self.messages
        return lane

    def _drop_oldest(self, rank: int) -> bool:
        """Drop the oldest of what has the least priority, where the policy is that, unless it has more than *rank*."""
        if self._spec.overflow is not Overflow.DROP_OLDEST:
            return False
        for least in range(1 + len(self._spec.priorities), rank - 1, -1):
            lane = self._lane(least)
            while lane:
                oldest = lane.popleft()
                self.urgent -= lane is not self.messages
                if oldest.stage is not Stage.SETTLED:
                    oldest.drop()
                    self._dropped += 1
                    return True
                self.met_stale()
        return False

    def _throw_out_stale(self) -> None:
        for lane in (self.messages, *self._lanes[1:]):
            alive = [item for item in lane if not is_settled(item)]
            self.urgent -= (len(lane) - len(alive)) * (lane is not self.messages)
            lane.clear()
            lane.extend(alive)
        self._count_stale(-self._stale)
