"""Core subscriptions over any number of NATS connections."""

from __future__ import annotations

import trio

from actors._flag import Flag
from actors._nats_client import NatsClient
from actors._nats_frames import Message
from agentrt.ports import BusError, BusMessage

_CHANNEL = 1024
# Bytes that wait at once in messages of so many bytes or more; of smaller ones, their number bounds those too.
_LARGE, _LARGE_BYTES = 64 * 1024, 64 * 1024 * 1024
# A subscription that the server denied is asked for again now and then: its permissions can be changed.
_DENIED_RETRY = 5.0


class Subscription:
    """A core subscription: a channel, bounded in messages and bytes, that is fed by one connection after the other.

    Args:
        subject: What it listens to.
        queue: The queue group that it belongs to; empty for none.
    """

    #: Whether who opened it cannot do without.
    is_needed = True

    def __init__(self, subject: str, queue: str = "") -> None:
        self.subject = subject
        self.queue = queue
        self._send, self.receive = trio.open_memory_channel[BusMessage](_CHANNEL)
        self._client: NatsClient | None = None
        self._sid = 0
        self._denied_at = 0.0
        self._unreported = 0
        self._received = 0
        #: The large ones among those that may wait: which of all that were received, and its bytes.
        self._large: list[tuple[int, int]] = []
        self.denied: BusError | None = None

    def attach(self, client: NatsClient) -> None:
        """Open it on a connection; nothing happens where it is open there."""
        if client is not self._client:
            self._client = client
            self._open(client)

    def _open(self, client: NatsClient) -> None:
        refused: list[BusError] = []

        def on_denied(error: BusError) -> None:
            refused.append(error)
            self.denied = error
            self._denied_at = trio.current_time()

        def on_pong() -> None:
            # A server that has denied it says so before it answers what was sent later.
            if not refused and self._client is client:
                self.denied = None

        self._sid = client.subscribe(self.subject, self._on_message, on_denied, queue=self.queue)
        client.ping(on_pong)

    def tend(self, now: float) -> None:
        """Ask again for what the server denied: its permissions may have been changed."""
        if self.denied is not None and self._client is not None and now - self._denied_at > _DENIED_RETRY:
            self._denied_at = now
            self._client.unsubscribe(self._sid)
            self._open(self._client)

    def close(self) -> None:
        """Close it for good."""
        if self._client is not None:
            self._client.unsubscribe(self._sid)
        self._send.close()
        self.receive.close()

    def take_unreported(self) -> int:
        """Return how many messages were dropped since the last time this was asked."""
        count, self._unreported = self._unreported, 0
        return count

    def _has_room_for(self, size: int) -> bool:
        """Whether there is room for a large message; those that were taken meanwhile have left it."""
        taken = self._received - self._send.statistics().current_buffer_used
        self._large = [one for one in self._large if one[0] >= taken]
        return size + sum(one[1] for one in self._large) <= _LARGE_BYTES

    def _on_message(self, message: Message) -> None:
        size = len(message.body)
        if size >= _LARGE and not self._has_room_for(size):
            self._unreported += 1
            return
        try:
            self._send.send_nowait(BusMessage(message.subject, message.body, message.headers, message.reply))
        except trio.WouldBlock:
            self._unreported += 1
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The reader is gone, and the subscription about to be.
            return
        else:
            if size >= _LARGE:
                self._large.append((self._received, size))
            self._received += 1


class Hint(Subscription):
    """A subscription that only says that something was published; who waits for that would find it by itself, later."""

    is_needed = False

    def __init__(self, subject: str) -> None:
        super().__init__(subject)
        self.flag = Flag()

    def _on_message(self, _message: Message) -> None:
        self.flag.turn(on=True)
