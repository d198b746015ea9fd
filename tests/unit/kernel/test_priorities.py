"""Priorities: classes of messages that go before others, in one mailbox of one size."""

from __future__ import annotations

import attrs
import pytest
import trio
from kernel_kit import AT_ONCE, Boom, open_runtime, quiet, tree
from mailbox_kit import Asked, Target, cast, held

from agentrt.kernel import Actor, CallTimeout, ChildSpec, MailboxFull, MailboxSpec, Overflow
from agentrt.kernel.mailbox import Mailbox
from agentrt.kernel.messages import Stage


@attrs.frozen
class First:
    number: int = 0


@attrs.frozen
class Second:
    number: int = 0


@attrs.frozen
class VeryFirst(First):
    pass


@attrs.frozen
class Rest:
    number: int = 0


def spec(capacity: int = 10, overflow: Overflow = Overflow.REJECT, **more) -> MailboxSpec:
    return MailboxSpec(capacity=capacity, overflow=overflow, priorities=(First, Second), **more)


def filled(spec_: MailboxSpec, *messages: object) -> Mailbox:
    mailbox = Mailbox(spec_, Target())
    for message in messages:
        mailbox.put_nowait(cast(message))
    return mailbox


def test_messages_go_by_priority_and_within_one_in_order() -> None:
    """The first class first, the rest last; control items before all of them."""
    mailbox = filled(spec(), Rest(1), Second(1), First(1), Rest(2), First(2), Second(2))
    mailbox.put_control("control")
    assert held(mailbox) == ["control", First(1), First(2), Second(1), Second(2), Rest(1), Rest(2)]


def test_a_subclass_has_the_priority_of_its_base() -> None:
    """And where two classes fit, the one that is named first counts."""
    mailbox = filled(spec(), First(1), VeryFirst(2), First(3))
    assert held(mailbox) == [First(1), VeryFirst(2), First(3)]
    both = Mailbox(MailboxSpec(priorities=(VeryFirst, First)), Target())
    for message in (First(1), VeryFirst(2)):
        both.put_nowait(cast(message))
    assert held(both) == [VeryFirst(2), First(1)]


def test_all_lanes_share_the_capacity() -> None:
    """A message with priority finds no more room than any other, save for control items."""
    mailbox = filled(spec(3), First(1), Second(1), Rest(1))
    for message in (First(2), Second(2), Rest(2)):
        with pytest.raises(MailboxFull, match="3 messages wait; the mailbox holds 3"):
            mailbox.put_nowait(cast(message))
    mailbox.put_control("control")
    assert mailbox.statistics().waiting == 3
    assert (mailbox.statistics().received, mailbox.statistics().rejected) == (3, 3)


@pytest.mark.parametrize("how", ["put", "put_call"])
async def test_blocked_senders_come_in_by_priority_and_within_one_in_order(autojump_clock, how) -> None:
    """Who waits for room waits in the same order as who has it."""
    mailbox = filled(spec(1, Overflow.BLOCK), Rest(0))
    order = [Rest(1), Second(1), First(1), Rest(2), First(2)]
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            for message in order:
                if how == "put":
                    nursery.start_soon(mailbox.put, cast(message))
                else:
                    mailbox.put_call(Asked(message))
                await quiet()
            assert mailbox.statistics().blocked_senders == 5
            taken = []
            while (item := mailbox.pop()) is not None:
                taken.append(item.message)
                assert mailbox.statistics().waiting <= 1
                await quiet()
    assert taken == [Rest(0), First(1), First(2), Second(1), Rest(1), Rest(2)]


async def test_a_blocked_sender_with_priority_that_is_cancelled_leaves_its_line() -> None:
    mailbox = filled(spec(1, Overflow.BLOCK), Rest(0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, cast(First(1)))
        await quiet()
        given_up = Asked(First(2))
        mailbox.put_call(given_up)
        given_up.give_up(mailbox)
        assert mailbox.statistics().blocked_senders == 1
        nursery.cancel_scope.cancel()
    assert mailbox.statistics().blocked_senders == 0
    assert held(mailbox) == [Rest(0)]


def test_the_oldest_of_the_least_priority_is_dropped() -> None:
    """A flood of ordinary messages pushes itself out, and not what is urgent."""
    mailbox = filled(spec(3, Overflow.DROP_OLDEST), First(1), Rest(1), Rest(2))
    for number in range(3, 6):
        assert mailbox.put_nowait(cast(Rest(number))) is True
    assert held(mailbox) == [First(1), Rest(4), Rest(5)]
    assert mailbox.statistics().dropped == 3


def test_what_is_urgent_pushes_out_what_is_less_so_and_then_its_own_oldest() -> None:
    mailbox = filled(spec(3, Overflow.DROP_OLDEST), Second(1), First(1), Rest(1))
    for number in range(2, 5):
        mailbox.put_nowait(cast(First(number)))
    assert held(mailbox) == [First(2), First(3), First(4)]


def test_what_is_urgent_is_never_pushed_out_by_what_is_less_so() -> None:
    """Where all that wait are more urgent, the newcomer is the one who finds no room, and is told."""
    mailbox = filled(spec(2, Overflow.DROP_OLDEST), First(1), Second(1))
    with pytest.raises(MailboxFull, match="2 messages wait; the mailbox holds 2"):
        mailbox.put_nowait(cast(Rest(1)))
    mailbox.put_nowait(cast(Second(2)))
    assert (mailbox.statistics().dropped, mailbox.statistics().rejected) == (1, 1)
    assert held(mailbox) == [First(1), Second(2)]


@pytest.mark.parametrize("message", [First(1), Second(1), Rest(1)])
def test_a_call_that_was_given_up_takes_no_room_in_any_lane(message) -> None:
    """It is no message any more: neither taken, nor dropped as the oldest, nor kept for ever."""
    mailbox = Mailbox(spec(2, Overflow.DROP_OLDEST), Target())
    for _ in range(20):
        given_up = Asked(message)
        mailbox.put_nowait(given_up)
        given_up.give_up(mailbox)
    assert (mailbox.statistics().waiting, len(mailbox)) == (0, 0)
    kept = len(mailbox.messages) + mailbox.urgent
    assert kept <= 3
    for number in range(3):
        mailbox.put_nowait(cast(type(message)(number)))
    assert mailbox.statistics().dropped == 1
    assert held(mailbox) == [type(message)(1), type(message)(2)]
    assert mailbox.urgent == 0


def test_a_stashed_message_comes_back_into_its_own_lane() -> None:
    """Before all others there, and the stash's order is kept within each."""
    mailbox = filled(spec(), First(1), First(2), Rest(1), Rest(2))
    for _ in range(4):
        mailbox.stash(mailbox.pop())
    for message in (First(3), Second(3), Rest(3)):
        mailbox.put_nowait(cast(message))
    assert mailbox.unstash() == 4
    assert held(mailbox) == [First(1), First(2), First(3), Second(3), Rest(1), Rest(2), Rest(3)]
    assert mailbox.urgent == 0


def test_what_is_put_back_goes_before_all_others_of_its_lane() -> None:
    mailbox = filled(spec(), First(2), Rest(2))
    for message in (Rest(1), First(1)):
        mailbox.put_back(cast(message))
    assert held(mailbox) == [First(1), First(2), Rest(1), Rest(2)]


def test_closing_fails_what_waits_in_each_lane() -> None:
    """Stashed and blocked messages too, each once; then the mailbox is as new."""
    mailbox = Mailbox(spec(4, Overflow.BLOCK), Target())
    calls = [Asked(kind(number)) for kind in (First, Second, Rest) for number in range(2)]
    for call in calls:
        mailbox.put_call(call)
    mailbox.stash(mailbox.pop())
    given_up = calls[1]
    given_up.give_up(mailbox)
    mailbox.put_control("control")
    assert mailbox.close(lambda: RuntimeError("closed")) == 5
    assert [call.stage for call in calls] == [Stage.SETTLED] * 6
    assert sum(call.target.counts.undelivered for call in calls) == 5
    mailbox.open()
    assert (mailbox.pop(), len(mailbox), mailbox.urgent, mailbox.blocked) == (None, 0, 0, 0)
    mailbox.put_nowait(cast(First(9)))
    assert held(mailbox) == [First(9)]


@pytest.mark.parametrize("priorities", [[First], First, ("First",), (First(),)])
def test_priorities_are_a_tuple_of_classes(priorities) -> None:
    with pytest.raises(TypeError):
        MailboxSpec(priorities=priorities)


class Sorter(Actor):
    """Writes down what it handles; its first message takes a second, and the Second of number 0 crashes it once."""

    seen: list[object] = []  # noqa: RUF012 - made anew by each test.

    async def handle(self, message: object) -> object:
        crashes = message == Second(0) and message not in self.seen
        self.seen.append(message)
        if crashes:
            self.ref.cast_nowait(First(1))
            raise Boom("once")
        if len(self.seen) == 1:
            await trio.sleep(1)
        return message


async def test_an_actor_handles_what_is_urgent_first(autojump_clock) -> None:
    """Also what comes while it is busy; a call that was given up in an urgent lane is not handled."""
    Sorter.seen = []
    child = ChildSpec(id="a", factory=Sorter, backoff=AT_ONCE, mailbox=spec(overflow=Overflow.BLOCK))
    async with open_runtime(tree(child)) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast("begin")
        await quiet()
        for message in (Rest(1), First(1), Rest(2), First(2)):
            await ref.cast(message)
        with pytest.raises(CallTimeout):
            await ref.call(First(3), timeout=0.5)
        assert await ref.call(Rest(3)) == Rest(3)
        assert ref.statistics().counts.answered == 6
    assert Sorter.seen == ["begin", First(1), First(2), Rest(1), Rest(2), Rest(3)]


async def test_more_urgent_messages_than_a_batch_are_all_handled(autojump_clock) -> None:
    """The reader does not park while any wait, in whatever lane."""
    Sorter.seen = []
    mailbox = spec(1000, Overflow.BLOCK)
    async with open_runtime(tree(ChildSpec(id="a", factory=Sorter, mailbox=mailbox))) as runtime:
        ref = runtime.ref("top/a")
        for number in range(200):
            await ref.cast(First(number))
        await trio.sleep(2)
        assert ref.statistics().counts.answered == 200
    assert Sorter.seen == [First(number) for number in range(200)]


async def test_a_redelivered_message_keeps_its_priority(autojump_clock) -> None:
    """It comes before those of its class that came later, and after what is more urgent."""
    Sorter.seen = []
    mailbox = spec(overflow=Overflow.BLOCK, redeliveries=1)
    async with open_runtime(tree(ChildSpec(id="a", factory=Sorter, backoff=AT_ONCE, mailbox=mailbox))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast("begin")
        await quiet()
        for message in (Rest(1), Second(0), Second(1)):
            await ref.cast(message)
        await trio.sleep(2)
    assert Sorter.seen == ["begin", Second(0), First(1), Second(0), Second(1), Rest(1)]
