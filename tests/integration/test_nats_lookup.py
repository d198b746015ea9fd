"""A name of a server that is looked up late, or never: nobody waits for it longer than for anything else."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
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
            assert bus.checks()["nats_connected"][1].endswith(": no connection within 0.2 s")
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


@contextmanager
def black_hole(port: int) -> Iterator[str]:
    """Give an address that takes no more connections, and says so to nobody."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(("127.0.0.2", port))
        yield "127.0.0.2"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no second address of loopback")
async def test_an_address_that_swallows_everything_is_not_the_only_one_that_is_tried(
    nats_server: Server, run_bus: Run, monkeypatch: pytest.MonkeyPatch
):
    """A name may have several, as where one way through the network is broken; each attempt has time for the others."""
    real = socket.getaddrinfo

    def both(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        found = real("127.0.0.1" if host == "two.test" else host, port, *args, **kwargs)
        holes = [(*entry[:4], (hole, *entry[4][1:])) for entry in found] if host == "two.test" else []
        return [*holes, *found]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with trio.fail_after(60), black_hole(nats_server.port) as hole:
        async with run_bus(nats_server, url=f"nats://two.test:{nats_server.port}") as running:
            await ready(running.bus)
            assert 0 == running.bus.statistics().attempts_failed
