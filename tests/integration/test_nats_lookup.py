"""A name of a server that is looked up late, or never: nobody waits for it longer than for anything else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from nats_waits import ready, until

Server = Any
Run = Callable[..., AbstractAsyncContextManager[Any]]


class Lookups:
    """Answers at once, or not at all until it is released."""

    def __init__(self) -> None:
        self._real = socket.getaddrinfo
        self._released = threading.Event()
        self.hang = False
        self.asked = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        if self.hang:
            # Bounded, so that a test that waits for it fails and does not stand.
            self._released.wait(20)
        return self._real(*args, **kwargs)

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lookups]:
    found = Lookups()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield found
    found.release()


async def test_a_lookup_that_hangs_costs_no_more_than_its_attempt(nats_server: Server, run_bus: Run, lookups: Lookups):
    """Each attempt ends in time and says why, once; and the first that gets an answer connects."""
    with trio.fail_after(60):
        async with run_bus(nats_server, url=f"nats://localhost:{nats_server.port}", connect_timeout=0.2) as running:
            bus = running.bus
            await ready(bus)
            lookups.hang = True
            bus.link.client.lose("thrown away by the test")
            await until(lambda: bus.statistics().attempts_failed >= 3)
            assert "no connection within 0.2 s" == bus.checks()["nats_connected"][1]
            lookups.hang = False
            await ready(bus)
    assert 1 == running.kinds().count("nats_connect_failed")


async def test_a_lookup_that_hangs_holds_up_no_stop(nats_server: Server, run_bus: Run, lookups: Lookups):
    """A stop in the middle of an attempt ends at once, and not when the system's resolver gives up."""
    lookups.hang = True
    with trio.fail_after(30):
        async with run_bus(nats_server, url=f"nats://localhost:{nats_server.port}") as running:
            await until(lambda: lookups.asked > 0)
    assert not running.bus.is_ready
