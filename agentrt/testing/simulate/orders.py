"""Orders: what an actor is told to do, in a handler, at its start, at its stop or beside."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import attrs


class Does(enum.Enum):
    """What an actor is ordered to do: in a handler, at its start, at its stop or beside."""

    ANSWER = "answer"
    """Nothing, and answer at once."""
    SLEEP = "sleep"
    CRASH = "crash"
    HANG = "hang"
    """Wait for ever; a cancellation ends it."""
    SHIELD = "shield"
    """Sleep where no cancellation reaches it."""
    SWALLOW = "swallow"
    """Sleep on, however often it is cancelled."""
    REFUSE = "refuse"
    MISTAKE = "mistake"
    """Find that it has no handler for the message."""
    IGNORE = "ignore"
    """Find, at its start, that it is not needed."""
    COMPLETE = "complete"
    """Have its own ``run`` come to its end, where it has one."""
    PROGRESS = "progress"
    """Say that the work moved."""
    ASK = "ask"
    """Call another actor with an order."""
    TELL = "tell"
    """Cast an order to another actor, without waiting for room."""
    BESIDE = "beside"
    """Carry out an order in a task beside, after some seconds."""
    LATER = "later"
    """Have a timer bring it an order, after some seconds."""
    AGAIN = "again"
    """Have a timer bring it an order again and again."""
    STASH = "stash"
    """Set the message aside."""
    UNSTASH = "unstash"
    """Take back all that was set aside."""
    MONITOR = "monitor"
    """Be told of another actor's end."""
    LINK = "link"
    """Share a failure with another actor."""
    UNLINK = "unlink"
    TERMINATE = "terminate"
    """Ask its own supervisor to stop it."""
    RESTART = "restart"
    """Ask its own supervisor to restart it."""
    EXIT = "exit"
    """Raise SystemExit, which ends the run."""


@attrs.frozen
class Order:
    """What to do.

    Args:
        does: The deed.
        seconds: How long it takes, or until when it waits.
        path: Whom it has to do with.
        then: What it asks for, tells, or does beside or later.
        timeout: Of the call; None is what the kernel takes by itself.
        strict: Where others fail it, it fails too.
    """

    does: Does
    seconds: float = 0.0
    path: str = ""
    then: Order | None = None
    timeout: float | None = None
    strict: bool = False

    def walk(self) -> Iterator[Order]:
        """Give this order and those inside it."""
        order: Order | None = self
        while order is not None:
            yield order
            order = order.then

    def __str__(self) -> str:
        """Say it as a person would."""
        told = [self.does.value]
        if self.seconds:
            told.append(f"{self.seconds:g} s")
        if self.path:
            told.append(self.path)
        if self.timeout is not None:
            told.append(f"within {self.timeout:g} s")
        if self.strict:
            told.append("or crash")
        if self.then is not None:
            told.append(f"({self.then})")
        return " ".join(told)
