"""One run of a fleet, composed: the fleet, what observes it, and the socket by which other commands reach it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, NoReturn

import attrs
import structlog
import trio

from agentrt.cli.control import open_control
from agentrt.cli.exits import ExitCode, Failure
from agentrt.cli.pictures import node_as_json, status_as_json
from agentrt.cli.statedir import EVENTS, RunInfo, StateDir
from agentrt.cli.stopping import end_now
from agentrt.config import Loaded
from agentrt.fleet import Fleet, open_fleet
from agentrt.kernel import EventStream, Exit
from agentrt.ops import logs
from agentrt.ops.board import SnapshotBoard
from agentrt.ops.eventlog import EventLog
from agentrt.ops.health import HealthListenError, HealthServer
from agentrt.ops.loopwatch import LoopWatch
from agentrt.ops.metrics import Metrics
from agentrt.ops.observe import Observer
from agentrt.ports import Json

_log = structlog.get_logger()


def leave_zombies(zombies: Sequence[Exit]) -> NoReturn:
    """End the process although actors are left that even a cancellation did not end: waiting for them has no end."""
    for exit_ in zombies:
        _log.error("zombie_left_behind", path=exit_.path, exit=exit_.summary())
    end_now(ExitCode.BROKEN)


class Service:
    """One run of a fleet, from its start to its end.

    Args:
        loaded: The configuration.
        state: The state directory, which this process holds.
        announce: Called when the fleet runs and can be reached.
        leave: Called at the end with the actors that could not be ended; must not return.
    """

    def __init__(
        self,
        loaded: Loaded,
        state: StateDir,
        *,
        announce: Callable[[Fleet, RunInfo], None] = lambda _fleet, _info: None,
        leave: Callable[[Sequence[Exit]], NoReturn] = leave_zombies,
    ) -> None:
        self._loaded = loaded
        self._state = state
        self._announce = announce
        self._leave = leave
        self._events = EventStream()
        self._board = SnapshotBoard()
        self._scope = trio.CancelScope()
        self._fleet: Fleet | None = None
        self._observer: Observer
        self._started_at = datetime.now(UTC)

    async def run(self) -> None:
        """Run the fleet until it was stopped.

        Raises:
            Failure: It could not start, for a reason that a person can mend.
            TreeFailed: The fleet failed as a whole.
        """
        with self._observed() as (health, watch):
            async with trio.open_nursery() as nursery:
                # Before the fleet: a start that takes its time is no dead process.
                nursery.start_soon(watch.beat_forever)
                with self._scope:
                    async with open_fleet(self._loaded, events=self._events) as fleet:
                        await self._serve(fleet, health.address)
                nursery.cancel_scope.cancel(reason="agentrt: the fleet is down")

    def stop(self, reason: str) -> None:
        """Ask for an ordered stop; a fleet that is still starting is not started."""
        if self._fleet is None:
            self._scope.cancel(reason=f"agentrt: {reason}")
        else:
            self._fleet.stop(reason)
            self._observer.publish()

    def cancel(self) -> None:
        """Cancel everything that can be cancelled."""
        if self._fleet is not None:
            self._fleet.runtime.kill("asked to stop at once")
        self._scope.cancel(reason="agentrt: asked to stop at once")

    async def _serve(self, fleet: Fleet, health: str) -> None:
        self._observer = Observer(fleet, self._board)
        self._fleet = fleet
        try:
            async with open_control(self._state.path, self._handlers(fleet)) as socket, trio.open_nursery() as nursery:
                nursery.start_soon(self._observer.run)
                info = self._info(fleet, health, os.fspath(socket))
                self._state.write_run(info)
                self._announce(fleet, info)
                _log.info("fleet_running", fleet=fleet.name, health=f"http://{health}/health/ready", pid=os.getpid())
                await fleet.wait()
                nursery.cancel_scope.cancel(reason="agentrt: the fleet is down")
        finally:
            self._state.remove_run()
            fleet.stop("the run is over")
            with trio.CancelScope(shield=True):
                await fleet.wait()
            _log.info("fleet_stopped", fleet=fleet.name)
            if fleet.runtime.zombies:
                # Here and not later: the nursery that they are in never ends.
                self._leave(fleet.runtime.zombies)

    def _handlers(self, fleet: Fleet) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[Json]]]:
        async def ps(_request: Mapping[str, Any]) -> Json:
            servers = fleet.servers.statuses() if fleet.servers is not None else ()
            return {
                "fleet": fleet.name,
                "agents": [status_as_json(status) for status in fleet.statuses()],
                "servers": [attrs.asdict(server) for server in servers],
            }

        async def tree(_request: Mapping[str, Any]) -> Json:
            return node_as_json(fleet.runtime.tree())

        async def stop(_request: Mapping[str, Any]) -> Json:
            self.stop("asked to by agentrt stop")
            return {"pid": os.getpid()}

        return {"ps": ps, "tree": tree, "stop": stop}

    def _info(self, fleet: Fleet, health: str, control: str) -> RunInfo:
        return RunInfo(
            pid=os.getpid(),
            fleet=fleet.name,
            bus_url=fleet.bus_url,
            bus_token=fleet.bus_token,
            health=health,
            control=control,
            started_at=self._started_at.isoformat(timespec="seconds"),
            version=version("agentrt"),
        )

    # What observes it

    @contextmanager
    def _observed(self) -> Iterator[tuple[HealthServer, LoopWatch]]:
        config = self._loaded.config.health
        event_log = EventLog(self._state.path / EVENTS)
        metrics = Metrics(self._board, config.stall_limit, self._loaded.config.agents)
        health = HealthServer(
            config.listen,
            self._board,
            metrics,
            stall_limit=config.stall_limit,
            progress_limit=config.progress_limit,
        )
        for listener in (event_log.append, metrics.on_event, logs.log_event):
            self._events.listen(listener)
        with ExitStack() as stack:
            stack.callback(event_log.close)
            try:
                watch = LoopWatch(self._board, config.stall_limit, interrupt_after=config.interrupt_after or None)
                health.start()
            except ValueError as error:
                raise Failure(f"[health] stall_limit: {error}", ExitCode.CONFIG) from error
            except HealthListenError as error:
                raise Failure(str(error), ExitCode.SYSTEM) from error
            stack.callback(health.stop)
            watch.start()
            stack.callback(watch.stop)
            yield health, watch
