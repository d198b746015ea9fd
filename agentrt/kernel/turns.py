"""Turns: children that are started or stopped one after the other, in order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentrt.kernel.children import Child


class Turns:
    """Children who wait for their turn, by their place in the start order.

    Nobody is taken out: :meth:`head` drops those whose turn it no longer is to be.

    Args:
        due: Whether a child still waits for a turn here.
        reverse: The last in the start order goes first.
    """

    def __init__(self, due: Callable[[Child], bool], *, reverse: bool = False) -> None:
        self._due = due
        self._sign = -1 if reverse else 1
        # Places alone, because to compare two tuples costs much more, and a heap of thousands does that all the time.
        self._heap: list[int] = []
        self._members: dict[int, Child] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits, as far as :meth:`head` looked."""
        return not self._heap

    def add(self, child: Child) -> None:
        """Let *child* wait; it waits once however often it is added."""
        place = self._sign * child.index
        if place not in self._members:
            self._members[place] = child
            heapq.heappush(self._heap, place)

    def head(self) -> Child | None:
        """Whose turn it is."""
        while self._heap:
            child = self._members[self._heap[0]]
            if self._due(child):
                return child
            del self._members[heapq.heappop(self._heap)]
        return None
