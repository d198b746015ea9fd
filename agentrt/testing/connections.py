"""A connection in process, for tests in virtual time: any object, with the outages of a real one on demand."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import trio

from agentrt.ports import ConnectionUnavailable


class InProcessConnection:
    """Stands in for a connection: what is asked of it is asked of an object, which the test has in its hands.

    While it is cut, async methods of the object wait until it is restored, :meth:`client` waits until its deadline,
    and it is not ready.

    Args:
        stand_in: For a WebSocket, something with ``send`` and ``receive``; for a client of your own, that client.
        name: The connection's name.
    """

    def __init__(self, stand_in: object, *, name: str = "connection") -> None:
        self.name = name
        self._stand_in = stand_in
        self._up = trio.Event()
        self._up.set()

    @property
    def is_ready(self) -> bool:
        """Whether it is not cut."""
        return self._up.is_set()

    @property
    def reason(self) -> str:
        """Why it is ready or not, for people."""
        return "connected" if self.is_ready else "cut by a test"

    def cut(self) -> None:
        """Go down."""
        if self.is_ready:
            self._up = trio.Event()

    def restore(self) -> None:
        """Come up again."""
        self._up.set()

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""
        await self._up.wait()

    def client_nowait(self) -> Any:
        """Give the object.

        Raises:
            ConnectionUnavailable: It is cut.
        """
        if not self.is_ready:
            raise ConnectionUnavailable(f"connection {self.name!r}: no client now ({self.reason})")
        return self._stand_in

    async def client(self, timeout: float = 30.0) -> Any:
        """Give the object; wait while it is cut.

        Raises:
            ConnectionUnavailable: It was cut for *timeout* seconds.
        """
        with trio.move_on_after(timeout):
            await self.wait_ready()
            return self.client_nowait()
        raise ConnectionUnavailable(f"connection {self.name!r}: no client within {timeout:g} s ({self.reason})")

    def resume_with(self, resume: Any) -> None:
        """Take a resume hook, which nothing calls: no connection is ever made."""

    def __aiter__(self) -> InProcessConnection:
        """Give what the object receives."""
        return self

    async def __anext__(self) -> Any:
        """Give the next thing that the object receives."""
        return await self.receive()

    def __getattr__(self, name: str) -> Any:
        """Ask the object, through what is cut and restored."""
        found = getattr(self._stand_in, name)
        if not inspect.iscoroutinefunction(found):
            return found

        @functools.wraps(found)
        async def through(*args: Any, **settings: Any) -> Any:
            await self.wait_ready()
            return await found(*args, **settings)

        return through
