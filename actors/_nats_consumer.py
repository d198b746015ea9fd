"""A continuous pull on a durable consumer, and the deliveries that come from it."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable

import attrs
import trio

from actors import _jetstream as jetstream
from actors._deliveries import nak, read_origin
from actors._nats_client import NatsClient
from actors._nats_frames import Message
from actors._nats_settling import Settling, Term
from agentrt.ports import Headers

# A pull request ends by itself after so long, and its end is told; one that did not end in time was lost.
_EXPIRES = 5.0
_GRACE = 2.0

# Deliveries that are handed out between two checkpoints.
_PAUSE_AFTER = 32


# Not frozen, which would cost more than taking the message does; nobody writes to it.
@attrs.define(eq=False)
class NatsDelivery:
    """A message in hand; see :class:`agentrt.ports.Delivery`.

    Each way to settle it goes through whichever connection lives at that moment, and is confirmed by the server where
    it is awaited.
    """

    subject: str
    reply: str
    body: bytes
    headers: Headers
    attempt: int
    sequence: int
    _settling: Settling
    _term: Term
    _since: float

    def is_stale(self, now: float, ack_wait: float) -> bool:
        """Whether it waited here for so long that the server has given it to somebody else."""
        return now - self._since >= ack_wait

    async def ack(self) -> None:
        """Say that it is done."""
        await self._settling.confirm(self._term, self.reply, b"+ACK")

    def ack_nowait(self) -> None:
        """Say that it is done; where the server does not hear it, it delivers it again."""
        self._settling.say(self._term, self.reply, b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """Ask for it again after *delay* seconds."""
        await self._settling.confirm(self._term, self.reply, nak(delay))

    async def term(self, reason: str) -> None:
        """Take it out of the stream without having done it; the server's advisory names *reason*."""
        await self._settling.confirm(self._term, self.reply, b"+TERM " + reason.encode())

    async def in_progress(self) -> None:
        """Say that it is still worked on: the ack wait begins anew."""
        await self._settling.confirm(self._term, self.reply, b"+WPI")


@attrs.define
class _Pull:
    """A pull request: where its end is told, how many messages may still come for it, and since when."""

    subject: str
    left: int
    since: float


class PullConsumer:
    """One open pull; its driver attaches it to each incarnation of the connection and ticks it once a second.

    It asks for as many messages as there is room for, and again when half of them are used up, so that it never stands
    still. A request is made anew when it ended, was lost, or a new connection came. A message waits here, not in a
    task, until somebody takes it, so a cancelled ``next`` loses none. One that waited longer than *ack_wait* is not
    handed out: the server gives it to somebody else.

    With a *batch* of 1 nothing is asked for ahead, only while somebody waits in ``next``: each message that lies here
    until its ack wait is over would have spent one of its deliveries.

    Args:
        stream: The stream's name.
        durable: The consumer's name.
        batch: Messages asked for at once.
        ack_wait: Seconds after which the server delivers again.
        settling: What settles the deliveries.
        on_missing: Called where the stream or the consumer is gone.
    """

    def __init__(
        self,
        stream: str,
        durable: str,
        *,
        batch: int,
        ack_wait: float,
        settling: Settling,
        on_missing: Callable[[], None],
    ) -> None:
        #: As an asset's: with its stream's before it.
        self.name = f"{stream}/{durable}"
        self._next_subject = f"{jetstream.API}{jetstream.NEXT}{stream}.{durable}"
        self._batch = batch
        self._ack_wait = ack_wait
        self._settling = settling
        if self.name not in settling.terms:
            settling.begin_term(self.name)
        self._on_missing = on_missing
        self._held: deque[NatsDelivery] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._client: NatsClient | None = None
        self._sid = 0
        self._inbox = ""
        self._numbers = itertools.count(1)
        # The server answers them in order.
        self._pulls: deque[_Pull] = deque()
        self._outstanding = 0
        self._waiting = 0
        self._unpaused = 0
        self._closed = False

    async def next(self) -> NatsDelivery:
        """Wait for the next message; see :class:`agentrt.ports.Consumer`."""
        self._unpaused += 1
        if self._unpaused >= _PAUSE_AFTER or not self._held:
            # A checkpoint for each message would cost as much as all else.
            self._unpaused = 0
            await trio.lowlevel.checkpoint()
        while True:
            while self._held:
                delivery = self._held.popleft()
                self._ask_for_more()
                if not delivery.is_stale(trio.current_time(), self._ack_wait):
                    return delivery
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
        self._forget_pulls()
        self._sid = client.subscribe(f"{self._inbox}.*", self._on_message)
        self._ask_for_more()

    def renew(self) -> None:
        """Pull again: the consumer was made anew, and what the old one was asked for may have ended without a word."""
        self._forget_pulls()
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
        if self._pulls and now - self._pulls[0].since > _EXPIRES + _GRACE:
            self._forget_pulls()
        self._ask_for_more()

    def _forget_pulls(self) -> None:
        self._pulls.clear()
        self._outstanding = 0

    def close(self) -> None:
        """Stop pulling and give back what nobody took."""
        self._closed = True
        if self._client is None:
            return
        self._client.unsubscribe(self._sid)
        for delivery in self._held:
            self._give_back(delivery)
        self._held.clear()

    def _give_back(self, delivery: NatsDelivery) -> None:
        self._settling.say(delivery._term, delivery.reply, nak(0.0))  # noqa: SLF001 - of this module.

    def _ask_for_more(self) -> None:
        client = self._client
        asked = self._outstanding + len(self._held)
        if client is None or self._closed or asked > self._batch // 2:
            return
        if self._batch == 1 and not self._waiting:
            return
        pull = _Pull(f"{self._inbox}.{next(self._numbers)}", self._batch - asked, trio.current_time())
        self._pulls.append(pull)
        self._outstanding += pull.left
        request = {"batch": pull.left, "expires": round(_EXPIRES * 1e9)}
        client.write_message(self._next_subject, json.dumps(request).encode(), pull.subject)

    def _on_message(self, message: Message) -> None:
        subject, reply, body, headers = message
        origin = read_origin(reply)
        if origin is None:
            self._pull_ended(message)
            return
        self._count_in()
        settling = self._settling
        attempt, sequence = origin
        delivery = NatsDelivery(
            subject, reply, body, headers, attempt, sequence, settling, settling.terms[self.name], trio.current_time()
        )
        if self._closed:
            self._give_back(delivery)
            return
        self._held.append(delivery)
        if self._waiting:
            self._arrived.unpark()
        self._ask_for_more()

    def _count_in(self) -> None:
        if self._pulls:
            pull = self._pulls[0]
            pull.left -= 1
            self._outstanding -= 1
            if not pull.left:
                self._pulls.popleft()

    def _pull_ended(self, message: Message) -> None:
        ended = next((pull for pull in self._pulls if pull.subject == message.subject), None)
        if ended is None:
            return
        # What was asked for before it has ended too, said or not.
        while ended in self._pulls:
            self._outstanding -= self._pulls.popleft().left
        if message.status == "408":
            self._ask_for_more()
        else:
            # Gone, overloaded or moving: the next tick asks again, so that a server in trouble is not flooded.
            self._on_missing()
