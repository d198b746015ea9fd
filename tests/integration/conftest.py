"""A real nats-server for tests, and buses connected to it by the real actor."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from nats_process import RealServer

from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime

#: Whether every bus uses nats-py's public methods only. A few tests are about what those cannot do, and fail.
#: Set it by AGENTRT_TEST_NATS=public.
ON_PUBLIC_WAY = os.environ.get("AGENTRT_TEST_NATS") == "public"


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
def run_bus() -> Run:
    """Give a function that runs a bus under the real kernel, as an async context manager."""

    @asynccontextmanager
    async def run(server: RealServer, **settings: Any) -> AsyncIterator[Running]:
        settings.setdefault("credentials", server.credentials)
        settings.setdefault("is_public", ON_PUBLIC_WAY)
        running = Running(NatsBus(NatsSettings(url=server.url, **settings)), [])
        stream = EventStream()
        stream.listen(running.events.append)
        root = SupervisorSpec(
            id="agent", children=(ChildSpec(id="connection", factory=lambda: NatsConnection(running.bus)),)
        )
        async with bridge(), open_runtime(root, seed=1, events=stream):
            yield running

    return run
