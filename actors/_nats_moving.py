"""Moves a NATS bus from a connection that lives to one with another server, and lets go of the old one only then."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs
import trio

from actors._nats_client import NatsClient
from actors._nats_link import NatsLink
from actors._nats_requests import ConnectionLost
from agentrt.policy import PoolServer, ReconnectBackoff, ServerPool

if TYPE_CHECKING:
    from agentrt.kernel.events import Event

_LAST_FLUSH = 1.0


@attrs.define
class Moving:
    """Finds the next connection while the present one serves.

    Args:
        link: What is subscribed on the next one before the present one ends.
        pool: The servers.
        connect: Connects to the first of some servers that takes us; ConnectionLost where none does.
        emit: Publishes an event.
        jitter: A source of numbers from 0 to 1.
        backoff: Between attempts.
    """

    link: NatsLink
    pool: ServerPool
    connect: Callable[[tuple[PoolServer, ...]], Awaitable[NatsClient]]
    emit: Callable[..., Event]
    jitter: Callable[[], float]
    backoff: ReconnectBackoff
    _next: NatsClient | None = attrs.field(init=False, default=None)
    _search: trio.CancelScope | None = attrs.field(init=False, default=None)

    @property
    def is_ready(self) -> bool:
        """Whether there is a next connection."""
        return self._next is not None

    @property
    def is_searching(self) -> bool:
        """Whether another server is looked for, or moved to."""
        return self._search is not None or self._next is not None

    def take(self) -> NatsClient | None:
        """Return the next connection, if there is one, and forget it."""
        client, self._next = self._next, None
        return client

    async def discard(self) -> None:
        """Throw away what nobody took."""
        client = self.take()
        if client is not None:
            with trio.CancelScope(shield=True):
                await client.discard()

    async def leave(self, client: NatsClient) -> None:
        """Leave a server that says that it shuts down, as soon as there is another; without one it serves to its end.

        Args:
            client: The connection with it.
        """
        self.emit("nats_server_leaving", server=str(client.server), reason="it says that it shuts down (lame duck)")
        if self.is_ready:
            return
        self.stay()
        self.pool.told(client.told)
        self.pool.troubled(client.server, trio.current_time())
        for attempt in itertools.count(1):
            others = self.pool.order(self.jitter(), without=client.server)
            if not others:
                return
            try:
                self._next = await self.connect(others)
            except ConnectionLost:
                await trio.sleep(self.backoff.delay(attempt, 0.0, self.jitter()))
                continue
            await self._hand_over(client, self._next, "which shuts down")
            return

    async def look_elsewhere(
        self, client: NatsClient, trouble: str, unserved: Callable[[NatsClient], Awaitable[int]]
    ) -> None:
        """Move to another server that serves more of what is needed, if there is one.

        Args:
            client: The connection that serves in part.
            trouble: What is wrong with that.
            unserved: Counts what a connection does not serve.
        """
        self.pool.told(client.told)
        try:
            with trio.CancelScope() as self._search:
                await self._find(client, unserved)
        finally:
            self._search = None
        if self._next is not None:
            self.pool.troubled(client.server, trio.current_time())
            self.emit("nats_server_avoided", server=str(client.server), reason=trouble, instead=str(self._next.server))
            await self._hand_over(client, self._next, f"where JetStream does not serve: {trouble}")

    def stay(self) -> None:
        """Look for no other server any more."""
        if self._search is not None:
            self._search.cancel()

    async def _find(self, client: NatsClient, unserved: Callable[[NatsClient], Awaitable[int]]) -> None:
        for server in self.pool.order(self.jitter(), without=client.server):
            try:
                candidate = await self.connect((server,))
            except ConnectionLost:
                continue
            is_better = False
            try:
                missing = await unserved(candidate)
                # What lies on one node of a cluster only goes away with it, for all of the others: so what is left of
                # the cluster may serve in part too, and more. The present one is asked last, since that may take long.
                is_better = not missing or missing < await unserved(client)
            finally:
                if not is_better:
                    self.pool.troubled(server, trio.current_time())
                    with trio.CancelScope(shield=True):
                        await candidate.discard()
            if is_better:
                self._next = candidate
                return

    async def _hand_over(self, client: NatsClient, successor: NatsClient, why: str) -> None:
        self.link.prepare(successor)
        # One that has fallen silent since is found by its probes, which begin when it is moved to.
        with trio.move_on_after(_LAST_FLUSH):
            await successor.flush()
        self.link.retire()
        # What was published goes out here, so that it is not sent twice.
        with trio.move_on_after(_LAST_FLUSH):
            await client.flush()
        client.lose(f"moved away from {client.server}, {why}")
