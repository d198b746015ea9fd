"""A WebSocket server in a process of its own: answers each message with the same one, and closes as it is told to."""

from __future__ import annotations

import struct
import sys

import trio
import trio_websocket

_CLOSE = 0x88


def close_frame(code: int, words: str) -> bytes:
    """Write a close frame, also with a code that no library sends."""
    body = struct.pack("!H", code) + words.encode()
    return bytes([_CLOSE, len(body)]) + body


async def serve(stream: trio.SocketStream) -> None:
    """Echo; ``close CODE WORDS`` closes the connection with that code on the wire."""
    async with trio.open_nursery() as nursery:
        try:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            connection = await request.accept()
            while True:
                message = await connection.get_message()
                if isinstance(message, str) and message.startswith("close "):
                    _, code, words = message.split(" ", 2)
                    await stream.send_all(close_frame(int(code), words))
                else:
                    await connection.send_message(message)
        except (trio_websocket.ConnectionClosed, trio_websocket.HandshakeError, trio.BrokenResourceError):
            # Whoever looks whether it listens says nothing.
            nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(stream)


trio.run(trio.serve_tcp, serve, int(sys.argv[1]))
