"""The mailbox: bounds, overflow, the control lane, and calls that nobody waits for any more."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
import trio
from kernel_kit import hang, hello, open_runtime, probe, quiet, recorder, tree, wait
from mailbox_kit import Asked, Target, cast, held

from agentrt.kernel import Actor, ActorDied, CallTimeout, MailboxFull, MailboxSpec, Overflow, TerminateChild
from agentrt.kernel.mailbox import Mailbox
from agentrt.kernel.messages import Redelivered, Stage
from agentrt.kernel.serving import BATCH_MESSAGES


def test_control_items_go_first_and_are_never_refused() -> None:
    """A mailbox full of messages still takes control items, and hands them out before any message."""
    mailbox = Mailbox(MailboxSpec(capacity=1, overflow=Overflow.REJECT), Target())
    mailbox.put_nowait(cast("message"))
    for item in ("first", "second"):
        mailbox.put_control(item)
    assert held(mailbox) == ["first", "second", "message"]


def test_a_full_mailbox_that_rejects_says_so_and_counts() -> None:
    """REJECT raises MailboxFull to the sender."""
    mailbox = Mailbox(MailboxSpec(capacity=2, overflow=Overflow.REJECT), Target())
    for number in range(2):
        mailbox.put_nowait(cast(number))
    with pytest.raises(MailboxFull, match="2 messages wait; the mailbox holds 2"):
        mailbox.put_nowait(cast(2))
    assert held(mailbox) == [0, 1]
    assert mailbox.statistics().rejected == 1


def test_a_full_mailbox_that_drops_the_oldest_settles_it() -> None:
    """DROP_OLDEST keeps the newest messages; the dropped one has an outcome and is counted."""
    mailbox = Mailbox(MailboxSpec(capacity=2, overflow=Overflow.DROP_OLDEST), Target())
    oldest = Asked(0)
    assert [mailbox.put_nowait(one) for one in (oldest, cast(1), cast(2))] == [False, False, True]
    with pytest.raises(MailboxFull, match="dropped as the oldest"):
        oldest.outcome.unwrap()
    assert held(mailbox) == [1, 2]
    assert mailbox.statistics().dropped == 1


async def test_blocked_senders_come_in_one_at_a_time_and_in_order() -> None:
    """Each message that is taken lets one waiting sender in."""
    mailbox = Mailbox(MailboxSpec(capacity=1), Target())
    done = []

    async def send(number: int) -> None:
        await mailbox.put(cast(number))
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
    mailbox = Mailbox(MailboxSpec(capacity=1), Target())
    mailbox.put_nowait(cast(0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, cast(1))
        await quiet()
        with pytest.raises(MailboxFull):
            mailbox.put_nowait(cast(2))
        assert held(mailbox) == [0, 1]


async def test_a_cancelled_put_was_not_put() -> None:
    """A sender that stops waiting for room takes its message with it."""
    mailbox = Mailbox(MailboxSpec(capacity=1), Target())
    mailbox.put_nowait(cast(0))
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.put(cast(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, cast(2))
        await quiet()
        nursery.cancel_scope.cancel()
    assert held(mailbox) == [0]


async def test_a_reader_is_woken_by_a_message_and_by_wake() -> None:
    """The reader parks until there is something, or somebody wants it to look."""
    mailbox = Mailbox(MailboxSpec(), Target())
    woken = []

    async def read() -> None:
        await mailbox.wait()
        woken.append(held(mailbox))

    for wake in (lambda: mailbox.put_nowait(cast("m")), lambda: mailbox.put_control("c"), mailbox.wake):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await quiet()
            wake()
    assert woken == [["m"], ["c"], []]


async def test_a_cancelled_reader_is_not_woken() -> None:
    """A reader that was cancelled is no longer the reader."""
    mailbox = Mailbox(MailboxSpec(), Target())
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.wait()
    mailbox.put_nowait(cast("m"))
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
        assert len(ref._cell.mailbox.messages) <= 3
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


async def test_a_queued_call_that_was_given_up_makes_room_at_once(autojump_clock) -> None:
    """Whoever waits for room need not wait until the reader comes by."""
    mailbox = Mailbox(MailboxSpec(capacity=1), Target())
    gone = Asked("gone")
    mailbox.put_call(gone)
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mailbox.put, cast("next"))
            await quiet()
            gone.give_up(mailbox)
    assert mailbox.statistics().waiting == 1
    assert held(mailbox) == ["next"]


async def test_a_full_mailbox_keeps_its_oldest_living_message() -> None:
    """A call that was given up is not the oldest message: it is not there any more."""
    mailbox = Mailbox(MailboxSpec(capacity=2, overflow=Overflow.DROP_OLDEST), Target())
    gone = Asked("gone")
    for one in (gone, cast("oldest"), cast("next")):
        if one.message == "next":
            gone.give_up(mailbox)
        mailbox.put_nowait(one)
    mailbox.put_nowait(cast("newest"))
    assert held(mailbox) == ["next", "newest"]
    assert mailbox.statistics().dropped == 1


@pytest.mark.parametrize("overflow", [Overflow.REJECT, Overflow.DROP_OLDEST])
async def test_a_message_that_is_sent_at_the_moment_of_the_end_has_an_outcome(overflow) -> None:
    """A sender that yields has put its message before, where the end finds it."""
    for _ in range(20):
        mailbox, sending = Mailbox(MailboxSpec(overflow=overflow), Target()), trio.Event()

        async def send(mailbox=mailbox, sending=sending) -> None:
            sending.set()
            await mailbox.put(cast("m"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await sending.wait()
            assert mailbox.close(lambda: RuntimeError("closed")) == 1
        assert len(mailbox) == 0


@pytest.mark.parametrize("overflow", [Overflow.REJECT, Overflow.DROP_OLDEST])
async def test_a_sender_that_never_blocks_lets_others_run(overflow) -> None:
    """Nothing else bounds it; it is let know of a refusal and of its cancellation all the same."""
    mailbox = Mailbox(MailboxSpec(capacity=1, overflow=overflow), Target())
    turns = []

    async def other() -> None:
        for _ in range(5):
            turns.append("other")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(5):
            turns.append("sender")
            with contextlib.suppress(MailboxFull):
                await mailbox.put(cast("m"))
    assert any(pair == ("other", "sender") for pair in pairwise(turns))
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.put(cast("too late"))
    assert scope.cancelled_caught
    assert held(mailbox) == ["m"]


async def test_a_call_that_was_given_up_gives_its_room_to_one_sender(autojump_clock) -> None:
    """What the reader throws away had no room of its own any more: it had gone to who waited for it."""
    full = MailboxSpec(capacity=BATCH_MESSAGES + 1)
    async with open_runtime(tree(probe("a", mailbox=full, shutdown=0))) as runtime:
        ref = runtime.ref("top/a")
        waiting = []

        async def send() -> None:
            await ref.cast(hello)
            waiting.append(ref.statistics().mailbox.waiting)

        await ref.cast(wait(1))
        await quiet()
        # The call is the last of the first batch, so that the others see what it leaves behind.
        for _ in range(BATCH_MESSAGES - 1):
            await ref.cast(hello)
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.5):
                nursery.start_soon(ref.cast, hello)
                await ref.call(hello)
            for _ in range(2 * BATCH_MESSAGES):
                nursery.start_soon(send)
        await quiet()
        assert len(waiting) == 2 * BATCH_MESSAGES
        assert max(waiting) <= full.capacity
        assert ref.statistics().counts.answered == 3 * BATCH_MESSAGES + 1


async def test_what_is_put_extra_has_room_in_any_case() -> None:
    """For who is bounded otherwise; it counts as a message all the same, and who waits for room waits for it too."""
    mailbox = Mailbox(MailboxSpec(capacity=1), Target())
    for number in range(3):
        mailbox.put_extra(cast(number))
    assert mailbox.statistics().waiting == 3
    assert mailbox.accept("m") is False
    with pytest.raises(MailboxFull, match="3 messages wait; the mailbox holds 1"):
        mailbox.put_nowait(cast("m"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, cast("late"))
        await quiet()
        taken = [mailbox.pop().message for _ in range(2)]
        assert mailbox.statistics().blocked_senders == 1
        taken += held(mailbox)
    assert taken == [0, 1, 2, "late"]


async def test_what_interrupts_goes_before_all_control_items() -> None:
    mailbox = Mailbox(MailboxSpec(), Target())
    mailbox.put_control("first")
    for item in ("interrupt", "again"):
        mailbox.put_control(item, before_all=True)
    assert held(mailbox) == ["again", "interrupt", "first"]
    assert mailbox.statistics().waiting == 0


async def test_a_control_item_can_be_taken_back() -> None:
    """From among its equals; the rest stay in their order."""
    mailbox = Mailbox(MailboxSpec(), Target())
    first, second = Asked("first"), Asked("second")
    for item in (first, second, "third"):
        mailbox.put_control(item)
    mailbox.take_back(second)
    assert (mailbox.statistics().waiting, mailbox.urgent) == (0, 2)
    assert held(mailbox) == ["first", "third"]
    assert mailbox.urgent == 0


def test_envelopes_say_what_they_are() -> None:
    """Kind, message, target and where it is; a long message is cut short, and a broken one does no harm."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    call = Asked("m")
    assert repr(call) == "<Asked 'm' to top/a, queued>"
    call.move(Stage.STASHED)
    assert repr(call) == "<Asked 'm' to top/a, stashed>"
    assert repr(cast({"topic": "NATS"})) == "<Cast {'topic': 'NATS'} to top/a>"
    assert repr(Redelivered("m", Target(), 2)) == "<Redelivered 'm' to top/a, 2 crashed over it>"
    assert len(repr(cast("x" * 10_000))) < 60
    assert repr(cast(Broken())).startswith("<Cast <Broken instance at ")


async def test_a_call_says_where_it_is(autojump_clock) -> None:
    seen = []

    async def look(actor: Actor) -> None:
        seen.append(repr(actor.context.incarnation.serving.in_hand))

    async with open_runtime(tree(probe("a"))) as runtime:
        await runtime.ref("top/a").call(look)
    assert seen[0].startswith("<Call <function")
    assert seen[0].endswith("> to top/a, in_hand>")


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
            with pytest.raises(MailboxFull, match=r"^top/a: dropped as the oldest"):
                await ref.call(hang)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await quiet()
            ref.cast_nowait(hang)
        # The last is not left untold, and where nothing is dropped nothing is told.
        await trio.sleep(10)
        ref.cast_nowait(hang)
    told = [event.fields["total"] for event in seen if event.kind == "messages_dropped"]
    assert told == [1, 51, 52]
    assert ref.statistics().mailbox.dropped == 52


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
    assert [event.fields["count"] for event in seen if event.kind == "messages_undelivered"] == [2, 1]
    assert ref.statistics().counts.undelivered == 3
