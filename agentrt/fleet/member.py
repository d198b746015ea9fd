"""One agent of the fleet: its handles, its readiness, and the spec of its subtree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from agentrt.agent import (
    AgentSetup,
    Connections,
    Entry,
    Host,
    HostActor,
    InboxSetup,
    TaskActor,
    TaskBook,
    TaskClient,
    Tools,
)
from agentrt.config import (
    AgentConfig,
    Config,
    McpServerConfig,
    Name,
    RestartConfig,
    Secret,
    flood_gate,
    redelivery,
    restart_backoff,
    server_policies,
    servers_of,
)
from agentrt.config.oauth import OAuthConfig
from agentrt.fleet.batteries import Batteries
from agentrt.fleet.breakers import AgentBreaker
from agentrt.fleet.declared import needs_of
from agentrt.fleet.workspace import Workspace
from agentrt.kernel import (
    Actor,
    ActorRef,
    Budget,
    ChildSpec,
    NoSuchChild,
    Restart,
    Runtime,
    SupervisorSpec,
    WhenExhausted,
)
from agentrt.policy.watchdog import Limits
from agentrt.ports import Bus, Connection, ToolSession
from agentrt.tasks import Names, Task

#: Seconds that a task may take to stop once it is cancelled.
TASK_GRACE = 5.0
#: What an inbox needs after its drain, to cut off and give back what did not end.
INBOX_GRACE = 7.0
#: What a connection needs beyond the time in which it is closed.
CLOSE_MARGIN = 3.0


@attrs.define(eq=False)
class Shared:
    """What all agents of one process share.

    Args:
        config: The configuration.
        folder: The folder of the configuration: the workspace.
        state_dir: Where the fleet keeps its state.
        names: Names on the bus.
        batteries: The actors behind the ports.
        open_bus: Makes the bus handle of the agent of that name.
        workspace: Whether the folders can be written to.
        wall: Unix time; virtual in tests.
        runtime: The running tree, once it runs.
        books: The tasks in hand, by agent.
    """

    config: Config
    folder: Path
    state_dir: Path
    names: Names
    batteries: Batteries
    open_bus: Callable[[str], Bus]
    workspace: Workspace
    wall: Callable[[], float]
    runtime: Runtime | None = None
    books: dict[str, TaskBook] = attrs.field(factory=dict)

    def ref(self, path: str) -> ActorRef:
        """Find an actor of the running tree.

        Raises:
            NoSuchChild: There is none there now.
        """
        if self.runtime is None:
            raise NoSuchChild(f"no actor at {path!r}: the fleet does not run yet")
        return self.runtime.ref(path)


class Member:
    """One agent: made once per run, it outlives every restart of the agent's subtree."""

    def __init__(self, name: str, cls: type, shared: Shared, breaker: AgentBreaker, path: str) -> None:
        self.name = name
        self.path = path
        self.config: AgentConfig = shared.config.agents[Name(name)]
        self.breaker = breaker
        self._shared = shared
        self.bus = shared.open_bus(name)
        self.sessions = self._open_sessions()
        self.connections = self._open_connections()
        self.memory = self._open_memory()
        #: Unix time of the last thing that it did.
        self.last_activity: float | None = None
        self.book = shared.books[name] = TaskBook(self.config.max_concurrent_tasks)
        self.host = Host(cls, self._agent_setup())
        self.bus.declare(needs_of(shared.config, name))

    # Readiness

    def checks(self) -> Mapping[str, tuple[bool, str]]:
        """All that the agent needs to do its job, each with its result and reason."""
        checks = dict(self.bus.checks())
        for server, session in self.sessions.items():
            checks[f"mcp:{server}"] = (session.is_ready, session.reason)
        for name, connection in self.connections.items():
            checks[f"connection:{name}"] = (connection.is_ready, connection.reason)
        checks["memory_below_limit"] = self.memory.check()
        checks["workspace_writable"] = self._shared.workspace.check()
        if self.host.agent is None:
            checks["started"] = (False, "its start hook has not returned")
        else:
            checks |= self.host.agent.reported_checks
        return checks

    def unready(self) -> tuple[str, ...]:
        """Names of the checks that fail."""
        return tuple(name for name, (ok, _) in self.checks().items() if not ok)

    @property
    def context_usage(self) -> float | None:
        """Percent of the model's context in use, where the agent says so."""
        return self.host.agent.reported_context_usage if self.host.agent is not None else None

    @property
    def memory_bytes(self) -> int:
        """Resident memory of its tool servers at the last sample; this process serves all, and counts for none."""
        return sum(rss for name, rss in self.memory.samples.items() if name in self.sessions)

    def workers(self) -> list[TaskActor]:
        """The task actors that live now."""
        return [entry.actor for entry in self.book.in_hand.values() if entry.actor is not None]

    def seconds_since_progress(self) -> float | None:
        """Of the task in hand that has not moved for longest; one that waits for another agent does not count."""
        silent = [
            worker.context.incarnation.seconds_since_progress for worker in self.workers() if worker.waits_for is None
        ]
        return max((seconds for seconds in silent if seconds is not None), default=None)

    # The subtree

    def spec(self) -> SupervisorSpec:
        """Describe its subtree; a child that cannot be mended takes the agent down, which opens its breaker."""
        sessions = tuple(
            self._child("mcp-session", server, session, "mcp_session", shutdown=self._stop_grace(server))
            for server, session in self.sessions.items()
        )
        return SupervisorSpec(
            id=self.name,
            restart=Restart.TEMPORARY,
            children=(
                self._child("nats", "connection", self.bus, "connection"),
                SupervisorSpec(id="tools", children=sessions, dynamic=True, when_exhausted=WhenExhausted.ESCALATE),
                *self._connections_spec(),
                self._child("memory-guard", "memory-guard", self.memory, "memory_guard"),
                ChildSpec(id="host", factory=lambda: HostActor(self.host), when_exhausted=WhenExhausted.ESCALATE),
                SupervisorSpec(id="work", dynamic=True, when_exhausted=WhenExhausted.ESCALATE),
                self._child(
                    "inbox",
                    "inbox",
                    self._inbox_setup(),
                    "inbox",
                    shutdown=self._shared.config.fleet.drain_timeout + INBOX_GRACE,
                ),
            ),
        )

    def _connections_spec(self) -> tuple[SupervisorSpec, ...]:
        children = tuple(
            self._child(
                self._battery_of(name), name, connection, "connection", shutdown=self._stop_grace_of_connection(name)
            )
            for name, connection in self.connections.items()
        )
        # Most agents have none.
        if not children:
            return ()
        escalate = WhenExhausted.ESCALATE
        return (SupervisorSpec(id="connections", children=children, dynamic=True, when_exhausted=escalate),)

    def _child(self, battery: str, id_: str, handle: Any, policy: str, *, shutdown: float | None = None) -> ChildSpec:
        make = self._shared.batteries[battery]

        def factory() -> Actor:
            return make(handle)

        return child_spec(id_, factory, self._restart_config(policy), shutdown)

    def _restart_config(self, actor: str) -> RestartConfig:
        named = getattr(self._shared.config.actors, actor)
        return self._shared.config.policies.restart[named] if named is not None else RestartConfig()

    def _stop_grace(self, server: str) -> float:
        return self._servers()[server].stop_grace

    def _stop_grace_of_connection(self, name: str) -> float:
        return self._shared.config.connections[Name(name)].close_timeout + CLOSE_MARGIN

    # Handles

    def _battery_of(self, connection: str) -> str:
        """Name the battery behind a connection: its kind, or the one that takes any class."""
        kind = self._shared.config.connections[Name(connection)].kind
        return "client" if ":" in kind else kind

    def _open_connections(self) -> dict[str, Connection]:
        opened: dict[str, Connection] = {}
        for name in map(str, self.config.connections):
            config = self._shared.config.connections[Name(name)]
            battery = self._shared.batteries[self._battery_of(name)]
            opened[name] = battery.open_handle(name, config, self._shared.folder)
        return opened

    def _servers(self) -> dict[str, McpServerConfig]:
        resolved = servers_of(self._shared.config, Name(self.name))
        return {str(server): one.value for server, one in resolved.items()}

    def _open_sessions(self) -> dict[str, ToolSession]:
        battery = self._shared.batteries["mcp-session"]
        opened: dict[str, ToolSession] = {}
        for server, config in self._servers().items():
            policies = server_policies(self._shared.config, config)
            log = self._shared.state_dir / "logs" / f"{self.name}-mcp-{server}.log"
            folder = self._shared.folder
            opened[server] = battery.open_handle(server, placed_server(config, folder), policies=policies, log=log)
        return opened

    def _open_memory(self) -> Any:
        servers = self._servers()
        return self._shared.batteries["memory-guard"].open_handle(
            self._shared.config.memory,
            tuple(self.sessions.values()),
            warn={name: int(one.memory_warn) for name, one in servers.items() if one.memory_warn is not None},
            limit={name: int(one.memory_limit) for name, one in servers.items() if one.memory_limit is not None},
        )

    def _agent_setup(self) -> AgentSetup:
        shared = self._shared
        return AgentSetup(
            name=self.name,
            path=f"{self.path}/host",
            client=TaskClient(self.bus, shared.names, self.name, shared.wall, self._report_sent),
            tools=Tools(self.name, self.sessions),
            connections=Connections(self.name, self.connections),
            options=dict(self.config.options),
            events=self.breaker.events,
            known=frozenset(str(name) for name in shared.config.agents),
            task_timeout=self.config.task_timeout,
        )

    def _report_sent(self, task: Task) -> None:
        self.breaker.events.emit(
            "message_sent", f"{self.path}/host", destination=task.agent, type=task.type, task=task.id
        )

    def _inbox_setup(self) -> InboxSetup:
        settings, shared = self._shared.config, self._shared
        return InboxSetup(
            agent=self.name,
            bus=self.bus,
            names=shared.names,
            wall=shared.wall,
            book=self.book,
            gate=flood_gate(settings.flood_gate),
            redelivery=redelivery(settings.inbox),
            admission=self.breaker,
            limits=Limits(self.config.task_timeout, self.config.progress_timeout),
            task_grace=TASK_GRACE,
            keepalive=settings.inbox.keepalive,
            drain=settings.fleet.drain_timeout,
            is_hopeless=self._is_hopeless,
            unready=self.unready,
            instance=self.host.instance,
            work=self._work,
        )

    def _is_hopeless(self, entry: Entry) -> bool:
        """Whether a task waits for an agent of this process that has not begun what it was asked."""
        asked = entry.actor.waits_for if entry.actor is not None else None
        book = self._shared.books.get(asked) if asked is not None else None
        return book is not None and not any(one.task.causation == entry.task.id for one in book.in_hand.values())

    def _work(self) -> ActorRef:
        return self._shared.ref(f"{self.path}/work")


def placed_server(config: McpServerConfig, folder: Path) -> McpServerConfig:
    """Make all paths of a server's configuration absolute: they begin at the configuration's folder."""
    return attrs.evolve(
        config,
        cwd=folder / config.cwd if config.cwd is not None else folder,
        env={name: _placed(value, folder) for name, value in config.env.items()},
        headers={name: _placed(value, folder) for name, value in config.headers.items()},
        token=Secret(_placed(config.token, folder)) if config.token is not None else None,
        oauth=_placed_login(config.oauth, folder) if config.oauth is not None else None,
        restart_log=folder / config.restart_log if config.restart_log is not None else None,
    )


def _placed_login(oauth: OAuthConfig, folder: Path) -> OAuthConfig:
    secrets = ("client_secret", "private_key", "refresh_token", "assertion")
    given = {key: value for key in secrets if (value := getattr(oauth, key)) is not None}
    placed: dict[str, Any] = {key: Secret(_placed(value, folder)) for key, value in given.items()}
    if oauth.login_file is not None:
        placed["login_file"] = folder / oauth.login_file
    return attrs.evolve(oauth, **placed)


def _placed(value: str, folder: Path) -> str:
    """Make the path of a reference to a file absolute: it begins at the configuration, not where the server runs."""
    kind, _, path = value.partition(":")
    return f"file:{folder / path}" if kind == "file" else value


def child_spec(id_: str, factory: Callable[[], Actor], config: RestartConfig, shutdown: float | None) -> ChildSpec:
    """Turn a restart policy of the configuration into a child spec; a spent budget escalates."""
    return ChildSpec(
        id=id_,
        factory=factory,
        restart=Restart(config.restart),
        budget=Budget(config.max_restarts, config.max_seconds),
        backoff=restart_backoff(config),
        when_exhausted=WhenExhausted.ESCALATE,
        start_timeout=config.start_timeout,
        shutdown=config.shutdown if shutdown is None else shutdown,
        limits=Limits(progress=config.progress_timeout or None),
    )
