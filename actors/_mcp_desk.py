"""The desk between a tool server's callers and its owner: what state the server is in, and who may call it now."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import attrs
import trio

from actors._mcp_client import UNKNOWN, Connection, Era, Lines


class State(enum.Enum):
    """What a server is doing."""

    #: There is none; the reason says when one is started.
    DOWN = "down"
    STARTING = "starting"
    READY = "ready"
    #: It answers, but lacks tools that it is expected to have.
    INCOMPLETE = "incomplete"
    #: It did not answer a ping.
    SILENT = "silent"
    #: It finishes what it has in hand, and is then replaced.
    DRAINING = "draining"


@attrs.frozen
class Meaning:
    """What a state means to those outside."""

    is_ready: bool
    takes_calls: bool


MEANINGS = {
    State.DOWN: Meaning(is_ready=False, takes_calls=False),
    State.STARTING: Meaning(is_ready=False, takes_calls=False),
    State.READY: Meaning(is_ready=True, takes_calls=True),
    State.INCOMPLETE: Meaning(is_ready=False, takes_calls=True),
    State.SILENT: Meaning(is_ready=False, takes_calls=False),
    State.DRAINING: Meaning(is_ready=False, takes_calls=False),
}


class Process(Lines, Protocol):
    """What the owner needs of a server process, beyond its lines."""

    exited: trio.Event
    lost: trio.Event
    started_at: float
    last_heard: float

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    @property
    def signal(self) -> str | None: ...
    @property
    def ending(self) -> str: ...
    @property
    def last_words(self) -> str: ...
    async def run(self) -> None: ...
    def kill(self) -> None: ...


@attrs.frozen
class Server:
    """A server that finished its handshake."""

    process: Process
    connection: Connection


@attrs.frozen
class RestartRequest:
    """Somebody wants the server replaced, once its calls are done, or at *deadline*."""

    reason: str
    deadline: float


class Desk:
    """Shared by the handle, which calls, and the owner, which starts and ends servers and alone sets the state."""

    def __init__(self) -> None:
        self.state = State.DOWN
        self.reason = "not started yet"
        self.process: Process | None = None
        self.server: Server | None = None
        self.tools: tuple[str, ...] = ()
        self.era: Era = UNKNOWN
        #: Calls that the server has in hand.
        self.calls = 0
        #: Whether this server ever answered a call.
        self.answered = False
        #: A call ran into its deadline and the server said nothing meanwhile.
        self.doubted = False
        self.request: RestartRequest | None = None
        self._changed = trio.Event()

    @property
    def meaning(self) -> Meaning:
        """What the state means to those outside; a server that is gone is down before its owner had its turn."""
        if self.process is not None and self.process.lost.is_set():
            return MEANINGS[State.DOWN]
        return MEANINGS[self.state]

    def become(self, state: State, reason: str) -> None:
        """Enter *state*; *reason* is for people."""
        self.state, self.reason = state, reason
        self.changed()

    def open(self, server: Server, tools: tuple[str, ...]) -> None:
        """Serve calls from *server*; whoever calls this sets the state next."""
        self.server, self.tools = server, tools
        self.answered = self.doubted = False

    def clear(self) -> None:
        """Forget the server, which is gone."""
        self.process = self.server = self.request = None
        self.changed()

    def changed(self) -> None:
        """Let all who wait look again."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for(self, condition: Callable[[], Any]) -> None:
        """Wait until *condition* holds; no checkpoint lies between that and the return."""
        while not condition():
            await self._changed.wait()

    @contextmanager
    def call_in_hand(self) -> Iterator[None]:
        """Count a call while the server has it."""
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1
            self.changed()

    def doubt(self) -> None:
        """Ask for a ping at once, calls in hand or not."""
        self.doubted = True
        self.changed()
