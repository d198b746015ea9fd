"""The desk between a tool server's callers and its owner: what state the server is in, and who may call it now."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

import attrs
import trio

from actors._mcp_client import UNKNOWN, Connection, Era, OfferedTool


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


class Peer(Protocol):
    """What the owner needs of a server, whether it is a process of its own or runs elsewhere."""

    exited: trio.Event
    lost: trio.Event
    started_at: float
    last_heard: float

    @property
    def pid(self) -> int | None: ...
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


@attrs.define(eq=False)
class Server:
    """A server that finished its handshake.

    Args:
        peer: The server.
        connection: What it is called by.
        calls: Calls that it has in hand.
    """

    peer: Peer
    connection: Connection
    calls: int = 0
    # Apart from what the desk tells to all: hardly anybody waits for it, and it changes with each call.
    _idle: trio.Event | None = attrs.field(init=False, default=None)

    def end_call(self) -> None:
        """Count out a call that it had in hand."""
        self.calls -= 1
        if not self.calls and self._idle is not None:
            self._idle.set()
            self._idle = None

    async def wait_idle(self) -> None:
        """Wait until it has no call in hand."""
        while self.calls:
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()


@attrs.frozen
class RestartRequest:
    """Somebody wants the server replaced, once its calls are done, or at *deadline*."""

    reason: str
    deadline: float


class Desk:
    """Shared by the handle, which calls, and the owner, which starts and ends servers and alone sets the state."""

    def __init__(self) -> None:
        self.state = State.DOWN
        self._reason = "not started yet"
        self._again_at: float | None = None
        self.peer: Peer | None = None
        self.server: Server | None = None
        #: What the server listed last, by name.
        self.tools: dict[str, OfferedTool] = {}
        self.era: Era = UNKNOWN
        #: Whether this server ever answered a call.
        self.answered = False
        #: A call got no answer, and the server said nothing meanwhile.
        self.doubted = False
        #: The server said that its tools are others now.
        self.tools_changed = False
        self.request: RestartRequest | None = None
        #: Called when it became ready.
        self.on_ready: Callable[[], object] | None = None
        self._changed = trio.Event()

    @property
    def calls(self) -> int:
        """Calls that the present server has in hand."""
        return self.server.calls if self.server is not None else 0

    @property
    def meaning(self) -> Meaning:
        """What the state means to those outside; a server that is gone is down before its owner had its turn."""
        if self.peer is not None and self.peer.lost.is_set():
            return MEANINGS[State.DOWN]
        return MEANINGS[self.state]

    def takes_calls(self) -> bool:
        """Whether a call may go to the server now.

        A doubted server gets no new ones until a ping was answered: one that hangs would otherwise never be judged, for
        it always had one in hand. Over HTTP a call that takes its time tells nothing about the others.
        """
        if self.server is None or self.request is not None or not self.meaning.takes_calls:
            return False
        return not self.doubted or (self.server.peer.pid is None and self.server.calls > 0)

    @property
    def reason(self) -> str:
        """Why the state is what it is, for people, and when the next server is started where there is none."""
        if self._again_at is None:
            return self._reason
        return f"{self._reason}; started again in {max(0.0, self._again_at - trio.current_time()):.1f} s"

    def become(self, state: State, reason: str, *, again_at: float | None = None) -> None:
        """Enter *state*; *reason* is for people.

        Args:
            state: What the server is doing.
            reason: Why.
            again_at: When it is started again, on Trio's clock.
        """
        was_ready = self.meaning.is_ready
        self.state, self._reason, self._again_at = state, reason, again_at
        if self.meaning.is_ready and not was_ready and self.on_ready is not None:
            self.on_ready()
        self.changed()

    def open(self, server: Server, tools: dict[str, OfferedTool]) -> None:
        """Serve calls from *server*; whoever calls this sets the state next."""
        self.server, self.tools = server, tools
        self.answered = self.doubted = self.tools_changed = False

    def clear(self) -> None:
        """Forget the server, which is gone."""
        self.peer = self.server = self.request = None
        self.changed()

    def changed(self) -> None:
        """Let all who wait look again."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for(self, condition: Callable[[], Any]) -> None:
        """Wait until *condition* holds; no checkpoint lies between that and the return."""
        while not condition():
            await self._changed.wait()

    def doubt(self) -> None:
        """Ask for a ping as soon as no call is in hand."""
        self.doubted = True
        self.changed()

    def believe(self) -> None:
        """Take note of an answered ping."""
        if self.doubted:
            self.doubted = False
            self.changed()

    def note_tools_changed(self) -> None:
        """Ask for a new list of tools."""
        self.tools_changed = True
        self.changed()
