"""Something that is so or is not, and can be waited for."""

from __future__ import annotations

import trio


class Flag:
    """Like :class:`trio.Event`, but it can also turn off."""

    def __init__(self) -> None:
        self._event = trio.Event()

    @property
    def is_set(self) -> bool:
        """Whether it is so."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait until it is so."""
        await self._event.wait()

    def turn(self, *, on: bool) -> None:
        """Make it so, or not."""
        if on:
            self._event.set()
        elif self._event.is_set():
            self._event = trio.Event()
