"""Sending, with every outcome taken down."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Any

import trio

from agentrt.kernel import (
    ActorRef,
    CountChildren,
    DeleteChild,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from agentrt.testing.simulate.orders import Order
from agentrt.testing.simulate.plan import Admin, How, Verb
from agentrt.testing.simulate.waits import may_be_cycle, must_be_cycle
from agentrt.testing.simulate.world import Message, Urgent, World

#: Seconds that a call waits where nobody says otherwise, as the kernel documents it.
CALL_TIMEOUT = 60.0


async def call(
    world: World,
    ref: ActorRef,
    order: Order,
    timeout: float | None = None,
    *,
    parent: Message | None = None,
    urgent: bool = False,
) -> None:
    """Call an actor with *order*; *parent* is the message whose handler waits for it."""
    message = world.message(ref, How.CALL, order, parent=parent, due=_due(timeout, parent), urgent=urgent)
    answer = await _taken_down(world, message, ref.call(message, timeout), "answered")
    if answer != message.number:
        world.violate("a call gets its own answer", f"{message} was answered with {answer!r}")


async def cast(world: World, ref: ActorRef, order: Order, how: How, *, urgent: bool = False) -> None:
    """Cast *order* to an actor."""
    message = world.message(ref, how, order, due=math.inf, urgent=urgent)
    sending = ref.cast(message) if how is How.CAST else _at_once(ref, message)
    await _taken_down(world, message, sending, "accepted")


async def ask(world: World, ref: ActorRef, admin: Admin, *, parent: Message | None = None) -> None:
    """Ask a supervisor for something."""
    message = world.message(ref, How.CALL, admin=admin, parent=parent, due=_due(admin.timeout, parent))
    await _taken_down(world, message, ref.call(_for_kernel(world, admin), admin.timeout), "answered")


def _for_kernel(world: World, admin: Admin) -> object:
    match admin.verb:
        case Verb.START:
            assert admin.child is not None
            return StartChild(admin.child.spec(world.factory, Urgent))
        case Verb.TERMINATE:
            return TerminateChild(admin.id)
        case Verb.RESTART:
            return RestartChild(admin.id, stop_first=True)
        case Verb.REVIVE:
            return RestartChild(admin.id)
        case Verb.DELETE:
            return DeleteChild(admin.id)
        case Verb.WHICH:
            return WhichChildren()
        case Verb.COUNT:
            return CountChildren()


def _due(timeout: float | None, parent: Message | None) -> float:
    now = trio.current_time()
    due = math.inf if timeout is None else now + timeout
    if parent is not None:
        due = min(due, parent.due)
    return now + CALL_TIMEOUT if due == math.inf else due


async def _at_once(ref: ActorRef, message: Message) -> None:
    ref.cast_nowait(message)


async def _taken_down(world: World, message: Message, sending: Awaitable[Any], success: str) -> Any:
    outcome = "cancelled"
    try:
        result = await sending
        outcome = success
    except Exception as error:
        outcome = type(error).__name__
        _check_cycle(world, message, outcome)
        raise
    finally:
        world.settled(message, outcome)
    return result


def _check_cycle(world: World, message: Message, outcome: str) -> None:
    """Hold a cycle, and a call that had no answer in time, to who waits for whom at this moment."""
    if outcome == "CallCycle" and not may_be_cycle(world.messages, message):
        world.violate("a cycle is one", f"{message} would wait for nobody who waits for it")
    if outcome == "CallTimeout" and must_be_cycle(world.messages, message, trio.current_time()):
        world.violate("a cycle fails at once", f"{message} waited for an actor that waited for its own")
