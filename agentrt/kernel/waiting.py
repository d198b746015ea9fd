"""Who waits for room in a mailbox that is full, by priority and in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import outcome
import trio

if TYPE_CHECKING:
    from agentrt.kernel.messages import Envelope


class Waiting:
    """Messages that wait for room, each with its sender, or without one for a call, which waits with its caller.

    Any of them may leave at any time: its sender was cancelled, or its time is over.

    Args:
        ranks: How many priorities there are; 0 goes first.
    """

    __slots__ = ("_lines",)

    def __init__(self, ranks: int) -> None:
        # Ordered dictionaries, because a plain one is slow to give its first again and again.
        self._lines: tuple[OrderedDict[Envelope, trio.lowlevel.Task | None], ...]
        self._lines = tuple(OrderedDict() for _ in range(ranks))

    def add(self, envelope: Envelope, rank: int, sender: trio.lowlevel.Task | None) -> None:
        """Let a message wait behind those of its rank."""
        self._lines[rank][envelope] = sender

    def remove(self, envelope: Envelope) -> bool:
        """Take a message out; return whether it was there."""
        # It may have forgotten its message, so its rank does not say in which line it stands.
        for line in self._lines:
            if envelope in line:
                del line[envelope]
                return True
        return False

    def __contains__(self, envelope: Envelope) -> bool:
        """Whether it waits still."""
        return any(envelope in line for line in self._lines)

    def pop(self) -> tuple[Envelope, trio.lowlevel.Task | None]:
        """Take out whose turn it is; somebody waits."""
        line = next(filter(None, self._lines))
        return line.popitem(last=False)

    def __iter__(self) -> Iterator[Envelope]:
        """Give the messages in the order of their turns."""
        return chain.from_iterable(self._lines)

    def send_away(self, error: Callable[[], Exception]) -> None:
        """Raise an *error* of its own in each sender, once all that waits is settled otherwise."""
        for line in self._lines:
            for sender in line.values():
                if sender is not None:
                    trio.lowlevel.reschedule(sender, outcome.Error(error()))
