"""A stream of events on its way through the proxy."""

from __future__ import annotations

from collections.abc import Callable

from actors._http import HttpAnswer
from actors._proxy_wire import EventRelay
from agentrt.resilience import CallFailed


class Events:
    """Gives what is to be passed on, as it comes, and ends a stream that was cut as well as can be.

    Args:
        answer: Where it comes from.
        relay: Knows where one event ends.
        on_end: Called at its end with the last event.
        on_cut: Called with the reason where it was cut.
    """

    def __init__(
        self,
        answer: HttpAnswer,
        relay: EventRelay,
        on_end: Callable[[bytes], object],
        on_cut: Callable[[str], object],
    ) -> None:
        self._answer = answer
        self._relay = relay
        self._on_end = on_end
        self._on_cut = on_cut
        self._is_over = False

    async def next(self) -> bytes | None:
        """Give what comes next; None at the end.

        Raises:
            CallFailed: It was cut in the middle of an event; only an end of the connection tells that.
        """
        while not self._is_over:
            try:
                part = await self._answer.part()
            except CallFailed as error:
                self._is_over = True
                self._on_cut(error.failure.reason)
                last = self._relay.cut(error.failure.reason)
                if last is None:
                    raise
                return last
            if part is None:
                self._is_over = True
                self._on_end(self._relay.last_event)
                return self._relay.end()
            if ready := self._relay.feed(part):
                return ready
        return None
