# ruff: noqa: SLF001 - private names are what this module is for.
"""What is used of nats-py's private parts: all of it stands here, with the releases that it holds for.

The public face of nats-py bears neither failure nor load: an error of the server closes it for good, its ``flush``
proves nothing, and each message costs two ticks of its loop. With a release that was not tried, or that lacks a name,
everything goes the public way (:mod:`actors._nats_public`), which works, slower, and knows less about what went wrong.
Of trio-asyncio nothing private is used; its release stands here because of what its loop does with a transport.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Protocol

import attrs

from actors._nats_frames import Message, read_headers
from actors._nats_shared import current_shared

_logger = logging.getLogger(__name__)

#: The releases that all of this was tried with; with any other the public way is taken.
TRIED: Mapping[str, frozenset[str]] = MappingProxyType(
    {"nats-py": frozenset({"2.16"}), "trio-asyncio": frozenset({"0.16"})}
)

#: What a client object has to have.
CLIENT_NAMES = (
    "_flush_queue",
    "_flusher",
    "_flusher_task",
    "_nuid",
    "_ping_interval",
    "_ping_interval_task",
    "_pongs",
    "_process_err",
    "_process_msg",
    "_process_ping",
    "_reading_task",
    "_server_info",
    "_sid",
    "_status",
    "_transport",
)
#: What is called in our place of its method, with these arguments.
TAKES = MappingProxyType(
    {
        "_flusher": (),
        "_ping_interval": (),
        "_process_err": ("err_msg",),
        "_process_ping": (),
        "_process_msg": ("sid", "subject", "reply", "data", "headers"),
    },
)
#: What a transport over TCP has to have.
WRITERS = ("_io_writer", "_bare_io_writer")
#: What it is read from, and where that keeps what came and was not read; with another one, less is said of an end.
READER, UNREAD = "_bare_io_reader", "_buffer"
_LAST_WORDS = re.compile(rb"-ERR\s+'?([^'\r\n]+)")

_PING = b"PING\r\n"
_PONG = b"PONG\r\n"

#: Stands where the library expects a queue that it only looks at, which takes 3 KiB.
_NO_QUEUE = object()

Guard = Callable[..., None]
Sink = Callable[[Message], None]


def why_not_private(client: Any) -> str:
    """Say why the private parts of this nats-py are not used; "" where they are."""
    for package, tried in TRIED.items():
        release = _release_of(package)
        if release not in tried:
            return f"not tried with {package} {release}"
    if missing := [name for name in CLIENT_NAMES if not hasattr(client, name)]:
        return f"this nats-py has no {', '.join(missing)}"
    for name, arguments in TAKES.items():
        if tuple(inspect.signature(getattr(client, name)).parameters) != arguments:
            return f"this nats-py calls {name} with other arguments"
    return ""


@functools.cache
def _release_of(package: str) -> str:
    return ".".join(version(package).split(".")[:2])


class Wire(Protocol):
    """How a client object is used: directly, or by its public methods.

    What is written never waits and never raises; what is called back is called through the guard.
    """

    def prepare(self, on_complaint: Callable[[str], Awaitable[None]]) -> None:
        """Make a client object ready to be connected; *on_complaint* is called with each error of the server."""

    def resume(self, on_answer: Callable[[], None]) -> None:
        """Go on where the library stopped in the handshake; *on_answer* is called when it is through, if ever."""

    def last_words(self) -> str:
        """Return the error that the server sent to a connection that did not come about; empty where none is known."""
        ...

    def begin(self, on_end: Callable[[], None]) -> None:
        """It is connected; *on_end* is called where something inside it ends by itself."""

    def write(self, frame: bytes) -> None:
        """Publish what a frame says."""

    def ping(self, on_pong: Callable[[], None]) -> None:
        """Have *on_pong* called when all that was written before has reached the server."""

    def subscribe(self, subject: str, queue: str, sink: Sink) -> int:
        """Have *sink* called with each message that this member of *queue*, if any, gets; return its number."""
        ...

    def unsubscribe(self, sid: int) -> None:
        """Stop a subscription; what is already on its way still reaches the sink."""

    async def discard(self, seconds: float) -> None:
        """Leave no task and no socket."""


@attrs.frozen
class _Pong:
    """Stands where the library expects a future. It is never cancelled, which is what kills the read loop."""

    guard: Guard
    on_pong: Callable[[], None]

    def set_result(self, _result: object) -> None:
        self.guard(self.on_pong)


class PrivateWire:
    """Writes to the library's transport, in order, and takes messages where its parser hands them over.

    So a PONG proves that what was written before its PING has reached the server. Nothing is awaited inside the
    library. What the server complains of is judged by us: the library would close for good, and not return until a peer
    that may never read again had read all.

    Args:
        nc: The client object.
        loop: The loop of asyncio that it lives on.
        guard: Calls a function so that nothing it raises reaches the library.
    """

    def __init__(self, nc: Any, loop: Any, guard: Guard) -> None:
        self._nc = nc
        self._loop = loop
        self._guard = guard
        self._shared = current_shared()
        # Each client would have a source of chance of its own, of 2.5 KiB.
        nc._nuid = self._shared.names = self._shared.names or nc._nuid
        self._sinks: dict[int, Sink] = {}
        self._unwritten: list[bytes] = []
        self._is_corked = False

    def prepare(self, on_complaint: Callable[[str], Awaitable[None]]) -> None:
        """See :class:`Wire`."""
        self._nc._process_err = on_complaint
        self._nc._process_msg = self._take
        self._nc._process_ping = self._answer
        # Nothing waits for its flusher, and its pinger only knows 240 s and more.
        self._nc._flusher = self._nc._ping_interval = _end

    def resume(self, on_answer: Callable[[], None]) -> None:
        """Go on where the library takes the first line behind its CONNECT for the answer to it.

        A server whose login takes long sends a PING of its own first, and the library then calls itself connecting for
        ever, while its read loop runs.
        """
        self._nc._status = self._nc.CONNECTED
        # The first PONG answers the library's own PING.
        self._nc._pongs.extend((_Pong(self._guard, _nothing), _Pong(self._guard, on_answer)))
        self._nc._transport.write(_PONG + _PING)

    def last_words(self) -> str:
        """See :class:`Wire`. A server that has no place says so and hangs up; the library only notices the latter."""
        unread = getattr(getattr(self._nc._transport, READER, None), UNREAD, b"")
        found = _LAST_WORDS.search(bytes(unread))
        return found[1].decode("utf-8", "replace") if found else ""

    def begin(self, on_end: Callable[[], None]) -> None:
        """See :class:`Wire`."""
        self._nc._flusher_task = self._nc._ping_interval_task = None
        self._nc._reading_task.add_done_callback(lambda _task: on_end())
        # What it keeps of the server's INFO says nothing any more, and its queue only has to be there.
        self._nc._server_info = {}
        self._nc._flush_queue = _NO_QUEUE

    def write(self, frame: bytes) -> None:
        """Write the first of a pass at once, so that a lone message waits for nothing, and the rest together."""
        if self._is_corked:
            self._unwritten.append(frame)
            return
        self._is_corked = True
        self._nc._transport.write(frame)
        self._shared.writer.soon(self._uncork)

    def _uncork(self) -> None:
        self._is_corked = False
        if self._unwritten:
            data = b"".join(self._unwritten)
            self._unwritten.clear()
            self._guard(self._nc._transport.write, data)

    def ping(self, on_pong: Callable[[], None]) -> None:
        """See :class:`Wire`."""
        self._nc._pongs.append(_Pong(self._guard, on_pong))
        self.write(_PING)

    def subscribe(self, subject: str, queue: str, sink: Sink) -> int:
        """See :class:`Wire`."""
        self._nc._sid = sid = int(self._nc._sid) + 1
        # In place of a queue, a task and two ticks per message: straight to the sink.
        self._sinks[sid] = sink
        self.write(f"SUB {subject} {queue} {sid}\r\n".encode())
        return sid

    def unsubscribe(self, sid: int) -> None:
        """See :class:`Wire`."""
        self.write(f"UNSUB {sid} \r\n".encode())
        self.ping(lambda: self._sinks.pop(sid, None) and None)

    async def _take(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        # Where it raises, the read loop ends and with it the connection: what comes next cannot be understood either.
        found = read_headers(headers) if headers else {}
        sink = self._sinks.get(sid)
        if sink is not None:
            self._guard(sink, Message(subject.decode(), reply.decode(), data, found))

    async def _answer(self) -> None:
        self._guard(self.write, _PONG)

    async def discard(self, seconds: float) -> None:
        """See :class:`Wire`. Its own close() waits for a peer that may never read again; an abort does not."""
        self._nc._status = self._nc.CLOSED
        self._unwritten.clear()
        transport = self._nc._transport
        for writer in (getattr(transport, name, None) for name in WRITERS):
            if writer is not None:
                writer.transport.abort()
        tasks = (self._nc._reading_task, self._nc._flusher_task, self._nc._ping_interval_task)
        alive = [task for task in tasks if task is not None and not task.done()]
        for task in alive:
            task.cancel()
        await self._loop.run_aio_coroutine(_settle(alive, seconds))


def _nothing() -> None:
    """Stands where nobody waits."""


async def _end() -> None:
    """Stands where the library would start a task."""


async def _settle(tasks: list[asyncio.Task[Any]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
    # The aborted transport closes its socket in a callback of its own.
    await asyncio.sleep(0)
