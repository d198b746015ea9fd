"""Keeps a NATS bus connected: connect, ensure, probe, throw away, again, for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from actors._nats_asking import TICK, nothing
from actors._nats_client import NatsClient, describe
from actors._nats_link import NatsLink
from actors._nats_moving import Moving
from actors._nats_requests import ConnectionLost
from actors._nats_shared import Beat, current_shared
from actors._nats_upkeep import Upkeep
from agentrt.policy import Health, PoolServer, ProbeHealth, ReconnectBackoff, ServerPool

if TYPE_CHECKING:
    from actors._nats_settings import NatsSettings
    from agentrt.kernel.events import Event

# Messages flow although JetStream is slow to say what it has.
_FLOW_ANYWAY = 2.0
# What was published goes out before an end that was asked for: so long for each part of it, and for all.
_LAST_FLUSH = 1.0
_LAST_WORDS = 3.0
# One try gets so long at least, however many servers there are.
_LEAST = 0.1


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
        outage: What it ends.
        has_subscribed: Whether the server has taken what is subscribed.
        is_to_flow: Whether messages are to flow as soon as it has.
        is_flowing: Whether messages flow.
    """

    client: NatsClient
    health: ProbeHealth
    outage: _Outage
    has_subscribed: bool = False
    is_to_flow: bool = False
    is_flowing: bool = False


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
    _flowing_since: float | None = attrs.field(init=False, default=None)
    _lost: Event | None = attrs.field(init=False, default=None)
    _public_told: bool = attrs.field(init=False, default=False)
    _moving: Moving = attrs.field(init=False)
    _upkeep: Upkeep = attrs.field(init=False)
    _serving: _Serving | None = attrs.field(init=False, default=None)
    _kept_at: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        """Begin with what is configured and with nothing seen."""
        self._pool = ServerPool(tuple(PoolServer(url) for url in self.settings.servers))
        self._moving = Moving(self.link, self._pool, self._attempt, self.emit, self.jitter, self.backoff)
        self._upkeep = Upkeep(self.settings, self.link, self._moving, self.emit, self.jitter, self._looked)

    async def run(self) -> None:
        """Keep the bus connected until cancelled."""
        self.link.driven(self.jitter)
        self._kept_at = trio.current_time()
        beat = Beat(current_shared().timers, self._tick, self._housekeep)
        try:
            await self._keep_connected()
        finally:
            beat.cancel()
            self._housekeep()
            await self._moving.discard()  # noqa: ASYNC102 - it shields itself, with a deadline.
            self._tell_unsent()

    def _tell_unsent(self) -> None:
        """Say what nobody sends any more, unless the connection is driven again."""
        outbox = self.link.outbox
        if outbox.count:
            reason = "published, and not known to have reached the server before the connection was stopped"
            self.emit("bus_messages_unsent", count=outbox.count, bytes=outbox.size, reason=reason)

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

    @property
    def _tick(self) -> float:
        return min(TICK, self.settings.probe_limit / 4)

    def _housekeep(self) -> None:
        age, now = self.settings.publish_age, trio.current_time()
        self.link.housekeep(self.emit, now - age, age)
        planned, self._kept_at = self._kept_at + self._tick, now
        if self._serving is not None:
            self._serving.health.woke(planned, now)
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
                troubles.append(f"{server}: {lost}")
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
        async with trio.open_nursery() as nursery:
            serving = _Serving(client, health, outage)
            self._upkeep.begin(client, nursery)
            timers = current_shared().timers
            beat = Beat(timers, self.settings.probe_interval, lambda: self._probe(serving))
            flow_anyway = timers.at(timers.now() + _FLOW_ANYWAY, self._flow, serving)
            try:
                client.on_leaving = lambda: nursery.start_soon(self._moving.leave, client)
                if client.is_leaving:
                    client.on_leaving()
                self.link.on_nudge = self._upkeep.look
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
        # Nothing of it takes time where the connection is lost.
        with trio.move_on_after(_LAST_WORDS, shield=True):
            await self._send_all(client)
        self.link.closed(client.reason or "stopped")
        with trio.CancelScope(shield=True):
            # Has a deadline of its own.
            await client.discard()

    async def _send_all(self, client: NatsClient) -> None:
        """Wait until the server has all that was published, for as long as it takes some of it."""
        outbox = self.link.outbox
        if not self.link.flowing.is_set and not client.lost.is_set():
            # Stopped before JetStream was looked at, which is not needed for this.
            outbox.open(client)
        while True:
            before = outbox.count
            with trio.move_on_after(_LAST_FLUSH) as scope:
                # It proves what was sent before it; what waits behind that is sent now.
                await client.flush()
            if scope.cancelled_caught or client.lost.is_set() or outbox.count in (0, before):
                return

    def _looked(self) -> None:
        """JetStream was looked at, so that messages may flow."""
        if self._serving is not None:
            self._flow(self._serving)

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
        self._upkeep.look()

    def _tend(self, serving: _Serving, now: float) -> None:
        client = serving.client
        if serving.health.verdict(now) is Health.UNHEALTHY:
            self._pool.troubled(client.server, now)
            client.lose(f"no probe was answered for {self.settings.probe_limit:g} s")
        client.give_up(now)
        self.link.tend(now)

    def _down(self, outage: _Outage) -> float:
        return round(trio.current_time() - outage.since, 3)


def _is_power_of_two(number: int) -> bool:
    # Often at first and ever more rarely: an outage of an hour is not an hour of events.
    return number & (number - 1) == 0
