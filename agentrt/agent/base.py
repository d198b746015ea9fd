"""Agent: the class that users subclass."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

import attrs
import structlog
import trio

from agentrt.agent.client import TaskClient
from agentrt.ports import Connection, Json, ToolError, ToolSession
from agentrt.tasks import PATH_KEPT, Priority, Task

if TYPE_CHECKING:
    from agentrt.agent.work import TaskActor
    from agentrt.kernel import Event, EventStream

#: The task that the current code works on; what it sends inherits conversation, path, deadline and trace.
current_work: ContextVar[TaskActor | None] = ContextVar("agentrt_current_work", default=None)


class TaskRefused(Exception):
    """Raised in ``handle`` to say no for good: the task's outcome is *refused*, and it is not tried again."""


class ExitRefused(RuntimeError):
    """An agent's code called ``sys.exit``: that code failed, and the fleet with its other agents goes on."""


@contextmanager
def no_exit(what: str) -> Iterator[None]:
    """Make a failure of the ``SystemExit`` that *what* raises, by itself or in a nursery of its own.

    Raises:
        ExitRefused: It did.
    """
    try:
        yield
    except SystemExit as asked:
        raise ExitRefused(f"{what} called sys.exit({asked.code!r})") from asked
    except BaseExceptionGroup as group:
        exits, others = group.split(SystemExit)
        if exits is None or not (others is None or isinstance(others, ExceptionGroup)):
            raise
        raise ExitRefused(f"{what} called sys.exit in a task of its own") from group


class Tools:
    """The tool servers of one agent."""

    def __init__(self, agent: str, sessions: Mapping[str, ToolSession]) -> None:
        self._agent = agent
        self._sessions = dict(sessions)

    def __iter__(self) -> Any:
        """Give the names of its servers."""
        return iter(self._sessions)

    def session(self, server: str) -> ToolSession:
        """Find a server's session.

        Raises:
            ToolError: This agent has no such server.
        """
        if server not in self._sessions:
            has = ", ".join(sorted(self._sessions)) or "none"
            raise ToolError(
                f'agent {self._agent!r} has no tool server {server!r} (it has: {has}); add it to its "mcp" list',
                kind="permanent",
                server=server,
                tool="",
            )
        return self._sessions[server]

    async def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> Any:
        """Call a tool; return its structured content, else its text.

        Waits while the server is restarted and repeats what failed in passing, until its deadline.

        Args:
            server: The server's name in the configuration.
            tool: The tool's name.
            arguments: What the tool takes.
            timeout: Seconds for all of it; by default the server's ``call_timeout``.
            idempotent: Whether the call may be repeated although an earlier try may have happened.

        Raises:
            ToolError: It did not work; says what kind of failure it was and whether it may have happened.
        """
        answer = await self.session(server).call(tool, arguments, timeout=timeout, idempotent=idempotent)
        work = current_work.get()
        if work is not None:
            work.progress(f"{server}.{tool}")
        return answer


class Connections:
    """The connections of one agent to other services."""

    def __init__(self, agent: str, connections: Mapping[str, Connection]) -> None:
        self._agent = agent
        self._connections = dict(connections)

    def __iter__(self) -> Iterator[str]:
        """Give their names."""
        return iter(self._connections)

    def __getitem__(self, name: str) -> Any:
        """Find a connection: an :class:`actors.websocket.WebSocket`, an :class:`actors.client.ManagedClient`, ….

        Raises:
            LookupError: This agent has no such connection.
        """
        if name not in self._connections:
            has = ", ".join(sorted(self._connections)) or "none"
            raise LookupError(
                f'agent {self._agent!r} has no connection {name!r} (it has: {has}); add it to its "connections" list'
            )
        return self._connections[name]


@attrs.frozen
class AgentSetup:
    """What the fleet gives to an agent when it makes one."""

    name: str
    path: str
    client: TaskClient
    tools: Tools
    connections: Connections
    options: Mapping[str, Any]
    events: EventStream
    known: frozenset[str]
    task_timeout: float


class Agent:
    """Something that takes tasks from its inbox, one instance for all of its tasks.

    Override :meth:`handle`, and the hooks where you need them. The instance lives as long as its agent runs; when the
    agent is restarted there is a new one. Several tasks may be in hand at once where ``max_concurrent_tasks`` says
    so, or where one of them waits for another agent's answer.
    """

    _setup: AgentSetup
    tools: Tools
    connections: Connections
    log: structlog.typing.FilteringBoundLogger
    _context_usage: float | None
    _checks: dict[str, tuple[bool, str]]

    def __new__(cls, setup: AgentSetup) -> Self:
        """Give the instance all that it has: here, so that an ``__init__`` which does not call ours loses nothing."""
        self = super().__new__(cls)
        self._setup = setup
        self.tools = setup.tools
        self.connections = setup.connections
        self.log = structlog.get_logger("agentrt.agent").bind(agent=setup.name)
        self._context_usage = None
        self._checks = {}
        return self

    def __init__(self, setup: AgentSetup) -> None:
        """Override it where fields have to be there at once; what takes time belongs into :meth:`on_start`."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._setup.name

    @property
    def options(self) -> Mapping[str, Any]:
        """``[agents.NAME.options]``, as it stands there."""
        return self._setup.options

    # What a subclass overrides

    @abstractmethod
    async def handle(self, task: Task) -> Json:
        """Do *task*; what is returned is the answer, and has to be JSON.

        An exception is a failed attempt: the task is delivered again later, and after the last attempt it goes to the
        dead-letter queue with the reason. Raise :class:`TaskRefused` where trying again is no use.
        """
        raise NotImplementedError(f"{type(self).__name__} has no handle()")

    async def on_start(self) -> None:
        """Prepare; runs before the first task. Tools, connections and other agents can be reached."""

    async def on_stop(self) -> None:
        """Tidy up; runs after the last task, at an ordered stop."""

    # What a subclass uses

    async def ask(
        self,
        agent: str,
        payload: Json,
        *,
        type: str = "task",  # noqa: A002 - what a task has is a type.
        priority: Priority | None = None,
        timeout: float | None = None,
    ) -> Json:
        """Give *agent* a task and wait for the answer.

        While it waits, this agent may take another task, so that agents that ask each other in a circle get on.

        Args:
            agent: Its name in the configuration.
            payload: JSON.
            type: A word for the kind of work.
            priority: By default that of the task in hand.
            timeout: Seconds; by default what is left of the task in hand, else the agent's ``task_timeout``.

        Raises:
            TaskFailed: It was not answered; has the outcome with its reason.
            NoOutcome: No outcome in time.
            BusUnavailable: It could not be stored in time.
            LookupError: The fleet has no such agent.
        """
        seconds = self._seconds(timeout)
        task = self._new_task(agent, payload, type, priority, seconds)
        work = current_work.get()
        if work is None:
            return await self._setup.client.ask(task, seconds)
        async with work.waiting(agent):
            answer = await self._setup.client.ask(task, seconds)
        work.progress(f"answer from {agent}")
        return answer

    async def send(
        self,
        agent: str,
        payload: Json,
        *,
        type: str = "task",  # noqa: A002 - what a task has is a type.
        priority: Priority | None = None,
        timeout: float = 30.0,
    ) -> str:
        """Give *agent* a task and do not wait for it; return the task's id once it is stored.

        It has no deadline: it may be done when the task in hand is long over.

        Raises:
            BusUnavailable: It could not be stored within *timeout* seconds.
            LookupError: The fleet has no such agent.
        """
        return await self._setup.client.send(self._new_task(agent, payload, type, priority, None), timeout)

    def progress(self, what: str = "") -> None:
        """Say that the task in hand moved; without it for ``progress_timeout`` the task counts as stuck."""
        work = current_work.get()
        if work is not None:
            work.progress(what)

    def context_usage(self, percent: float) -> None:
        """Report how much of the model's context window is used, 0 to 100."""
        self._context_usage = min(100.0, max(0.0, float(percent)))

    def check(self, name: str, ok: bool, reason: str = "") -> None:  # noqa: FBT001 - a check is a name and a yes or no.
        """Report a readiness check of your own, such as ``model_available``; while it fails no task is taken."""
        self._checks[name] = (ok, reason)

    def emit(self, kind: str, /, **fields: Any) -> Event:
        """Publish an event about this agent; it goes to the log and the event file."""
        return self._setup.events.emit(kind, self._setup.path, **fields)

    # What the fleet reads

    @property
    def reported_checks(self) -> Mapping[str, tuple[bool, str]]:
        """What :meth:`check` reported."""
        return dict(self._checks)

    @property
    def reported_context_usage(self) -> float | None:
        """What :meth:`context_usage` reported."""
        return self._context_usage

    def _seconds(self, timeout: float | None) -> float:
        if timeout is not None:
            return timeout
        work = current_work.get()
        if work is not None and (left := work.seconds_left()) is not None:
            return left
        return self._setup.task_timeout

    def _new_task(
        self,
        agent: str,
        payload: Json,
        type_: str,
        priority: Priority | None,
        timeout: float | None,
    ) -> Task:
        if agent not in self._setup.known:
            known = ", ".join(sorted(self._setup.known))
            raise LookupError(f"no agent {agent!r} in this fleet; there are: {known}")
        task = self._setup.client.new_task(
            agent, payload, type=type_, priority=priority or "normal", timeout=timeout if timeout != math.inf else None
        )
        work = current_work.get()
        if work is None:
            return attrs.evolve(task, path=(self.name,))
        return follow(work.task, task, self.name, priority, expires=timeout is not None)

    def __repr__(self) -> str:
        """Class and name."""
        return f"<{type(self).__name__} {self.name!r} at {trio.current_time():.1f} s>"


def follow(parent: Task, task: Task, sender: str, priority: Priority | None, *, expires: bool) -> Task:
    """Carry on *parent*'s conversation with *task*: so no user code can forget it.

    What *expires* is wanted no longer than *parent* is.
    """
    deadlines = [deadline for deadline in (task.deadline, parent.deadline) if deadline is not None and expires]
    return attrs.evolve(
        task,
        conversation=parent.conversation or parent.id,
        causation=parent.id,
        hops=parent.hops + 1,
        path=(*parent.path, sender)[-PATH_KEPT:],
        deadline=min(deadlines, default=None),
        priority=priority or parent.priority,
        traceparent=parent.traceparent,
    )
