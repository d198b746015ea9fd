"""Rerouting: the work of an agent that is parked goes to its fallback."""

from __future__ import annotations

from typing import Any, Protocol

import attrs
import trio

from agentrt.ports import Bus, BusRefused, BusUnavailable, Delivery
from agentrt.tasks import PRIORITIES, MalformedTask, Names, Task

#: Seconds before a task is looked at again that the fallback may not have.
_LATER = 30.0
#: Seconds for the acknowledgement of a task that was sent on, also when the rerouting ends meanwhile.
_ACK_GRACE = 2.0


class Emit(Protocol):
    """Publishes an event."""

    def __call__(self, kind: str, /, **fields: Any) -> object:
        """Publish it."""
        ...


async def reroute(bus: Bus, names: Names, agent: str, fallback: str, emit: Emit) -> None:
    """Send each task that waits for *agent* on to *fallback*, until cancelled.

    A task that came through the fallback already stays where it is: sending it back would make a circle. Looking at it
    is a delivery, and its deliveries are few, so every second time it is stored anew.
    """

    async def lane(priority: str) -> None:
        async with bus.consume(names.tasks, names.consumer(agent, priority)) as consumer:
            while True:
                delivery = await consumer.next()
                try:
                    await _send_on(bus, names, agent, fallback, delivery, emit)
                except (BusUnavailable, BusRefused) as error:
                    # Not acknowledged, so it comes again.
                    emit("task_not_rerouted", agent=agent, fallback=fallback, reason=str(error))
                    await bus.wait_ready()

    async with trio.open_nursery() as nursery:
        for priority in PRIORITIES:
            nursery.start_soon(lane, priority)


async def _send_on(bus: Bus, names: Names, agent: str, fallback: str, delivery: Delivery, emit: Emit) -> None:
    try:
        task = Task.read(agent, delivery.body, delivery.headers, delivery.attempt)
    except MalformedTask:
        # Its own agent's inbox puts it where it belongs.
        await delivery.nak(_LATER)
        return
    stays = fallback in task.path
    if stays and task.attempt == 1:
        await delivery.nak(_LATER)
        return
    onward = attrs.evolve(task, agent=agent if stays else fallback, route=task.route + 1)
    subject = names.task_subject(onward.agent, task.priority)
    # The body as it came: what one encoder wrote another may not be able to.
    await bus.store(subject, delivery.body, onward.headers(), msg_id=onward.msg_id)
    with trio.move_on_after(_ACK_GRACE, shield=True):
        await delivery.ack()
    if not stays:
        emit("task_rerouted", agent=agent, fallback=fallback, task=task.id)
