"""What a NATS bus keeps over all its connections: readiness, subscriptions, pulls, and what waits to be sent."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import attrs
import trio

from actors import _jetstream as jetstream
from actors._flag import Flag
from actors._nats_client import NatsClient
from actors._nats_consumer import PullConsumer
from actors._nats_frames import Message
from actors._nats_fullness import Fullness
from actors._nats_ledger import Ledger
from actors._nats_outbox import Outbox, Outgoing
from actors._nats_requests import ConnectionLost, Unanswered
from actors._nats_settings import no_trouble
from actors._nats_subscription import Subscription
from actors._subjects import MAX_PAYLOAD, check_size, merged
from agentrt.policy import Backoff
from agentrt.ports import (
    BusError,
    BusRefused,
    BusUnavailable,
    Headers,
    NoResponders,
    SlowConsumer,
    StoreFull,
    Topology,
)

if TYPE_CHECKING:
    from agentrt.kernel.events import Event

# An answer that did not come for so long is asked for again: a server that has too much to do drops requests.
_TRY = 5.0
#: Seconds between two looks at what waits.
TICK = 1.0
_CONFIRM_TIMEOUT = 30.0
_CONFIRM_TRY = 2.0
_CONFIRM_TRIES = 2
_CONFIRM_RENEWED = 0.25
_RETRY = Backoff(initial=0.05, factor=2.0, maximum=1.0)

_NO_RESPONDERS = "503"

_T = TypeVar("_T")
_Once: TypeAlias = Callable[[NatsClient, float], Awaitable[_T]]


@attrs.define
class _Trouble:
    """Why it did not work so far; whether nobody was there to answer the last try, and whether there may be no room."""

    text: str = ""
    is_unanswered: bool = False
    is_full: bool = False


@attrs.frozen
class Answer:
    """What JetStream answered in the end.

    Args:
        what: What was asked, for people.
        found: The answer; empty where it was an error.
        error: The error, where it was one that asking again does not change.
        repeated: Whether an earlier try of the same request may have worked.
    """

    what: str
    found: dict[str, Any]
    error: jetstream.ApiError | None
    repeated: bool

    def accepted(self) -> dict[str, Any]:
        """Return the answer.

        Raises:
            BusRefused: It was an error.
        """
        if self.error is not None:
            msg = f"{self.what}: {self.error}"
            raise BusRefused(msg)
        return self.found


class NatsLink:
    """Stands between the handle, which asks, and the driver, which brings one connection after the other.

    Args:
        keeper: Another one, which makes what is declared here where this one may not.
        store_trouble: Says why the server stores nothing, where that is known without trying; else nothing.
    """

    def __init__(self, keeper: NatsLink | None = None, store_trouble: Callable[[], str] = no_trouble) -> None:
        #: Who makes what is declared; None where this does.
        self.keeper = keeper
        self.client: NatsClient | None = None
        self.is_flowing = False
        self.topology = Topology()
        self.subscriptions: set[Subscription] = set()
        self.consumers: set[PullConsumer] = set()
        self.ledger = Ledger()
        self.fullness = Fullness(store_trouble)
        self.disconnections = 0
        self.reconnections = 0
        self.attempts_failed = 0
        self.round_trip: float | None = None
        self.room = trio.lowlevel.ParkingLot()
        self.outbox = Outbox(self._on_drop, self._on_room)
        self.max_payload = MAX_PAYLOAD
        self.connection_trouble = "not started"
        self.jetstream_trouble = "not started"
        self.ready = Flag()
        self._linked = Flag()
        self._nudged = Flag()
        self._ensured: Topology | None = None
        self._renewals = 0
        self._jitter: Callable[[], float] = random.random

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

    def nudge(self) -> None:
        """Have the topology ensured again soon: something that should be there was missing."""
        self._nudged.turn(on=True)

    async def ask(
        self, what: str, subject: str, body: bytes, headers: Headers | None = None, *, timeout: float
    ) -> Answer:
        """Ask JetStream until it answers, through as many connections as that takes.

        Raises:
            BusUnavailable: It did not within *timeout* seconds.
            BusRefused: The server does not allow the subject, or the message is too large.
        """
        repeated = False

        async def once(client: NatsClient, due: float) -> Answer:
            nonlocal repeated
            check_size(subject, body, headers, self.max_payload)
            try:
                found = jetstream.read(await client.request(subject, body, headers, due=due))
                if "seq" in found:
                    self.fullness.stored()
                return Answer(what, found, None, repeated)
            except jetstream.ApiError as error:
                if error.is_full:
                    self.fullness.refused(str(client.server), str(error), trio.current_time())
                if error.is_transient:
                    raise
                return Answer(what, {}, error, repeated)
            except (ConnectionLost, Unanswered, trio.Cancelled):
                repeated = True
                raise

        return await self._insist(what, once, self.ready, timeout)

    async def request(
        self, what: str, subject: str, body: bytes, headers: Headers | None = None, *, timeout: float
    ) -> Message:
        """Ask whoever subscribes, once: who was asked may have done it, also where the answer is lost.

        Raises:
            NoResponders: Nobody subscribes.
            BusUnavailable: No answer within *timeout* seconds, or the connection died over it.
            BusRefused: The server does not allow the subject, or the message is too large.
        """
        trouble, message = "", None
        with trio.move_on_after(timeout):
            while (client := self.client) is None:
                trouble = trouble or self.connection_trouble
                await self._linked.wait()
            trouble = "no answer"
            check_size(subject, body, headers, self.max_payload)
            try:
                message = await client.request(subject, body, headers)
            except ConnectionLost as lost:
                raise self._given_up(BusUnavailable(f"{what}: {lost}; it was sent, and may have been done")) from None
        if message is None:
            raise self._given_up(BusUnavailable(f"{what}: not done within {timeout:g} s ({trouble})"))
        if message.status == _NO_RESPONDERS:
            raise self._given_up(NoResponders(f"{what}: nobody subscribes to {subject!r}"))
        return message

    def confirming(self) -> Callable[[str, bytes], Awaitable[None]]:
        """Return what settles a delivery that comes now; see :meth:`confirm`."""
        return partial(self.confirm, self._renewals)

    async def confirm(self, since: int, reply: str, body: bytes) -> None:
        """Settle a delivery and wait until the server has that.

        A server that was killed may have forgotten that it delivered the message. It then says nothing to this, and
        delivers the message again; so silence on a connection that answers its probes is not waited for long, and
        hardly at all where a stream was made anew since the delivery.

        Args:
            since: How often a stream had been made anew when the message was delivered.
            reply: Where its settlement goes.
            body: What is said of it.

        Raises:
            BusUnavailable: It was not confirmed; the message may come again.
        """
        silent = 0

        async def once(client: NatsClient, _due: float) -> bool:
            nonlocal silent
            is_renewed = self._renewals != since
            try:
                if is_renewed:
                    with trio.fail_after(_CONFIRM_RENEWED):
                        message = await client.request(reply, body)
                else:
                    message = await client.request(reply, body, due=trio.current_time() + _CONFIRM_TRY)
            except (Unanswered, trio.TooSlowError):
                # Only a PONG shows that the silence is the server's answer and not the connection's.
                await client.flush()
                if not client.lost.is_set():
                    silent += _CONFIRM_TRIES if is_renewed else 1
                return False
            if message.status:
                jetstream.read(message)
            return True

        what = "settling a delivery"
        until = trio.current_time() + _CONFIRM_TIMEOUT
        while silent < _CONFIRM_TRIES:
            if await self._insist(what, once, self._linked, until - trio.current_time()):
                return
        raise BusUnavailable(f"{what}: the server does not know it any more; it may come again")

    def say(self, reply: str, body: bytes) -> None:
        """Settle a delivery and do not wait; said to nobody where there is no connection."""
        if self.client is not None:
            self.client.write_message(reply, body)

    async def _insist(self, what: str, once: _Once[_T], gate: Flag, timeout: float) -> _T:
        trouble = _Trouble()
        until = trio.current_time() + timeout
        if timeout > _TRY + TICK and gate.is_set:
            # As a rule it works at once, and needs no scope: each try is given up by the tick, long before its time.
            found = await self._try(once, trouble)
            if found is not None:
                return found
        with trio.move_on_at(until):
            for attempt in itertools.count(1):
                trouble.text = trouble.text or self.connection_trouble or self.jetstream_trouble
                await gate.wait()
                trouble.is_unanswered = trouble.is_full = False
                found = await self._try(once, trouble)
                if found is not None:
                    return found
                await trio.sleep(_RETRY.delay(attempt, self._jitter()))
        raise self._given_up(self._error_of(f"{what}: not done within {timeout:g} s", trouble))

    async def _try(self, once: _Once[_T], trouble: _Trouble) -> _T | None:
        if self.client is None:
            return None
        try:
            return await once(self.client, trio.current_time() + _TRY)
        except Unanswered as unanswered:
            # Where a stream is gone and somebody listens to its subjects, nobody says so.
            trouble.text, trouble.is_full = str(unanswered), True
            self.nudge()
        except ConnectionLost as lost:
            trouble.text = str(lost)
        except jetstream.ApiError as error:
            trouble.text, trouble.is_unanswered, trouble.is_full = str(error), error.is_unanswered, error.is_full
            self.nudge()
        return None

    def _given_up(self, error: BusUnavailable) -> BusUnavailable:
        self.ledger.problem("", error)
        return error

    def _error_of(self, msg: str, trouble: _Trouble) -> BusUnavailable:
        # A server whose disk is full does not answer who wants to store something.
        if trouble.is_full and (why := self.fullness.trouble):
            return StoreFull(f"{msg}: {why}")
        msg = f"{msg} ({trouble.text or 'no answer'})"
        return NoResponders(msg) if trouble.is_unanswered else BusUnavailable(msg)

    # What the driver does

    def driven(self, jitter: Callable[[], float]) -> None:
        """Take the driver's source of chance."""
        self._jitter = jitter

    def retire(self) -> None:
        """Ask nothing more of a connection that is about to end, so that nothing is sent to it that nobody takes."""
        for consumer in self.consumers:
            consumer.retire()

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
        self._linked.turn(on=True)

    def flow(self) -> None:
        """Let everything go: pulls, and what was published in the meantime."""
        assert self.client is not None
        self.is_flowing = True
        for consumer in self.consumers:
            consumer.attach(self.client)
        self.outbox.open(self.client)
        self._update_ready()

    def closed(self, reason: str) -> None:
        """The connection ended."""
        self.client = None
        self.is_flowing = False
        self.connection_trouble = self.jetstream_trouble = reason
        self._ensured = None
        self._linked.turn(on=False)
        self._update_ready()
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

    def renew(self) -> None:
        """Have everything that waits for an answer asked again: a stream was made anew, and may not have heard it."""
        self._renewals += 1
        if self.client is not None:
            self.client.give_up(math.inf)

    async def wait_nudge(self) -> None:
        """Wait until the topology should be ensured again."""
        await self._nudged.wait()

    def take_nudge(self) -> tuple[bool, Topology]:
        """Return whether there was a nudge, and what has to exist."""
        nudged = self._nudged.is_set
        self._nudged.turn(on=False)
        return nudged, self.topology

    def jetstream_is(self, trouble: str, ensured: Topology) -> None:
        """Record what JetStream is like: *trouble* is empty where it answers and has all of *ensured*."""
        self.jetstream_trouble = trouble
        self._ensured = None if trouble else ensured
        self._update_ready()

    def _update_ready(self) -> None:
        complete = self.topology in (self._ensured, Topology())
        self.ready.turn(on=self.is_flowing and complete)

    def _on_room(self) -> None:
        self.room.unpark_all()

    def _on_drop(self, item: Outgoing, error: BusError) -> None:
        self.ledger.drop(item.subject, error)
