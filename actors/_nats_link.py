"""What a NATS bus keeps over all its connections: readiness, subscriptions, pulls, and what waits to be sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import trio

from actors import _jetstream as jetstream
from actors._nats_client import NatsClient
from actors._nats_consumer import PullConsumer
from actors._nats_outbox import Outbox, Outgoing
from actors._nats_settings import no_trouble
from actors._nats_settling import Settling
from actors._nats_subscription import Subscription
from actors._subjects import merged
from agentrt.ports import (
    BusError,
    SlowConsumer,
    Topology,
)

if TYPE_CHECKING:
    from agentrt.kernel.events import Event


class NatsLink(Settling):
    """Stands between the handle, which asks, and the driver, which brings one connection after the other.

    Args:
        keeper: Another one, which makes what is declared here where this one may not.
        store_trouble: Says why the server stores nothing, where that is known without trying; else nothing.
    """

    def __init__(self, keeper: NatsLink | None = None, store_trouble: Callable[[], str] = no_trouble) -> None:
        super().__init__(store_trouble)
        #: Who makes what is declared; None where this does.
        self.keeper = keeper
        self.topology = Topology()
        self.subscriptions: set[Subscription] = set()
        self.consumers: set[PullConsumer] = set()
        self.disconnections = 0
        self.reconnections = 0
        self.attempts_failed = 0
        self.round_trip: float | None = None
        self.room = trio.lowlevel.ParkingLot()
        self.outbox = Outbox(self._on_drop, self._on_room)
        self._ensured: Topology | None = None

    # What the handle asks

    def checks(self) -> Mapping[str, tuple[bool, str]]:
        """Return the named checks, each with a reason."""
        checks = {
            "nats_connected": (not self.connection_trouble, self.connection_trouble or "connected"),
            "jetstream": (not self.jetstream_trouble, self.jetstream_trouble or "answers, and has what was declared"),
        }
        if trouble := self.fullness.trouble:
            checks["jetstream_store"] = (False, trouble)
        denied = [str(one.denied) for one in self.subscriptions if one.denied is not None and one.is_needed]
        if denied:
            # Connected and deaf is worth a name of its own, and only then.
            checks["nats_subscriptions"] = (False, "; ".join(sorted(denied)))
        return checks

    def declare(self, topology: Topology) -> None:
        """Add to what has to exist; a later spec of the same name replaces the earlier one."""
        self.topology = merged(self.topology, topology)
        self._update_ready()
        self.nudge()

    # What the driver does

    def driven(self, jitter: Callable[[], float]) -> None:
        """Take the driver's source of chance."""
        self._jitter = jitter

    def retire(self) -> None:
        """Ask nothing more of a connection that is about to end, so that nothing is sent to it that nobody takes."""
        for consumer in self.consumers:
            consumer.retire()

    def renew(self, asset: jetstream.Asset) -> None:
        """Record that something was made anew; pull again where it is a consumer."""
        super().renew(asset)
        for pull in self.consumers:
            if asset.kind == "consumer" and pull.name == asset.name:
                pull.renew()

    def prepare(self, client: NatsClient) -> None:
        """Subscribe on the next connection already, while the present one still serves."""
        for subscription in self.subscriptions:
            subscription.attach(client)

    def opened(self, client: NatsClient) -> None:
        """Open everything that was subscribed on a new connection; nothing is published yet."""
        self.client = client
        self.max_payload = client.max_payload
        self.connection_trouble = ""
        self.jetstream_trouble = "not asked yet"
        self._ensured = None
        for subscription in self.subscriptions:
            subscription.attach(client)
        self.linked.turn(on=True)

    def flow(self) -> None:
        """Let everything go: pulls, and what was published in the meantime."""
        assert self.client is not None
        self.flowing.turn(on=True)
        for consumer in self.consumers:
            consumer.attach(self.client)
        self.outbox.open(self.client)
        self._update_ready()

    def closed(self, reason: str) -> None:
        """The connection ended."""
        self.client = None
        self.broken = ""
        self.flowing.turn(on=False)
        self.connection_trouble = self.jetstream_trouble = reason
        self._ensured = None
        self.linked.turn(on=False)
        self._update_ready()
        for name in tuple(self.terms):
            self.begin_term(name)
        for consumer in self.consumers:
            consumer.detach()
        self.outbox.close()
        # Whoever waits for room finds now that there is no connection.
        self.room.unpark_all()

    def tend(self, now: float) -> None:
        """Once a second: pull again what was lost, and say what was dropped."""
        for consumer in self.consumers:
            consumer.tend(now)
        for subscription in self.subscriptions:
            subscription.tend(now)

    def housekeep(self, emit: Callable[..., Event], oldest: float, age: float) -> None:
        """Once a second, connected or not: give up what is too old, and tell what went wrong.

        Args:
            emit: Publishes an event.
            oldest: When what was published is too old.
            age: How old that is, in seconds.
        """
        self.outbox.expire(oldest, age)
        self.fullness.expire(trio.current_time())
        for subscription in self.subscriptions:
            self._tell_slow(subscription)
        self.ledger.tell(emit)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Close a subscription for good."""
        self.subscriptions.discard(subscription)
        self._tell_slow(subscription)
        subscription.close()

    def _tell_slow(self, subscription: Subscription) -> None:
        if count := subscription.take_unreported():
            error = SlowConsumer("the reader is too slow; read it in a task that does nothing else")
            self.ledger.drop(subscription.subject, error, count)

    def take_nudge(self) -> tuple[bool, Topology]:
        """Return whether there was a nudge, and what has to exist."""
        nudged = self._nudged.is_set
        self._nudged.turn(on=False)
        return nudged, self.topology

    def take_silent(self) -> set[str]:
        """Return the subjects that it was silent about; where somebody else makes what is declared, they look at it."""
        silent, self._silent = self._silent, set()
        if self.keeper is None or not silent:
            return silent
        self.keeper._silent |= silent  # noqa: SLF001 - of this class.
        self.keeper.nudge()
        return set()

    def jetstream_is(self, trouble: str, ensured: Topology) -> None:
        """Record what JetStream is like: *trouble* is empty where it answers and has all of *ensured*."""
        self.jetstream_trouble = trouble
        self._ensured = None if trouble else ensured
        self._update_ready()

    def _update_ready(self) -> None:
        complete = self.topology in (self._ensured, Topology())
        self.ready.turn(on=self.flowing.is_set and complete)

    def _on_room(self) -> None:
        self.room.unpark_all()

    def _on_drop(self, item: Outgoing, error: BusError) -> None:
        self.ledger.drop(item.subject, error)
