"""The in-process session for tests: it fails as a real one does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from agentrt.ports import ToolError, ToolSession
from agentrt.testing.tools import InProcessSession


class Archive:
    """A server for tests; private and plain methods are no tools."""

    def __init__(self) -> None:
        self.searches = 0

    async def search(self, query: str, limit: int = 10) -> dict[str, object]:
        self.searches += 1
        await trio.sleep(5)
        return {"query": query, "limit": limit}

    async def fail(self) -> None:
        raise LookupError("no such page")

    async def _private(self) -> None: ...

    def plain(self) -> None: ...


async def later(seconds: float, *actions: Callable[[], object]) -> None:
    for action in actions:
        await trio.sleep(seconds)
        action()


async def outcome(call: Awaitable[object]) -> tuple[str, bool]:
    with pytest.raises(ToolError) as caught:
        await call
    return caught.value.kind, caught.value.may_have_happened


async def test_public_async_methods_are_tools(autojump_clock):
    """Nothing else is."""
    session: ToolSession = InProcessSession(Archive(), name="archive")
    assert session.tools == ("fail", "search")
    assert session.pid is None
    assert await session.call("search", {"query": "nats"}) == {"query": "nats", "limit": 10}


async def test_failures_have_the_kinds_of_a_real_session(autojump_clock):
    """A tool's error, a wrong argument, an unknown tool and a timeout."""
    session = InProcessSession(Archive())
    assert await outcome(session.call("fail")) == ("tool", True)
    assert await outcome(session.call("search", {"page": 1})) == ("permanent", False)
    assert await outcome(session.call("plain")) == ("permanent", False)
    assert await outcome(session.call("search", {"query": "x"}, timeout=1.0)) == ("timeout", True)


async def test_calls_wait_while_it_is_crashed(autojump_clock):
    """Until it is restored, or until their deadline."""
    session = InProcessSession(Archive())
    session.crash()
    assert (session.is_ready, session.reason) == (False, "crashed by a test")
    assert await outcome(session.call("search", {"query": "x"}, timeout=3.0)) == ("transient", False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later, 10, session.restore)
        await session.wait_ready()
        assert trio.current_time() == 13.0
        assert await session.call("search", {"query": "x"})


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_call_in_hand_at_a_crash_is_repeated_only_where_it_does_no_harm(autojump_clock, idempotent):
    """The tool had begun, so it may have happened."""
    archive = Archive()
    session = InProcessSession(archive)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later, 1, session.crash, session.restore)
        call = session.call("search", {"query": "x"}, idempotent=idempotent)
        if idempotent:
            assert await call == {"query": "x", "limit": 10}
        else:
            assert await outcome(call) == ("transient", True)
    assert archive.searches == (2 if idempotent else 1)
