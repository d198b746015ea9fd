"""A whole fleet in a test: in-memory bus, tool servers in process, virtual time, faults to order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from agentrt.agent import Agent, NoOutcome, TaskFailed
from agentrt.config import Loaded, load, servers_of
from agentrt.fleet import Batteries, Fleet, open_fleet
from agentrt.fleet.workspace import Workspace
from agentrt.kernel import Actor, Event, EventStream
from agentrt.ports import Json, ServerStatus
from agentrt.tasks import Outcome, Priority, Status
from agentrt.testing.chaos import Chaos
from agentrt.testing.connections import InProcessConnection
from agentrt.testing.tools import InProcessSession

#: Unix time at which every test begins: 2026-01-01T00:00:00Z.
EPOCH = 1767225600.0


class FleetUnderTest:
    """A fleet in a test. Use :func:`fleet_under_test`.

    Attributes:
        fleet: The fleet itself.
        chaos: Faults to order.
        events: All events so far.
        bus: The broker in memory; give it to another fleet, and that finds what this one left.
    """

    def __init__(self, fleet: Fleet, chaos: Chaos, events: list[Event], bus: Any) -> None:
        self.fleet = fleet
        self.chaos = chaos
        self.events = events
        self.bus = bus
        self._sent: list[str] = []

    async def ask(self, agent: str, payload: Json, *, timeout: float = 3600.0, priority: Priority = "normal") -> Json:
        """Give *agent* a task and wait for its answer, an hour of virtual time by default."""
        outcome = await self.outcome(await self.send(agent, payload, priority=priority), timeout)
        if outcome.status is not Status.ANSWERED:
            raise TaskFailed(outcome)
        return outcome.answer

    async def send(self, agent: str, payload: Json, *, priority: Priority = "normal") -> str:
        """Give *agent* a task; return its id."""
        task = await self.fleet.send(agent, payload, priority=priority)
        self._sent.append(task)
        return task

    async def outcome(self, task: str, timeout: float = 3600.0) -> Outcome:
        """Wait for a task's outcome; where there is none, the error says which agents are not ready, and why."""
        try:
            return await self.fleet.client.outcome(task, timeout)
        except NoOutcome as error:
            for status in self.fleet.statuses():
                if not status.ready:
                    error.add_note(f"{status.name} is not ready: {status.why}")
            raise

    def events_of(self, kind: str) -> list[Event]:
        """Give the events of one kind, oldest first."""
        return [event for event in self.events if event.kind == kind]

    async def assert_outcomes_complete(self, timeout: float = 3600.0) -> dict[str, Status]:
        """Assert that each task that was sent through this object has an outcome; return them by task."""
        found = {}
        for task in self._sent:
            try:
                found[task] = (await self.outcome(task, timeout)).status
            except TimeoutError:
                raise AssertionError(f"task {task} was lost: no outcome within {timeout:g} s") from None
        return found


@asynccontextmanager
async def fleet_under_test(
    config: Path | str | Loaded,
    *,
    seed: int = 0,
    tools: Mapping[str, object] | None = None,
    connections: Mapping[str, object] | None = None,
    classes: Mapping[str, type[Agent]] | None = None,
    bus: Any = None,
) -> AsyncIterator[FleetUnderTest]:
    """Run a whole fleet inside a test, in virtual time with the test's ``autojump_clock``.

    The bus is in memory. A tool server that is given by ``command`` cannot run in virtual time, so each one is replaced
    by an object in *tools*, whose public async methods are its tools; and so is each connection, by one in
    *connections*, which has the methods that the agents use.

    Args:
        config: Path of a ``config.toml``, or what :func:`agentrt.load` returned.
        seed: For all that is drawn by chance.
        tools: Objects by the name of the server that they stand in for.
        connections: Objects by the name of the connection that they stand in for.
        classes: Agents' classes by the agent's name, instead of those that the configuration names.
        bus: The ``bus`` of an earlier fleet under test, to begin with what that one left behind.

    Raises:
        LookupError: A server or a connection of the configuration has no stand-in.
    """
    loaded = config if isinstance(config, Loaded) else load(Path(config), {})
    stand_ins, in_process = dict(tools or {}), _Connections(dict(connections or {}))
    _check_all_replaced(loaded, stand_ins, in_process.stand_ins)
    bus = bus or Batteries()["memory-bus"].sharing()  # type: ignore[attr-defined]
    batteries = Batteries(
        {
            "nats": bus,
            "nats-server": _NoServer,
            "mcp-session": _Sessions(stand_ins),
            "websocket": in_process,
            "client": in_process,
            "memory-guard": _NoGuard,
        }
    )
    stream, events = EventStream(), list[Event]()
    stream.listen(events.append)
    async with open_fleet(
        loaded,
        seed=seed,
        batteries=batteries,
        events=stream,
        wall=lambda: EPOCH + trio.current_time(),
        environ={},
        classes=classes,
        workspace=_WritableWorkspace((loaded.folder,)),
    ) as fleet:
        sessions = {
            (name, server): session
            for name, member in fleet.members.items()
            for server, session in member.sessions.items()
            if isinstance(session, InProcessSession)
        }
        cuttable = {
            (name, connection): found
            for name, member in fleet.members.items()
            for connection, found in member.connections.items()
            if isinstance(found, InProcessConnection)
        }
        yield FleetUnderTest(fleet, Chaos(fleet, sessions, cuttable, bus.broker), events, bus)


def _check_all_replaced(loaded: Loaded, tools: Mapping[str, object], connections: Mapping[str, object]) -> None:
    used = {str(server) for agent in loaded.config.agents for server in servers_of(loaded.config, agent)}
    if missing := sorted(used - set(tools)):
        raise LookupError(
            f"tool servers without a stand-in: {', '.join(missing)}; a command cannot run in virtual time, so pass "
            f"tools={{{missing[0]!r}: SomeObject()}}, whose async methods are the tools"
        )
    wanted = {str(name) for agent in loaded.config.agents.values() for name in agent.connections}
    if missing := sorted(wanted - set(connections)):
        raise LookupError(
            f"connections without a stand-in: {', '.join(missing)}; a network cannot run in virtual time, so pass "
            f"connections={{{missing[0]!r}: SomeObject()}}, which has the methods that the agents use"
        )


class _Idle(Actor):
    """Drives a handle that needs no driving."""

    def __init__(self, _handle: object) -> None:
        super().__init__()

    async def run(self) -> None:
        """Do nothing until a stop is asked for."""
        await trio.sleep_forever()


class _Sessions:
    """The battery of sessions in process."""

    def __init__(self, tools: Mapping[str, object]) -> None:
        self._tools = tools

    def open_handle(self, name: str, config: Any, **_settings: object) -> InProcessSession:
        """Make the session of one server."""
        return InProcessSession(self._tools[name], name=name, call_timeout=config.call_timeout)

    def __call__(self, session: InProcessSession) -> Actor:
        """Make its actor."""
        return _Idle(session)


class _Connections:
    """The battery of connections in process."""

    def __init__(self, stand_ins: Mapping[str, object]) -> None:
        self.stand_ins = stand_ins

    def open_handle(self, name: str, *_: object) -> InProcessConnection:
        """Make one connection of one agent."""
        return InProcessConnection(self.stand_ins[name], name=name)

    def __call__(self, connection: InProcessConnection) -> Actor:
        """Make its actor."""
        return _Idle(connection)


class _NoServer(_Idle):
    """No nats-server: the bus is in memory."""

    @staticmethod
    def open_handle(*_: object) -> _NoServers:
        """Make the handle."""
        return _NoServers()


class _NoServers:
    """Where the bus in memory is."""

    url = "memory://"
    token = ""
    name = "nats-server"

    @property
    def nodes(self) -> tuple[_NoServers, ...]:
        """One, so that the tree is as it is otherwise."""
        return (self,)

    def credentials(self) -> Mapping[str, str]:
        """Nothing to log in with."""
        return {}

    def statuses(self) -> tuple[ServerStatus, ...]:
        """There is no process to tell of."""
        return ()

    def store_trouble(self) -> str:
        """There is room."""
        return ""

    def report_broken(self, why: str) -> None:
        """There is no server to start anew."""

    def checks(self) -> Mapping[str, tuple[bool, str]]:
        """There is nothing to check."""
        return {}


class _Memory:
    """Memory that nobody measures."""

    samples: Mapping[str, int] = {}

    def check(self) -> tuple[bool, str]:
        """Say that there is enough."""
        return True, "not measured in virtual time"


class _NoGuard(_Idle):
    """No memory guard: real memory is not measured in virtual time."""

    @staticmethod
    def open_handle(*_: object, **_settings: object) -> _Memory:
        """Make the handle."""
        return _Memory()


class _WritableWorkspace(Workspace):
    """A workspace that is taken to be writable: real disks are not looked at in virtual time."""

    async def look(self) -> None:
        """Do not look."""
        await trio.lowlevel.checkpoint()
