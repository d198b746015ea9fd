"""The workspace check: whether the folders that agents and the fleet write to can be written to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import attrs
import trio

#: Seconds between two looks, and for one of them.
INTERVAL, LIMIT = 5.0, 5.0


@attrs.define
class Workspace:
    """Looks by writing, because a full or a read-only disk shows only then; in a thread, because a disk may hang."""

    folders: tuple[Path, ...]
    _result: tuple[bool, str] = (True, "not looked at yet")
    #: A disk that hangs costs one thread, and not one more with each look.
    _limiter: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(1))

    def check(self) -> tuple[bool, str]:
        """Give the result of the last look, with its reason."""
        return self._result

    async def watch(self) -> None:
        """Look every few seconds, for ever."""
        while True:
            await self.look()
            await trio.sleep(INTERVAL)

    async def look(self) -> None:
        """Look once."""
        result = (False, f"{self.folders[0]}: writing took longer than {LIMIT:g} s")
        with trio.move_on_after(LIMIT):
            result = await trio.to_thread.run_sync(
                _is_writable, self.folders, abandon_on_cancel=True, limiter=self._limiter
            )
        self._result = result


def _is_writable(folders: tuple[Path, ...]) -> tuple[bool, str]:
    for folder in folders:
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".agentrt-") as probe:
                probe.write(b"x")
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            return False, f"{folder}: {error.strerror or error}"
    return True, str(folders[0])
