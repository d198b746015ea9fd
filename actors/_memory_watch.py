"""A watch over keys of the memory bus."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

from actors._memory_store import Bucket
from agentrt.ports import KeyChange

if TYPE_CHECKING:
    from actors.memory_bus import MemoryBus


@attrs.define
class MemoryWatch:
    """A :class:`agentrt.ports.Watch`; it reads from its own position, as the one over NATS does."""

    _bus: MemoryBus
    _name: str
    _pattern: str
    _bucket: Bucket | None = attrs.field(init=False, default=None)
    _position: int = attrs.field(init=False, default=0)
    _keys: set[str] = attrs.field(init=False, factory=set)
    _gone: deque[str] = attrs.field(init=False, factory=deque)

    async def next(self) -> KeyChange:
        """Wait for the next change; see :class:`agentrt.ports.Watch`."""
        await trio.lowlevel.checkpoint()
        while True:
            await self._bus.wait_connected()
            bucket = self._bus.broker.buckets.get(self._name)
            if bucket is None:
                await self._bus.broker.changed.park()
                continue
            if self._bucket not in (None, bucket):
                # It was made anew.
                self._gone.extend(sorted(self._keys))
                self._keys.clear()
                self._position = 0
            self._bucket = bucket
            change = self._take(bucket)
            if change is not None:
                return change
            await bucket.changed.park()

    def _take(self, bucket: Bucket) -> KeyChange | None:
        if self._gone:
            return KeyChange(self._gone.popleft(), None, 0)
        change = bucket.after(self._position, self._pattern)
        if change is not None:
            self._position = change.revision
            (self._keys.discard if change.value is None else self._keys.add)(change.key)
        return change
