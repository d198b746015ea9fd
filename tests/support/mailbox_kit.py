"""What tests of the mailbox share where they need no runtime: envelopes of both kinds, and their target."""

from __future__ import annotations

from typing import Any

import outcome

from agentrt.kernel.cell import Counts
from agentrt.kernel.mailbox import Mailbox
from agentrt.kernel.messages import Cast, Envelope, Stage


class Target:
    """Counts outcomes."""

    path = "top/a"

    def __init__(self) -> None:
        self.counts = Counts()


class Asked(Envelope):
    """A call without a task: it has a stage, and may be given up at any time."""

    __slots__ = ("message", "outcome", "stage", "target")

    def __init__(self, message: Any) -> None:
        self.message = message
        self.target: Any = Target()
        self.stage = Stage.QUEUED
        self.outcome: outcome.Outcome[Any] | None = None

    def move(self, stage: Stage) -> None:
        self.stage = stage

    def give_up(self, mailbox: Mailbox) -> None:
        """Settle it as its caller does who does not wait any more; nobody needs the message then."""
        stage, self.stage = self.stage, Stage.SETTLED
        self.message = None
        mailbox.discard(self, stage)

    def _settle(self, result: outcome.Outcome[Any], /) -> bool:
        if self.stage is Stage.SETTLED:
            return False
        self.stage, self.outcome = Stage.SETTLED, result
        return True


def cast(message: object) -> Cast:
    """Make a message that nobody waits for."""
    return Cast(message, Target())


def held(mailbox: Mailbox) -> list[object]:
    """Take everything out."""
    taken = []
    while (item := mailbox.pop()) is not None:
        taken.append(item.message if isinstance(item, Envelope) else item)
    return taken
