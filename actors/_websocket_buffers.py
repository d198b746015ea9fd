"""What waits to be sent, and what waits to be read: each is bounded in bytes."""

from __future__ import annotations

from collections import deque

import attrs
import trio

Message = str | bytes

# What a small message takes besides its text.
_OVERHEAD = 64


def size_of(message: Message) -> int:
    """Return about how much memory a message takes."""
    return (len(message) if isinstance(message, bytes) else len(message.encode())) + _OVERHEAD


@attrs.frozen
class _Entry:
    message: Message
    size: int
    since: float


class Buffer:
    """Messages in their order, with the bytes that they take; whoever waits is woken when that changes.

    Args:
        limit: Bytes above which there is no room; a single message always fits into an empty buffer.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._entries: deque[_Entry] = deque()
        self._changed = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._entries)

    def has_room(self, size: int = 1) -> bool:
        """Whether a message of that size fits."""
        return not self._entries or self.size + size <= self.limit

    def add(self, message: Message) -> None:
        """Take a message; nobody is refused here."""
        size = size_of(message)
        self._entries.append(_Entry(message, size, trio.current_time()))
        self.size += size
        self.wake()

    def pop(self) -> Message:
        """Give the oldest message.

        Raises:
            IndexError: There is none.
        """
        entry = self._entries.popleft()
        self.size -= entry.size
        self.wake()
        return entry.message

    def expire(self, oldest: float) -> int:
        """Drop what has waited since *oldest* or longer; return how many messages that are."""
        count = 0
        while self._entries and self._entries[0].since <= oldest:
            self.pop()
            count += 1
        return count

    def wake(self) -> None:
        """Have everybody who waits look again."""
        self._changed.unpark_all()

    async def change(self) -> None:
        """Wait until something changed."""
        await self._changed.park()
