"""Waiting for what a NATS bus does, in tests against a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from actors.nats import NatsBus
from agentrt.ports import BucketSpec, ConsumerSpec, StreamSpec, Topology

SUBJECT = "t.tasks.editor.high"
TOPOLOGY = Topology(
    (StreamSpec("TASKS", ("t.tasks.>",), work_queue=True),),
    (ConsumerSpec("TASKS", "editor", SUBJECT, ack_wait=2.0),),
    (BucketSpec("outcomes"),),
)
#: Settings under which a fault is noticed soon.
FAST: dict[str, float] = {"probe_interval": 0.1, "probe_limit": 0.6}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the bus offers no event for; the test's deadline bounds it."""
    while not condition():  # noqa: ASYNC110 - see above.
        await trio.sleep(0.01)


async def ready(bus: NatsBus) -> None:
    await bus.wait_ready()


async def not_ready(bus: NatsBus) -> None:
    await until(lambda: not bus.is_ready)


async def in_thread(function: Callable[..., Any], *args: Any) -> None:
    await trio.to_thread.run_sync(lambda: function(*args))
