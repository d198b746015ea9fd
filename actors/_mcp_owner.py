"""The owner of one tool server: starts it, watches it, and starts it again for as long as it is wanted."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from actors._mcp_client import ERAS, LEGACY, UNKNOWN, HandshakeFailed, connect
from actors._mcp_desk import Desk, Peer, Server, State
from actors._mcp_form import filled_with_defaults
from actors._mcp_history import History
from actors._mcp_launch import CannotStart, Launched, Launcher
from actors._mcp_watch import Reporter, Watch
from agentrt.policy import FailureKind, RestartDelay, ServerRestart
from agentrt.resilience import CallFailed

if TYPE_CHECKING:
    from agentrt.config.model import McpServerConfig
    from agentrt.kernel import Event
    from agentrt.policy import Failure

#: A server that ran this long, or answered a call, was a good start; one that dies sooner is held back.
_GOOD_START = 10.0
#: Starts in a row that fail without an answer, after which a server is asked anew how it wants to be spoken to.
_ERA_DOUBTED = 2
#: Of what a server says, this much is told.
_SHOWN = 200
#: What fails in passing is no sign that a start will fail for ever.
_PASSING = frozenset({FailureKind.TRANSIENT, FailureKind.TIMEOUT, FailureKind.THROTTLED})


@attrs.frozen
class Parting:
    """Why the owner is done with a server.

    Args:
        reason: For people; None where the server itself knows best.
        was_ready: Whether it had been started successfully.
        requested: Whether somebody asked for a new one, so that this is no failure.
        handover: Whether calls in hand go on while the next one is started.
        failure: What kind of failure it was, where the server or the network said so.
        cause: The event that tells more.
        was_lost: Whether the server was gone before it was done with.
    """

    reason: str | None
    was_ready: bool = True
    requested: bool = False
    handover: bool = False
    failure: Failure | None = None
    cause: Event | None = None
    was_lost: bool = False


@attrs.frozen
class Ending:
    """How one run of a server ended."""

    parting: Parting
    uptime: float
    peer: Peer | None = None

    @property
    def reason(self) -> str:
        """What happened, for people."""
        if self.parting.reason is None:
            return self.peer.ending if self.peer is not None else "ended"
        return self.parting.reason

    @property
    def told(self) -> str:
        """What happened, with the exit of a server that was gone before it was done with."""
        if self.parting.was_lost and self.peer is not None and self.peer.pid is not None:
            return f"{self.reason}, it {self.peer.ending}"
        return self.reason

    @property
    def signature(self) -> str | None:
        """What identifies a failure to start; None where the server had started, or the failure may pass by itself."""
        failure = self.parting.failure
        if self.parting.was_ready or (failure is not None and failure.kind in _PASSING and self.exit_code is None):
            return None
        return f"{self.exit_code}: {self.parting.reason}"

    @property
    def exit_code(self) -> int | None:
        """The process's return code, where it had one."""
        return self.peer.returncode if self.peer is not None else None


class Life:
    """One run of a server, and its end as the owner sees it; calls in hand may go on for a while after it."""

    def __init__(self) -> None:
        self._over = trio.Event()
        self._ending: Ending | None = None

    def end(self, ending: Ending) -> None:
        """Say how it ended; what is said first counts."""
        if self._ending is None:
            self._ending = ending
            self._over.set()

    async def wait(self) -> Ending:
        """Wait for the end."""
        await self._over.wait()
        assert self._ending is not None
        return self._ending


class Owner:
    """Keeps one server running. Each run of a server is one task, which alone enters and leaves the SDK's client.

    Args:
        name: The server's name.
        config: Its settings.
        desk: Where callers meet it.
        reporter: The actor that speaks for it.
        launcher: How it is started.
        restart: When it is started again.
    """

    def __init__(
        self,
        name: str,
        config: McpServerConfig,
        desk: Desk,
        reporter: Reporter,
        *,
        launcher: Launcher,
        restart: ServerRestart,
    ) -> None:
        self._name = name
        self._config = config
        self._desk = desk
        self._reporter = reporter
        self._launcher = launcher
        self._restart = restart
        self._watch = Watch(name, config, desk, reporter)
        self._history = History(name, config.restart_log, reporter)
        self._noisy = False
        self._unheard = 0
        #: How the last server failed to become ready.
        self._failed = ""

    async def run(self) -> None:
        """Start the server, and start it again whenever it ended, until cancelled."""
        if self._desk.era is UNKNOWN:
            self._desk.era = ERAS[self._config.protocol]
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    life = Life()
                    nursery.start_soon(self._live, life)
                    await self._after(await life.wait())
        finally:
            self._desk.clear()
            self._desk.become(State.DOWN, "stopped")

    async def _live(self, life: Life) -> None:
        self._desk.become(State.STARTING, f"starting; before that: {self._failed}" if self._failed else "starting")
        self._noisy = False
        began = trio.current_time()
        try:
            launched = await self._launcher.launch(partial(self._emit, server=self._name), self._ignored)
        except CannotStart as error:
            life.end(Ending(Parting(str(error), was_ready=False), 0.0))
            return
        # No checkpoint from here until the server has a task that ends it.
        async with trio.open_nursery() as nursery:
            peer = launched.peer
            nursery.start_soon(peer.run)
            self._desk.peer = peer
            try:
                parting = await self._talk(launched, life, began)
            finally:
                if self._desk.peer is peer:
                    # It takes no more calls, whatever comes next; on a cancellation its end can take a while.
                    self._desk.clear()
                    self._desk.become(State.DOWN, "stopping")
            peer.kill()
        life.end(Ending(parting, trio.current_time() - began, peer))

    async def _talk(self, launched: Launched, life: Life, began: float) -> Parting:
        limit = self._config.start_timeout
        peer = launched.peer
        parting = Parting(f"not ready within {limit:g} s of its start", was_ready=False)
        with trio.CancelScope(deadline=began + limit) as scope:
            try:
                async with connect(
                    launched.wire,
                    self._desk.era,
                    tools_changed=self._desk.note_tools_changed,
                    fill=self._fill if self._config.elicitation == "defaults" else None,
                ) as connection:
                    server = Server(peer, connection)
                    parting = await self._list_and_serve(server, scope, began)
                    if parting.handover:
                        await self._hand_over(server, life, parting, began)
                    else:
                        # Calls in hand end by the exit, when it is known what the server had read.
                        peer.kill()
                        await peer.exited.wait()
            except HandshakeFailed as error:
                parting = Parting(
                    f"handshake failed: {error}",
                    was_ready=False,
                    failure=error.failure,
                    was_lost=peer.lost.is_set(),
                )
        if not parting.was_ready:
            self._doubt_era(peer, parting, is_over=not scope.cancelled_caught)
        return parting

    async def _hand_over(self, server: Server, life: Life, parting: Parting, began: float) -> None:
        """Let the calls in hand end as they may, while the next server is made."""
        self._desk.clear()
        self._desk.become(State.DOWN, f"{server.peer.ending}")
        life.end(Ending(parting, trio.current_time() - began, server.peer))
        await server.wait_idle()

    def _doubt_era(self, peer: Peer, parting: Parting, *, is_over: bool) -> None:
        """Forget how the server wants to be spoken to only where that may be what is wrong."""
        has_answered = is_over and not peer.lost.is_set() and _is_refusal(parting)
        if self._config.protocol != "auto" or (peer.pid is None and not has_answered):
            # A server elsewhere that cannot be reached said nothing about that.
            return
        self._unheard = 0 if has_answered else self._unheard + 1
        if self._desk.era is UNKNOWN:
            # Some servers exit, or say nothing, when they are asked for what they do not know.
            if not has_answered:
                self._desk.era = LEGACY
                self._unheard = 0
        elif has_answered or self._unheard >= _ERA_DOUBTED:
            # A new version of it may want to be spoken to otherwise.
            self._desk.era = UNKNOWN
            self._unheard = 0

    async def _list_and_serve(self, server: Server, scope: trio.CancelScope, began: float) -> Parting:
        try:
            tools = await server.connection.list_tools()
        except CallFailed as error:
            return Parting(f"cannot list its tools: {error}", was_ready=False, failure=error.failure)
        scope.deadline = math.inf
        self._unheard = 0
        self._failed = ""
        self._desk.era = server.connection.era
        self._desk.open(server, tools)
        self._watch.judge_tools(tools)
        self._history.started(server.peer, began, len(tools), self._desk.reason)
        return await self._first_of(
            partial(self._until_lost, server.peer),
            partial(self._until_unresponsive, server),
            partial(self._until_drained, server),
            partial(self._watch.keep_tools, server),
            partial(server.connection.listen, self._desk.note_tools_changed),
        )

    async def _first_of(self, *waits: Callable[[], Awaitable[Parting | None]]) -> Parting:
        partings: list[Parting] = []

        async def wait_for(wait: Callable[[], Awaitable[Parting | None]]) -> None:
            parting = await wait()
            assert parting is not None
            partings.append(parting)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for wait in waits:
                nursery.start_soon(wait_for, wait)
        return partings[0]

    async def _until_lost(self, peer: Peer) -> Parting:
        await peer.lost.wait()
        # A session over HTTP can be lost to new calls while others are still answered.
        return Parting(None, handover=peer.pid is None)

    async def _until_unresponsive(self, server: Server) -> Parting:
        reason, event = await self._watch.until_unresponsive(server)
        return Parting(reason, cause=event)

    async def _until_drained(self, server: Server) -> Parting:
        await self._desk.wait_for(lambda: self._desk.request)
        request = self._desk.request
        assert request is not None
        self._desk.become(State.DRAINING, f"restarts: {request.reason}")
        with trio.CancelScope(deadline=request.deadline):
            await server.wait_idle()
        return Parting(f"restarted on request: {request.reason}", requested=True)

    def _fill(self, message: str, schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
        content = None if schema is None else filled_with_defaults(schema)
        answer = "declined" if content is None else "defaults"
        self._emit("mcp_input_requested", server=self._name, message=message[:_SHOWN], answer=answer)
        return content

    def _ignored(self, line: bytes) -> None:
        # A server that prints to stdout does so again and again; once a run is enough to find it.
        if not self._noisy:
            self._noisy = True
            self._emit("mcp_line_ignored", server=self._name, line=line[:_SHOWN].decode("utf-8", "replace"))

    async def _after(self, ending: Ending) -> None:
        verdict = self._judge(ending)
        parting = ending.parting
        self._history.ended(
            ending.peer, ending.reason, verdict, uptime=ending.uptime, was_ready=parting.was_ready, cause=parting.cause
        )
        words = ending.peer.last_words if ending.peer is not None else ""
        last_line = f" ({words.splitlines()[-1]})" if words else ""
        told = f"{ending.told}{last_line}"
        self._failed = "" if parting.was_ready else told
        self._desk.become(State.DOWN, told, again_at=trio.current_time() + verdict.delay)
        with trio.move_on_after(verdict.delay):
            await self._launcher.hope()

    def _judge(self, ending: Ending) -> RestartDelay:
        if ending.parting.was_ready and (self._desk.answered or ending.uptime >= _GOOD_START):
            self._restart.succeeded()
        if ending.parting.requested:
            return RestartDelay(0.0, 0, extended=False, probably_permanent=False)
        return self._restart.failed(self._reporter.random.random(), ending.signature)

    def _emit(self, kind: str, /, *, cause: Event | None = None, **fields: Any) -> Event:
        return self._reporter.emit(kind, cause=cause, **fields)


def _is_refusal(parting: Parting) -> bool:
    """Whether a start failed because the server said no to how it was spoken to."""
    return parting.failure is None or parting.failure.kind is FailureKind.PERMANENT
