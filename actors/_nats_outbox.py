"""What was published and is not known to have reached the server."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

import attrs

from agentrt.ports import BusError, MessageDropped, PayloadTooLarge

# Sent ahead of a confirmation. Small enough that a slow network answers the PING behind it within the probe's limit.
_WINDOW = 1024 * 1024
# And of small messages so few that who receives them all by the same connection reads that answer soon, too.
_MOST = 8192
# Of messages that were on their way in so many connections that died each goes alone from then on: one of them may be
# the cause. One that was on its way in so many is taken for it.
_SUSPECT_SENDS = 2
_MAX_SENDS = 5


class Pipe(Protocol):
    """What the outbox needs of a connection."""

    @property
    def max_payload(self) -> int: ...
    @property
    def write(self) -> Callable[[bytes], None]: ...
    def ping(self, on_pong: Callable[[], None]) -> None: ...


@attrs.define(eq=False)
class Outgoing:
    """A published message: its bytes on the wire, the size the server counts, its time, and how often it was sent."""

    subject: str
    frame: bytes
    payload: int
    since: float = 0.0
    sends: int = 0


class Outbox:
    """Keeps each message until a PONG proves that it has reached the server, and sends it again where none came.

    So a message may arrive twice around a rebuild of the connection, and is not lost with it.

    Args:
        on_drop: Called with a message and an error where one is given up.
        on_room: Called when there is room again.
    """

    def __init__(self, on_drop: Callable[[Outgoing, BusError], None], on_room: Callable[[], None]) -> None:
        self._on_drop = on_drop
        self._on_room = on_room
        # Lists, because nothing is in them as a rule, and an empty deque takes more than half a KiB.
        self._waiting: list[Outgoing] = []
        self._in_flight: list[Outgoing] = []
        self._flight_bytes = 0
        self._pinging = False
        self._pipe: Pipe | None = None
        self.size = 0

    @property
    def count(self) -> int:
        """Messages that are not known to have reached the server."""
        return len(self._waiting) + len(self._in_flight)

    @property
    def _is_full(self) -> bool:
        is_alone = bool(self._in_flight) and self._in_flight[0].sends > _SUSPECT_SENDS
        return is_alone or self._flight_bytes >= _WINDOW or len(self._in_flight) >= _MOST

    def add(self, item: Outgoing) -> None:
        """Take a message, and send it now if possible."""
        size = len(item.frame)
        self.size += size
        pipe = self._pipe
        if pipe is None or self._waiting or self._is_full or item.payload > pipe.max_payload:
            self._waiting.append(item)
            self._pump()
            return
        item.sends = 1
        pipe.write(item.frame)
        self._in_flight.append(item)
        self._flight_bytes += size
        if not self._pinging:
            self._ping(pipe)

    def open(self, pipe: Pipe) -> None:
        """Send through *pipe* from now on."""
        self._pipe = pipe
        self._pinging = False
        self._pump()

    def close(self) -> None:
        """The pipe ended: what it did not confirm is sent again through the next one."""
        self._pipe = None
        self._waiting[:0] = self._in_flight
        self._in_flight.clear()
        self._flight_bytes = 0

    def _pump(self) -> None:
        pipe = self._pipe
        if pipe is None:
            return
        taken = 0
        for item in self._waiting:
            if self._is_full or (item.sends >= _SUSPECT_SENDS and self._in_flight):
                break
            taken += 1
            if item.payload > pipe.max_payload:
                self._drop(item, PayloadTooLarge(f"larger than the {pipe.max_payload} bytes that the server takes now"))
            elif item.sends >= _MAX_SENDS:
                self._drop(item, MessageDropped(f"the connection died {_MAX_SENDS} times while it was sent"))
            else:
                item.sends += 1
                pipe.write(item.frame)
                self._in_flight.append(item)
                self._flight_bytes += len(item.frame)
        del self._waiting[:taken]
        if self._in_flight and not self._pinging:
            self._ping(pipe)

    def _ping(self, pipe: Pipe) -> None:
        self._pinging = True
        count, size = len(self._in_flight), self._flight_bytes

        def confirmed() -> None:
            if self._pipe is pipe:
                self._confirm(count, size)

        pipe.ping(confirmed)

    def _confirm(self, count: int, size: int) -> None:
        self._pinging = False
        del self._in_flight[:count]
        self._flight_bytes -= size
        self.size -= size
        self._on_room()
        self._pump()

    def expire(self, oldest: float, age: float) -> None:
        """Give up what waits for a connection since *oldest* or longer; *age* is that in seconds, for people."""
        if self._pipe is not None:
            return
        expired = list(itertools.takewhile(lambda item: item.since <= oldest, self._waiting))
        del self._waiting[: len(expired)]
        for item in expired:
            self._drop(item, MessageDropped(f"it waited {age:g} s for a connection; see [bus] publish_age"))

    def _drop(self, item: Outgoing, error: BusError) -> None:
        self.size -= len(item.frame)
        self._on_drop(item, error)
        self._on_room()
