"""Fewer garbage collections while many actors are made at once.

All that is made then stays, and the collector, which comes by every few hundred objects, looks at it in vain: of
starting 10,000 actors it takes more than half the time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: From so many children on it is worth it.
MANY = 256
#: Objects made between two collections of the youngest, in the meantime.
RELAXED = 500_000


@contextmanager
def making(count: int) -> Iterator[None]:
    """Have the collector come by rarely while *count* actors are made; nothing changes where they are few.

    Whoever switched the collector off, or made it come by more rarely than this, is left in peace.
    """
    threshold = gc.get_threshold()
    if count < MANY or not gc.isenabled() or not 0 < threshold[0] < RELAXED:
        yield
        return
    gc.set_threshold(RELAXED, *threshold[1:])
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
