"""Settling what a consumer delivered: through whichever connection lives, and never another message in its place."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import trio

from actors import _jetstream as jetstream
from actors._deliveries import delivery_number
from actors._flag import Flag
from actors._nats_asking import Asking
from actors._nats_client import NatsClient
from actors._nats_requests import Unanswered
from actors._nats_settings import no_trouble
from agentrt.ports import BusUnavailable

_TIMEOUT = 30.0
# Each try, and how many; of a delivery that the server may have forgotten, each is over sooner.
_TRY = 2.0
_TRY_PAST = 0.5
_TRIES = 2
_WHAT = "settling a delivery"
_UNKNOWN = f"{_WHAT}: the server does not know it any more; it may come again"


@attrs.define(eq=False)
class Life:
    """One life of a stream.

    Args:
        is_over: Whether it was made anew: what settles a delivery of this life would settle another message, of the
            same number.
    """

    is_over: bool = False


@attrs.define(eq=False)
class Term:
    """Deliveries of one consumer over one connection.

    Args:
        stream: The stream's life.
        is_past: Whether the connection is another one now, or the consumer was made anew: a server that was killed, or
            made it, may have forgotten them.
        forgotten: The first of them that it is known to have forgotten. What it remembers ends somewhere, so it has
            forgotten all behind that.
    """

    stream: Life
    is_past: bool = False
    forgotten: float = math.inf

    def is_lost(self, number: int) -> bool:
        """Whether a delivery cannot be settled."""
        return self.stream.is_over or number >= self.forgotten


class Settling(Asking):
    """Settles deliveries; part of :class:`actors._nats_link.NatsLink`.

    Args:
        store_trouble: Says why the server stores nothing, where that is known without trying; else nothing.
    """

    def __init__(self, store_trouble: Callable[[], str] = no_trouble) -> None:
        super().__init__(store_trouble)
        #: Whether what is declared was looked at on this connection: until then a stream may be another one.
        self.flowing = Flag()
        self._streams: dict[str, Life] = {}
        #: The present term of each consumer, by its name with its stream's before it.
        self.terms: dict[str, Term] = {}

    def begin_term(self, consumer: str) -> None:
        """Begin anew with a consumer: what was delivered before may be forgotten."""
        if (past := self.terms.get(consumer)) is not None:
            past.is_past = True
        stream = self._streams.setdefault(consumer.partition("/")[0], Life())
        self.terms[consumer] = Term(stream)

    def renew(self, asset: jetstream.Asset) -> None:
        """Record that something was made anew, and have everything that waits for an answer asked again."""
        if asset.kind == "stream" and (life := self._streams.pop(asset.name, None)) is not None:
            life.is_over = True
        for name in tuple(self.terms):
            if name.startswith(f"{asset.name}/") if asset.kind == "stream" else name == asset.name:
                self.begin_term(name)
        if self.client is not None:
            self.client.give_up(math.inf)

    async def confirm(self, term: Term, reply: str, body: bytes) -> None:
        """Settle a delivery and wait until the server has that.

        A server that was killed may have forgotten that it delivered the message. It then says nothing to this, and
        delivers the message again; so silence on a connection that answers its probes is not waited for long: least
        where the delivery came over another connection, and once for all that came after it. Where the stream was made
        anew, nothing is said.

        Args:
            term: When the message was delivered.
            reply: Where its settlement goes.
            body: What is said of it.

        Raises:
            BusUnavailable: It was not confirmed; the message may come again.
        """
        silent = 0
        number = delivery_number(reply)

        async def once(client: NatsClient, _due: float) -> bool:
            nonlocal silent
            if term.is_lost(number):
                return False
            try:
                if term.is_past:
                    with trio.fail_after(_TRY_PAST):
                        message = await client.request(reply, body)
                else:
                    message = await client.request(reply, body, due=trio.current_time() + _TRY)
            except (Unanswered, trio.TooSlowError):
                # Only a PONG shows that the silence is the server's answer and not the connection's.
                await client.flush()
                silent += not client.lost.is_set()
                return False
            if message.status:
                jetstream.read(message)
            return True

        until = trio.current_time() + _TIMEOUT
        while silent < _TRIES and not term.is_lost(number):
            if await self._insist(_WHAT, once, self.flowing, until - trio.current_time()):
                return
        if term.is_past:
            term.forgotten = min(term.forgotten, number)
        raise BusUnavailable(_UNKNOWN)

    def say(self, term: Term, reply: str, body: bytes) -> None:
        """Settle a delivery and do not wait; said to nobody where nobody could take it as it is meant."""
        if self.client is not None and self.flowing.is_set and not term.stream.is_over:
            self.client.write_message(reply, body)
