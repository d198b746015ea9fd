"""Moving: of two servers that serve in part, the one that serves more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import trio

from actors._nats_moving import Moving
from actors._nats_requests import ConnectionLost
from agentrt.policy import PoolServer, ReconnectBackoff, ServerPool

HERE = PoolServer("nats://here:4222")


@attrs.define(eq=False)
class Connection:
    """One of those that may be served on."""

    server: PoolServer
    told: tuple[PoolServer, ...] = ()
    ended: str = ""
    is_silent: bool = False

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_silent:
            await trio.sleep_forever()

    async def discard(self) -> None:
        self.ended = "discarded"

    def lose(self, reason: str) -> None:
        self.ended = reason


class Link:
    """Writes down what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def prepare(self, client: Connection) -> None:
        self.asked.append(f"prepare {client.server}")

    def retire(self) -> None:
        self.asked.append("retire")


@pytest.mark.parametrize(
    ("unserved", "expected", "asked"),
    [
        # One that serves all is moved to at once: what the present one lacks is known to be something.
        ({"a": 0}, "a", ["a"]),
        ({"here": 2, "a": 1}, "a", ["a", "here"]),
        ({"here": 2, "a": 2, "b": 1}, "b", ["a", "here", "b", "here"]),
        # Nobody is sent to and fro between two that lack something each.
        ({"here": 1, "a": 1, "b": 3}, None, ["a", "here", "b", "here"]),
        ({"here": 0, "a": 1}, None, ["a", "here"]),
        ({"here": 2, "b": 0}, "b", ["b"]),
    ],
)
async def test_a_connection_moves_to_where_less_is_missing(
    unserved: Mapping[str, int], expected: str | None, asked: list[str]
) -> None:
    """Who is not better, or does not let us in, is let go of; the old one ends after the new one is subscribed on."""
    pool = ServerPool((HERE, PoolServer("nats://a:4222"), PoolServer("nats://b:4222")))
    made: list[Connection] = []
    looked_at: list[str] = []
    told: list[dict[str, Any]] = []

    async def connect(servers: tuple[PoolServer, ...]) -> Connection:
        await trio.lowlevel.checkpoint()
        if name(servers[0]) not in unserved:
            raise ConnectionLost("refused")
        made.append(Connection(servers[0]))
        return made[-1]

    async def count(client: Connection) -> int:
        await trio.lowlevel.checkpoint()
        looked_at.append(name(client.server))
        return unserved[looked_at[-1]]

    link, present = Link(), Connection(HERE)
    moving = Moving(link, pool, connect, lambda _kind, **fields: told.append(fields), lambda: 0.0, ReconnectBackoff())  # type: ignore[arg-type, return-value]
    await moving.look_elsewhere(present, "no leader", count)  # type: ignore[arg-type]
    assert asked == looked_at
    taken: Any = moving.take()
    assert expected == (None if taken is None else name(taken.server))
    assert {"discarded"} >= {one.ended for one in made if one is not taken}
    if taken is None:
        assert ([], [], "") == (link.asked, told, present.ended)
        return
    assert "" == taken.ended
    assert [f"prepare {taken.server}", "retire"] == link.asked
    assert "moved away from here:4222, where JetStream does not serve: no leader" == present.ended
    assert [{"server": "here:4222", "reason": "no leader", "instead": str(taken.server)}] == told


async def test_one_that_falls_silent_as_it_is_moved_to_holds_nobody_up(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing probes it before it is moved to; after that it is found like any other that is silent."""
    pool, present = ServerPool((HERE, PoolServer("nats://a:4222"))), Connection(HERE)

    async def connect(servers: tuple[PoolServer, ...]) -> Connection:
        await trio.lowlevel.checkpoint()
        return Connection(servers[0], is_silent=True)

    async def count(_client: Connection) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    moving = Moving(Link(), pool, connect, lambda _kind, **_fields: None, lambda: 0.0, ReconnectBackoff())  # type: ignore[arg-type, return-value]
    with trio.fail_after(60):
        await moving.look_elsewhere(present, "no leader", count)  # type: ignore[arg-type]
    assert "moved away from here:4222, where JetStream does not serve: no leader" == present.ended
    assert moving.is_ready


def name(server: PoolServer) -> str:
    return str(server).partition(":")[0]
