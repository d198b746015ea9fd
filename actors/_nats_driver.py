"""Keeps a NATS bus connected: connect, ensure, probe, throw away, again, for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import trio

from actors import _jetstream as jetstream
from actors._nats_client import ConnectionLost, NatsClient, describe
from agentrt.policy import Health, ProbeHealth, ReconnectBackoff
from agentrt.ports import BusRefused

if TYPE_CHECKING:
    from actors._nats_link import NatsLink
    from actors.nats import NatsSettings
    from agentrt.kernel.events import Event

# Messages flow although JetStream is slow to say what it has.
_FLOW_ANYWAY = 2.0
_TICK = 1.0
_LAST_FLUSH = 1.0
_JETSTREAM_RETRY = 0.5


@attrs.define
class _Outage:
    """From the loss of one connection that lived until the next one does."""

    since: float
    attempt: int = 0
    reason: str = ""
    lost: Event | None = None


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
    _flowing_since: float | None = attrs.field(init=False, default=None)

    async def run(self) -> None:
        """Keep the bus connected until cancelled."""
        self.link.driven(self.emit, self.jitter)
        outage = _Outage(trio.current_time())
        while True:
            outage.attempt += 1
            if outage.attempt > 1 or outage.lost is not None:
                elapsed = trio.current_time() - outage.since
                await trio.sleep(self.backoff.delay(outage.attempt, elapsed, self.jitter()))
            self._flowing_since = None
            reason = await self._incarnation(outage)
            outage = self._next_outage(outage, reason)

    def _next_outage(self, outage: _Outage, reason: str) -> _Outage:
        now = trio.current_time()
        if self._flowing_since is None:
            if reason != outage.reason:
                self.emit("nats_connect_failed", cause=outage.lost, attempt=outage.attempt, reason=reason)
            outage.reason = reason
            return outage
        lost = self.emit("nats_connection_lost", reason=reason)
        # One that died young is no end of the outage: else one that is killed at once would be made in a tight loop.
        lived = now - self._flowing_since
        attempt = outage.attempt if lived < self.settings.probe_interval else 0
        return _Outage(now, attempt, reason, lost)

    async def _incarnation(self, outage: _Outage) -> str:
        """Connect once and serve the connection to its end; return why it ended."""
        if outage.lost is not None and _is_power_of_two(outage.attempt):
            self.emit(
                "nats_connection_rebuilding", cause=outage.lost, attempt=outage.attempt, seconds=self._down(outage)
            )
        client = NatsClient(self._report_problem)
        try:
            await self._connect(client)
            await self._serve(client, outage)
        except ConnectionLost as lost:
            client.lose(str(lost))
        finally:
            await self._end(client)  # noqa: ASYNC102 - it shields itself, with a deadline.
        return client.reason

    async def _connect(self, client: NatsClient) -> None:
        settings = self.settings
        try:
            credentials = {key: value for key, value in settings.credentials().items() if value}
        except Exception as error:
            # A secret that cannot be read now may be readable at the next attempt.
            msg = f"the credentials cannot be read: {describe(error)}"
            raise ConnectionLost(msg) from error
        timeout = settings.connect_timeout
        await client.connect(settings.servers, credentials, name=settings.name, timeout=timeout)

    async def _serve(self, client: NatsClient, outage: _Outage) -> None:
        self.link.opened(client)
        health = ProbeHealth(self.settings.probe_limit)
        health.connected(trio.current_time())
        ensured = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._probe, client, health)
            nursery.start_soon(self._tend, client, health)
            nursery.start_soon(self._keep_jetstream, client, ensured)
            nursery.start_soon(self._flow, client, ensured, outage)
            await client.lost.wait()
            nursery.cancel_scope.cancel()

    async def _end(self, client: NatsClient) -> None:
        # Stopped in order: what was published goes out first. Returns at once where the connection is lost.
        with trio.move_on_after(_LAST_FLUSH, shield=True):
            await client.flush()
        self.link.closed(client.reason or "stopped")
        with trio.CancelScope(shield=True):
            # Has a deadline of its own.
            await client.discard()

    async def _flow(self, client: NatsClient, ensured: trio.Event, outage: _Outage) -> None:
        with trio.move_on_after(_FLOW_ANYWAY):
            await ensured.wait()
        if client.lost.is_set():
            return
        self._flowing_since = trio.current_time()
        self.link.flow()
        if outage.lost is None:
            self.emit("nats_connected", attempt=outage.attempt)
            return
        seconds = self._down(outage)
        self.emit("nats_connection_rebuilt", cause=outage.lost, attempt=outage.attempt, seconds=seconds)

    async def _probe(self, client: NatsClient, health: ProbeHealth) -> None:
        def answered() -> None:
            health.answered(trio.current_time())
            self.progress("probe")

        while True:
            health.sent(trio.current_time())
            client.ping(answered)
            await trio.sleep(self.settings.probe_interval)

    async def _tend(self, client: NatsClient, health: ProbeHealth) -> None:
        limit = self.settings.probe_limit
        while True:
            await trio.sleep(min(_TICK, limit / 4))
            now = trio.current_time()
            if health.verdict(now) is Health.UNHEALTHY:
                client.lose(f"no probe was answered for {limit:g} s")
            self.link.tend(now)

    async def _keep_jetstream(self, client: NatsClient, ensured: trio.Event) -> None:
        """Ensure the topology at once and whenever something was missing, and probe JetStream in between."""
        settled = False
        while True:
            nudged, topology = self.link.take_nudge()
            settled = settled and not nudged
            trouble = await self._try_jetstream(client, None if settled else topology)
            settled = not trouble
            self.link.jetstream_is(trouble, topology)
            ensured.set()
            with trio.move_on_after(self.settings.probe_interval if settled else _JETSTREAM_RETRY):
                await self.link.wait_nudge()

    async def _try_jetstream(self, client: NatsClient, topology: Any) -> str:
        """Ensure *topology*, or only ask JetStream for a sign of life; return what is wrong, or nothing."""
        limit = self.settings.probe_limit

        async def ask(subject: str, body: bytes) -> jetstream.Answered:
            with trio.fail_after(limit):
                return await client.request(subject, body)

        try:
            if topology is None:
                await jetstream.call(ask, "INFO")
            else:
                await jetstream.ensure(ask, topology)
        except (jetstream.ApiError, BusRefused, ConnectionLost) as error:
            return str(error)
        except trio.TooSlowError:
            return f"JetStream did not answer for {limit:g} s"
        return ""

    def _report_problem(self, problem: str) -> None:
        self.emit("nats_problem", reason=problem)

    def _down(self, outage: _Outage) -> float:
        return round(trio.current_time() - outage.since, 3)


def _is_power_of_two(number: int) -> bool:
    # Often at first and ever more rarely: an outage of an hour is not an hour of events.
    return number & (number - 1) == 0
