"""Check of what was set aside: it comes back to the next life before all that was sent later."""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence

from agentrt.kernel import ActorRef, Overflow
from agentrt.testing.simulate.world import Handling, Message, Urgent, Violation, World


def check(world: World) -> Iterator[Violation]:
    """Check each message that outlived in the stash the life that set it aside."""
    buried: defaultdict[str, list[int]] = defaultdict(list)
    for place, note in enumerate(world.log):
        if note.kind in {"messages_undelivered", "messages_dropped"}:
            buried[note.path].append(place)
    by_actor: defaultdict[ActorRef, list[Message]] = defaultdict(list)
    for message in world.messages:
        by_actor[message.ref].append(message)
    for ref, messages in by_actor.items():
        for message in messages:
            for number, handling in enumerate(message.handlings):
                # What a full mailbox drops is not seen one by one.
                if handling.how == "stashed" and handling.life.plan.overflow is not Overflow.DROP_OLDEST:
                    later = message.handlings[number + 1 :]
                    yield from _check_one(message, handling, later[:1], messages, buried[ref.path])


def _check_one(
    message: Message,
    stashed: Handling,
    again: Sequence[Handling],
    others: Sequence[Message],
    buried: Sequence[int],
) -> Iterator[Violation]:
    """Nothing that was sent after *message* may be begun by a later life before *message* is."""
    for other in others:
        if other.number <= message.number or isinstance(other, Urgent) is not isinstance(message, Urgent):
            continue
        for begun in other.handlings:
            if begun.life is stashed.life or begun.place < stashed.place:
                continue
            # Two of the same place began without anything else between.
            came_first = bool(again) and again[0].place <= begun.place
            if came_first or _has_outcome(message, begun):
                continue
            if bisect(buried, begun.place) == bisect(buried, stashed.place):
                yield Violation("what is stashed outlives a crash", f"{other} was begun before {message}")


def _has_outcome(message: Message, begun: Handling) -> bool:
    return message.outcome != "accepted" and message.ended_at is not None and message.ended_at <= begun.begun_at
