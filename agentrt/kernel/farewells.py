"""Farewells: what is called when an incarnation ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agentrt.kernel.exits import Cause, Exit

if TYPE_CHECKING:
    from agentrt.kernel.events import EventStream


class Farewells(dict[object, Callable[[Exit], None]]):
    """The callbacks that wait for the end of one incarnation, in the order of asking."""

    __slots__ = ()

    def add(self, callback: Callable[[Exit], None]) -> Callable[[], None]:
        """Take *callback* in; return the function that takes it back, once or twice or too late."""
        key = object()
        self[key] = callback

        def take_back() -> None:
            self.pop(key, None)

        return take_back

    def call(self, exit_: Exit, events: EventStream) -> None:
        """Call each of them once; one that raises is an event, or the supervisor would never hear of the end."""
        # One of them may take back another that has not been called yet.
        for key in tuple(self):
            if (callback := self.pop(key, None)) is None:
                continue
            try:
                callback(exit_)
            except Exception as error:  # noqa: BLE001 - see above.
                cause = Cause.of(error)
                events.emit("end_callback_failed", exit_.path, error=str(cause), traceback=cause.traceback)


def nothing() -> None:
    """Take back what was called already."""
