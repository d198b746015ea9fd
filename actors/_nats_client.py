"""One incarnation of a NATS connection: a nats-py client that is used once and thrown away.

The only module that imports nats-py and trio-asyncio. nats-py does the handshake, TLS and the parsing. Everything
that it does badly under failure is not used: its reconnect is off, and nothing of ours ever awaits inside it after the
handshake. How it is used then is a *wire*: :mod:`actors._nats_internals`, and the public way where that does not hold.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
import trio_asyncio
from nats.aio.client import Client, RawCredentials
from nats.errors import StaleConnectionError

from actors._dial import dial
from actors._flag import Flag
from actors._nats_complaints import Complaints, Denied, explain
from actors._nats_frames import Message, encode
from actors._nats_internals import PrivateWire, Sink, Wire, why_not_private
from actors._nats_login import options
from actors._nats_public import PublicWire
from actors._nats_requests import ConnectionLost, NotSent, Request, Unanswered
from actors._nats_settings import Login, NatsSettings
from actors._nats_shared import open_shared
from agentrt.policy import PoolServer
from agentrt.policy.pool import is_address
from agentrt.ports import BusError, Headers

_logger = logging.getLogger(__name__)

# The library's own pinger only knows 240 s and more; ours decides.
_NEVER = 365 * 86400
_DISCARD_DEADLINE = 2.0
# Names that are looked up at once, and those that nobody waits for any more.
_LOOKUPS = 16


# trio-asyncio has no types.
class _Resolver(trio_asyncio.TrioExecutor):  # type: ignore[misc]
    """Looks up the names of servers: one that hangs is not waited for beyond its attempt, nor by whoever stops.

    It hangs on in a thread of its own, of which there are few, so that nobody else lacks one.
    """

    async def submit(self, func: Callable[..., Any], *args: Any) -> Any:
        """Run *func* in a thread."""
        return await trio.to_thread.run_sync(func, *args, abandon_on_cancel=True, limiter=self._limiter)


@asynccontextmanager
async def bridge() -> AsyncIterator[None]:
    """Open the asyncio loop that serves every NATS connection of the process; once, around the whole run."""
    async with trio_asyncio.open_loop() as loop:
        # Without this an asyncio task that fails, as nats-py's do, would crash the whole block.
        loop.set_exception_handler(_log_asyncio_error)
        loop.set_default_executor(_Resolver(max_workers=_LOOKUPS))
        # Else the first address that swallows what is sent there would have each attempt to itself.
        loop.create_connection = partial(_create_connection, loop, loop.create_connection)
        async with open_shared():
            yield


async def _create_connection(
    loop: asyncio.AbstractEventLoop, plain: Callable[..., Any], protocol: Any, host: str, port: int
) -> Any:
    """Connect as nats-py has asyncio's loop do it; where *host* is a name, to whichever of its addresses answers."""
    if is_address(host):
        return await plain(protocol, host, port)
    made: list[socket.socket] = []
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        await trio_asyncio.trio_as_aio(dial)(found, made)
        return await plain(protocol, sock=made.pop())
    finally:
        for one in made:
            one.close()


def _log_asyncio_error(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    _logger.warning("asyncio: %s", context.get("message"), exc_info=context.get("exception"))


class NatsClient:
    """A connection that lives once.

    ``lost`` is set when it ended, whatever the cause, and ``reason`` then says why. After that it only waits to be
    discarded. Not one of its callbacks raises into the library: what goes wrong in one is logged and counted.

    Args:
        on_problem: Called with the subject, empty where none is named, and what went wrong.
        is_public: Whether to use the library's public methods only.
    """

    def __init__(self, on_problem: Callable[[str, BusError], None], *, is_public: bool = False) -> None:
        loop = trio_asyncio.current_loop.get()
        if loop is None:
            msg = "no asyncio loop is open here: run the fleet inside `async with actors.nats.bridge():`"
            raise RuntimeError(msg)
        self._loop = loop
        self._on_problem = on_problem
        # Any: it takes what its annotations do not say, such as a timeout that is a float.
        self._nc: Any = Client()
        #: Why the public way is taken; empty where it is not.
        self.why_public = "asked for" if is_public else why_not_private(self._nc)
        self._wire: Wire = (PublicWire if self.why_public else PrivateWire)(self._nc, loop, self.guard)
        self._last_error: BaseException | None = None
        self._server: PoolServer | None = None
        self._requests: dict[str, Request[Message]] = {}
        self._tokens = itertools.count(1)
        self._inbox = ""
        self._open = False
        self._complaints = Complaints(on_problem, self.lose, self._requests)
        self._deaf: BusError | None = None
        self.lost = trio.Event()
        #: Whether the server said that it is about to shut down, and who is told of that.
        self.is_leaving = False
        self.on_leaving: Callable[[], None] = _nothing
        self.reason = ""
        #: Bytes that headers and body of one message may have together.
        self.max_payload = 0
        #: Publishes what a frame says; lost without a word where it has ended, so keep what matters until a PONG.
        self.write: Callable[[bytes], None] = _nowhere
        self.callback_errors = 0

    @property
    def server(self) -> PoolServer:
        """Whom it is connected to."""
        assert self._server is not None
        return self._server

    @property
    def told(self) -> tuple[PoolServer, ...]:
        """The other servers of the cluster, as this one told."""
        return tuple(self.server.neighbour(uri.netloc) for uri in self._nc.discovered_servers if uri.hostname)

    async def connect(self, server: PoolServer, login: Login, settings: NatsSettings, *, timeout: float) -> None:
        """Connect once.

        Raises:
            ConnectionLost: It did not work within *timeout* seconds; says why.
        """
        self._server = server
        with trio.move_on_after(timeout) as scope:
            answered = Flag()
            try:
                await self._loop.run_aio_coroutine(
                    self._connect(server, login, settings, timeout, lambda: answered.turn(on=True))
                )
            except Exception as error:
                # "No servers" hides the cause, which only the error callback heard, or nobody.
                words = self._wire.last_words()
                why = explain(words) if words else describe(self._last_error or error)
                raise ConnectionLost(why) from error
            if not answered.is_set:
                await self._either(answered)
        if scope.cancelled_caught:
            # Rounded, so that it is the same in each attempt, of which only the first with a new reason is told.
            msg = f"no connection within {timeout:.1f} s"
            raise ConnectionLost(msg)
        if self.lost.is_set():
            raise ConnectionLost(self.reason)
        self._open = True
        self.write = self._wire.write
        self.max_payload = int(self._nc.max_payload)
        self._inbox = self.new_inbox() + "."
        self.subscribe(self._inbox + "*", self._on_answer, self._on_deaf)

    async def _connect(
        self,
        server: PoolServer,
        login: Login,
        settings: NatsSettings,
        timeout: float,
        on_answer: Callable[[], None],
    ) -> None:
        self._wire.prepare(self._on_complaint)
        tls_name = {} if server.tls_name is None else {"tls_hostname": server.tls_name}
        await self._nc.connect(
            servers=[server.url],
            name=settings.name,
            inbox_prefix=settings.inbox,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=timeout,
            ping_interval=_NEVER,
            error_cb=self._on_error,
            closed_cb=self._on_closed,
            disconnected_cb=self._on_closed,
            lame_duck_mode_cb=self._on_leaving,
            **{**tls_name, **options(login, RawCredentials)},
        )
        if self._nc.is_connected:
            on_answer()
        else:
            self._wire.resume(on_answer)
        # At once, as that lets go of what the library needed to connect.
        self._wire.begin(self._on_end)

    async def _either(self, event: Flag | trio.Event) -> None:
        """Wait for *event*, or for the connection to be lost."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_after, event, nursery.cancel_scope)
            nursery.start_soon(_cancel_after, self.lost, nursery.cancel_scope)

    # What is sent: never waits, never raises.

    def write_message(self, subject: str, body: bytes, reply: str = "") -> None:
        """Publish without keeping it: for what is repeated anyway."""
        self.write(encode(subject, body, reply=reply))

    def ping(self, on_pong: Callable[[], None]) -> None:
        """Ask for a sign of life; *on_pong* is called when everything written before has reached the server."""
        if self._open:
            self._wire.ping(on_pong)

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses."""
        return str(self._nc.new_inbox())

    def subscribe(self, subject: str, sink: Sink, denied: Denied | None = None, *, queue: str = "") -> int:
        """Have *sink* called with each message of *subject*; return the number to unsubscribe.

        Args:
            subject: What to subscribe to.
            sink: Called with each message.
            denied: Called where the server does not let us.
            queue: The queue group; empty for none.
        """
        if not self._open:
            return 0
        sid = self._wire.subscribe(subject, queue, sink)
        if denied is not None:
            self._complaints.subscribed(sid, subject, queue, denied)
            self.ping(lambda: self._complaints.confirmed(sid))
        return sid

    def unsubscribe(self, sid: int) -> None:
        """Stop a subscription; what is already on its way still reaches the sink."""
        if self._open:
            self._complaints.unsubscribed(sid)
            self._wire.unsubscribe(sid)

    # What is answered.

    async def request(
        self, subject: str, body: bytes, headers: Headers | None = None, *, due: float = math.inf
    ) -> Message:
        """Ask and wait for the answer; cancel it to give up, or say when it is *due*.

        Raises:
            ConnectionLost: The connection ended first.
            NotSent: It had ended before.
            Unanswered: It was due, and :meth:`give_up` was called.
            BusRefused: The server does not allow this subject.
        """
        if not self._open:
            raise NotSent(self.reason)
        if self._deaf is not None:
            # The answer could not be received.
            raise self._deaf
        token = str(next(self._tokens))
        request: Request[Message] = Request(subject, due)
        self._requests[token] = request
        try:
            self.write(encode(subject, body, headers, self._inbox + token))
            return await request.wait()
        finally:
            del self._requests[token]

    def give_up(self, now: float) -> None:
        """Tell those that ask that nothing came, where they were due before *now*."""
        for request in self._requests.values():
            if request.due < now:
                request.settle(Unanswered("no answer"))

    async def flush(self) -> None:
        """Wait until everything written so far has reached the server, or the connection is lost."""
        if not self._open:
            return
        reached = trio.Event()
        self.ping(reached.set)
        await self._either(reached)

    # The end.

    def lose(self, reason: str) -> None:
        """End it: fail what waits for an answer and set ``lost``. Only the first reason counts."""
        if self.lost.is_set():
            return
        self._open = False
        self.write = _nowhere
        self.reason = reason
        self.lost.set()
        for request in self._requests.values():
            request.settle(ConnectionLost(reason))

    async def discard(self) -> None:
        """Throw the client away: no task and no socket of it is left. Never takes longer than its deadline."""
        self.lose("discarded")
        with trio.move_on_after(_DISCARD_DEADLINE, shield=True):
            await self._wire.discard(_DISCARD_DEADLINE / 3)

    # Callbacks of the library: any arguments, and nothing raised.

    def guard(self, function: Callable[..., object], *args: Any) -> None:
        """Call *function* so that nothing it raises reaches the library, whose read loop would end without a word."""
        try:
            function(*args)
        except Exception:
            self.callback_errors += 1
            _logger.exception("a callback of a NATS connection failed")

    async def _on_error(self, *args: Any) -> None:
        self.guard(self._take_error, *args)

    async def _on_closed(self, *_args: Any) -> None:
        self.guard(self._lost_by_library)

    def _on_end(self) -> None:
        self.guard(self._lost_by_library)

    async def _on_leaving(self, *_args: Any) -> None:
        self.is_leaving = True
        self.guard(self.on_leaving)

    async def _on_complaint(self, *args: Any) -> None:
        self.guard(self._complaints.take, *args)

    def _lost_by_library(self) -> None:
        self.lose(describe(self._nc.last_error or self._last_error or "the connection was closed"))

    def _take_error(self, error: BaseException, *_args: Any) -> None:
        """Take what the library says of itself; what the server says comes by itself, but on the public way."""
        self._last_error = error
        if not self._open:
            return
        if "permissions violation" in str(error):
            self._complaints.take(describe(error))
            return
        if isinstance(error, OSError | StaleConnectionError):
            # Cut off, or closed by the other side: an end like any other, and told as one.
            self.lose(describe(error))
        else:
            self._on_problem("", BusError(describe(error)))

    def _on_deaf(self, error: BusError) -> None:
        self._deaf = error

    def _on_answer(self, message: Message) -> None:
        request = self._requests.get(message.subject[len(self._inbox) :])
        if request is not None:
            request.settle(message)


def _nothing() -> None:
    """Stands where nobody is told."""


def _nowhere(_frame: bytes) -> None:
    """Stands where nothing is written: there is no connection yet, or no more."""


def describe(error: object) -> str:
    """Return an error in one line, as people read it."""
    return str(error).removeprefix("nats: ") or type(error).__name__


async def _cancel_after(event: Flag | trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
