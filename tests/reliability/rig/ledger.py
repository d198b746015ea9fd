"""What a client said, accounted for: each message stored is done, and each sign of life has its time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import trio

#: What has to be seen again before a client counts as recovered.
SIGNS = ("tasks", "core", "watch")
# As the clients have it.
_IN_FLIGHT = 64


@attrs.define
class Ledger:
    """The client's own account, by the machine's monotonic clock.

    A message counts as lost where the server acknowledged it and the consumer never got it, unless the fault destroyed
    the store that it lay in (``destroyed``).
    """

    stored: dict[int, float] = attrs.field(factory=dict)
    done: dict[int, float] = attrs.field(factory=dict)
    again: int = 0
    seen: dict[str, list[tuple[int, float]]] = attrs.field(factory=lambda: {"core": [], "watch": []})
    said: Counter[str] = attrs.field(factory=Counter)
    failures: Counter[str] = attrs.field(factory=Counter)
    _horizon: int = -1
    _heard: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def take(self, line: dict[str, Any]) -> None:
        """Enter one line of the client's."""
        kind, number, at = line["kind"], line["number"], line["at"]
        self.said[kind] += 1
        if kind == "stored":
            self.stored[number] = at
        elif kind == "done":
            self.again += number in self.done
            self.done.setdefault(number, at)
        elif kind in self.seen:
            self.seen[kind].append((number, at))
        elif kind == "failed":
            self.failures[line["why"][:100]] += 1
        self._heard.unpark_all()

    async def changed(self) -> None:
        """Wait for the next line."""
        await self._heard.park()

    def destroy(self) -> None:
        """Note that the fault took the store: with it goes what was not done yet, and what was on its way to it.

        What was on its way cannot be told apart: its acknowledgement may lie unread in a socket. It is bounded by how
        much a client has in flight.
        """
        self._horizon = max([*self.stored, *self.done, -_IN_FLIGHT - 1]) + _IN_FLIGHT

    def missing(self) -> set[int]:
        """Return the messages that were acknowledged and never came, whatever the reason."""
        return set(self.stored) - set(self.done)

    def lost(self) -> set[int]:
        """Return those of them that no fault destroyed."""
        return {number for number in self.missing() if number > self._horizon}

    def destroyed(self) -> set[int]:
        """Return those of them that went with the store."""
        return self.missing() - self.lost()

    def back(self, since: float, felt: float = 0.0) -> dict[str, float]:
        """Return the seconds from *since* to each sign of life.

        Until *felt* the client may still have lived on what was under way; a sign counts from then on.
        """
        felt = max(felt, since)
        found = {}
        fresh = [
            max(at, self.stored[number])
            for number, at in self.done.items()
            if at > felt and self.stored.get(number, 0.0) > felt
        ]
        if fresh:
            found["tasks"] = min(fresh) - since
        for kind, seen in self.seen.items():
            times = [at for _, at in reversed(seen[-200:]) if at > felt]
            if times:
                found[kind] = min(times) - since
        return found
