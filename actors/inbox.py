"""The inbox: takes tasks from the stream, has them done, and sees each of them to its one outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import trio

from actors._lanes import Lanes
from actors._settle import Settler
from agentrt.agent import Entry, InboxSetup, Slot, TaskActor
from agentrt.kernel import (
    Actor,
    ActorDied,
    ActorRef,
    CallTimeout,
    ChildExists,
    ChildSpec,
    Exit,
    NoSuchChild,
    Refusal,
    Restart,
    StartChild,
    StartFailed,
    TerminateChild,
)
from agentrt.policy.flood import Action, GateReason, MessageMeta
from agentrt.policy.watchdog import Limits
from agentrt.ports import BusRefused, BusUnavailable, Delivery
from agentrt.tasks import PRIORITIES, MalformedTask, Status, Task

#: Seconds between two looks at needs that are not ready.
_LOOK_AGAIN = 0.1
#: Seconds before a task is tried again, or comes again, that could not be begun.
_SOON = 1.0
#: How often beginning a task is tried before it is given back: that costs it one of its few deliveries.
_TRIES = 30
#: Seconds before a task comes again whose end the bus refuses to store.
_REFUSED_AGAIN = 60.0
#: Seconds that messages are held here while no task may be taken; then they go back to the queue, for others.
_HOLD = 30.0
#: Seconds that tasks which did not end within the drain get to be cancelled and given back; more than a task's grace.
CUT_OFF_GRACE = 6.0
#: Why a task actor was not begun, where that is not the fault of the task.
_NOT_BEGUN = (StartFailed, ActorDied, CallTimeout, Refusal, ChildExists, NoSuchChild)

T = TypeVar("T")


class Inbox(Actor):
    """Pull a task when there is room for it and all needs are ready; do it under its limits; acknowledge it last.

    A task is acknowledged only when its outcome is stored. What fails comes again after the delays of the redelivery
    policy, and goes to the dead-letter queue with its reason after the last. A task that was seen before is not done
    again: one in hand keeps its newest delivery, one with an outcome is acknowledged.

    Tasks go on when the inbox is restarted; the new one sees them through.
    """

    def __init__(self, setup: InboxSetup) -> None:
        self._setup = setup
        self._lanes = Lanes(len(PRIORITIES))
        self._settler = Settler(setup, self.emit)
        self._idle = trio.Event()
        self._taking: Delivery | None = None
        self._is_idle = False
        #: A task raised what ends the whole run, which is about to reach this inbox too.
        self._run_ends = False

    async def on_start(self) -> None:
        """Go on with what is in hand."""
        self.spawn(self._keep_alive)
        for entry in self._setup.book.in_hand.values():
            self.spawn(self._see_through, entry)

    async def run(self) -> None:
        """Take tasks until a stop is asked for."""
        names, bus = self._setup.names, self._setup.bus
        async with AsyncExitStack() as stack:
            consumers = [
                await stack.enter_async_context(bus.consume(names.tasks, names.consumer(self._setup.agent, priority)))
                for priority in PRIORITIES
            ]
            async with trio.open_nursery() as nursery:
                for index, consumer in enumerate(consumers):
                    nursery.start_soon(self._lanes.pump, index, consumer)
                while True:
                    await self._wait_for_needs()
                    self._is_idle = True
                    self._taking = await self._lanes.next()
                    self._is_idle = False
                    # It may have been a long wait for that message.
                    await self._wait_for_needs()
                    if self._taking is not None:
                        await self._take_with_slot(self._taking)
                        self._taking = None
                        self.progress("pulled")

    async def on_stop(self) -> None:
        """Let tasks in hand end within the drain; cut off and give back those that do not, or cannot."""
        book = self._setup.book
        with trio.move_on_after(self._setup.drain):
            await self._give_back_held()
            while any(not self._setup.is_hopeless(entry) for entry in book.in_hand.values()):
                with trio.move_on_after(_LOOK_AGAIN):
                    await self._idle_again()
        for entry in tuple(book.in_hand.values()):
            self.spawn(self._cut_off, entry)
        with trio.move_on_after(CUT_OFF_GRACE):
            await self._idle_again()

    # Taking

    async def _wait_for_needs(self) -> None:
        """Wait until a task may be taken; give back what is held here where that takes long."""
        began = trio.current_time()
        while True:
            if self._run_ends:
                # What is given back now is for the next run; taken again here, it would end that way again at once.
                await trio.sleep_forever()
            await self._setup.book.wait_room()
            closed = self._setup.admission.closed()
            if closed is None and not self._setup.unready():
                return
            # While the breaker is open somebody else may do it at once.
            if closed is not None or trio.current_time() - began >= _HOLD:
                await self._give_back_held()
            await trio.sleep(_LOOK_AGAIN)

    async def _give_back_held(self) -> None:
        held, self._taking = self._not_begun(), None
        self._lanes.give_up()
        async with trio.open_nursery() as nursery:
            for delivery in held:
                nursery.start_soon(_give_back, delivery)

    async def _take_with_slot(self, delivery: Delivery) -> None:
        # Taken only now: a slot held while waiting would be missing to a task that waited for an answer.
        slot = Slot(self._setup.book.slots)
        await slot.acquire()
        is_used = False
        try:
            is_used = await self._persist(self._take, delivery, slot)
        except BusRefused as error:
            self.emit("task_not_settled", reason=str(error), again_in=_REFUSED_AGAIN, sequence=delivery.sequence)
            await _give_back(delivery, _REFUSED_AGAIN)
        finally:
            if not is_used:
                slot.close()

    async def _persist(self, operation: Callable[[Delivery, Slot], Awaitable[T]], delivery: Delivery, slot: Slot) -> T:
        """Repeat *operation* until the bus is there for it: a task in hand is never let go of over an outage."""
        while True:
            try:
                return await operation(delivery, slot)
            except BusUnavailable:
                await self._setup.bus.wait_ready()

    async def _take(self, delivery: Delivery, slot: Slot) -> bool:
        """Begin a task, or settle it at once; return whether it uses *slot*."""
        setup = self._setup
        try:
            task = Task.read(setup.agent, delivery.body, delivery.headers, delivery.attempt)
        except MalformedTask as error:
            await self._settler.dead_letter_malformed(delivery, str(error))
            return False
        if (in_hand := setup.book.in_hand.get(task.id)) is not None:
            if in_hand.task.route == task.route:
                in_hand.delivery = delivery
            else:
                # The one in hand was cut off, and is about to leave.
                await _give_back(delivery, _SOON)
            return False
        if setup.book.is_finished(task) or await self._has_outcome(task):
            await self._settler.acknowledge(delivery.ack())
            return False
        entry = Entry(task, delivery, slot, trio.current_time())
        self._report_arrival(task)
        if setup.redelivery.on_arrival(task.attempt) is not None:
            reason = f"delivered {task.attempt - 1} times without an outcome: it was killed or given back each time"
            await self._settler.dead_letter(entry, "process_died", reason)
            return False
        verdict = setup.gate.decide(self._meta(task), setup.wall())
        if verdict.action is Action.REFUSE:
            await self._refuse(entry, verdict.reason, verdict.detail)
            return False
        if not setup.admission.admit(task.id):
            await _give_back(delivery, _SOON)
            return False
        setup.book.in_hand[task.id] = entry
        self.spawn(self._see_through, entry)
        return True

    async def _has_outcome(self, task: Task) -> bool:
        return await self._setup.bus.get(self._setup.names.outcomes, task.id) is not None

    def _meta(self, task: Task) -> MessageMeta:
        return MessageMeta(
            id=task.msg_id,
            sender=task.sender,
            recipient=self._setup.agent,
            conversation=task.conversation,
            hops=task.hops,
            path=task.path,
            fingerprint=task.fingerprint,
            deadline=task.deadline,
            is_redelivery=task.attempt > 1,
        )

    def _report_arrival(self, task: Task) -> None:
        if task.attempt == 1:
            self.emit("task_received", type=task.type, task=task.id)
        latency = max(0.0, self._setup.wall() - task.sent_at) if task.attempt == 1 else None
        self.emit("message_received", source=task.sender, type=task.type, task=task.id, latency=latency)

    async def _refuse(self, entry: Entry, reason: GateReason | None, detail: str) -> None:
        if reason is GateReason.EXPIRED:
            await self._settler.finish(entry, Status.EXPIRED, reason="its deadline passed before it was begun")
            return
        task = entry.task
        event = self.emit(
            "flood_gate_refused",
            reason=reason,
            detail=detail,
            task=task.id,
            sender=task.sender,
            conversation=task.conversation,
            hops=task.hops,
        )
        await self._settler.dead_letter(entry, "refused", f"flood gate: {detail or reason}", event, Status.REFUSED)

    # Seeing through

    async def _see_through(self, entry: Entry) -> None:
        """Have the task done and settle it, however it ends."""
        try:
            exit_ = await self._work(entry)
            self._run_ends = self._run_ends or exit_.ends_run
            await self._settler.settle(entry, exit_)
        except _NOT_BEGUN:
            self._setup.admission.released(entry.task.id)
            await self._settler.give_back(entry, _SOON)
        except BusRefused as error:
            self.emit("task_not_settled", task=entry.task.id, reason=str(error), again_in=_REFUSED_AGAIN)
            await self._settler.give_back(entry, _REFUSED_AGAIN)
        if not self._setup.book.in_hand:
            self._idle.set()

    async def _work(self, entry: Entry) -> Exit:
        tries = 0
        while entry.worker is None:
            tries += 1
            try:
                # Where an inbox before this one began it, and did not live to hear so, there is an actor.
                entry.worker = entry.actor.ref if entry.actor is not None else await self._begin(entry)
            except _NOT_BEGUN as error:
                self.emit("task_not_begun", task=entry.task.id, reason=str(error), tries=tries)
                if tries == _TRIES:
                    raise
                await trio.sleep(_SOON)
        return await entry.worker.wait_gone()

    async def _begin(self, entry: Entry) -> ActorRef:
        setup, task = self._setup, entry.task
        limits = setup.limits
        if task.deadline is not None:
            left = max(0.001, task.deadline - setup.wall())
            total = left if limits.total is None else min(left, limits.total)
            progress = limits.progress if limits.progress is not None and limits.progress < total else None
            limits = Limits(total, progress)
        agent = setup.instance()

        def make() -> TaskActor:
            entry.actor = TaskActor(agent, task, entry.slot, setup.wall)
            return entry.actor

        spec = ChildSpec(
            id=task.id,
            factory=make,
            restart=Restart.TEMPORARY,
            shutdown=setup.task_grace,
            limits=limits,
        )
        try:
            ref: ActorRef = await setup.work().call(StartChild(spec))
        except ChildExists:
            # An attempt that was given up is still on its way out.
            await setup.work().call(TerminateChild(task.id))
            ref = await setup.work().call(StartChild(spec))
        return ref

    async def _cut_off(self, entry: Entry) -> None:
        try:
            await self._setup.work().call(TerminateChild(entry.task.id))
        except (NoSuchChild, ActorDied, Refusal, CallTimeout):
            # It ends by itself, or with its supervisor.
            return

    async def _keep_alive(self) -> None:
        """Say of each task in hand that it is worked on, so that it is not delivered to somebody else."""
        while True:
            await trio.sleep(self._setup.keepalive)
            if self._is_idle:
                # An inbox that waits for a message is not stuck.
                self.progress("waiting for a message")
            deliveries = [entry.delivery for entry in self._setup.book.in_hand.values()] + self._not_begun()
            async with trio.open_nursery() as nursery:
                for delivery in deliveries:
                    nursery.start_soon(_say_in_progress, delivery)

    def _not_begun(self) -> list[Delivery]:
        taking = [self._taking] if self._taking is not None else []
        return taking + self._lanes.held

    async def _idle_again(self) -> None:
        while self._setup.book.in_hand:
            self._idle = trio.Event()
            await self._idle.wait()


async def _give_back(delivery: Delivery, delay: float = 0.0) -> None:
    try:
        await delivery.nak(delay)
    except (BusUnavailable, BusRefused):
        # It comes again by itself when its ack wait is over.
        return


async def _say_in_progress(delivery: Delivery) -> None:
    try:
        await delivery.in_progress()
    except (BusUnavailable, BusRefused):
        # It may be delivered again meanwhile; the second delivery finds it in hand.
        return
