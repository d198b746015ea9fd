"""Settling what a consumer delivered: through whichever connection lives, and never another message in its place."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import trio

from actors import _jetstream as jetstream
from actors._flag import Flag
from actors._nats_asking import Asking
from actors._nats_client import NatsClient
from actors._nats_requests import Unanswered
from actors._nats_settings import no_trouble
from agentrt.ports import BusUnavailable

_TIMEOUT = 30.0
_TRY = 2.0
_TRIES = 2
_RENEWED = 0.25
_WHAT = "settling a delivery"
_UNKNOWN = f"{_WHAT}: the server does not know it any more; it may come again"


@attrs.define(eq=False)
class Life:
    """One life of a consumer on the server, which ends when it or its stream is made anew.

    Args:
        is_over: Whether the stream was made anew: what settles a delivery of this life would settle another message, of
            the same number.
        is_renewed: Whether only the consumer was: it may not know of the delivery.
    """

    is_over: bool = False
    is_renewed: bool = False


class Settling(Asking):
    """Settles deliveries; part of :class:`actors._nats_link.NatsLink`.

    Args:
        store_trouble: Says why the server stores nothing, where that is known without trying; else nothing.
    """

    def __init__(self, store_trouble: Callable[[], str] = no_trouble) -> None:
        super().__init__(store_trouble)
        #: Whether what is declared was looked at on this connection: until then a stream may be another one.
        self.flowing = Flag()
        #: The present life of each consumer, by its name with its stream's before it.
        self.lives: dict[str, Life] = {}

    def renew(self, asset: jetstream.Asset) -> None:
        """Record that something was made anew, and have everything that waits for an answer asked again."""
        for name, life in tuple(self.lives.items()):
            if asset.kind == "stream" and name.startswith(f"{asset.name}/"):
                life.is_over = True
                self.lives[name] = Life()
            elif asset.kind == "consumer" and name == asset.name:
                life.is_renewed = True
                self.lives[name] = Life()
        if self.client is not None:
            self.client.give_up(math.inf)

    async def confirm(self, life: Life, reply: str, body: bytes) -> None:
        """Settle a delivery and wait until the server has that.

        A server that was killed may have forgotten that it delivered the message. It then says nothing to this, and
        delivers the message again; so silence on a connection that answers its probes is not waited for long, and
        hardly at all where the consumer was made anew since. Where the stream was, nothing is said.

        Args:
            life: The consumer's when the message was delivered.
            reply: Where its settlement goes.
            body: What is said of it.

        Raises:
            BusUnavailable: It was not confirmed; the message may come again.
        """
        silent = 0

        async def once(client: NatsClient, _due: float) -> bool:
            nonlocal silent
            if life.is_over:
                raise BusUnavailable(_UNKNOWN)
            is_renewed = life.is_renewed
            try:
                if is_renewed:
                    with trio.fail_after(_RENEWED):
                        message = await client.request(reply, body)
                else:
                    message = await client.request(reply, body, due=trio.current_time() + _TRY)
            except (Unanswered, trio.TooSlowError):
                # Only a PONG shows that the silence is the server's answer and not the connection's.
                await client.flush()
                if not client.lost.is_set():
                    silent += _TRIES if is_renewed else 1
                return False
            if message.status:
                jetstream.read(message)
            return True

        until = trio.current_time() + _TIMEOUT
        while silent < _TRIES:
            if await self._insist(_WHAT, once, self.flowing, until - trio.current_time()):
                return
        raise BusUnavailable(_UNKNOWN)

    def say(self, life: Life, reply: str, body: bytes) -> None:
        """Settle a delivery and do not wait; said to nobody where nobody could take it as it is meant."""
        if self.client is not None and self.flowing.is_set and not life.is_over:
            self.client.write_message(reply, body)
