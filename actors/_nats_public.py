"""A NATS connection by the public methods of nats-py alone: for releases whose private parts are not known."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from actors._nats_frames import STATUS, Message, decode
from actors._nats_internals import Guard, Sink

# A flush that ends before its PONG comes kills the read loop when it does.
_NEVER = 365 * 86400

Operation = Callable[[], Awaitable[None]]


class PublicWire:
    """See :class:`actors._nats_internals.Wire`. One task of asyncio does what is to be done, one after the other.

    What it cannot do as well: an error of the server that is not about permissions ends the connection, and its
    reason is all that is known; a read loop that died is found by the probe; a handshake that stopped half-way is
    given up, and why one was refused is not always known; a discarded connection to a peer that reads nothing keeps
    its socket, and a task for each subscription, until the system gives it up; an empty message with a header
    ``Status`` is taken for the server's own word.

    Args:
        nc: The client object.
        loop: The loop of asyncio that it lives on.
        guard: Calls a function so that nothing it raises reaches the library.
    """

    def __init__(self, nc: Any, loop: Any, guard: Guard) -> None:
        self._nc = nc
        self._loop = loop
        self._guard = guard
        self._subscriptions: dict[int, Any] = {}
        self._numbers = itertools.count(1)
        self._todo: deque[Operation] = deque()
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    def prepare(self, on_complaint: Callable[[str], Awaitable[None]]) -> None:
        """Do nothing: the library hears the server's errors, and says some of them to its error callback."""

    def resume(self, on_answer: Callable[[], None]) -> None:
        """Do nothing: the attempt is given up when its time is over."""

    def last_words(self) -> str:
        """Return nothing: what was not read cannot be known."""
        return ""

    def begin(self, on_end: Callable[[], None]) -> None:
        """See :class:`actors._nats_internals.Wire`."""
        self._worker = self._loop.create_task(self._work())
        assert self._worker is not None
        self._worker.add_done_callback(lambda task: _ended(task, on_end))

    def write(self, frame: bytes) -> None:
        """See :class:`actors._nats_internals.Wire`."""

        async def publish() -> None:
            subject, reply, body, headers = decode(frame)
            await self._nc.publish(subject, body, reply=reply, headers=headers or None)

        self._do(publish)

    def ping(self, on_pong: Callable[[], None]) -> None:
        """Flush twice: the library writes its PING before what waits to be written."""

        async def flush() -> None:
            await self._nc.flush(_NEVER)
            await self._nc.flush(_NEVER)
            self._guard(on_pong)

        self._do(flush)

    def subscribe(self, subject: str, queue: str, sink: Sink) -> int:
        """See :class:`actors._nats_internals.Wire`."""
        number = next(self._numbers)

        async def take(raw: Any) -> None:
            headers = _plain(raw.headers)
            if not raw.data and "Status" in headers:
                headers[STATUS] = headers.pop("Status")
            self._guard(lambda: sink(Message(raw.subject, raw.reply, raw.data, headers)))

        async def subscribe() -> None:
            self._subscriptions[number] = await self._nc.subscribe(
                subject, queue, cb=take, pending_msgs_limit=0, pending_bytes_limit=0
            )

        self._do(subscribe)
        return number

    def unsubscribe(self, sid: int) -> None:
        """See :class:`actors._nats_internals.Wire`."""

        async def unsubscribe() -> None:
            await self._subscriptions.pop(sid).drain()

        self._do(unsubscribe)

    def _do(self, operation: Operation) -> None:
        self._todo.append(operation)
        self._wake.set()

    async def _work(self) -> None:
        while True:
            while self._todo:
                await self._todo.popleft()()
            self._wake.clear()
            await self._wake.wait()

    async def discard(self, seconds: float) -> None:
        """See :class:`actors._nats_internals.Wire`."""
        self._todo.clear()
        await self._loop.run_aio_coroutine(self._close(seconds))

    async def _close(self, seconds: float) -> None:
        tasks = [asyncio.ensure_future(self._nc.close())]
        if self._worker is not None:
            self._worker.cancel()
            tasks.append(self._worker)
        await asyncio.wait(tasks, timeout=seconds)
        tasks[0].cancel()
        # What it ended with is looked at, and says nothing that matters of a client that is thrown away.
        await asyncio.wait(tasks[:1], timeout=seconds)


def _ended(task: asyncio.Task[None], on_end: Callable[[], None]) -> None:
    if not task.cancelled():
        # The library says it too; what nobody looks at asyncio complains of.
        task.exception()
    on_end()


def _plain(headers: dict[Any, str] | None) -> dict[str, str]:
    # The library mixes plain strings and members of an enum, whose hashes differ, as names of headers.
    return {getattr(key, "value", key): value for key, value in (headers or {}).items()}
