"""Settling: how a task gets its one outcome, stored before it is acknowledged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs
import trio

from agentrt.agent import Entry, InboxSetup, Result
from agentrt.kernel import Event, Exit, ExitKind
from agentrt.policy.redelivery import DeadLetter, Redeliver
from agentrt.ports import BusRefused, BusUnavailable, Delivery, KeyExists
from agentrt.tasks import Outcome, Status, Task

#: Characters kept of a reason: an exception may say anything, and what is too long cannot be stored.
_REASON_KEPT = 2000
#: Characters kept of a reason in a header.
_HEADER_KEPT = 1024
#: Headers that a dead letter can do without, and that have room for a short reason.
_SPARED = frozenset({"Agentrt-Sent-At", "Agentrt-Auto"})
#: What a task actor's exit says of the attempt, where it was not the task's own doing.
_CUT_OFF = frozenset({ExitKind.STOPPED, ExitKind.KILLED, ExitKind.CRASHED_DURING_STOP})


#: Seconds to store anew what a stop cut off: a stop does not wait for a bus that is away.
_HAND_ON = 3.0
#: Routes after which a task that is cut off again is not taken for an innocent bystander any more.
_MAX_ROUTES = 16


class Emit(Protocol):
    """Publishes an event of the inbox."""

    def __call__(self, kind: str, /, *, cause: Event | int | None = None, **fields: Any) -> Event: ...


class Settler:
    """Gives each task its outcome.

    The order is what keeps a task from being lost: dead letter, outcome, hint, acknowledgement. Each step is repeated
    until the bus took it, and each may be done twice without harm.
    """

    def __init__(self, setup: InboxSetup, emit: Emit) -> None:
        self._setup = setup
        self._emit = emit

    async def settle(self, entry: Entry, exit_: Exit) -> None:
        """Settle a task whose actor ended."""
        if exit_.kind is ExitKind.COMPLETED and isinstance(exit_.result, Result):
            await self._complete(entry, exit_.result)
        elif exit_.kind in _CUT_OFF:
            self._setup.admission.released(entry.task.id)
            await self.hand_on(entry)
        else:
            await self._fail(entry, exit_)

    async def hand_on(self, entry: Entry) -> None:
        """Let a task that a stop cut off come again as new: it did not fail, so it spends none of its deliveries.

        One that was cut off very often may be what brings its agent down; from then on its deliveries count.
        """
        setup = self._setup
        if entry.task.route >= _MAX_ROUTES:
            await self.give_back(entry, 0.0)
            return
        again = attrs.evolve(entry.task, route=entry.task.route + 1)
        subject = setup.names.task_subject(setup.agent, again.priority)
        try:
            await setup.bus.store(subject, again.body(), again.headers(), msg_id=again.msg_id, timeout=_HAND_ON)
        except (BusUnavailable, BusRefused):
            await self.give_back(entry, 0.0)
            return
        self._emit("task_handed_on", task=again.id, route=again.route)
        await self.acknowledge(entry.delivery.ack())
        setup.book.drop(entry.task.id)

    async def give_back(self, entry: Entry, delay: float) -> None:
        """Let the task come again after *delay* seconds."""
        try:
            await entry.delivery.nak(delay)
        except (BusUnavailable, BusRefused):
            # It comes again by itself when its ack wait is over.
            self._emit("task_left_to_redelivery", task=entry.task.id)
        self._setup.book.drop(entry.task.id)

    async def dead_letter(
        self,
        entry: Entry,
        why: str,
        reason: str,
        cause: Event | None = None,
        status: Status = Status.DEAD_LETTERED,
    ) -> None:
        """End the task and put it into the dead-letter queue, which keeps it for a person to look at.

        Args:
            entry: The task.
            why: A word for it, for metrics.
            reason: For people.
            cause: The event that led to it.
            status: The task's outcome.
        """
        await self._store_dead_letter(entry, reason)
        self._emit("task_dead_lettered", cause=cause, task=entry.task.id, type=entry.task.type, why=why, reason=reason)
        await self.finish(entry, status, reason=reason)

    async def dead_letter_malformed(self, delivery: Delivery, reason: str) -> None:
        """Put a message that is no task into the dead-letter queue."""
        names = self._setup.names
        msg_id = f"dlq.{names.tasks}.{delivery.sequence}"
        headers = {"Agentrt-Reason": one_line(f"no task: {reason}")}
        await self._store_beside(delivery, headers, msg_id)
        self._emit("task_dead_lettered", why="malformed", reason=f"no task: {reason}", sequence=delivery.sequence)
        await self.acknowledge(delivery.term("no task"))

    async def finish(self, entry: Entry, status: Status, *, answer: Any = None, reason: str = "") -> None:
        """Store the outcome, say so, acknowledge the task, and let go of it."""
        setup, task = self._setup, entry.task
        outcome = Outcome(
            task=task.id,
            agent=setup.agent,
            status=status,
            answer=answer,
            reason=reason[:_REASON_KEPT],
            attempts=task.attempt,
            at=setup.wall(),
        )
        outcome = await self._store_outcome(outcome)
        await self._hint(task)
        is_dead = status is Status.DEAD_LETTERED
        settled = entry.delivery.term(one_line(reason)) if is_dead else entry.delivery.ack()
        # The task is done: what is left to say to the bus, which may be away, keeps no other task waiting.
        entry.slot.release()
        await self.acknowledge(settled)
        setup.book.finish(task)
        self._emit(
            "task_finished",
            task=task.id,
            type=task.type,
            status=outcome.status.value,
            seconds=trio.current_time() - entry.since,
            attempts=task.attempt,
            reason=outcome.reason or None,
        )

    async def _complete(self, entry: Entry, result: Result) -> None:
        if result.status is Status.DEAD_LETTERED:
            self._setup.admission.released(entry.task.id)
            await self.dead_letter(entry, "another_agent_failed", result.reason)
        else:
            self._setup.admission.succeeded(entry.task.id)
            await self.finish(entry, result.status, answer=result.answer, reason=result.reason)

    async def _fail(self, entry: Entry, exit_: Exit) -> None:
        """Let a failed attempt be repeated later, or end the task."""
        setup, task = self._setup, entry.task
        reason = (str(exit_.cause) if exit_.cause is not None else exit_.reason)[:_REASON_KEPT]
        verdict = setup.redelivery.after_failure(task.attempt)
        event = self._emit(
            "task_attempt_failed",
            task=task.id,
            conversation=task.conversation,
            type=task.type,
            attempt=task.attempt,
            exit=exit_.kind.value,
            reason=reason,
            again_in=verdict.delay if isinstance(verdict, Redeliver) else None,
        )
        setup.admission.failed(task.id, reason, event)
        if isinstance(verdict, DeadLetter):
            await self.dead_letter(entry, "failed", f"attempt {task.attempt} {exit_.kind.value}: {reason}", event)
        elif task.deadline is not None and setup.wall() + verdict.delay >= task.deadline:
            late = f"attempt {task.attempt} {exit_.kind.value}: {reason}; its deadline leaves no time for another"
            await self.dead_letter(entry, "out_of_time", late, event)
        else:
            await self.give_back(entry, verdict.delay)

    async def _store_dead_letter(self, entry: Entry, reason: str) -> None:
        added = {
            "Agentrt-Reason": one_line(reason),
            "Agentrt-Attempts": str(entry.task.attempt),
            "Agentrt-Failed-At": f"{self._setup.wall():.3f}",
        }
        await self._store_beside(entry.delivery, added, f"dlq.{entry.task.msg_id}")

    async def _store_beside(self, delivery: Delivery, added: dict[str, str], msg_id: str) -> None:
        """Store a message as it came, with headers added, as a dead letter."""
        subject = self._setup.names.dead_letter_subject(self._setup.agent)
        came = {name: value for name, value in delivery.headers.items() if name != "Nats-Msg-Id"}

        async def store(headers: dict[str, str]) -> None:
            await self._until_done(lambda: self._setup.bus.store(subject, delivery.body, headers, msg_id=msg_id))

        try:
            await store(came | added)
        except BusRefused:
            # A message as large as the bus takes has no room for more headers: what can be spared makes some.
            kept = {name: value for name, value in came.items() if name not in _SPARED}
            await store({**kept, "Agentrt-Reason": "see outcome"})

    async def _store_outcome(self, outcome: Outcome) -> Outcome:
        """Store it where there is none yet; return it as it was stored."""
        bucket = self._setup.names.outcomes
        try:
            await self._until_done(lambda: self._setup.bus.create(bucket, outcome.task, outcome.encode()))
        except KeyExists:
            # The first outcome is the outcome.
            stored = await self._setup.bus.get(bucket, outcome.task)
            if stored is not None:
                outcome = Outcome.decode(stored[0])
            self._emit("outcome_exists", task=outcome.task, status=outcome.status.value)
        except BusRefused as error:
            if outcome.answer is None:
                raise
            # An answer larger than the bus takes is one that nobody could read.
            reason = f"its answer could not be stored: {error}"
            return await self._store_outcome(attrs.evolve(outcome, status=Status.FAILED, answer=None, reason=reason))
        return outcome

    async def _hint(self, task: Task) -> None:
        try:
            await self._setup.bus.publish(self._setup.names.outcome_subject(task.id), b"")
        except (BusUnavailable, BusRefused):
            # Whoever waits looks at the stored outcome anyway.
            return

    async def acknowledge(self, settled: Awaitable[None]) -> None:
        """Settle a delivery; where the bus has forgotten it, tell and go on."""
        try:
            await settled
        except (BusUnavailable, BusRefused) as error:
            # It comes again, and is acknowledged then, because it has an outcome.
            self._emit("task_not_acknowledged", reason=str(error))

    async def _until_done(self, operation: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await operation()
            except BusUnavailable:
                await self._setup.bus.wait_ready()
            else:
                return


def one_line(text: str) -> str:
    """Make of *text* what a header takes: one line of printable characters."""
    printable = "".join(one if one.isprintable() else " " for one in text[: 2 * _HEADER_KEPT])
    return " ".join(printable.split())[:_HEADER_KEPT]
