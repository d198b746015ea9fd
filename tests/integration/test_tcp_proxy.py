"""The proxy that misbehaves for the chaos tests: what was done to a connection must not spoil what is done next."""

from __future__ import annotations

import contextlib

import pytest
import trio
from tcp_proxy import TcpProxy


async def echo(stream: trio.SocketStream) -> None:
    # The reset is told to both ends.
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in stream:
            await stream.send_all(data)


async def connect(proxy: TcpProxy) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", proxy.port)
    await stream.send_all(b"hello")
    assert b"hello" == await stream.receive_some()
    return stream


async def test_a_connection_dies_as_it_was_told_to_in_any_order():
    """A black hole that ends, a cut and a reset, each of new connections beside old ones that are dead already."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, echo, 0)
            proxy = TcpProxy(listeners[0].socket.getsockname()[1])
            await nursery.start(proxy.run)
            hole = await connect(proxy)
            proxy.swallow()
            await hole.send_all(b"unheard")
            await hole.send_eof()
            proxy.heal()
            cut = await connect(proxy)
            await proxy.cut()
            assert b"" == await cut.receive_some()
            assert b"" == await hole.receive_some()
            reset = await connect(proxy)
            proxy.reset()
            with pytest.raises(trio.BrokenResourceError):
                await reset.receive_some()
            await (await connect(proxy)).aclose()
            for stream in (hole, cut, reset):
                await stream.aclose()
            nursery.cancel_scope.cancel()
