"""Sending tasks and waiting for their outcomes."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
import trio

from agentrt.ports import Bus, BusUnavailable, Json
from agentrt.tasks import Names, Outcome, Priority, Status, Task

#: Seconds between two looks at the stored outcome while no hint comes: at first, and at most.
_POLL_FIRST, _POLL_MOST = 0.5, 5.0


class TaskFailed(Exception):
    """A task that was asked for was not answered.

    Attributes:
        outcome: How it ended.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"task {outcome.task} for {outcome.agent} was {outcome.status.value}: {outcome.reason}")
        self.outcome = outcome


class NoOutcome(TimeoutError):
    """A task has no outcome yet. It is stored and goes on; its outcome can be asked for later.

    Attributes:
        task: Its id.
    """

    def __init__(self, task: str, timeout: float) -> None:
        super().__init__(f"no outcome for task {task} within {timeout:g} s; it is stored and goes on")
        self.task = task


def _nothing(_: Task) -> None:
    """Do nothing."""


@attrs.frozen
class TaskClient:
    """Sends tasks into a fleet and reads their outcomes.

    Args:
        bus: Its connection.
        names: The fleet's names on the bus.
        sender: Who sends.
        wall: Unix time; virtual in tests.
        on_sent: Called with each task that was stored.
    """

    bus: Bus
    names: Names
    sender: str
    wall: Callable[[], float] = time.time
    on_sent: Callable[[Task], object] = _nothing

    def new_task(
        self,
        agent: str,
        payload: Json,
        *,
        type: str = "task",  # noqa: A002 - what a task has is a type.
        priority: Priority = "normal",
        timeout: float | None = None,
    ) -> Task:
        """Make a task that begins a conversation; *timeout* in seconds from now, None for no deadline."""
        now = self.wall()
        deadline = None if timeout is None else now + timeout
        return Task(
            agent=agent,
            payload=payload,
            type=type,
            sender=self.sender,
            priority=priority,
            deadline=deadline,
            sent_at=now,
        )

    async def send(self, task: Task, timeout: float = 30.0) -> str:
        """Store a task; return its id once it is stored.

        Raises:
            BusUnavailable: Not stored within *timeout* seconds, as far as is known.
            BusRefused: The bus said no.
        """
        subject = self.names.task_subject(task.agent, task.priority)
        await self.bus.store(subject, task.body(), task.headers(), msg_id=task.msg_id, timeout=timeout)
        self.on_sent(task)
        return task.id

    async def outcome(self, task: str, timeout: float) -> Outcome:
        """Wait for a task's outcome.

        A hint on the bus tells when to look; the stored outcome is what counts, so a lost hint, or a bus that was
        away, costs a few seconds and nothing else.

        Raises:
            NoOutcome: There is none within *timeout* seconds.
        """
        with trio.move_on_after(max(0.0, timeout)):
            async with self.bus.subscribe(self.names.outcome_subject(task)) as hints:
                wait = _POLL_FIRST
                while True:
                    if (found := await self._stored(task, timeout)) is not None:
                        return found
                    with trio.move_on_after(wait):
                        await hints.receive()
                    wait = min(_POLL_MOST, wait * 2)
        raise NoOutcome(task, timeout)

    async def ask(self, task: Task, timeout: float) -> Json:
        """Send a task, wait for its outcome, and return the answer.

        Raises:
            TaskFailed: It ended another way.
            NoOutcome: No outcome within *timeout* seconds.
            BusUnavailable: It was not stored within *timeout* seconds.
        """
        began = trio.current_time()
        await self.send(task, timeout)
        outcome = await self.outcome(task.id, timeout - (trio.current_time() - began))
        return answer_of(outcome)

    async def _stored(self, task: str, timeout: float) -> Outcome | None:
        try:
            found = await self.bus.get(self.names.outcomes, task, timeout=timeout)
        except BusUnavailable:
            return None
        return Outcome.decode(found[0]) if found is not None else None


def answer_of(outcome: Outcome) -> Json:
    """Return the answer, or raise :class:`TaskFailed`."""
    if outcome.status is not Status.ANSWERED:
        raise TaskFailed(outcome)
    return outcome.answer
