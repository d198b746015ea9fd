"""The owner of one tool server: starts it, watches it, and starts it again for as long as it is wanted."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from actors._mcp_client import LEGACY, UNKNOWN, Connection, HandshakeFailed, connect, server_environment
from actors._mcp_desk import Desk, Process, Server, State
from actors._retry import CallFailed
from actors._stdio import ServerProcess
from agentrt.config import SecretError
from agentrt.policy import RestartDelay, ServerRestart

if TYPE_CHECKING:
    import random

    from agentrt.config.model import McpServerConfig
    from agentrt.kernel import Event

#: A server that ran this long, or answered a call, was a good start; one that dies sooner is held back.
_GOOD_START = 10.0
#: Unanswered in a row.
_MISSED_PINGS = 2


class Reporter(Protocol):
    """The actor, as far as the owner knows it."""

    def emit(self, kind: str, /, *, cause: Event | int | None = None, **fields: Any) -> Event: ...
    def progress(self, what: str = "") -> None: ...
    @property
    def random(self) -> random.Random: ...


class Spawn(Protocol):
    """How a server process is started; raises OSError where it cannot be."""

    def __call__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None,
        log: Path | None,
        grace: float,
        report: Callable[..., object],
    ) -> Awaitable[Process]: ...


@attrs.frozen
class Parting:
    """Why the owner is done with a server.

    Args:
        reason: For people; None where the process itself knows best.
        was_ready: Whether it had been started successfully.
        requested: Whether somebody asked for a new one, so that this is no failure.
        cause: The event that tells more.
    """

    reason: str | None
    was_ready: bool = True
    requested: bool = False
    cause: Event | None = None


@attrs.frozen
class Ending:
    """How one run of a server ended."""

    parting: Parting
    uptime: float
    process: Process | None = None

    @property
    def reason(self) -> str:
        """What happened, for people."""
        if self.parting.reason is None:
            return self.process.ending if self.process is not None else "ended"
        return self.parting.reason

    @property
    def signature(self) -> str | None:
        """What identifies a failure to start; None where the server had started."""
        if self.parting.was_ready:
            return None
        returncode = self.process.returncode if self.process is not None else None
        return f"{returncode}: {self.parting.reason}"


class Owner:
    """Keeps one server running. Its :meth:`run` is the one task that enters and leaves the SDK's client.

    Args:
        name: The server's name.
        config: Its settings.
        desk: Where callers meet it.
        reporter: The actor that speaks for it.
        log: Where its stderr is copied to.
        spawn: How its process is started.
    """

    def __init__(
        self,
        name: str,
        config: McpServerConfig,
        desk: Desk,
        reporter: Reporter,
        *,
        log: Path | None = None,
        spawn: Spawn = ServerProcess.spawn,
    ) -> None:
        self._name = name
        self._config = config
        self._desk = desk
        self._reporter = reporter
        self._log = log
        self._spawn = spawn
        self._restart = ServerRestart()
        self._exit_event: Event | None = None
        self._exited_at = 0.0
        self._last = RestartDelay(0.0, 0, extended=False, probably_permanent=False)
        self._noisy = False

    async def run(self) -> None:
        """Start the server, and start it again whenever it ended, until cancelled."""
        try:
            while True:
                ending = await self._live()
                await self._after(ending)
        finally:
            self._desk.clear()
            self._desk.become(State.DOWN, "stopped")

    async def _live(self) -> Ending:
        self._desk.become(State.STARTING, "starting")
        self._noisy = False
        began = trio.current_time()
        try:
            process = await self._spawn(
                self._config.command,
                env=server_environment(self._config.env),
                cwd=self._config.cwd,
                log=self._log,
                grace=self._config.stop_grace,
                report=partial(self._emit, server=self._name),
            )
        except SecretError as error:
            return Ending(Parting(f"its environment: {error}", was_ready=False), 0.0)
        except OSError as error:
            reason = f"cannot start {self._config.command[0]!r}: {error.strerror or error}"
            return Ending(Parting(reason, was_ready=False), 0.0)
        # No checkpoint from here until the process has a task that ends it.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.run)
            self._desk.process = process
            try:
                parting = await self._talk(process, began)
            finally:
                # It takes no more calls, whatever comes next; on a cancellation its end can take a while.
                self._desk.clear()
                self._desk.become(State.DOWN, "stopping")
            process.kill()
        return Ending(parting, trio.current_time() - began, process)

    async def _talk(self, process: Process, began: float) -> Parting:
        limit = self._config.start_timeout
        parting = Parting(f"not ready within {limit:g} s of its start", was_ready=False)
        with trio.CancelScope(deadline=began + limit) as scope:
            try:
                async with connect(process, self._desk.era, ignored=self._ignored) as connection:
                    parting = await self._list_and_serve(Server(process, connection), scope, began)
                    # Calls in hand end by the exit, when it is known what the server had read.
                    process.kill()
                    await process.exited.wait()
            except HandshakeFailed as error:
                parting = Parting(f"handshake failed: {error}", was_ready=False)
        if not parting.was_ready:
            # Some servers exit when they are asked for what they do not know; and a new version may want another era.
            asked_too_much = self._desk.era is UNKNOWN and process.lost.is_set()
            self._desk.era = LEGACY if asked_too_much else UNKNOWN
        return parting

    async def _list_and_serve(self, server: Server, scope: trio.CancelScope, began: float) -> Parting:
        try:
            tools = await server.connection.list_tools()
        except CallFailed as failure:
            return Parting(f"cannot list its tools: {failure}", was_ready=False)
        scope.deadline = math.inf
        self._desk.era = server.connection.era
        self._desk.open(server, tools)
        self._report_start(server.process, began)
        self._answers(tools)
        return await self._first_of(
            partial(self._until_lost, server.process),
            partial(self._until_unresponsive, server),
            self._until_drained,
        )

    async def _first_of(self, *waits: Callable[[], Awaitable[Parting]]) -> Parting:
        partings: list[Parting] = []

        async def wait_for(wait: Callable[[], Awaitable[Parting]]) -> None:
            partings.append(await wait())
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for wait in waits:
                nursery.start_soon(wait_for, wait)
        return partings[0]

    async def _until_lost(self, process: Process) -> Parting:
        await process.lost.wait()
        return Parting(None)

    async def _until_drained(self) -> Parting:
        await self._desk.wait_for(lambda: self._desk.request)
        request = self._desk.request
        assert request is not None
        self._desk.become(State.DRAINING, f"restarts: {request.reason}")
        with trio.CancelScope(deadline=request.deadline):
            await self._desk.wait_for(lambda: not self._desk.calls)
        return Parting(f"restarted on request: {request.reason}", requested=True)

    async def _until_unresponsive(self, server: Server) -> Parting:
        missed = 0
        while missed < _MISSED_PINGS:
            if not missed:
                with trio.move_on_after(self._config.ping_interval):
                    await self._desk.wait_for(lambda: self._desk.doubted)
                # A server that works on a call may be too busy for a ping; its deadline is watched by the caller.
                if self._desk.calls and not self._desk.doubted:
                    continue
            if await self._ping(server):
                missed = 0
                await self._refresh(server.connection)
            else:
                missed += 1
                self._went_silent(server.process)
        silence = self._silence(server.process)
        event = self._emit(
            "mcp_server_unresponsive",
            server=self._name,
            pid=server.process.pid,
            silence=silence,
            calls=self._desk.calls,
        )
        return Parting(f"no answer to ping for {silence:.1f} s", cause=event)

    async def _ping(self, server: Server) -> bool:
        asked = trio.current_time()
        with trio.move_on_after(self._config.ping_interval):
            await server.connection.ping()
            self._reporter.progress("answer")
            return True
        return server.process.last_heard > asked

    async def _refresh(self, connection: Connection) -> None:
        self._desk.doubted = False
        tools = self._desk.tools
        if self._desk.state is State.INCOMPLETE:
            with trio.move_on_after(self._config.ping_interval):
                try:
                    tools = await connection.list_tools()
                except CallFailed:
                    return
        if self._desk.state in (State.INCOMPLETE, State.SILENT):
            self._answers(tools)

    def _answers(self, tools: tuple[str, ...]) -> None:
        self._desk.tools = tools
        missing = [tool for tool in self._config.expect_tools if tool not in tools]
        if not missing:
            self._desk.become(State.READY, "ready")
            return
        if self._desk.state is not State.INCOMPLETE:
            self._emit("mcp_tools_missing", server=self._name, missing=missing, offered=list(tools))
        self._desk.become(State.INCOMPLETE, f"does not offer the tools {', '.join(missing)}")

    def _went_silent(self, process: Process) -> None:
        if self._desk.state is not State.DRAINING:
            self._desk.become(State.SILENT, f"no answer to ping for {self._silence(process):.1f} s")

    def _silence(self, process: Process) -> float:
        return round(trio.current_time() - process.last_heard, 1)

    def _ignored(self, line: bytes) -> None:
        # A server that prints to stdout does so again and again; once a run is enough to find it.
        if not self._noisy:
            self._noisy = True
            self._emit("mcp_line_ignored", server=self._name, line=line[:200].decode("utf-8", "replace"))

    def _report_start(self, process: Process, began: float) -> None:
        now = trio.current_time()
        event = self._emit(
            "mcp_server_started",
            server=self._name,
            pid=process.pid,
            ms=round((now - began) * 1000),
            attempt=self._last.attempt + 1,
            tools=len(self._desk.tools),
        )
        if self._exit_event is not None:
            self._emit(
                "mcp_server_restarted",
                cause=self._exit_event,
                server=self._name,
                pid=process.pid,
                attempt=self._last.attempt,
                backoff=self._last.delay,
                ms=round((now - self._exited_at) * 1000),
                started=event.id,
            )

    async def _after(self, ending: Ending) -> None:
        self._exited_at = trio.current_time()
        verdict = self._last = self._judge(ending)
        last_words = ending.process.last_words if ending.process is not None else ""
        event = self._exit_event = self._emit(
            "mcp_server_exited",
            cause=ending.parting.cause,
            server=self._name,
            reason=ending.reason,
            exit_code=ending.process.returncode if ending.process is not None else None,
            signal=ending.process.signal if ending.process is not None else None,
            stderr=last_words,
            uptime=round(ending.uptime, 3),
            attempt=verdict.attempt,
            backoff=round(verdict.delay, 3),
        )
        if verdict.extended or verdict.probably_permanent:
            self._emit(
                "mcp_server_failing",
                cause=event,
                server=self._name,
                reason=ending.reason,
                attempt=verdict.attempt,
                backoff=round(verdict.delay, 3),
                probably_permanent=verdict.probably_permanent,
            )
        last_line = f" ({last_words.splitlines()[-1]})" if last_words else ""
        self._desk.become(State.DOWN, f"{ending.reason}{last_line}; started again in {verdict.delay:.1f} s")
        await trio.sleep(verdict.delay)

    def _judge(self, ending: Ending) -> RestartDelay:
        if ending.parting.was_ready and (self._desk.answered or ending.uptime >= _GOOD_START):
            self._restart.succeeded()
        if ending.parting.requested:
            return RestartDelay(0.0, 0, extended=False, probably_permanent=False)
        return self._restart.failed(self._reporter.random.random(), ending.signature)

    def _emit(self, kind: str, /, *, cause: Event | None = None, **fields: Any) -> Event:
        return self._reporter.emit(kind, cause=cause, **fields)
