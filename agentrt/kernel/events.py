"""Events: what the runtime did by itself, each with its cause, handed to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import trio


class Event(NamedTuple):
    """Something that happened in the tree: a restart, a trip, a drop, an escalation.

    Args:
        id: Counts from 1 within one run.
        kind: A stable snake_case verb in the past, such as ``actor_restarted``.
        path: The actor that it happened to, as ``fleet/editor/connection``.
        time: Monotonic seconds (``trio.current_time``).
        cause: The id of the event that led to it, where it is known.
        fields: What else there is to say; plain values only, never an exception or a message body.
    """

    id: int
    kind: str
    path: str
    time: float
    cause: int | None = None
    fields: Mapping[str, Any] = MappingProxyType({})


Listener = Callable[[Event], None]


class EventStream:
    """Numbers events and hands each to every listener, in order, in the task that emitted it.

    A listener that raises is dropped, which is an event of its own: whoever watches must not break what is watched.
    """

    def __init__(self) -> None:
        #: Says when it is; the runtime puts its own clock's reading here, which costs less.
        self.now: Callable[[], float] = trio.current_time
        self._listeners: list[Listener] = []
        self._last = 0

    @property
    def has_listeners(self) -> bool:
        """Whether anybody would see what is emitted, so that what is costly to say can be left unsaid."""
        return bool(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; return the function that takes it away again."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def emit(self, kind: str, path: str, /, cause: Event | int | None = None, **fields: Any) -> Event:
        """Make an event of *kind* at *path* and hand it out."""
        self._last += 1
        cause_id = cause.id if isinstance(cause, Event) else cause
        event = Event(self._last, kind, path, self.now(), cause_id, fields)
        if not self._listeners:
            return event
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 - see the class docstring.
                # It may have left by itself, or failed already over an event that it caused.
                if listener in self._listeners:
                    self._listeners.remove(listener)
                    self.emit("event_listener_dropped", path, event, error=repr(error))
        return event
