"""Something that is so or is not, and can be waited for."""

from __future__ import annotations

import trio


class Flag:
    """Like :class:`trio.Event`, but it can also turn off; where nobody waits for it, it takes no more than a bool."""

    __slots__ = ("_waiting", "is_set")

    def __init__(self) -> None:
        #: Whether it is so.
        self.is_set = False
        self._waiting: trio.lowlevel.ParkingLot | None = None

    async def wait(self) -> None:
        """Wait until it is so; over even where it turns off again at once."""
        if self.is_set:
            await trio.lowlevel.checkpoint()
            return
        if self._waiting is None:
            self._waiting = trio.lowlevel.ParkingLot()
        await self._waiting.park()

    def turn(self, *, on: bool) -> None:
        """Make it so, or not."""
        self.is_set = on
        if on and self._waiting is not None:
            self._waiting.unpark_all()
            self._waiting = None
