"""Notices: messages that an incarnation's own monitors and timers put into its mailbox, and that go when it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrt.kernel.errors import ActorDied
from agentrt.kernel.messages import Envelope, Stage

if TYPE_CHECKING:
    import outcome
    import trio

    from agentrt.kernel.actor import Actor
    from agentrt.kernel.cell import Cell
    from agentrt.kernel.exits import Exit
    from agentrt.kernel.incarnation import Incarnation


class Notice(Envelope):
    """A message of an incarnation to itself, which may take it back until it is handled.

    Args:
        message: The message itself.
        notices: Those of the incarnation.
        is_urgent: It goes before all others.
    """

    __slots__ = ("_is_urgent", "_notices", "caller", "message", "stage", "target")

    def __init__(self, message: Any, notices: Notices, *, is_urgent: bool) -> None:
        self.message = message
        self.target: Cell = notices.incarnation.cell
        # As with a call, there is somebody who wants to know what becomes of it.
        self.caller: trio.lowlevel.Task | None = notices.incarnation.task
        self.stage = Stage.QUEUED
        self._notices = notices
        self._is_urgent = is_urgent

    @property
    def waits(self) -> bool:
        """Whether it is still to be handled."""
        return self.stage in {Stage.QUEUED, Stage.STASHED}

    def move(self, stage: Stage) -> None:
        """Take down where it is now; what was set aside comes back among the ordinary messages."""
        self.stage = stage
        self._is_urgent = False

    def take_back(self) -> None:
        """Let it not be handled; too late, it does no harm."""
        if not self.waits:
            return
        stage, self.stage = self.stage, Stage.SETTLED
        self._notices.pending.pop(self)
        self.target.counts.expired += 1
        if self._is_urgent:
            self.target.mailbox.take_back(self)
        else:
            self.target.mailbox.discard(self, stage)

    def _settle(self, _: outcome.Outcome[Any]) -> bool:
        if self.stage is Stage.SETTLED:
            return False
        self.stage = Stage.SETTLED
        self._notices.pending.pop(self)
        return True


class Notices:
    """What one incarnation was told and has not handled yet; all of it is taken back when the incarnation ends.

    Attributes:
        incarnation: Whose they are.
        pending: Those without an outcome, in the order of posting.
    """

    __slots__ = ("incarnation", "pending")

    def __init__(self, incarnation: Incarnation) -> None:
        self.incarnation = incarnation
        self.pending: dict[Notice, None] = {}
        incarnation.at_end(self._end)

    def post(self, message: Any, *, is_urgent: bool) -> Notice:
        """Put *message* into the mailbox whatever its fill: first of all where it is urgent, else after the others."""
        notice = Notice(message, self, is_urgent=is_urgent)
        self.pending[notice] = None
        mailbox = self.incarnation.cell.mailbox
        if is_urgent:
            mailbox.put_first(notice)
        else:
            mailbox.put_extra(notice)
        return notice

    def _end(self, _: Exit) -> None:
        for notice in tuple(self.pending):
            notice.take_back()


def living(actor: Actor) -> Incarnation:
    """Find the incarnation that *actor* is.

    Raises:
        ActorDied: It ended, or was given up.
    """
    incarnation = actor.context.incarnation
    if incarnation.exit is not None:
        raise ActorDied(incarnation.cell.path, incarnation.generation, incarnation.exit)
    return incarnation


def notices_of(incarnation: Incarnation) -> Notices:
    """Find the notices of *incarnation*; most never have any."""
    if incarnation.notices is None:
        incarnation.notices = Notices(incarnation)
    return incarnation.notices
