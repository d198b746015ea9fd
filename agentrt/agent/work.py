"""The task actor: one task in hand, with its limits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from agentrt.agent.base import TaskRefused, current_work, no_exit
from agentrt.agent.client import TaskFailed
from agentrt.kernel import Actor
from agentrt.ports import Json
from agentrt.tasks import Status, Task

if TYPE_CHECKING:
    from agentrt.agent.base import Agent


@attrs.frozen
class Result:
    """What came out of ``handle``: an answer, or an end that no other attempt would change."""

    status: Status
    answer: Json = None
    reason: str = ""


class Slots:
    """What an agent may work on at once.

    Like a semaphore, and fair as one; but a task that cannot wait may go beyond the bound.

    Attributes:
        freed: Unparked when there may be room.
    """

    def __init__(self, most: int) -> None:
        self.freed = trio.lowlevel.ParkingLot()
        self._most = most
        self._taken = 0
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def free(self) -> int:
        """How many can be taken without waiting."""
        return max(0, self._most - self._taken)

    async def acquire(self) -> None:
        """Take one, waiting for one to be free."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._taken < self._most:
            self._taken += 1
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            # Whoever gives one back hands it over.
            await self._waiting.park()

    def take_at_once(self) -> None:
        """Take one, beyond the bound where none is free."""
        self._taken += 1

    def release(self) -> None:
        """Give one back."""
        if self._waiting and self._taken <= self._most:
            self._waiting.unpark()
        else:
            self._taken -= 1
            self.freed.unpark_all()


class Slot:
    """One task's share of what its agent may work on at once; given back while the task waits for another agent."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._is_held = False
        self._is_closed = False

    async def acquire(self) -> None:
        """Take it, waiting for one to be free; nothing happens where it is held, or closed."""
        if self._is_wanted():
            await self._slots.acquire()
            if self._is_wanted():
                self._is_held = True
            else:
                self._slots.release()

    def take_at_once(self) -> None:
        """Take it without waiting; nothing happens where it is held, or closed."""
        if self._is_wanted():
            self._slots.take_at_once()
            self._is_held = True

    def release(self) -> None:
        """Give it back; nothing happens where it is not held."""
        if self._is_held:
            self._is_held = False
            self._slots.release()

    def close(self) -> None:
        """Give it back for good: what its task left running takes none."""
        self.release()
        self._is_closed = True

    def _is_wanted(self) -> bool:
        return not self._is_held and not self._is_closed


class TaskActor(Actor):
    """Runs ``agent.handle(task)`` once; its exit record says how that went."""

    def __init__(self, agent: Agent, task: Task, slot: Slot, wall: Callable[[], float]) -> None:
        self.task = task
        self._agent = agent
        self._slot = slot
        self._wall = wall
        self._asked: list[str] = []

    @property
    def waits_for(self) -> str | None:
        """The agent that it waits for, if it does; the last one where there are several."""
        return self._asked[-1] if self._asked else None

    def seconds_left(self) -> float | None:
        """Seconds to the task's own deadline; None where it has none."""
        return None if self.task.deadline is None else max(0.0, self.task.deadline - self._wall())

    def progress(self, what: str = "") -> None:
        """Say that the task moved, to its watchdog and to whoever listens."""
        super().progress(what)
        self.emit("task_progressed", task=self.task.id, what=what)

    @asynccontextmanager
    async def waiting(self, agent: str) -> AsyncIterator[None]:
        """Wait for *agent* without holding a slot.

        The progress limit does not run meanwhile: the agent that is waited for has limits of its own. A task that asks
        several agents at once has no slot until it waits for none of them, or agents that wait for each other would not
        get on.
        """
        incarnation = self.context.incarnation
        self._asked.append(agent)
        self._slot.release()
        incarnation.is_waiting = True
        failure: Exception | None = None
        try:
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again below, with the slot taken back.
                failure = error
            if len(self._asked) == 1:
                await self._slot.acquire()
        finally:
            self._asked.remove(agent)
            if self._asked:
                self._slot.release()
            else:
                # Held already, unless the wait was cancelled; the task may go on, and is counted again.
                self._slot.take_at_once()
                incarnation.is_waiting = False
                super().progress(f"back from {agent}")
        if failure is not None:
            raise failure

    async def run(self) -> Result:
        """Handle the task.

        Raises:
            Exception: Whatever ``handle`` raised: the attempt failed.
        """
        current_work.set(self)
        structlog.contextvars.bind_contextvars(task=self.task.id, conversation=self.task.conversation)
        try:
            with no_exit(f"{type(self._agent).__name__}.handle"):
                answer = await self._agent.handle(self.task)
        except (TaskRefused, TaskFailed, ExceptionGroup) as error:
            return _ended_by(error)
        except GeneratorExit as odd:
            # To Trio it means that the task's coroutine is closed, which only the runtime may do.
            raise RuntimeError("handle raised GeneratorExit") from odd
        try:
            # A copy: what the agent keeps may change before it is stored.
            answer = json.loads(json.dumps(answer, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"{type(self._agent).__name__}.handle returned what is no JSON ({error}); return dict, list, str, int, "
                "float, bool or None"
            ) from error
        return Result(Status.ANSWERED, answer)


def _ended_by(error: Exception) -> Result:
    """Say how the task ended where no other attempt would change that; raise *error* where one may.

    A nursery in ``handle`` wraps in a group what its tasks raise.
    """
    leaf = error
    while isinstance(leaf, ExceptionGroup) and len(leaf.exceptions) == 1:
        leaf = leaf.exceptions[0]
    if isinstance(leaf, TaskRefused):
        return Result(Status.REFUSED, reason=str(leaf))
    if isinstance(leaf, TaskFailed):
        # The agent that was asked has had all its attempts; repeating them from here would multiply them.
        return Result(Status.DEAD_LETTERED, reason=str(leaf))
    raise error
