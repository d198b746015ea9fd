"""A TCP proxy on loopback that misbehaves on request: a black hole, a reset, a cut, an accept that is late."""

from __future__ import annotations

import socket
import struct

import attrs
import trio


@attrs.define(eq=False)
class _Pair:
    """The two ends of one relayed connection; in a *forgotten* one bytes are taken and never passed on."""

    client: trio.SocketStream
    server: trio.SocketStream
    forgotten: bool = False
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def reset(self) -> None:
        """Close it so that the peers are told by RST, not by FIN."""
        for stream in (self.client, self.server):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.socket.close()
        self.scope.cancel()

    async def cut(self) -> None:
        """Close it, so that the client is told by FIN."""
        await trio.aclose_forcefully(self.client)
        # One that was forgotten waits for nothing else.
        self.scope.cancel()


class TcpProxy:
    """Relays from a port of its own to *target*; ``run`` it in a nursery with ``start``."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._pairs: set[_Pair] = set()
        self._open = trio.Event()
        self._open.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        async with trio.open_nursery() as nursery, listener:
            while True:
                await self._open.wait()
                client = await listener.accept()
                nursery.start_soon(self._serve, client)

    def swallow(self) -> None:
        """Become a black hole: what is connected is dead for good, and what connects now is served after ``heal``."""
        self._open = trio.Event()
        for pair in self._pairs:
            pair.forgotten = True

    def heal(self) -> None:
        """Accept and relay again."""
        self._open.set()

    def reset(self) -> None:
        """End every connection by RST."""
        while self._pairs:
            self._pairs.pop().reset()

    async def cut(self) -> None:
        """End every connection by FIN."""
        while self._pairs:
            await self._pairs.pop().cut()

    async def _serve(self, client: trio.SocketStream) -> None:
        async with client:
            await self._open.wait()
            try:
                async with await trio.open_tcp_stream("127.0.0.1", self.target) as server:
                    pair = _Pair(client, server)
                    self._pairs.add(pair)
                    try:
                        with pair.scope:
                            await _relay(pair)
                    finally:
                        self._pairs.discard(pair)
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                # One end is gone, and closing the other tells it.
                pass


async def _relay(pair: _Pair) -> None:
    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        while data := await source.receive_some(65536):
            if not pair.forgotten:
                await sink.send_all(data)
        if pair.forgotten:
            # The other end must not hear of this: nothing passes a black hole, an end of file neither.
            await trio.sleep_forever()
        pair.scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, pair.client, pair.server)
        nursery.start_soon(pump, pair.server, pair.client)
