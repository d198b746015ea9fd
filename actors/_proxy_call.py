"""One request through the proxy: which replica, how often, and what its failure means to the client."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import trio

from actors._http import HttpAnswer, HttpClient
from actors._proxy_backend import Backend, Replica
from actors._proxy_events import Events
from actors._proxy_revival import revive
from actors._proxy_sessions import Session
from actors._proxy_wire import (
    EVENTS,
    LAST_EVENT,
    SESSION,
    EventRelay,
    Headers,
    end_to_end,
    for_backend,
    header,
    parse,
    request_of,
    rpc_error,
    with_header,
)
from agentrt.policy import Backoff, Failure, FailureKind, RetryPolicy, SendState
from agentrt.policy.failures import Phase, classify_network
from agentrt.resilience import BulkheadFull, CallFailed, Retrying, classify
from agentrt.resilience.errors import BreakerOpen
from agentrt.resilience.retrying import Tries

_OK, _MULTIPLE, _BAD_REQUEST = 200, 300, 400
_BAD_GATEWAY, _UNAVAILABLE, _GATEWAY_TIMEOUT = 502, 503, 504
_PASSING = frozenset({_BAD_GATEWAY, _UNAVAILABLE, _GATEWAY_TIMEOUT})
#: Long requests that are streams, and no calls that somebody waits for.
_STREAMS = frozenset({"subscriptions/listen"})
#: How a stream that the client opens is tried again, within its limit.
_PATIENT = RetryPolicy(1_000_000, Backoff(0.5, 2.0, 5.0, jitter=(0.8, 1.0)))
#: Seconds after which a client that met a full bulkhead may come again.
_COME_AGAIN = 1


@attrs.frozen
class Incoming:
    """A request of a client, read whole."""

    method: str
    headers: Headers
    query: bytes = b""
    body: bytes = b""
    message: Any = None

    @property
    def is_stream(self) -> bool:
        """Whether it is one that stays open, and no call."""
        return self.method == "GET" or request_of(self.message)[0] in _STREAMS


@attrs.define(eq=False)
class Outgoing:
    """What the client gets.

    Attributes:
        status: The status.
        headers: The headers.
        body: All of the body, where it is no stream.
        events: What is in it, where it is a stream.
        failure: Why the proxy answers itself; None where the backend did.
    """

    status: int
    headers: Headers
    body: bytes = b""
    events: Events | None = None
    failure: Failure | None = None
    #: The server does not know the session any more.
    is_session_lost: bool = False
    #: It is no backend's at all.
    is_own: bool = False


class _Passing(CallFailed):
    """The backend said 502, 503 or 504."""

    def __init__(self, failure: Failure, outgoing: Outgoing) -> None:
        super().__init__(failure)
        self.outgoing = outgoing


@asynccontextmanager
async def exchange(backend: Backend, client: HttpClient, incoming: Incoming, via: str) -> AsyncIterator[Outgoing]:
    """Have the answer to a request for as long as an ``async with``; it is one in any case."""
    call = _Call(backend, client, incoming, via)
    try:
        if incoming.is_stream:
            if backend.streams >= backend.proxy.max_streams:
                reason = f"{backend.label} has {backend.streams} streams open: too many"
                yield call.refusal(BulkheadFull(reason))
                return
            backend.streams += 1
            try:
                yield await call.answer()
            finally:
                backend.streams -= 1
            return
        try:
            await backend.bulkhead.enter(lambda: len(incoming.body), call.deadline)
        except BulkheadFull as full:
            yield call.refusal(full)
            return
        try:
            yield await call.answer()
        finally:
            backend.bulkhead.leave()
    finally:
        await call.aclose()


class _Call:
    def __init__(self, backend: Backend, client: HttpClient, incoming: Incoming, via: str) -> None:
        self._backend = backend
        self._client = client
        self._incoming = incoming
        self._method, self._params, self._id = request_of(incoming.message)
        self._headers = for_backend(incoming.headers, via)
        self._session_id = header(self._headers, SESSION)
        self._open: tuple[HttpAnswer, Replica] | None = None
        self._tries = Tries()
        self.deadline = trio.current_time() + backend.config.timeout

    async def answer(self) -> Outgoing:
        """Try until there is an answer, or no more is to be tried."""
        backend = self._backend
        # Nobody waits for a stream to open, and some clients give theirs up after few attempts: it is tried on and on.
        is_get = self._incoming.method == "GET"
        policy, budget = (_PATIENT, None) if is_get else (backend.retry, backend.budget)
        retrying = Retrying(policy, budget, classify, self._report, backend.random)
        try:
            return await retrying.call(
                self._attempt,
                deadline=self.deadline,
                idempotent=self._may_repeat,
                tries=self._tries,
            )
        except CallFailed as error:
            return self.refusal(error)

    async def aclose(self) -> None:
        """Let go of the answer; one that was not read to its end is cut, which the backend sees."""
        if self._open is not None:
            answer, replica = self._open
            self._open = None
            replica.in_flight -= 1
            await answer.aclose()

    def refusal(self, error: CallFailed) -> Outgoing:
        """Say that there is no answer, in HTTP's words and in JSON-RPC's."""
        failure = self._tries.failure or error.failure
        if isinstance(error, _Passing) and isinstance(parse(error.outgoing.body), Mapping):
            # What the backend says in the protocol's own words is better than ours.
            return attrs.evolve(error.outgoing, failure=failure)
        if failure.kind is FailureKind.TIMEOUT:
            status = _GATEWAY_TIMEOUT
        elif isinstance(error, _Passing):
            status = error.outgoing.status
        else:
            status = _UNAVAILABLE if isinstance(error, (BulkheadFull, BreakerOpen)) else _BAD_GATEWAY
        unknown = failure.sent is not SendState.NOT_SENT and not self._may_repeat()
        data = {
            "kind": "outcome_unknown" if unknown else "unavailable",
            "backend": self._backend.label,
            "attempts": self._tries.attempt,
            "sent": failure.sent.value,
        }
        reason = f"{self._backend.label}: {'outcome unknown: ' if unknown else ''}{failure.reason}"
        headers: Headers = [(b"content-type", b"application/json")]
        again = _COME_AGAIN if isinstance(error, BulkheadFull) else failure.retry_after
        if again is not None:
            headers.append((b"retry-after", str(math.ceil(again)).encode()))
        return Outgoing(status, headers, rpc_error(self._id, reason, **data), failure=failure)

    def _may_repeat(self) -> bool:
        return self._incoming.method != "POST" or self._backend.may_repeat(self._incoming.message)

    def _report(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._backend.report(f"proxy_{kind}", {"method": self._method or self._incoming.method, **fields})

    # One try

    async def _attempt(self) -> Outgoing:
        """Ask one replica after the other, while it is certain that none acted on it."""
        session = self._backend.sessions.get(self._session_id)
        places = self._backend.order(session.home if session is not None else None)
        lost: Outgoing | None = None
        failed: CallFailed | None = None
        for place in places:
            try:
                outgoing = await self._ask(place, session)
            except CallFailed as error:
                if error.failure.may_have_happened:
                    raise
                failed = failed or error
            else:
                if not outgoing.is_session_lost:
                    return outgoing
                lost = outgoing
        if lost is not None:
            return lost
        assert failed is not None
        raise failed

    async def _ask(self, place: int, session: Session | None) -> Outgoing:
        replica = self._backend.replicas[place]
        try:
            ticket = replica.gate.admit()
        except BreakerOpen as error:
            # Who waits for an answer is to know at once.
            error.failure = attrs.evolve(error.failure, is_final=self._incoming.method != "GET")
            raise
        try:
            with trio.CancelScope(deadline=self.deadline) as limit:
                outgoing = await self._ask_and_revive(replica, place, session)
            if limit.cancelled_caught:
                reason = f"no answer within {self._backend.config.timeout:g} s"
                raise CallFailed(classify_network(Phase.WAITING, reason, is_timeout=True))
        except CallFailed as error:
            await self.aclose()
            if error.failure.kind is FailureKind.TRANSIENT and not error.failure.may_have_happened:
                # One that is not there is noticed at once and costs nothing; a breaker is for one that does not work.
                replica.gate.released(ticket)
            else:
                replica.gate.ended(ticket, error.failure)
            raise
        except BaseException:
            replica.gate.released(ticket)
            raise
        # A session that is gone says nothing against a server that knows so.
        replica.gate.ended(ticket, None if outgoing.is_session_lost else outgoing.failure)
        outgoing.failure = None
        return outgoing

    async def _ask_and_revive(self, replica: Replica, place: int, session: Session | None) -> Outgoing:
        before = session.backend_id if session is not None else None
        outgoing = await self._send(replica, place, session)
        if not outgoing.is_session_lost or session is None or before is None or self._method == "initialize":
            return outgoing
        if not self._backend.config.revive_sessions or self._incoming.method == "DELETE":
            return outgoing
        if not await revive(self._backend, self._client, session, place, before, self._headers):
            return outgoing
        return await self._send(replica, place, session)

    async def _send(self, replica: Replica, place: int, session: Session | None) -> Outgoing:
        await self.aclose()
        headers = self._headers
        if session is not None:
            headers = with_header(headers, SESSION, session.backend_id)
            if session.is_fresh and self._incoming.method == "GET":
                headers = with_header(headers, LAST_EVENT, None)
        query = f"?{self._incoming.query.decode('latin-1')}" if self._incoming.query else ""
        body = self._incoming.body if self._incoming.method == "POST" else None
        answer = await self._client.open(
            self._incoming.method,
            replica.url + query,
            headers,
            body,
            connect_timeout=self._backend.config.connect_timeout,
        )
        self._open = (answer, replica)
        replica.in_flight += 1
        if replica.is_reachable is False and answer.status not in _PASSING:
            # Sooner than the next look at it.
            self._backend.looked_at(replica, f"answers ({answer.status})", is_reachable=True)
        return await self._take(answer, place, session)

    # Its answer

    async def _take(self, answer: HttpAnswer, place: int, session: Session | None) -> Outgoing:
        headers = end_to_end(answer.headers)
        is_good = _OK <= answer.status < _MULTIPLE
        if is_good:
            session = self._note_session(answer, place, session)
            headers = self._as_the_client_knows(headers, session)
        if is_good and answer.kind == EVENTS:
            identity = self._id if self._incoming.method == "POST" else None
            is_packed = answer.header(b"content-encoding") is not None
            events = Events(answer, EventRelay(identity, is_packed), self._read_to_its_end, self._cut)
            return Outgoing(answer.status, with_header(headers, b"content-length", None), events=events)
        body = await self._read(answer, is_good=is_good)
        outgoing = Outgoing(answer.status, headers, body)
        if is_good:
            self._read_to_its_end(body)
            return outgoing
        failure = answer.failure(_said(body), has_session=self._session_id is not None)
        outgoing.is_session_lost = failure.session_lost
        outgoing.failure = failure if answer.status >= _BAD_REQUEST else None
        if answer.status in _PASSING:
            raise _Passing(failure, outgoing)
        return outgoing

    def _read_to_its_end(self, body: bytes) -> None:
        if self._method == "tools/list":
            self._backend.learn_tools(self._params, body)

    def _cut(self, reason: str) -> None:
        self._backend.report("proxy_stream_lost", {"method": self._method or self._incoming.method, "reason": reason})

    async def _read(self, answer: HttpAnswer, *, is_good: bool) -> bytes:
        try:
            return await answer.read(self._backend.proxy.max_answer)
        except CallFailed:
            if is_good:
                raise
            # The status tells enough.
            return b""
        finally:
            await self.aclose()

    def _note_session(self, answer: HttpAnswer, place: int, session: Session | None) -> Session | None:
        """Take note of what a request that was taken does to its session."""
        sessions = self._backend.sessions
        told = answer.header(SESSION)
        if self._method == "initialize":
            return sessions.add(told, place, self._params) if told else None
        if self._session_id is None:
            return None
        if self._incoming.method == "DELETE":
            sessions.remove(self._session_id)
            return session
        if session is None:
            # From before this proxy's start; it cannot be made anew, but its replica is known now.
            session = sessions.add(self._session_id, place, None)
        session.home = place
        session.learn(self._method, self._params)
        if self._incoming.method == "GET":
            session.is_fresh = False
        return session

    def _as_the_client_knows(self, headers: Headers, session: Session | None) -> Headers:
        if session is None or header(headers, SESSION) is None:
            return headers
        return with_header(headers, SESSION, session.client_id)


def _said(body: bytes) -> str:
    """What a refusal says, for people; a page of HTML says nothing."""
    message = parse(body)
    error = message.get("error") if isinstance(message, Mapping) else None
    if isinstance(error, Mapping):
        return str(error.get("message", ""))
    with suppress(UnicodeDecodeError):
        text = " ".join(body[:300].decode().split())
        return "" if text.startswith(("<", "{")) else text
    return ""
