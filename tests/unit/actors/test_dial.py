"""Dialling: the first address that answers, each socket in somebody's hands at any moment."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from actors import _dial
from actors._dial import Address, dial


def address(port: int, host: str = "127.0.0.1") -> Address:
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        yield listener.socket.getsockname()[1]


def nobody() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def taken(made: list[socket.socket]) -> list[int]:
    """Return the ports that were connected to; close all."""
    ports = [one.getpeername()[1] for one in made]
    for one in made:
        assert not one.getblocking()
        one.close()
    return ports


async def test_the_next_address_is_tried_where_one_fails() -> None:
    """At once, without a pause."""
    made: list[socket.socket] = []
    async with listening() as port:
        await dial([address(nobody()), address(port)], made)
        assert [port] == taken(made)


async def test_where_all_fail_the_first_one_says_why() -> None:
    """The others' reasons are hardly others."""
    port, made = nobody(), list[socket.socket]()
    with pytest.raises(ConnectionRefusedError, match=rf"{port}.*Connection refused"):
        await dial([address(port), address(nobody())], made)
    assert [] == made


@pytest.mark.parametrize("cancel_at", range(1, 14))
async def test_a_cancellation_at_any_moment_loses_no_socket(cancel_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is connected then is the owner's, and the rest is closed."""
    monkeypatch.setattr(_dial, "_NEXT_ADDRESS", 0.0)
    async with listening() as port:
        before, made = descriptors(), list[socket.socket]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial, [address(port), address(port)], made)
            for _ in range(cancel_at):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert before + len(made) == descriptors()
        taken(made)
        assert before == descriptors()
