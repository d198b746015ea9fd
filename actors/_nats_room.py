"""How full the store of an embedded nats-server is, and the disk that it is on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs

#: Bytes free at which a disk counts as full, and from which on it has room again.
FULL = 256 * 1024
_ROOM = 4 * FULL


@attrs.frozen
class Room:
    """What a look at a store found.

    Args:
        store: Where it is.
        used: Bytes of its files.
        most: Bytes that the server may store.
        free: Bytes free on its disk.
        was_full: Whether the disk was full at the look before, and has had no room since.
    """

    store: Path
    used: int
    most: int
    free: int
    was_full: bool = False

    @property
    def is_full(self) -> bool:
        """Whether the disk is full. It takes some room to end that, so that it is not told by the second."""
        return self.free < (_ROOM if self.was_full else FULL)

    @property
    def trouble(self) -> str:
        """What is wrong and what to do, for people; empty where there is room."""
        if not self.is_full:
            return ""
        return (
            f"the disk is full: {_size(self.free)} free at {self.store}, which holds {_size(self.used)};"
            " make room there, and it goes on by itself"
        )

    def __str__(self) -> str:
        """Say how full it is."""
        return f"holds {_size(self.used)} of {_size(self.most)} (max_store), {_size(self.free)} free on its disk"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def look_at_room(store: Path, most: int, *, was_full: bool) -> Room:
    """Look at a store, which may block for as long as its disk does."""
    return Room(store, sum(_sizes(store)), most, shutil.disk_usage(store).free, was_full)


def _sizes(folder: Path) -> Iterator[int]:
    for path, _, files in os.walk(folder):
        for file in files:
            try:
                yield (Path(path) / file).stat().st_size
            except OSError:
                # Taken away by the server a moment ago.
                continue
