"""The bytes below a WebSocket: signs of life, and an answer to the handshake that is none."""

from __future__ import annotations

import trio

from agentrt.policy import judge_handshake
from agentrt.ports import ConnectionEnded

# Written in such pieces, so that a slow peer that still reads gives a sign of life in between.
_CHUNK = 64 * 1024
# No server sends a longer head.
_MAX_HEAD = 64 * 1024
_SWITCHING, _FINAL = 101, 200


class Signs:
    """Signs that the other side lives; whoever waits is woken by the next one."""

    def __init__(self) -> None:
        self._next = trio.Event()

    def see(self) -> None:
        """There was one."""
        self._next.set()
        self._next = trio.Event()

    async def wait(self) -> None:
        """Wait for the next one."""
        await self._next.wait()


class WatchedStream(trio.abc.Stream):
    """A stream that tells of each piece that came in or was taken, and judges the answer to a handshake.

    A server that refuses a handshake may do so in ways that a WebSocket library waits through: with a body without an
    end, or by closing without a word. So the head of the answer is read here: whatever is not *101* ends the reader.

    Args:
        stream: The transport, TLS included.
        signs: Told of bytes that were received, and of a piece that was taken while more of the same are to come.
    """

    def __init__(self, stream: trio.abc.Stream, signs: Signs) -> None:
        self._stream = stream
        self._signs = signs
        self._head: bytes | None = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send in pieces."""
        view = memoryview(data)
        for start in range(0, len(view), _CHUNK):
            await self._stream.send_all(view[start : start + _CHUNK])
            # The last one says nothing: a black hole takes a ping, too.
            if start + _CHUNK < len(view):
                self._signs.see()
        if not view:
            await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """As the transport has it."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive, and look at the head of what comes first.

        Raises:
            ConnectionEnded: The handshake was refused, or the connection ended before it was answered.
        """
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            if self._head is None:
                raise
            data = b""
        if self._head is not None:
            self._look(data)
        if data:
            self._signs.see()
        return data

    def _look(self, data: bytes | bytearray) -> None:
        assert self._head is not None
        if not data:
            raise ConnectionEnded("the server closed the connection before it had answered the handshake")
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, rest = self._head.partition(b"\r\n\r\n")
            status, headers = _parse(head)
            if status >= _FINAL or status == 0:
                raise _refused(status, headers)
            if status == _SWITCHING:
                self._head = None
                return
            # 100 and 103 come before the answer.
            self._head = rest
        if len(self._head) > _MAX_HEAD:
            raise _refused(0, {})

    async def aclose(self) -> None:
        """Close the transport."""
        await self._stream.aclose()


def _refused(status: int, headers: dict[str, str]) -> ConnectionEnded:
    if not status:
        return ConnectionEnded("what answers the handshake does not speak HTTP", judge_handshake(_FINAL))
    setback = judge_handshake(status, _seconds(headers.get("retry-after")))
    # What stands behind a question mark may be a secret.
    target = headers.get("location", "").partition("?")[0]
    where = f", which leads to {target}" if target else ""
    return ConnectionEnded(f"the server answered the handshake with HTTP {status}{where}", setback)


def _seconds(retry_after: str | None) -> float | None:
    # A date would need the server's clock; what is no number is taken as not said.
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None


def _parse(head: bytes) -> tuple[int, dict[str, str]]:
    """Read the status, 0 where there is none, and the headers of an answer."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if not first.startswith("HTTP/1.") or len(words) == 1 or not words[1].isdecimal():
        return 0, {}
    pairs = (line.partition(":") for line in lines)
    return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}
