"""How a mailbox is built, and what it counts."""

from __future__ import annotations

import enum

import attrs
from attrs import validators


class Overflow(enum.Enum):
    """What happens to a message that finds no room."""

    BLOCK = "block"
    """The sender waits, until its deadline."""
    REJECT = "reject"
    """The sender gets :class:`MailboxFull`."""
    DROP_OLDEST = "drop_oldest"
    """The oldest message of the least priority makes room; it fails as dropped, which is counted and an event.

    Where all that wait have more priority than the new one, its sender gets :class:`MailboxFull` instead.
    """


@attrs.frozen
class MailboxSpec:
    """How a mailbox is built.

    Args:
        capacity: Messages that may wait, not counting the control lane, which is never full.
        overflow: What happens to one more.
        priorities: Classes of messages that go before all others, the first of them first. Within a class, and among
            all others, the order is that of arrival. All share the capacity, and whoever waits for room comes in by the
            same rule. A flood of them starves the rest: that is what they are for.
        stash: Messages that a handler may set aside with ``stash``.
        redeliveries: How often a cast over which the actor crashed is given to the next incarnation. One that crashed
            it once more is poison, and is quarantined. One that was cut off because the actor was stopped or killed is
            given again too, and that is not counted. With 0 either is the message's outcome. A call is never given
            twice: its caller is told, and knows best.
    """

    capacity: int = attrs.field(default=256, validator=validators.ge(1))
    overflow: Overflow = attrs.field(default=Overflow.BLOCK, validator=validators.instance_of(Overflow))
    priorities: tuple[type, ...] = attrs.field(
        default=(), validator=validators.deep_iterable(validators.instance_of(type), validators.instance_of(tuple))
    )
    stash: int = attrs.field(default=256, validator=validators.ge(0))
    redeliveries: int = attrs.field(default=0, validator=validators.ge(0))

    def rank_of(self, message: object) -> int:
        """Say in which line *message* goes; 0 is the control lane's, so the first class that has priority has 1."""
        for rank, kind in enumerate(self.priorities, start=1):
            if isinstance(message, kind):
                return rank
        return 1 + len(self.priorities)


@attrs.frozen
class MailboxStatistics:
    """Counts of one mailbox: what waits now, and the totals of its life.

    Args:
        waiting: Messages that have their room.
        blocked_senders: Messages that wait for room.
        stashed: Messages that were set aside.
        received: Messages that were let in.
        dropped: Messages that were pushed out as the oldest.
        rejected: Messages that found no room; their senders were told.
    """

    waiting: int
    blocked_senders: int
    stashed: int
    received: int
    dropped: int
    rejected: int
