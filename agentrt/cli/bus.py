"""A connection to a fleet's bus from another process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from agentrt.config import Loaded, bus_login
from agentrt.fleet import Batteries
from agentrt.kernel import ChildSpec, SupervisorSpec, WhenExhausted, open_runtime
from agentrt.ports import Bus
from agentrt.tasks import Names


@asynccontextmanager
async def open_bus(loaded: Loaded, *, url: str, token: str | None, name: str) -> AsyncIterator[Bus]:
    """Connect to a fleet's bus. It is not waited for: each operation has its own timeout.

    Args:
        loaded: The fleet's configuration, with the credentials for a bus that the fleet does not bring along.
        url: Where the bus is.
        token: What it asks for, where the running fleet says so.
        name: What the server calls the connection.

    Raises:
        BatteryMissing: There is nothing installed that can connect.
        SecretError: A secret cannot be read.
    """

    def credentials() -> Mapping[str, str | None]:
        if token is not None:
            return {"token": token}
        return bus_login(loaded.config.bus, os.environ, loaded.folder)

    # Where a secret is missing, that is said at once, and not tried again until the time is up.
    credentials()
    batteries = Batteries()
    battery = batteries["nats"]
    bus: Bus = battery.open_handle(
        url=url,
        credentials=credentials,
        config=loaded.config.bus,
        name=f"{loaded.config.fleet.name}-{name}",
        inbox=Names(str(loaded.config.fleet.name)).inbox(),
    )
    child = ChildSpec(id="bus", factory=lambda: battery(bus), when_exhausted=WhenExhausted.ESCALATE)
    async with batteries.around("nats"), open_runtime(SupervisorSpec(id=name, children=(child,))):
        yield bus
