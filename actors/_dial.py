"""Connects to the first of several addresses that answers, and loses no socket over a cancellation."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import trio

# Seconds after which the next address of a name is tried beside the one before (RFC 8305).
_NEXT_ADDRESS = 0.25

#: One entry of what ``getaddrinfo`` gives.
Address = tuple[int, int, int, str, Any]


async def dial(addresses: Sequence[Address], made: list[socket.socket]) -> None:
    """Connect to one of *addresses*, each tried beside those before it that failed or are silent.

    asyncio has that too, and drops the socket where it is cancelled at the moment at which one is connected.

    Args:
        addresses: At least one, in the order to try them.
        made: Takes what is connected, non-blocking, so that its owner has it however this ends; of two at one moment
            both.

    Raises:
        OSError: None could be connected to; the first one's reason.
    """
    failures: list[OSError] = []

    async def attempt(address: Address, is_over: trio.Event) -> None:
        family, kind, protocol, _, where = address
        try:
            with trio.socket.socket(family, kind, protocol) as one:
                await one.connect(where)
                connected = socket.socket(family, kind, protocol, one.detach())
        except OSError as error:
            failures.append(error)
            is_over.set()
            return
        connected.setblocking(False)
        made.append(connected)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for address in addresses:
            is_over = trio.Event()
            nursery.start_soon(attempt, address, is_over)
            with trio.move_on_after(_NEXT_ADDRESS):
                await is_over.wait()
    if not made:
        raise failures[0]
