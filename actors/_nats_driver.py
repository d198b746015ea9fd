"""Keeps a NATS bus connected: connect, ensure, probe, throw away, again, for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from actors import _jetstream as jetstream
from actors._nats_asking import TICK, nothing
from actors._nats_assets import Assets, Look, answers
from actors._nats_client import NatsClient, describe
from actors._nats_link import NatsLink
from actors._nats_moving import Moving
from actors._nats_requests import ConnectionLost
from actors._nats_shared import Beat, current_shared
from agentrt.policy import Departure, Health, PoolServer, ProbeHealth, ReconnectBackoff, ServerPool, Whereabouts
from agentrt.ports import BusRefused, Topology

if TYPE_CHECKING:
    from actors._nats_settings import NatsSettings
    from agentrt.kernel.events import Event

# Messages flow although JetStream is slow to say what it has.
_FLOW_ANYWAY = 2.0
_LAST_FLUSH = 1.0
_JETSTREAM_RETRY = 0.5
# One try gets so long at least, however many servers there are.
_LEAST = 0.1
_ASK_AGAIN = 0.5


@attrs.define
class _Outage:
    """From the loss of one connection that lived until the next one does."""

    since: float
    attempt: int = 0
    reason: str = ""
    lost: Event | None = None


@attrs.define
class _Serving:
    """One connection while it serves.

    Args:
        client: The connection.
        health: How it answers its probes.
        nursery: Where a task is started when one is needed.
        outage: What it ends.
        has_subscribed: Whether the server has taken what is subscribed.
        is_to_flow: Whether messages are to flow as soon as it has.
        is_flowing: Whether messages flow.
        is_settled: Whether it has all of that.
        is_looking: Whether a task is about that now.
    """

    client: NatsClient
    health: ProbeHealth
    nursery: trio.Nursery
    outage: _Outage
    has_subscribed: bool = False
    is_to_flow: bool = False
    is_flowing: bool = False
    is_settled: bool = False
    is_looking: bool = False


@attrs.define
class Driver:
    """One owner of recovery: the library's reconnect is off, and only this makes a new connection.

    Args:
        settings: Where to connect and how patient to be.
        link: What it makes ready and not ready.
        emit: Publishes an event, as :meth:`agentrt.kernel.Actor.emit`.
        progress: Called at each answered probe.
        jitter: A source of numbers from 0 to 1.
        backoff: Between attempts.
    """

    settings: NatsSettings
    link: NatsLink
    emit: Callable[..., Event]
    progress: Callable[[str], None]
    jitter: Callable[[], float]
    backoff: ReconnectBackoff = attrs.field(factory=ReconnectBackoff)
    _pool: ServerPool = attrs.field(init=False)
    _assets: Assets = attrs.field(init=False)
    _flowing_since: float | None = attrs.field(init=False, default=None)
    _lost: Event | None = attrs.field(init=False, default=None)
    _public_told: bool = attrs.field(init=False, default=False)
    _moving: Moving = attrs.field(init=False)
    _departure: Departure = attrs.field(init=False)
    _serving: _Serving | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Begin with what is configured and with nothing seen."""
        self._pool = ServerPool(tuple(PoolServer(url) for url in self.settings.servers))
        keeper = self.link.keeper
        self._assets = Assets(self._tell_asset_lost, None if keeper is None else keeper.nudge)
        self._moving = Moving(self.link, self._pool, self._attempt, self.emit, self.jitter, self.backoff)
        self._departure = Departure(self.settings.probe_limit)

    async def run(self) -> None:
        """Keep the bus connected until cancelled."""
        self.link.driven(self.jitter)
        beat = Beat(current_shared().timers, min(TICK, self.settings.probe_limit / 4), self._housekeep)
        try:
            await self._keep_connected()
        finally:
            beat.cancel()
            self._housekeep()
            await self._moving.discard()  # noqa: ASYNC102 - it shields itself, with a deadline.

    def _tell_asset_lost(self, asset: jetstream.Asset, messages: int) -> None:
        reason = f"deleted, or lost with the server's store; made again, held about {messages} messages when last seen"
        self.emit("jetstream_asset_lost", what=str(asset), messages=messages, reason=reason)
        self.link.renew(asset)

    async def _keep_connected(self) -> None:
        outage = _Outage(trio.current_time())
        while True:
            outage.attempt += 1
            # One that is connected already is not waited for.
            if not self._moving.is_ready and (outage.attempt > 1 or outage.lost is not None):
                elapsed = trio.current_time() - outage.since
                await trio.sleep(self.backoff.delay(outage.attempt, elapsed, self.jitter()))
            self._flowing_since = None
            reason = await self._incarnation(outage)
            outage = self._next_outage(outage, reason)

    def _housekeep(self) -> None:
        age, now = self.settings.publish_age, trio.current_time()
        self.link.housekeep(self.emit, now - age, age)
        if self._serving is not None:
            self._tend(self._serving, now)

    def _next_outage(self, outage: _Outage, reason: str) -> _Outage:
        now = trio.current_time()
        if self._flowing_since is None:
            self.link.attempts_failed += 1
            if reason != outage.reason:
                self.emit("nats_connect_failed", cause=outage.lost, attempt=outage.attempt, reason=reason)
            outage.reason = reason
            return outage
        # One that died young is no end of the outage: else one that is killed at once would be made in a tight loop.
        lived = now - self._flowing_since
        attempt = outage.attempt if lived < self.settings.probe_interval else 0
        return _Outage(now, attempt, reason, self._lost)

    async def _incarnation(self, outage: _Outage) -> str:
        """Connect once and serve the connection to its end; return why it ended."""
        if outage.lost is not None and _is_power_of_two(outage.attempt):
            self.emit(
                "nats_connection_rebuilding", cause=outage.lost, attempt=outage.attempt, seconds=self._down(outage)
            )
        try:
            client = self._moving.take() or await self._attempt(self._pool.order(self.jitter()))
        except ConnectionLost as lost:
            self.link.connection_trouble = self.link.jetstream_trouble = str(lost)
            return str(lost)
        try:
            await self._serve(client, outage)
        finally:
            # A server tells of others also later, as they join.
            self._pool.told(client.told)
            self._tell_loss(client)
            await self._end(client)  # noqa: ASYNC102 - it shields itself, with a deadline.
        return client.reason

    def _tell_loss(self, client: NatsClient) -> None:
        """Say that it is lost before anything is done about it."""
        if self._flowing_since is not None and client.lost.is_set():
            self.link.disconnections += 1
            self._lost = self.emit("nats_connection_lost", server=str(client.server), reason=client.reason)

    async def _attempt(self, servers: tuple[PoolServer, ...]) -> NatsClient:
        """Connect to the first of *servers* that takes us; all of them together have the time of one attempt.

        Raises:
            ConnectionLost: None did; says why of each.
        """
        credentials = self._credentials()
        deadline = trio.current_time() + self.settings.connect_timeout
        troubles: list[str] = []
        for index, server in enumerate(servers):
            # A black hole must leave time for the others.
            left = (deadline - trio.current_time()) / (len(servers) - index)
            try:
                return await self._connect(server, credentials, max(left, _LEAST))
            except ConnectionLost as lost:
                self._pool.troubled(server, trio.current_time())
                troubles.append(f"{server}: {lost}" if len(servers) > 1 else str(lost))
        raise ConnectionLost("; ".join(sorted(troubles)))

    def _credentials(self) -> dict[str, str | None]:
        try:
            return {key: value for key, value in self.settings.credentials().items() if value}
        except Exception as error:
            # A secret that cannot be read now may be readable at the next attempt.
            msg = f"the credentials cannot be read: {describe(error)}"
            raise ConnectionLost(msg) from error

    async def _connect(self, server: PoolServer, credentials: dict[str, str | None], timeout: float) -> NatsClient:
        client = NatsClient(self.link.ledger.problem, is_public=self.settings.is_public)
        try:
            async with current_shared().turns.turn():
                await client.connect(server, credentials, self.settings, timeout=timeout)
        except BaseException:
            with trio.CancelScope(shield=True):
                await client.discard()
            raise
        self._pool.served(server)
        self._pool.told(client.told)
        self._tell_public(client.why_public)
        return client

    def _tell_public(self, why: str) -> None:
        if why and not self._public_told:
            self._public_told = True
            self.emit("nats_public_way", reason=f"{why}: nats-py is used by its public methods only, which is slower")

    async def _serve(self, client: NatsClient, outage: _Outage) -> None:
        """Serve a connection to its end. What is done in time is done by beats; a task is there only while it works."""
        self.link.opened(client)
        health = ProbeHealth(self.settings.probe_limit)
        health.connected(trio.current_time())
        self._departure.connected()
        async with trio.open_nursery() as nursery:
            serving = _Serving(client, health, nursery, outage)
            timers = current_shared().timers
            beat = Beat(timers, self.settings.probe_interval, lambda: self._probe(serving))
            flow_anyway = timers.at(timers.now() + _FLOW_ANYWAY, self._flow, serving)
            try:
                client.on_leaving = lambda: nursery.start_soon(self._moving.leave, client)
                if client.is_leaving:
                    client.on_leaving()
                self.link.on_nudge = lambda: self._look_after_jetstream(serving)
                self._serving = serving
                self._probe(serving)
                await client.lost.wait()
            finally:
                beat.cancel()
                flow_anyway.cancel()
                client.on_leaving = self.link.on_nudge = nothing
                self._serving = None
                nursery.cancel_scope.cancel()

    async def _end(self, client: NatsClient) -> None:
        # Stopped in order: what was published goes out first. Returns at once where the connection is lost.
        with trio.move_on_after(_LAST_FLUSH, shield=True):
            await client.flush()
        self.link.closed(client.reason or "stopped")
        with trio.CancelScope(shield=True):
            # Has a deadline of its own.
            await client.discard()

    def _flow(self, serving: _Serving) -> None:
        if serving.is_flowing or serving.client.lost.is_set():
            return
        if not serving.has_subscribed:
            serving.is_to_flow = True
            return
        serving.is_flowing = True
        outage = serving.outage
        self._flowing_since = trio.current_time()
        self.link.flow()
        server = str(serving.client.server)
        if outage.lost is None:
            self.emit("nats_connected", server=server, attempt=outage.attempt)
            return
        self.link.reconnections += 1
        seconds = self._down(outage)
        self.emit("nats_connection_rebuilt", cause=outage.lost, server=server, attempt=outage.attempt, seconds=seconds)

    def _probe(self, serving: _Serving) -> None:
        def answered() -> None:
            serving.health.answered(trio.current_time())
            # It answers in order, so it has taken what was subscribed before it was asked for the first time.
            serving.has_subscribed = True
            if serving.is_to_flow:
                self._flow(serving)
            self.link.round_trip = serving.health.round_trip
            self.progress("probe")

        serving.health.sent(trio.current_time())
        serving.client.ping(answered)
        self._look_after_jetstream(serving)

    def _tend(self, serving: _Serving, now: float) -> None:
        client = serving.client
        if serving.health.verdict(now) is Health.UNHEALTHY:
            self._pool.troubled(client.server, now)
            client.lose(f"no probe was answered for {self.settings.probe_limit:g} s")
        client.give_up(now)
        self.link.tend(now)

    def _look_after_jetstream(self, serving: _Serving) -> None:
        if not serving.is_looking:
            serving.is_looking = True
            serving.nursery.start_soon(self._keep_jetstream, serving)

    async def _keep_jetstream(self, serving: _Serving) -> None:
        """Ensure the topology at first and where something was missing, until it is; else look for a sign of life."""
        while True:
            nudged, topology = self.link.take_nudge()
            serving.is_settled = serving.is_settled and not nudged
            since = trio.current_time()
            look = self._assets.probe if serving.is_settled else self._assets.ensure
            trouble, is_of_server = await self._try_jetstream(serving.client, topology, look)
            serving.is_settled = not trouble
            self._judge_server(serving, trouble, since if is_of_server else None)
            self.link.jetstream_is(trouble, topology)
            self._flow(serving)
            if serving.is_settled and not self.link.is_nudged:
                serving.is_looking = False
                return
            if not serving.is_settled:
                with trio.move_on_after(_JETSTREAM_RETRY):
                    await self.link.wait_nudge()

    async def _try_jetstream(self, client: NatsClient, topology: Topology, look: Look) -> tuple[str, bool]:
        """Look at JetStream; return what is wrong, or nothing, and whether another server may do without that."""
        limit = self.settings.probe_limit

        async def ask(subject: str, body: bytes) -> jetstream.Answered:
            with trio.fail_after(limit):
                while True:
                    # A cluster that elects a leader drops what it is asked meanwhile. All of it may be asked twice.
                    with trio.move_on_after(_ASK_AGAIN):
                        return await client.request(subject, body)

        try:
            await look(ask, topology)
        except jetstream.ApiError as error:
            return str(error), error.is_of_server
        except (BusRefused, ConnectionLost) as error:
            return str(error), False
        except trio.TooSlowError:
            return f"JetStream did not answer for {limit:g} s", True
        return "", False

    def _judge_server(self, serving: _Serving, trouble: str, since: float | None) -> None:
        """Look for another server where this one has had a trouble of its own for too long, since when if so."""
        client, now, departure = serving.client, trio.current_time(), self._departure
        if client.lost.is_set():
            return
        if since is None:
            departure.well()
            self._moving.stay()
            return
        departure.troubled(since)
        if self._moving.is_searching or client.is_leaving or departure.verdict(now) is Whereabouts.STAY:
            return
        departure.looked(now, self.jitter())
        serving.nursery.start_soon(self._moving.look_elsewhere, client, trouble, self._serves_jetstream)

    async def _serves_jetstream(self, client: NatsClient) -> bool:
        """Whether JetStream answers on a connection that may be moved to, for each thing that is declared."""
        trouble, is_of_server = await self._try_jetstream(client, self.link.topology, answers)
        return not trouble or not is_of_server

    def _down(self, outage: _Outage) -> float:
        return round(trio.current_time() - outage.since, 3)


def _is_power_of_two(number: int) -> bool:
    # Often at first and ever more rarely: an outage of an hour is not an hour of events.
    return number & (number - 1) == 0
