"""Who waits for whom: whether a call waits for itself, told by the messages that have no outcome yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from agentrt.kernel import ActorRef
from agentrt.testing.simulate.plan import How
from agentrt.testing.simulate.world import Message


def may_be_cycle(messages: Iterable[Message], call: Message) -> bool:
    """Whether the actor that *call* goes to may wait for the one that makes it, so that the kernel may refuse it."""
    return _closes(call, [one for one in messages if _waits(one)])


def must_be_cycle(messages: Iterable[Message], call: Message, now: float) -> bool:
    """Whether it certainly did for some time, so that the kernel should have refused it, or another one, at once."""
    certain = [one for one in messages if _waits(one) and _is_at_work_on(one.parent) and one.sent_at < now]
    return call.sent_at < now and _is_at_work_on(call.parent) and _closes(call, certain)


def _waits(message: Message) -> bool:
    return message.how is How.CALL and not message.outcome and message.parent is not None


def _is_at_work_on(parent: Message | None) -> bool:
    """Whether an actor is seen to be at work on *parent*; what a timer or a monitor brought is not seen."""
    if parent is None or not parent.handlings:
        return False
    last = parent.handlings[-1]
    return last.ended_at is None and not last.was_stashed and not last.life.is_zombie


def _closes(call: Message, waiting: Iterable[Message]) -> bool:
    asked: defaultdict[ActorRef, set[ActorRef]] = defaultdict(set)
    for one in waiting:
        if one.parent is not None:
            asked[one.parent.ref].add(one.ref)
    if call.parent is None:
        return False
    todo, seen = [call.ref], set[ActorRef]()
    while todo:
        ref = todo.pop()
        if ref is call.parent.ref:
            return True
        if ref not in seen:
            seen.add(ref)
            todo += asked[ref]
    return False
