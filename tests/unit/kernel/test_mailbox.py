"""The mailbox: bounds, overflow, the control lane, and calls that nobody waits for any more."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import hang, open_runtime, probe, quiet, recorder, tree

from agentrt.kernel import ActorDied, CallTimeout, MailboxFull, MailboxSpec, Overflow, TerminateChild
from agentrt.kernel.cell import Counts
from agentrt.kernel.mailbox import Mailbox
from agentrt.kernel.messages import Envelope, Stage


class Target:
    """Counts outcomes where the runtime is not needed."""

    def __init__(self) -> None:
        self.counts = Counts()


def envelope(message: object) -> Envelope:
    return Envelope(message, Target())


def held(mailbox: Mailbox) -> list[object]:
    """Take everything out."""
    taken = []
    while (item := mailbox.pop()) is not None:
        taken.append(item.message if isinstance(item, Envelope) else item)
    return taken


def test_control_items_go_first_and_are_never_refused() -> None:
    """A mailbox full of messages still takes control items, and hands them out before any message."""
    mailbox = Mailbox(MailboxSpec(capacity=1, overflow=Overflow.REJECT))
    mailbox.put_nowait(envelope("message"))
    for item in ("first", "second"):
        mailbox.put_control(item)
    assert held(mailbox) == ["first", "second", "message"]


def test_a_full_mailbox_that_rejects_says_so_and_counts() -> None:
    """REJECT raises MailboxFull to the sender."""
    mailbox = Mailbox(MailboxSpec(capacity=2, overflow=Overflow.REJECT))
    for number in range(2):
        mailbox.put_nowait(envelope(number))
    with pytest.raises(MailboxFull, match="2 messages wait; the mailbox holds 2"):
        mailbox.put_nowait(envelope(2))
    assert held(mailbox) == [0, 1]
    assert mailbox.statistics().rejected == 1


def test_a_full_mailbox_that_drops_the_oldest_settles_it() -> None:
    """DROP_OLDEST keeps the newest messages; the dropped one has an outcome and is counted."""
    mailbox = Mailbox(MailboxSpec(capacity=2, overflow=Overflow.DROP_OLDEST))
    oldest = envelope(0)
    assert [mailbox.put_nowait(one) for one in (oldest, envelope(1), envelope(2))] == [False, False, True]
    assert oldest.stage.value == "settled"
    assert held(mailbox) == [1, 2]
    assert mailbox.statistics().dropped == 1


async def test_blocked_senders_come_in_one_at_a_time_and_in_order() -> None:
    """Each message that is taken lets one waiting sender in."""
    mailbox = Mailbox(MailboxSpec(capacity=1))
    done = []

    async def send(number: int) -> None:
        await mailbox.put(envelope(number))
        done.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(send, number)
            await quiet()
        assert done == [0]
        assert (len(mailbox), mailbox.statistics().blocked_senders) == (3, 2)
        assert mailbox.pop().message == 0
        await quiet()
        assert done == [0, 1]
        assert held(mailbox) == [1, 2]
    assert done == [0, 1, 2]


async def test_nobody_overtakes_blocked_senders() -> None:
    """While somebody waits for room, put_nowait has none, even if a place just became free."""
    mailbox = Mailbox(MailboxSpec(capacity=1))
    mailbox.put_nowait(envelope(0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, envelope(1))
        await quiet()
        with pytest.raises(MailboxFull):
            mailbox.put_nowait(envelope(2))
        assert held(mailbox) == [0, 1]


async def test_a_cancelled_put_was_not_put() -> None:
    """A sender that stops waiting for room takes its message with it."""
    mailbox = Mailbox(MailboxSpec(capacity=1))
    mailbox.put_nowait(envelope(0))
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.put(envelope(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, envelope(2))
        await quiet()
        nursery.cancel_scope.cancel()
    assert held(mailbox) == [0]


async def test_a_reader_is_woken_by_a_message_and_by_wake() -> None:
    """The reader parks until there is something, or somebody wants it to look."""
    mailbox = Mailbox(MailboxSpec())
    woken = []

    async def read() -> None:
        await mailbox.wait()
        woken.append(held(mailbox))

    for wake in (lambda: mailbox.put_nowait(envelope("m")), lambda: mailbox.put_control("c"), mailbox.wake):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await quiet()
            wake()
    assert woken == [["m"], ["c"], []]


async def test_a_cancelled_reader_is_not_woken() -> None:
    """A reader that was cancelled is no longer the reader."""
    mailbox = Mailbox(MailboxSpec())
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.wait()
    mailbox.put_nowait(envelope("m"))
    assert held(mailbox) == ["m"]


async def test_calls_that_were_given_up_take_no_room(autojump_clock) -> None:
    """An actor that hangs neither refuses new callers nor hoards the calls that gave up on it."""
    small = MailboxSpec(capacity=2, overflow=Overflow.REJECT)
    async with open_runtime(tree(probe("a", mailbox=small, shutdown=0))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(hang)
        await quiet()
        for _ in range(20):
            with pytest.raises(CallTimeout):
                await ref.call(hang, timeout=1)
        assert len(ref._cell.mailbox._messages) <= 3
        assert ref.statistics().mailbox.waiting == 0
        assert ref.statistics().counts.expired == 20


async def test_a_blocked_call_that_was_given_up_leaves_the_queue(autojump_clock) -> None:
    """A call that waits for room is forgotten when its caller gives up, and the next in the queue comes in."""
    async with open_runtime(tree(probe("a", mailbox=MailboxSpec(capacity=1), shutdown=0))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(hang)
        await quiet()
        async with trio.open_nursery() as nursery:

            async def give_up(seconds: float) -> None:
                with pytest.raises(CallTimeout):
                    await ref.call(hang, timeout=seconds)

            for seconds in (3, 2, 1):
                nursery.start_soon(give_up, seconds)
                await quiet()
            waiting = []
            for _ in range(3):
                waiting.append((ref.statistics().mailbox.waiting, ref.statistics().mailbox.blocked_senders))
                await trio.sleep(1.1)
        assert waiting == [(1, 2), (1, 1), (1, 0)]


async def test_a_queued_call_that_was_given_up_makes_room_at_once() -> None:
    """Whoever waits for room need not wait until the reader comes by."""
    mailbox = Mailbox(MailboxSpec(capacity=1))
    gone = envelope("gone")
    mailbox.put_call(gone)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, envelope("next"))
        await quiet()
        gone.stage = Stage.SETTLED
        mailbox.discard(gone)
    assert mailbox.statistics().waiting == 1
    assert held(mailbox) == ["next"]


async def test_a_full_mailbox_keeps_its_oldest_living_message() -> None:
    """A call that was given up is not the oldest message: it is not there any more."""
    mailbox = Mailbox(MailboxSpec(capacity=2, overflow=Overflow.DROP_OLDEST))
    gone = envelope("gone")
    for one in (gone, envelope("oldest"), envelope("next")):
        if one.message == "next":
            gone.stage = Stage.SETTLED
            mailbox.discard(gone)
        mailbox.put_nowait(one)
    mailbox.put_nowait(envelope("newest"))
    assert held(mailbox) == ["next", "newest"]
    assert mailbox.statistics().dropped == 1


async def test_drops_are_told_as_an_event_but_not_each(autojump_clock) -> None:
    """Nothing is dropped in silence, and a flood of drops is no flood of events."""
    events, seen = recorder()
    small = MailboxSpec(capacity=1, overflow=Overflow.DROP_OLDEST)
    async with open_runtime(tree(probe("a", mailbox=small, shutdown=0)), events=events) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(hang)
        await quiet()
        for _ in range(50):
            await ref.cast(hang)

        async def ask() -> None:
            with pytest.raises(MailboxFull, match="dropped as the oldest"):
                await ref.call(hang)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await quiet()
            ref.cast_nowait(hang)
    told = [event.fields["total"] for event in seen if event.kind == "messages_dropped"]
    assert told == [1]
    assert ref.statistics().mailbox.dropped == 51


async def test_what_waits_at_the_end_has_an_outcome(autojump_clock) -> None:
    """Callers, queued and blocked, and blocked senders are all told when the actor is gone; an event counts them."""
    events, seen = recorder()
    told = []
    async with open_runtime(tree(probe("a", mailbox=MailboxSpec(capacity=1), shutdown=1)), events=events) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(hang)
        await quiet()

        async def ask(how) -> None:
            with pytest.raises(ActorDied, match="top/a"):
                await how(hang)
            told.append(how.__name__)

        async with trio.open_nursery() as nursery:
            for how in (ref.call, ref.call, ref.cast):
                nursery.start_soon(ask, how)
                await quiet()
            await runtime.ref("top").call(TerminateChild("a"))
        with pytest.raises(ActorDied):
            ref.cast_nowait(hang)
        with pytest.raises(ActorDied):
            await ref.call(hang)
    assert sorted(told) == ["call", "call", "cast"]
    assert [event.fields["count"] for event in seen if event.kind == "messages_undelivered"] == [3]
    assert ref.statistics().counts.undelivered == 3
