"""A continuous pull on a durable consumer, and the deliveries that come from it."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Awaitable, Callable

import attrs
import trio

from actors import _jetstream as jetstream
from actors._nats_client import NatsClient
from actors._nats_frames import Message
from agentrt.ports import Headers

# A pull request ends by itself after so long, and its end is told; one that did not end in time was lost.
_EXPIRES = 5.0
_GRACE = 2.0

Confirm = Callable[[str, bytes], Awaitable[None]]
Say = Callable[[str, bytes], None]


@attrs.frozen
class NatsDelivery:
    """A message in hand; see :class:`agentrt.ports.Delivery`.

    Each way to settle it goes through whichever connection lives at that moment, and is confirmed by the server where
    it is awaited.
    """

    subject: str
    body: bytes
    headers: Headers
    attempt: int
    sequence: int
    reply: str
    _confirm: Confirm
    _say: Say

    async def ack(self) -> None:
        """Say that it is done."""
        await self._confirm(self.reply, b"+ACK")

    def ack_nowait(self) -> None:
        """Say that it is done; where the server does not hear it, it delivers it again."""
        self._say(self.reply, b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """Ask for it again after *delay* seconds."""
        await self._confirm(self.reply, jetstream.nak(delay))

    async def term(self, reason: str) -> None:
        """Take it out of the stream without having done it; the server's advisory names *reason*."""
        await self._confirm(self.reply, b"+TERM " + reason.encode())

    async def in_progress(self) -> None:
        """Say that it is still worked on: the ack wait begins anew."""
        await self._confirm(self.reply, b"+WPI")


@attrs.frozen
class _Held:
    delivery: NatsDelivery
    since: float


class PullConsumer:
    """One open pull; its driver attaches it to each incarnation of the connection and ticks it once a second.

    One pull request is out at a time, for as many messages as there is room for. It is made again when it ended, was
    lost, or a new connection came. A message waits here, not in a task, until somebody takes it, so a cancelled
    ``next`` loses none. One that waited longer than *ack_wait* is not handed out: the server gives it to somebody else.

    With a *batch* of 1 nothing is asked for ahead, only while somebody waits in ``next``: each message that lies here
    until its ack wait is over would have spent one of its deliveries.

    Args:
        stream: The stream's name.
        durable: The consumer's name.
        batch: Messages asked for at once.
        ack_wait: Seconds after which the server delivers again.
        confirming: Gives what sends the settlement of a delivery that comes now, and waits until the server has it.
        say: Sends a settlement that nobody waits for.
        on_missing: Called where the stream or the consumer is gone.
    """

    def __init__(
        self,
        stream: str,
        durable: str,
        *,
        batch: int,
        ack_wait: float,
        confirming: Callable[[], Confirm],
        say: Say,
        on_missing: Callable[[], None],
    ) -> None:
        self._next_subject = f"{jetstream.API}{jetstream.NEXT}{stream}.{durable}"
        self._batch = batch
        self._ack_wait = ack_wait
        self._confirming = confirming
        self._say = say
        self._on_missing = on_missing
        self._held: deque[_Held] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._client: NatsClient | None = None
        self._sid = 0
        self._inbox = ""
        self._pulls = itertools.count(1)
        self._pull = ""
        self._outstanding = 0
        self._pulled_at = 0.0
        self._waiting = 0
        self._closed = False

    async def next(self) -> NatsDelivery:
        """Wait for the next message; see :class:`agentrt.ports.Consumer`."""
        await trio.lowlevel.checkpoint()
        while True:
            while self._held:
                held = self._held.popleft()
                self._ask_for_more()
                if trio.current_time() - held.since < self._ack_wait:
                    return held.delivery
            self._waiting += 1
            try:
                self._ask_for_more()
                await self._arrived.park()
            finally:
                self._waiting -= 1

    def attach(self, client: NatsClient) -> None:
        """Pull through *client* from now on."""
        self._client = client
        self._inbox = client.new_inbox()
        self._outstanding = 0
        self._sid = client.subscribe(f"{self._inbox}.*", self._on_message)
        self._ask_for_more()

    def detach(self) -> None:
        """The connection ended; what is held stays."""
        self._client = None

    def retire(self) -> None:
        """Pull no more through this connection, which ends; what is on its way still arrives."""
        if self._client is not None:
            self._client.unsubscribe(self._sid)
            self._client = None

    def tend(self, now: float) -> None:
        """Pull again where the last request got lost or failed."""
        if self._outstanding and now - self._pulled_at > _EXPIRES + _GRACE:
            self._outstanding = 0
        self._ask_for_more()

    def close(self) -> None:
        """Stop pulling and give back what nobody took."""
        self._closed = True
        if self._client is None:
            return
        self._client.unsubscribe(self._sid)
        for held in self._held:
            self._give_back(held.delivery)
        self._held.clear()

    def _give_back(self, delivery: NatsDelivery) -> None:
        if self._client is not None:
            self._client.write_message(delivery.reply, jetstream.nak(0.0))

    def _ask_for_more(self) -> None:
        client = self._client
        if client is None or self._closed or self._outstanding or len(self._held) > self._batch // 2:
            return
        if self._batch == 1 and not self._waiting:
            return
        self._outstanding = self._batch - len(self._held)
        self._pulled_at = trio.current_time()
        self._pull = f"{self._inbox}.{next(self._pulls)}"
        request = {"batch": self._outstanding, "expires": round(_EXPIRES * 1e9)}
        client.write_message(self._next_subject, json.dumps(request).encode(), self._pull)

    def _on_message(self, message: Message) -> None:
        origin = jetstream.read_origin(message.reply)
        if origin is not None:
            self._take(message, origin)
        elif message.subject == self._pull:
            self._pull_ended(message.status)

    def _take(self, message: Message, origin: jetstream.Origin) -> None:
        self._outstanding = max(0, self._outstanding - 1)
        delivery = NatsDelivery(
            message.subject,
            message.body,
            message.headers,
            origin.attempt,
            origin.sequence,
            message.reply,
            self._confirming(),
            self._say,
        )
        if self._closed:
            self._give_back(delivery)
            return
        self._held.append(_Held(delivery, trio.current_time()))
        self._arrived.unpark()
        self._ask_for_more()

    def _pull_ended(self, status: str) -> None:
        self._outstanding = 0
        if status == "408":
            self._ask_for_more()
        else:
            # Gone, overloaded or moving: the next tick asks again, so that a server in trouble is not flooded.
            self._on_missing()
