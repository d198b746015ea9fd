"""The fleet: all agents of one configuration, in one process, under one supervisor."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from agentrt.agent import Agent, TaskClient
from agentrt.config import (
    BreakerConfig,
    BusConfig,
    Config,
    Duration,
    Loaded,
    Name,
    breaker,
    bus_login,
    load_class,
    login_of,
    path_of,
    resolve_secret,
    servers_of,
)
from agentrt.fleet.batteries import Batteries
from agentrt.fleet.breakers import AgentBreaker
from agentrt.fleet.declared import topology_of
from agentrt.fleet.manager import FleetDesk, Manager
from agentrt.fleet.member import Member, Shared
from agentrt.fleet.roll import Roll
from agentrt.fleet.workspace import Workspace
from agentrt.kernel import ChildSpec, Event, EventStream, Runtime, SupervisorSpec, WhenExhausted, open_runtime
from agentrt.ports import Bus, Json, Registration, Servers
from agentrt.tasks import Names, Priority

#: The root of the tree, and the supervisor of agents.
ROOT, AGENTS = "fleet", "agents"
#: A critical agent's breaker: opens sooner and is probed sooner.
CRITICAL = BreakerConfig(failure_threshold=2, recovery_timeout=Duration(120.0))
#: Seconds that a probe may take, beyond the task's own limit.
_PROBE_MARGIN = 60.0


@attrs.frozen
class AgentStatus:
    """One agent as a person wants to see it in a line."""

    name: str
    state: str
    ready: bool
    breaker: str
    tasks_in_hand: int
    task_age: float | None
    restarts: int
    queue_depth: int | None
    why: str


class Fleet:
    """A running fleet. Use :func:`open_fleet`."""

    def __init__(
        self,
        config: Config,
        state_dir: Path,
        desk: FleetDesk,
        servers: Servers | None,
        registration: Registration,
        runtime: Runtime,
    ) -> None:
        self.config = config
        self.state_dir = state_dir
        self.runtime = runtime
        self.members = desk.members
        self.bus = desk.bus
        #: What it brings along; None where it uses a bus of somebody else's.
        self.servers = servers
        self.registration = registration
        self._desk = desk
        self._client = TaskClient(desk.bus, desk.shared.names, "fleet", desk.shared.wall)

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.config.fleet.name

    @property
    def bus_url(self) -> str:
        """Where another process reaches its bus."""
        return self.servers.url if self.servers is not None else self.config.bus.url or ""

    @property
    def bus_token(self) -> str | None:
        """What another process logs in with, where the fleet brings its own server."""
        return self.servers.token if self.servers is not None else None

    @property
    def client(self) -> TaskClient:
        """Sends tasks into the fleet."""
        return self._client

    def checks(self) -> dict[str, tuple[bool, str]]:
        """What holds for the process as a whole: its own connection, its registries, and the servers that it brings."""
        servers = self.servers.checks() if self.servers is not None else {}
        return {**self.bus.checks(), **self.registration.checks(), **servers}

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._desk.stopping

    async def ask(
        self,
        agent: str,
        payload: Json,
        *,
        type: str = "task",  # noqa: A002 - what a task has is a type.
        priority: Priority = "normal",
        timeout: float = 60.0,
    ) -> Json:
        """Give *agent* a task and wait for the answer; see :meth:`agentrt.Agent.ask`."""
        self._check_known(agent)
        task = self._client.new_task(agent, payload, type=type, priority=priority, timeout=timeout)
        return await self._client.ask(task, timeout)

    async def send(
        self,
        agent: str,
        payload: Json,
        *,
        type: str = "task",  # noqa: A002 - what a task has is a type.
        priority: Priority = "normal",
    ) -> str:
        """Give *agent* a task; return its id once it is stored."""
        self._check_known(agent)
        return await self._client.send(self._client.new_task(agent, payload, type=type, priority=priority))

    async def wait(self) -> None:
        """Wait until the fleet is down."""
        await self.runtime.wait()

    def stop(self, reason: str) -> None:
        """Ask it to stop in order."""
        self._desk.stopping = True
        self.runtime.stop(reason)

    def statuses(self) -> tuple[AgentStatus, ...]:
        """Say of each agent how it is."""
        restarts = {node.path: node.restarts for node in self.runtime.tree().walk()}
        return tuple(self._status(member, restarts) for member in self.members.values())

    def _status(self, member: Member, restarts: Mapping[str, int]) -> AgentStatus:
        unready = {name: reason for name, (ok, reason) in member.checks().items() if not ok}
        breaker_state = member.breaker.state
        is_up = member.name in self._desk.up
        why = "; ".join(f"{name}: {reason}" if reason else name for name, reason in unready.items())
        if breaker_state != "closed":
            why = f"breaker {breaker_state}: {member.breaker.reason}"
        now = min((entry.since for entry in member.book.in_hand.values()), default=None)
        below = f"{member.path}/"
        return AgentStatus(
            name=member.name,
            state="running" if is_up else "parked",
            ready=is_up and not unready and breaker_state != "open",
            breaker=breaker_state.value,
            tasks_in_hand=len(member.book.in_hand),
            task_age=None if now is None else trio.current_time() - now,
            restarts=sum(count for path, count in restarts.items() if path.startswith(below)),
            queue_depth=self._desk.depths.get(member.name),
            why=why,
        )

    def _check_known(self, agent: str) -> None:
        if agent not in self.members:
            raise LookupError(f"no agent {agent!r} in this fleet; there are: {', '.join(sorted(self.members))}")


@asynccontextmanager
async def open_fleet(
    loaded: Loaded,
    *,
    seed: int | None = None,
    batteries: Batteries | None = None,
    events: EventStream | None = None,
    wall: Callable[[], float] = time.time,
    environ: Mapping[str, str] = os.environ,
    classes: Mapping[str, type[Agent]] | None = None,
    workspace: Workspace | None = None,
) -> AsyncIterator[Fleet]:
    """Start a fleet; on leaving, stop it in order.

    Args:
        loaded: The configuration.
        seed: For whatever is drawn by chance.
        batteries: The actors behind the ports; by default what is installed.
        events: Where events go.
        wall: Unix time.
        environ: Where secrets by ``env:`` are read.
        classes: Agents' classes by the agent's name, instead of those that the configuration names.
        workspace: Looks whether folders can be written to.

    Raises:
        BatteryMissing: Something that it needs is not installed.
        TreeFailed: It did not start, or failed as a whole.
    """
    builder = _Builder(
        loaded, batteries or Batteries(), events or EventStream(), wall, environ, classes or {}, workspace
    )
    async with (
        builder.batteries.around("nats"),
        open_runtime(builder.root(), seed=seed, events=builder.events) as runtime,
    ):
        yield Fleet(loaded.config, builder.state_dir, builder.desk, builder.servers, builder.registration, runtime)


class _Builder:
    """Puts a fleet together from its configuration."""

    def __init__(
        self,
        loaded: Loaded,
        batteries: Batteries,
        events: EventStream,
        wall: Callable[[], float],
        environ: Mapping[str, str],
        classes: Mapping[str, type[Agent]],
        workspace: Workspace | None,
    ) -> None:
        self.batteries = batteries
        self.events = events
        self._config = config = loaded.config
        self._loaded = loaded
        self._environ = environ
        self.state_dir = (loaded.folder / config.fleet.state_dir).absolute()
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Servers' logs and the bus's store are in it.
        self.state_dir.chmod(0o700)
        self.servers: Servers | None = self._open_servers()
        self._names = Names(str(config.fleet.name))
        self._bus = self._open_bus("fleet", config.bus, inbox=self._names.inbox())
        self._bus.declare(topology_of(config))
        shared = Shared(
            config=config,
            folder=loaded.folder,
            state_dir=self.state_dir,
            names=self._names,
            batteries=batteries,
            open_bus=self._open_agent_bus,
            workspace=workspace or Workspace(self._workspace_folders()),
            wall=wall,
        )
        members = {
            name: Member(name, self._class_of(name, classes), shared, self._breaker(name), _path(name))
            for name in map(str, config.agents)
        }
        self.desk = FleetDesk(shared, members, self._bus)
        self.registration = self._open_registration()
        events.listen(self._note_activity)
        self._tell_tool_servers()

    def _tell_tool_servers(self) -> None:
        """Say which configuration counts for each tool server of each agent."""
        for agent in self._config.agents:
            for server, found in servers_of(self._config, agent).items():
                file, line = self._loaded.places.place(path_of(found.scope, server))
                self.events.emit(
                    "mcp_server_configured",
                    _path(agent),
                    server=server,
                    scope=found.scope,
                    source=file if line is None else f"{file}:{line}",
                    hides=list(found.hidden),
                )

    def _note_activity(self, event: Event) -> None:
        """Remember how an agent's tree ended, and when it last did something itself."""
        if event.kind == "actor_crashed" and event.path == _path(_agent_in(event.path)):
            self.desk.last_crash[event.path] = event
        if event.kind.startswith(_ACTIVITY):
            member = self.desk.members.get(_agent_in(event.path))
            if member is not None:
                member.last_activity = self.desk.shared.wall()

    def root(self) -> SupervisorSpec:
        """Describe the whole tree."""
        children: list[ChildSpec | SupervisorSpec] = []
        nodes = self.servers.nodes if self.servers is not None else ()
        children.extend(self._infrastructure(node.name, "nats-server", node) for node in nodes)
        children.append(self._infrastructure("bus", "nats", self.desk.bus))
        children.append(SupervisorSpec(id=AGENTS, dynamic=True, when_exhausted=WhenExhausted.ESCALATE))
        # Stopped before the agents: whoever looks for one is not sent to one that stops.
        children.append(self._infrastructure("registrar", "registry", self.registration))
        desk = self.desk
        children.append(
            ChildSpec(
                id="manager",
                factory=lambda: Manager(desk),
                when_exhausted=WhenExhausted.ESCALATE,
            )
        )
        return SupervisorSpec(id=ROOT, children=tuple(children))

    def _workspace_folders(self) -> tuple[Path, ...]:
        workspace = self._config.fleet.workspace
        return (self.state_dir,) if workspace is None else (self._loaded.folder / workspace, self.state_dir)

    def _infrastructure(self, id_: str, battery: str, handle: Any) -> ChildSpec:
        make = self.batteries[battery]
        return ChildSpec(id=id_, factory=lambda: make(handle), when_exhausted=WhenExhausted.ESCALATE, shutdown=8.0)

    def _open_servers(self) -> Servers | None:
        bus = self._config.bus
        if bus.url is not None:
            return None
        servers: Servers = self.batteries["nats-server"].open_handle(
            self.state_dir, int(bus.max_store), bus.embedded_nodes
        )
        return servers

    def _open_agent_bus(self, agent: str) -> Bus:
        """Make an agent's handle. With a login of its own it makes nothing on the bus: the fleet's does that for it."""
        config = self._config
        has_own = config.agents[Name(agent)].bus.is_given
        login, keeper = login_of(config, Name(agent)), self._bus if has_own else None
        return self._open_bus(agent, login, inbox=self._names.inbox(agent), keeper=keeper)

    def _open_bus(self, name: str, login: BusConfig, **settings: Any) -> Bus:
        servers, environ, folder = self.servers, self._environ, self._loaded.folder

        def credentials() -> Mapping[str, str | None]:
            # Read anew for each attempt, so that a rotated secret is picked up.
            return bus_login(login, environ, folder) if servers is None else servers.credentials()

        url = login.url
        if servers is not None:
            url = servers.url
            settings |= {"store_trouble": servers.store_trouble, "on_broken": servers.report_broken}
        opened: Bus = self.batteries["nats"].open_handle(
            url=url, credentials=credentials, config=login, name=f"{self._config.fleet.name}-{name}", **settings
        )
        return opened

    def _open_registration(self) -> Registration:
        registry = self._config.registry
        opened: Registration = self.batteries["registry"].open_handle(
            registry,
            bus=self.desk.bus,
            bucket=self.desk.shared.names.registry,
            entries=Roll(self.desk).entries,
            token=partial(resolve_secret, registry.token, self._environ, self._loaded.folder)
            if registry.token is not None
            else None,
        )
        return opened

    def _class_of(self, name: str, classes: Mapping[str, type[Agent]]) -> type[Agent]:
        if name in classes:
            return classes[name]
        return load_class(self._config.agents[Name(name)].class_, self._loaded.folder, Agent)

    def _breaker(self, name: str) -> AgentBreaker:
        agent = self._config.agents[Name(name)]
        named = self._config.policies.breaker[agent.breaker] if agent.breaker is not None else None
        settings = named or (CRITICAL if agent.critical else BreakerConfig())
        made = breaker(settings)
        if settings.probe_lease is None:
            made = attrs.evolve(made, probe_lease=agent.task_timeout + _PROBE_MARGIN)
        return AgentBreaker(name, _path(name), made, self.events)


#: Kinds of events that are an agent's own doing begin so.
_ACTIVITY = ("task_", "message_", "tool_")


def _path(agent: str) -> str:
    return f"{ROOT}/{AGENTS}/{agent}"


def _agent_in(path: str) -> str:
    """Give the agent that an actor belongs to; empty where it belongs to none."""
    return path.removeprefix(f"{ROOT}/{AGENTS}/").partition("/")[0] if path.startswith(f"{ROOT}/{AGENTS}/") else ""
