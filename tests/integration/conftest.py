"""A real nats-server for tests, and buses connected to it by the real actor."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from nats_process import RealServer
from processes import processes

from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime


@pytest.fixture
def mark() -> Iterator[str]:
    """Mark all processes of a test; none may be left after it."""
    text = uuid.uuid4().hex
    yield text
    assert processes(text) == []


@pytest.fixture
def nats_way() -> str:
    """Say how buses use nats-py: ``private``, or by its ``public`` methods only.

    It is what AGENTRT_TEST_NATS says; a module overrides this to run its tests both ways.
    """
    return os.environ.get("AGENTRT_TEST_NATS", "private")


@pytest.fixture
def private_only(nats_way: str) -> None:
    """Pass over what nats-py's public methods cannot do; :mod:`actors._nats_public` says what that is."""
    if nats_way == "public":
        pytest.skip("nats-py's public methods cannot do this")


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[RealServer]:
    server = RealServer(tmp_path)
    server.start()
    yield server
    server.kill()


@attrs.define
class Running:
    """A bus that is driven, and what was said about it."""

    bus: NatsBus
    events: list[Event]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


Run = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def run_bus(nats_way: str) -> Run:
    """Give a function that runs a bus under the real kernel, as an async context manager."""

    @asynccontextmanager
    async def run(server: RealServer, **settings: Any) -> AsyncIterator[Running]:
        settings.setdefault("credentials", server.credentials)
        settings.setdefault("is_public", nats_way == "public")
        settings.setdefault("url", server.url)
        running = Running(NatsBus(NatsSettings(**settings)), [])
        stream = EventStream()
        stream.listen(running.events.append)
        root = SupervisorSpec(
            id="agent", children=(ChildSpec(id="connection", factory=lambda: NatsConnection(running.bus)),)
        )
        async with bridge(), open_runtime(root, seed=1, events=stream):
            yield running

    return run
