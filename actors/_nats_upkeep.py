"""Keeps JetStream as it is declared, over one connection after the other, and sees where it does not serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from actors import _jetstream as jetstream
from actors._nats_assets import Assets, Look, unserved
from actors._nats_client import NatsClient
from actors._nats_link import NatsLink
from actors._nats_moving import Moving
from actors._nats_requests import ConnectionLost
from actors._nats_settings import NatsSettings
from agentrt.policy import Departure, Whereabouts
from agentrt.ports import BusRefused, Topology

if TYPE_CHECKING:
    from agentrt.kernel.events import Event

_RETRY = 0.5
_ASK_AGAIN = 0.5


@attrs.frozen
class _Found:
    """What a look at JetStream found.

    Args:
        trouble: What is wrong; empty where nothing is.
        is_of_server: Whether another server may do without that.
        is_broken: Whether it is that nothing is stored until the server is started anew.
    """

    trouble: str = ""
    is_of_server: bool = False
    is_broken: bool = False


@attrs.define
class Upkeep:
    """Looks after JetStream on the connection that lives.

    Args:
        settings: How patient to be, and who is told of a store that is of no use any more.
        link: What it asks for, and what it makes ready and not ready.
        moving: What moves to another server.
        emit: Publishes an event.
        jitter: A source of numbers from 0 to 1.
        flow: Called when it was looked at once, whatever came of it.
    """

    settings: NatsSettings
    link: NatsLink
    moving: Moving
    emit: Callable[..., Event]
    jitter: Callable[[], float]
    flow: Callable[[], None]
    _assets: Assets = attrs.field(init=False)
    _departure: Departure = attrs.field(init=False)
    _client: NatsClient | None = attrs.field(init=False, default=None)
    _nursery: trio.Nursery | None = attrs.field(init=False, default=None)
    _is_settled: bool = attrs.field(init=False, default=False)
    _is_looking: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """Begin with nothing seen."""
        keeper = self.link.keeper
        self._assets = Assets(self._tell_lost, None if keeper is None else keeper.nudge)
        self._departure = Departure(self.settings.probe_limit)

    def begin(self, client: NatsClient, nursery: trio.Nursery) -> None:
        """Look after it on *client* from now on, in tasks of *nursery*, which end with that."""
        self._client, self._nursery = client, nursery
        self._is_settled = self._is_looking = False
        self._departure.connected()

    def look(self) -> None:
        """Look at it, where that is not being done: a task is there only while it works."""
        if not self._is_looking and self._client is not None and self._nursery is not None:
            self._is_looking = True
            self._nursery.start_soon(self._keep, self._client)

    async def _keep(self, client: NatsClient) -> None:
        """Ensure the topology at first and where something was missing, until it is; else look for a sign of life."""
        while True:
            nudged, topology = self.link.take_nudge()
            self._assets.suspect(self.link.take_silent())
            self._is_settled = self._is_settled and not nudged
            since = trio.current_time()
            look = self._assets.probe if self._is_settled else self._assets.ensure
            found = await self._try(client, topology, look)
            self._note_broken(found)
            trouble = found.trouble or self.link.broken
            self._is_settled = not trouble
            self._judge_server(client, trouble, since if found.is_of_server else None)
            self.link.jetstream_is(trouble, topology)
            self.flow()
            if self._is_settled and not self.link.is_nudged:
                self._is_looking = False
                return
            if not self._is_settled:
                with trio.move_on_after(_RETRY):
                    await self.link.wait_nudge()

    async def _try(self, client: NatsClient, topology: Topology, look: Look) -> _Found:
        """Look at JetStream; return what is wrong."""
        try:
            await look(self._asking(client), topology)
        except jetstream.StoreBroken as error:
            return _Found(str(error), is_broken=True)
        except jetstream.ApiError as error:
            return _Found(str(error), is_of_server=error.is_of_server)
        except (BusRefused, ConnectionLost) as error:
            return _Found(str(error))
        except trio.TooSlowError:
            return _Found(f"JetStream did not answer for {self.settings.probe_limit:g} s", is_of_server=True)
        return _Found()

    def _asking(self, client: NatsClient) -> jetstream.Ask:
        async def ask(subject: str, body: bytes) -> jetstream.Answered:
            with trio.fail_after(self.settings.probe_limit):
                while True:
                    # A cluster that elects a leader drops what it is asked meanwhile. All of it may be asked twice.
                    with trio.move_on_after(_ASK_AGAIN):
                        return await client.request(subject, body)

        return ask

    def _note_broken(self, found: _Found) -> None:
        """Remember that nothing is stored, as found here or by who makes what is declared, until all is well."""
        link = self.link
        if found.is_broken:
            self.settings.on_broken(found.trouble)
            if not link.broken:
                self.emit("jetstream_store_broken", reason=found.trouble)
            link.broken = found.trouble
        elif not found.trouble:
            link.broken = "" if link.keeper is None else link.keeper.broken

    def _judge_server(self, client: NatsClient, trouble: str, since: float | None) -> None:
        """Look for another server where this one has had a trouble of its own for too long, since when if so."""
        now, departure = trio.current_time(), self._departure
        if client.lost.is_set():
            return
        if since is None:
            departure.well()
            self.moving.stay()
            return
        departure.troubled(since)
        if self.moving.is_searching or client.is_leaving or departure.verdict(now) is Whereabouts.STAY:
            return
        departure.looked(now, self.jitter(), is_needed=bool(jetstream.assets(self.link.topology)))
        assert self._nursery is not None
        self._nursery.start_soon(self.moving.look_elsewhere, client, trouble, self._unserved)

    async def _unserved(self, client: NatsClient) -> int:
        """Count what is declared and not served on a connection, be it this one or one that may be moved to."""
        return await unserved(self._asking(client), self.link.topology)

    def _tell_lost(self, asset: jetstream.Asset, messages: int) -> None:
        reason = f"deleted, or lost with the server's store; made again, held about {messages} messages when last seen"
        self.emit("jetstream_asset_lost", what=str(asset), messages=messages, reason=reason)
        self.link.renew(asset)
