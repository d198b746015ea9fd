"""Check of the messages: each has one outcome, in time, and the actors' own counts add up to what was sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import attrs

from agentrt.kernel import ActorRef
from agentrt.testing.simulate.orders import Does
from agentrt.testing.simulate.plan import How
from agentrt.testing.simulate.world import Handling, Life, Message, Urgent, Violation, World

#: What a sender may get.
OUTCOMES = frozenset(
    {
        "answered",
        "accepted",
        "cancelled",
        "ActorDied",
        "AlreadyPresent",
        "AlreadyStarted",
        "CallCycle",
        "CallTimeout",
        "ChildRestarting",
        "ChildRunning",
        "MailboxFull",
        "NoSuchChild",
        "Refusal",
        "StartFailed",
        "TooManyChildren",
        "UnexpectedMessage",
    }
)
#: Outcomes of a call that nobody waits for any more.
GIVEN_UP = frozenset({"CallTimeout", "cancelled"})
_REFUSED = frozenset({"Refusal", "UnexpectedMessage"})
_HOLDS_ON = frozenset({Does.SHIELD, Does.SWALLOW})
#: Seconds by which two ways to add up the same floats may differ.
_TINY = 1e-9


def check(world: World) -> Iterator[Violation]:
    """Check every message of a run that is over."""
    by_actor: defaultdict[ActorRef, list[Message]] = defaultdict(list)
    lives: defaultdict[ActorRef, list[Life]] = defaultdict(list)
    supervisors = world.supervisors()
    for life in world.lives:
        lives[life.ref].append(life)
    for message in world.messages:
        by_actor[message.ref].append(message)
        yield from _check_one(message)
    for ref, messages in by_actor.items():
        if ref.path in supervisors:
            yield from _check_total(ref, _Tally.of(messages, ()))
        else:
            yield from _check_counts(ref, _Tally.of(messages, lives[ref]))
            yield from _check_order(messages)


# One message


def _check_one(message: Message) -> Iterator[Violation]:
    if not message.outcome or message.ended_at is None:
        yield Violation("no call hangs", f"{message} has no outcome")
        return
    if message.outcome not in OUTCOMES:
        yield Violation("errors are the kernel's", f"{message} raised {message.outcome}")
    if message.ended_at > message.due + _TINY:
        yield Violation("no call hangs", f"{message} was due at {message.due:g} and ended at {message.ended_at:g}")
    if message.outcome == "answered" and message.admin is None and not _was_answered(message):
        yield Violation("a message has one outcome", f"{message} was answered, but no handler did")
    if message.handlings:
        yield from _check_handlings(message)
        if message.how is How.CALL:
            yield from _check_given_up(message, message.handlings[-1], message.ended_at)


def _was_answered(message: Message) -> bool:
    return bool(message.handlings) and message.handlings[-1].how == "returned"


def _check_handlings(message: Message) -> Iterator[Violation]:
    """Each time but the last it was set aside, or its actor ended over it and gives casts again."""
    plan = message.handlings[0].life.plan
    earlier = [one for one in message.handlings[:-1] if not one.was_stashed]
    may_come_again = plan.redeliveries and message.how is not How.CALL
    if any(one.how == "returned" for one in earlier) or (earlier and not may_come_again):
        yield Violation("a message has one outcome", f"{message} was handled {len(message.handlings)} times")
    crashed = [one for one in message.handlings if one.how not in {"returned", "cancelled", "stashed", *_REFUSED}]
    if len({one.life.number for one in crashed}) > plan.redeliveries + 1:
        yield Violation("poison is quarantined", f"{message} crashed {len(crashed)} lives")


def _check_given_up(message: Message, last: Handling, ended_at: float) -> Iterator[Violation]:
    if last.begun_at > ended_at:
        yield Violation("who is not waited for stops", f"{message} was taken up after {ended_at:g}")
    if message.outcome not in GIVEN_UP or (message.order is not None and message.order.does in _HOLDS_ON):
        return
    if last.ended_at is None or last.ended_at > max(ended_at, last.begun_at):
        yield Violation("who is not waited for stops", f"{message} was worked on after {ended_at:g}")


def _check_order(messages: Sequence[Message]) -> Iterator[Violation]:
    """Those of one lane are begun in the order in which they were sent, but for what comes again."""
    begun = [(one.handlings[0].place, one) for one in messages if one.handlings]
    begun.sort(key=lambda entry: entry[0])
    last: dict[bool, Message] = {}
    for _, message in begun:
        plan = message.handlings[0].life.plan
        is_urgent = plan.has_urgent and isinstance(message, Urgent)
        before = last.get(is_urgent)
        if before is not None and before.number > message.number:
            yield Violation("messages keep their order", f"{before} was begun before {message}")
        last[is_urgent] = message


# The counts of one actor


@attrs.define
class _Tally:
    """What the messages themselves say of an actor's counts.

    Attributes:
        may_be_left: Messages of its own timers and monitors that may have been taken back unseen.
        is_plain: Each message was begun once at most.
    """

    submitted: int = 0
    begun: int = 0
    expired_in_queue: int = 0
    answered: int = 0
    refused: int = 0
    ticks: int = 0
    may_be_left: int = 0
    is_plain: bool = True

    @classmethod
    def of(cls, messages: Sequence[Message], lives: Sequence[Life]) -> _Tally:
        tally = cls()
        for message in messages:
            if _is_submitted(message):
                tally.submitted += 1
                tally._take(message)
        tally.ticks = sum(life.ticks for life in lives)
        tally.may_be_left = sum(life.asked_for for life in lives)
        tally.is_plain = not any(life.did_stash or life.plan.redeliveries for life in lives)
        return tally

    def _take(self, message: Message) -> None:
        if not message.handlings:
            self.expired_in_queue += message.how is How.CALL and message.outcome in GIVEN_UP
            return
        self.begun += 1
        last = message.handlings[-1]
        if message.how is How.CALL:
            self.answered += message.outcome == "answered"
            self.refused += message.outcome in _REFUSED
        else:
            self.answered += last.how == "returned"
            self.refused += last.how in _REFUSED


def _is_submitted(message: Message) -> bool:
    """Whether a mailbox had to do with it: a cycle never gets there, and a cast that is cancelled was not sent."""
    if message.outcome == "CallCycle":
        return False
    return message.is_submitted and not (message.how is not How.CALL and message.outcome == "cancelled")


def _check_total(ref: ActorRef, tally: _Tally) -> Iterator[Violation]:
    counts, mailbox = ref.statistics().counts, ref.statistics().mailbox
    if mailbox.waiting or mailbox.blocked_senders or mailbox.stashed:
        yield Violation("counts add up", f"{ref.path}: {mailbox} at the end")
    outcomes = sum(attrs.astuple(counts)) + mailbox.dropped + mailbox.rejected
    unseen = outcomes - tally.submitted - tally.ticks
    # A timer that goes on may lose each beat anew to a mailbox that drops.
    if not 0 <= unseen <= tally.may_be_left + (mailbox.dropped if tally.may_be_left else 0):
        yield Violation("counts add up", f"{ref.path}: {outcomes} outcomes for {tally}: {counts} {mailbox}")


def _check_counts(ref: ActorRef, tally: _Tally) -> Iterator[Violation]:
    yield from _check_total(ref, tally)
    if tally.ticks or tally.may_be_left:
        return
    counts, mailbox = ref.statistics().counts, ref.statistics().mailbox
    never_begun = counts.undelivered + mailbox.dropped + mailbox.rejected + tally.expired_in_queue
    for what, seen, counted in (
        ("never begun", tally.submitted - tally.begun, never_begun if tally.is_plain else None),
        ("answered", tally.answered, counts.answered),
        ("refused", tally.refused, counts.refused),
    ):
        if counted is not None and seen != counted:
            yield Violation("counts add up", f"{ref.path}: {seen} {what}, but {counted} counted: {counts} {mailbox}")
