"""What an actor set aside of its messages, to be handled later."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from agentrt.kernel.errors import StashFull
from agentrt.kernel.messages import Stage

if TYPE_CHECKING:
    from agentrt.kernel.messages import Envelope


class Stash(deque["Envelope"]):
    """Messages in the order in which they were set aside.

    Args:
        capacity: How many there may be.
    """

    __slots__ = ("_capacity",)

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity

    def add(self, envelope: Envelope) -> None:
        """Set one more aside.

        Raises:
            StashFull: There is no room for it.
        """
        if len(self) >= self._capacity:
            path = envelope.target.path
            raise StashFull(f"{path}: {len(self)} messages are stashed; the stash holds {self._capacity}")
        envelope.move(Stage.STASHED)
        self.append(envelope)
