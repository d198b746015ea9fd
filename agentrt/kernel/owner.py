"""What passes between an incarnation and whoever began it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agentrt.kernel.children import Child
    from agentrt.kernel.exits import Exit
    from agentrt.kernel.incarnation import Incarnation


class Owner(Protocol):
    """Who began an incarnation and hears of it: a supervisor's roster, or the runtime for its root."""

    def has_started(self, incarnation: Incarnation) -> None:
        """Take down that its start hook returned."""

    def has_ended(self, incarnation: Incarnation, exit_: Exit) -> None:
        """Take down, once, that it ended or was given up."""

    def patience_of(self, child: Child) -> float:
        """Say how many seconds after it was cancelled it is given up, if it does not end."""
        ...


class StopRequested:
    """Control message: an actor that stops by itself (a supervisor) is asked to."""

    __slots__ = ("deadline", "incarnation", "reason")

    def __init__(self, incarnation: Incarnation, reason: str, deadline: float) -> None:
        self.incarnation = incarnation
        self.reason = reason
        self.deadline = deadline
