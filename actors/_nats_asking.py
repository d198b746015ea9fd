"""Asking over NATS: JetStream until it answers, others once."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import attrs
import trio

from actors import _jetstream as jetstream
from actors._flag import Flag
from actors._nats_client import NatsClient
from actors._nats_frames import Message
from actors._nats_fullness import Fullness
from actors._nats_ledger import Ledger
from actors._nats_requests import ConnectionLost, NotSent, Unanswered
from actors._nats_settings import no_trouble
from actors._subjects import MAX_PAYLOAD, check_size, payload_size
from agentrt.policy import Backoff
from agentrt.ports import BusRefused, BusUnavailable, Headers, NoResponders, StoreFull

# An answer that did not come for so long is asked for again: a server that has too much to do drops requests.
_TRY = 5.0
# Where nothing was said for so long to what was to be stored, the stream is asked about.
_LONG = 1.0
_MAX_SILENT = 64
#: Seconds between two looks at what waits.
TICK = 1.0
# A timeout of so long may be kept a tick late.
_COARSE = 5.0
# What is declared comes and goes apart: what is there is not kept from working for longer by what is not.
_FOR_OTHERS = 1.0
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


class Answer(NamedTuple):
    """What JetStream answered in the end; a tuple, because one is made for each message that is stored."""

    #: What was asked, for people.
    what: str
    #: The answer; empty where it was an error.
    found: dict[str, Any]
    #: The error, where it was one that asking again does not change.
    error: jetstream.ApiError | None
    #: Whether an earlier try of the same request may have worked.
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


class Asking:
    """Asks through whichever connection lives, and again where it may; part of :class:`actors._nats_link.NatsLink`.

    Args:
        store_trouble: Says why the server stores nothing, where that is known without trying; else nothing.
    """

    def __init__(self, store_trouble: Callable[[], str] = no_trouble) -> None:
        self.client: NatsClient | None = None
        self.ledger = Ledger()
        self.fullness = Fullness(store_trouble)
        self.max_payload = MAX_PAYLOAD
        self.connection_trouble = "not started"
        self.jetstream_trouble = "not started"
        #: Whether the connection answers and all that was declared exists.
        self.ready = Flag()
        #: Whether there is a connection.
        self.linked = Flag()
        #: Called where something should be looked for.
        self.on_nudge: Callable[[], None] = nothing
        self._nudged = Flag()
        #: Why nothing is stored until the server is started anew; empty where it is, as far as is known.
        self.broken = ""
        self._silent: set[str] = set()
        self._jitter: Callable[[], float] = random.random

    def nudge(self) -> None:
        """Have the topology ensured again soon: something that should be there was missing."""
        self._nudged.turn(on=True)
        self.on_nudge()

    @property
    def is_nudged(self) -> bool:
        """Whether the topology should be ensured again."""
        return self._nudged.is_set

    async def wait_nudge(self) -> None:
        """Wait until it should."""
        await self._nudged.wait()

    async def ask(
        self, what: str, subject: str, body: bytes, headers: Headers | None = None, *, timeout: float
    ) -> Answer:
        """Ask JetStream until it answers, through as many connections as that takes.

        Raises:
            BusUnavailable: It did not within *timeout* seconds.
            BusRefused: The server does not allow the subject, or the message is too large.
        """
        repeated = False
        size = payload_size(body, headers)

        async def once(client: NatsClient, due: float) -> Answer:
            nonlocal repeated
            since = trio.current_time()
            if size > self.max_payload:
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
            except (ConnectionLost, Unanswered, trio.Cancelled) as error:
                repeated = repeated or not isinstance(error, NotSent)
                if not isinstance(error, ConnectionLost) and trio.current_time() - since >= _LONG:
                    self._suspect(subject)
                raise

        return await self._insist(what, once, self.ready, timeout, patience=_FOR_OTHERS)

    def _suspect(self, subject: str) -> None:
        """Remember that no answer came where something was to be stored, and have it looked at."""
        if not subject.startswith(jetstream.API) and len(self._silent) < _MAX_SILENT:
            self._silent.add(subject)
            self.nudge()

    async def request(
        self, what: str, subject: str, body: bytes, headers: Headers | None = None, *, timeout: float
    ) -> Message:
        """Ask whoever subscribes, once: who was asked may have done it, also where the answer is lost.

        Raises:
            NoResponders: Nobody subscribes.
            BusUnavailable: No answer within *timeout* seconds, or the connection died over it.
            BusRefused: The server does not allow the subject, or the message is too large.
        """
        trouble = _Trouble()
        until = trio.current_time() + timeout
        if timeout >= _COARSE and self.client is not None:
            # Given up by the tick, it needs no scope.
            message = await self._ask_once(what, subject, body, headers, until, trouble)
        else:
            message = None
            with trio.move_on_at(until):
                message = await self._ask_once(what, subject, body, headers, math.inf, trouble)
        if message is None:
            why = trouble.text or self.connection_trouble
            raise self._given_up(BusUnavailable(f"{what}: not done within {timeout:g} s ({why})"))
        if message.status == _NO_RESPONDERS:
            raise self._given_up(NoResponders(f"{what}: nobody subscribes to {subject!r}"))
        return message

    async def _ask_once(
        self, what: str, subject: str, body: bytes, headers: Headers | None, due: float, trouble: _Trouble
    ) -> Message | None:
        while True:
            while (client := self.client) is None:
                await self.linked.wait()
            trouble.text = "no answer"
            if headers or len(body) > self.max_payload:
                check_size(subject, body, headers, self.max_payload)
            try:
                return await client.request(subject, body, headers, due=due)
            except NotSent as lost:
                trouble.text = str(lost)
            except Unanswered:
                return None
            except ConnectionLost as lost:
                raise self._given_up(BusUnavailable(f"{what}: {lost}; it was sent, and may have been done")) from None
            # That one is about to be taken away, and the next one is asked.
            await trio.lowlevel.checkpoint()

    async def _insist(
        self, what: str, once: _Once[_T], gate: Flag, timeout: float, *, patience: float = math.inf
    ) -> _T:
        """Try *once* until it gives something; on each connection, *gate* is waited for *patience* seconds at most."""
        trouble = _Trouble()
        until = trio.current_time() + timeout
        if timeout > _TRY + TICK and gate.is_set:
            # As a rule it works at once, and needs no scope: each try is given up by the tick, long before its time.
            found = await self._try(once, trouble)
            if found is not None:
                return found
        with trio.move_on_at(until):
            for attempt in itertools.count(1):
                await self.linked.wait()
                with trio.move_on_after(patience):
                    await gate.wait()
                trouble.is_unanswered = trouble.is_full = False
                found = await self._try(once, trouble)
                if found is not None:
                    return found
                await trio.sleep(_RETRY.delay(attempt, self._jitter()))
        # What was never tried waited for the connection: how that is now is the reason, and not how it was at first.
        trouble.text = trouble.text or self.connection_trouble or self.jetstream_trouble
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

    def _error_of(self, msg: str, trouble: _Trouble) -> BusUnavailable:
        # A server whose disk is full does not answer who wants to store something.
        if (trouble.is_full or self.broken) and (why := self.fullness.trouble):
            return StoreFull(f"{msg}: {why}")
        msg = f"{msg} ({self.broken or trouble.text or 'no answer'})"
        return NoResponders(msg) if trouble.is_unanswered else BusUnavailable(msg)

    def _given_up(self, error: BusUnavailable) -> BusUnavailable:
        self.ledger.problem("", error)
        return error


def nothing() -> None:
    """Stands where nobody is told."""
