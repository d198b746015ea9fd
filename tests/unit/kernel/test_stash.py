"""The stash: messages that an actor sets aside until it can handle them, none of which is lost or answered twice."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from kernel_kit import AT_ONCE, Boom, open_runtime, probe, quiet, recorder, stubborn, tree

from agentrt.kernel import (
    Actor,
    ActorDied,
    ActorRef,
    CallTimeout,
    ChildSpec,
    Down,
    MailboxSpec,
    Overflow,
    Refusal,
    RestartChild,
    StartChild,
    StashFull,
    TerminateChild,
)
from agentrt.kernel.leash import PIERCE_GRACE, ZOMBIE_AFTER


class Door(Actor):
    """Stashes text while it is closed, else answers with it; what can be called is called with the actor.

    Args:
        log: What was handled, with the generation that did.
    """

    def __init__(self, log: list[tuple[int, Any]], *, is_open: bool = False) -> None:
        self.log = log
        self.is_open = is_open

    async def handle(self, message: Any) -> object:
        if callable(message):
            return await message(self)
        if not self.is_open:
            self.stash()
            return "never told to anybody"
        self.log.append((self.generation, message))
        return f"answer to {message}"


async def unlock(door: Door) -> int:
    """Message: open, and handle what waits."""
    door.is_open = True
    return door.unstash_all()


async def fall(_: Door) -> None:
    """Message: crash."""
    raise Boom("told to")


def door(log: list[tuple[int, Any]] | None = None, **spec: Any) -> ChildSpec:
    """Describe a door that is closed at first and open after a restart."""
    log = log if log is not None else []
    made: list[Door] = []

    def make() -> Door:
        made.append(Door(log, is_open=bool(made)))
        return made[-1]

    return ChildSpec(id="a", factory=make, **{"backoff": AT_ONCE, **spec})


async def ask(ref: ActorRef, message: object, answers: list[object], timeout: float | None = None) -> None:
    try:
        answers.append(await ref.call(message, timeout))
    except Exception as error:  # noqa: BLE001 - told to the test.
        answers.append(error)


def figures(ref: ActorRef) -> dict[str, int]:
    """Say what became of an actor's messages, without what is 0."""
    statistics = ref.statistics()
    counts = {name: getattr(statistics.counts, name) for name in statistics.counts.__slots__ if name[0] != "_"}
    counts |= {"waiting": statistics.mailbox.waiting, "stashed": statistics.mailbox.stashed}
    return {name: count for name, count in counts.items() if count}


async def test_stashed_messages_are_handled_in_their_order_and_before_others(autojump_clock) -> None:
    """A stashed call is answered when its turn comes; what its first handling returned is told to nobody."""
    log, answers = [], []
    async with open_runtime(tree(door(log))) as runtime:
        ref = runtime.ref("top/a")
        async with trio.open_nursery() as nursery:
            for message in ("one", "two", "three"):
                nursery.start_soon(ask, ref, message, answers)
                await quiet()
            assert (answers, figures(ref)) == ([], {"stashed": 3})
            assert len(ref._cell.mailbox) == 3

            async def unlock_late(actor: Door) -> int:
                for message in ("four", "five"):
                    await ref.cast(message)
                return await unlock(actor)

            assert await ref.call(unlock_late) == 3
        await quiet()
    assert sorted(answers) == ["answer to one", "answer to three", "answer to two"]
    assert log == [(1, message) for message in ("one", "two", "three", "four", "five")]
    assert figures(ref) == {"answered": 6}


async def test_unstashing_nothing_does_nothing(autojump_clock) -> None:
    """Twice in a row, the second finds nothing; what is stashed after that waits for the next."""
    log = []
    async with open_runtime(tree(door(log))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast("one")
        await quiet()

        async def twice(actor: Door) -> list[int]:
            return [actor.unstash_all(), actor.unstash_all()]

        assert await ref.call(twice) == [1, 0]
        await quiet()
        assert (log, figures(ref)) == ([], {"answered": 1, "stashed": 1})
        assert await ref.call(unlock) == 1


async def test_the_stash_comes_back_at_a_crash_before_the_message_in_hand_and_newer_ones(autojump_clock) -> None:
    """In its order, to the next incarnation; a call in it is answered by that one."""
    log, answers = [], []
    async with open_runtime(tree(door(log, mailbox=MailboxSpec(redeliveries=1)))) as runtime:
        ref = runtime.ref("top/a")

        async def fall_once(actor: Door) -> None:
            if actor.generation == 1:
                await ref.cast("newer")
                raise Boom("once")
            actor.log.append((actor.generation, "redelivered"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, ref, "called", answers)
            await quiet()
            await ref.cast("cast")
            await ref.cast(fall_once)
    assert log == [(2, "called"), (2, "cast"), (2, "redelivered"), (2, "newer")]
    assert answers == ["answer to called"]
    assert figures(ref) == {"answered": 4}


async def test_a_full_stash_says_so(autojump_clock) -> None:
    """The message stays in hand, and the handler decides; left alone, the error is a crash."""
    told = []
    async with open_runtime(tree(door(mailbox=MailboxSpec(stash=2)))) as runtime:
        ref = runtime.ref("top/a")
        for message in ("one", "two"):
            await ref.cast(message)
        await quiet()

        async def try_it(actor: Door) -> str:
            with pytest.raises(StashFull, match=r"^top/a: 2 messages are stashed; the stash holds 2"):
                actor.stash()
            return "kept in hand"

        assert await ref.call(try_it) == "kept in hand"
        await ask(ref, "three", told)
        await quiet()
        assert figures(ref) == {"answered": 3, "failed": 1}
    assert isinstance(told[0], ActorDied)
    assert "StashFull" in str(told[0])


async def test_a_stash_of_no_size_takes_nothing(autojump_clock) -> None:
    told = []
    async with open_runtime(tree(door(mailbox=MailboxSpec(stash=0)))) as runtime:
        await ask(runtime.ref("top/a"), "one", told)
    assert "0 messages are stashed; the stash holds 0" in str(told[0])


async def test_the_stash_takes_no_room_in_the_mailbox(autojump_clock) -> None:
    """And the mailbox takes back what was stashed whatever its fill; who waits for room waits a little longer."""
    log = []
    async with open_runtime(tree(door(log, mailbox=MailboxSpec(capacity=1)))) as runtime:
        ref = runtime.ref("top/a")
        for message in ("one", "two", "three"):
            with trio.fail_after(1):
                await ref.cast(message)
            await quiet()

        async def unlock_and_wait(actor: Door) -> None:
            assert await unlock(actor) == 3
            await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            await ref.cast(unlock_and_wait)
            await quiet()
            nursery.start_soon(ref.cast, "four")
            await quiet()
            assert (ref.statistics().mailbox.waiting, ref.statistics().mailbox.blocked_senders) == (3, 1)
        assert trio.current_time() == 1.0
        await quiet()
    assert [message for _, message in log] == ["one", "two", "three", "four"]


async def test_a_stashed_call_that_was_given_up_is_gone(autojump_clock) -> None:
    """At its deadline, or when its caller is cancelled: its place in the stash is free, and nobody handles it."""
    log, answers = [], []
    async with open_runtime(tree(door(log, mailbox=MailboxSpec(stash=2)))) as runtime:
        ref = runtime.ref("top/a")
        with pytest.raises(CallTimeout, match="no answer from top/a before the deadline"):
            await ref.call("too late", timeout=2)
        assert trio.current_time() == 2.0
        with trio.move_on_after(1) as scope:
            await ref.call("cancelled")
        assert scope.cancelled_caught
        assert figures(ref) == {"expired": 2}
        async with trio.open_nursery() as nursery:
            for message in ("one", "two"):
                nursery.start_soon(ask, ref, message, answers)
                await quiet()
            assert await ref.call(unlock) == 2
    assert sorted(answers) == ["answer to one", "answer to two"]
    assert [message for _, message in log] == ["one", "two"]
    assert figures(ref) == {"expired": 2, "answered": 3}


async def test_a_call_that_was_given_up_just_now_takes_no_place_in_the_stash(autojump_clock) -> None:
    """Its handler may come to stash it all the same, and nothing of it must come back."""

    async def stash_late(actor: Door) -> None:
        try:
            await trio.sleep_forever()
        finally:
            actor.stash()

    async with open_runtime(tree(door(mailbox=MailboxSpec(capacity=2, stash=1)))) as runtime:
        ref = runtime.ref("top/a")
        for _ in range(3):
            with pytest.raises(CallTimeout):
                await ref.call(stash_late, timeout=1)
        await quiet()
        assert figures(ref) == {"expired": 3}
        assert await ref.call(unlock) == 0
        mailbox = ref._cell.mailbox
        assert (mailbox._stale, mailbox._limit) == (0, 2)


async def test_a_call_may_be_given_up_after_it_was_unstashed(autojump_clock) -> None:
    """It is as any other that waits then."""
    log, answers = [], []
    async with open_runtime(tree(door(log))) as runtime:
        ref = runtime.ref("top/a")

        async def unlock_slowly(actor: Door) -> None:
            await unlock(actor)
            await trio.sleep(5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, ref, "one", answers)
            await quiet()
            nursery.start_soon(ask, ref, "two", answers, 3.0)
            await quiet()
            await ref.cast(unlock_slowly)
    assert isinstance(answers[0], CallTimeout)
    assert (answers[1], log) == ("answer to one", [(1, "one")])
    assert figures(ref) == {"answered": 2, "expired": 1}


async def test_a_handler_may_go_on_after_it_stashed(autojump_clock) -> None:
    """What it returns or refuses then is nobody's answer; the message is handled when it is unstashed."""
    answers = []
    async with open_runtime(tree(door())) as runtime:
        ref = runtime.ref("top/a")

        async def stash_and_refuse(actor: Door) -> str:
            if actor.is_open:
                return "at last"
            actor.stash()
            await trio.sleep(1)
            raise Refusal("said to nobody")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, ref, stash_and_refuse, answers)
            await trio.sleep(2)
            assert figures(ref) == {"stashed": 1}
            await ref.cast(unlock)
    assert answers == ["at last"]
    assert figures(ref) == {"answered": 2}


NOT_HERE = r"^top/a: only a handler can stash, and the message that it handles, once$"


async def test_only_a_handler_can_stash_and_only_once(autojump_clock) -> None:
    async with open_runtime(tree(door())) as runtime:
        ref = runtime.ref("top/a")

        async def stash_twice(actor: Door) -> None:
            actor.stash()
            with pytest.raises(RuntimeError, match=NOT_HERE):
                actor.stash()

        await ref.cast(stash_twice)
        await quiet()
        assert figures(ref) == {"stashed": 1}
        with pytest.raises(RuntimeError, match=NOT_HERE):
            ref.actor.stash()


async def test_a_task_beside_the_handler_cannot_stash(autojump_clock) -> None:
    """The message in hand is none of its business; the handler's own helpers can."""
    told = []
    async with open_runtime(tree(door())) as runtime:
        ref = runtime.ref("top/a")

        async def beside(actor: Door) -> None:
            with pytest.raises(RuntimeError, match=NOT_HERE):
                actor.stash()
            told.append("refused")

        async def begin(actor: Door) -> str:
            actor.spawn(beside, actor)
            await trio.sleep(1)
            return "not stashed"

        async def with_help(actor: Door) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(helper, actor)

        async def helper(actor: Door) -> None:
            actor.stash()

        assert await ref.call(begin) == "not stashed"
        await ref.cast(with_help)
        await quiet()
        assert figures(ref) == {"answered": 1, "stashed": 1}
    assert told == ["refused"]


async def test_a_task_that_outlives_its_handler_cannot_stash_what_another_handles(autojump_clock) -> None:
    """Although that handler began it, in a nursery around the reading of the mailbox."""
    told = []

    class Housed(Actor):
        async def run(self) -> None:
            async with trio.open_nursery() as self.nursery:
                await super().run()

        async def handle(self, message: Any) -> object:
            return await message(self)

    async def stash_later(actor: Housed) -> None:
        await trio.sleep(1)
        with pytest.raises(RuntimeError, match=NOT_HERE):
            actor.stash()
        told.append("refused")

    async def begin(actor: Housed) -> None:
        actor.nursery.start_soon(stash_later, actor)

    async def take_time(_: Housed) -> str:
        await trio.sleep(2)
        return "not stashed"

    async with open_runtime(tree(ChildSpec(id="a", factory=Housed))) as runtime:
        await runtime.ref("top/a").call(begin)
        assert await runtime.ref("top/a").call(take_time, timeout=10) == "not stashed"
    assert told == ["refused"]


@pytest.mark.parametrize("hook", ["on_start", "on_stop"])
async def test_the_hooks_have_nothing_to_stash(autojump_clock, hook) -> None:
    told = []

    class Eager(Actor):
        pass

    async def try_it(actor: Actor) -> None:
        with pytest.raises(RuntimeError, match=NOT_HERE):
            actor.stash()
        told.append(hook)

    setattr(Eager, hook, try_it)
    async with open_runtime(tree(ChildSpec(id="a", factory=Eager))):
        pass
    assert told == [hook]


async def test_a_task_beside_the_handler_may_unstash_and_wakes_the_actor(autojump_clock) -> None:
    """As one does that waits for a connection: the actor is idle, and nobody else sends it anything."""
    log, answers = [], []
    async with open_runtime(tree(door(log))) as runtime:
        ref = runtime.ref("top/a")

        async def connect(actor: Door) -> None:
            await trio.sleep(3)
            await unlock(actor)

        async def begin(actor: Door) -> None:
            actor.spawn(connect, actor)

        await ref.cast(begin)
        await ask(ref, "one", answers, timeout=10)
        assert trio.current_time() == 3.0
    assert answers == ["answer to one"]


async def test_a_stop_fails_what_is_stashed(autojump_clock) -> None:
    """Its callers are told as soon as it stops, the others are left until it is down, and events count them all."""
    events, seen = recorder()
    answers = []
    async with open_runtime(tree(door()), events=events) as runtime:
        ref = runtime.ref("top/a")
        async with trio.open_nursery() as nursery:
            for message in ("one", "two"):
                nursery.start_soon(ask, ref, message, answers)
                await quiet()
            await ref.cast("three")
            await quiet()
            assert figures(ref) == {"stashed": 3}
            await runtime.ref("top").call(TerminateChild("a"))
        assert trio.current_time() == 0.0
    assert [str(answer) for answer in answers] == ["top/a (generation 1) is being stopped"] * 2
    assert figures(ref) == {"undelivered": 3}
    assert [event.fields["count"] for event in seen if event.kind == "messages_undelivered"] == [2, 1]


async def test_a_restart_keeps_what_is_stashed(autojump_clock) -> None:
    """An ordered one as well as a crash."""
    log, answers = [], []
    async with open_runtime(tree(door(log))) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(ask, runtime.ref("top/a"), "one", answers)
        await quiet()
        await runtime.ref("top").call(RestartChild("a", stop_first=True))
    assert (answers, log) == (["answer to one"], [(2, "one")])


@pytest.mark.parametrize("unstashed", [False, True])
async def test_a_crash_of_the_handler_that_stashed_is_a_crash_over_the_message(autojump_clock, unstashed) -> None:
    """Else it came back for ever: a call fails, a cast too where nothing is redelivered; others in the stash stay."""
    log, answers = [], []
    async with open_runtime(tree(door(log))) as runtime:
        ref = runtime.ref("top/a")

        async def stash_and_fall(actor: Door) -> None:
            actor.stash()
            if unstashed:
                actor.unstash_all()
            await fall(actor)

        for send in (ref.cast, lambda message: ask(ref, message, answers)):
            await ref.cast("kept")
            await send(stash_and_fall)
            await quiet()
        assert isinstance(answers[0], ActorDied)
        assert answers[0].generation == 2
    assert log == [(2, "kept"), (2, "kept")]
    assert figures(ref) == {"answered": 2, "failed": 2}


async def test_a_message_that_is_stashed_before_each_crash_is_poison_in_the_end(autojump_clock) -> None:
    async with open_runtime(tree(door(mailbox=MailboxSpec(redeliveries=2)))) as runtime:
        ref = runtime.ref("top/a")
        generations = []

        async def stash_and_fall(actor: Door) -> None:
            generations.append(actor.generation)
            actor.stash()
            await fall(actor)

        await ref.cast(stash_and_fall)
        await quiet()
        assert [poison.message for poison in ref.quarantine()] == [stash_and_fall]
    assert generations == [1, 2, 3]
    assert figures(ref) == {"quarantined": 1}


async def test_a_handler_that_is_killed_after_it_stashed_loses_nothing(autojump_clock) -> None:
    """It was done with the message, and is not to blame."""
    answers = []
    async with open_runtime(tree(door(shutdown=1))) as runtime:
        ref = runtime.ref("top/a")

        async def stash_and_hang(actor: Door) -> str:
            if actor.generation == 1:
                actor.stash()
                await trio.sleep_forever()
            return "the second time"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, ref, stash_and_hang, answers)
            await quiet()
            await runtime.ref("top").call(RestartChild("a", stop_first=True))
    assert answers == ["the second time"]


async def test_what_was_unstashed_and_dropped_is_not_lost_twice(autojump_clock) -> None:
    """A crash after that finds it settled already."""
    mailbox = MailboxSpec(capacity=1, overflow=Overflow.DROP_OLDEST)
    async with open_runtime(tree(door(mailbox=mailbox))) as runtime:
        ref = runtime.ref("top/a")

        async def stash_and_fall(actor: Door) -> None:
            actor.stash()
            actor.unstash_all()
            ref.cast_nowait("newer")
            await fall(actor)

        await ref.cast(stash_and_fall)
        await quiet()
        assert ref.statistics().mailbox.dropped == 1
    assert figures(ref) == {"answered": 1}


async def test_a_zombie_has_no_hand_in_its_successors_stash(autojump_clock) -> None:
    """Neither what it stashes nor what it unstashes is its own any more."""
    told, release, made = [], trio.Event(), []

    async def linger(actor: Door) -> None:
        await stubborn(release)
        with pytest.raises(ActorDied, match="zombie"):
            actor.unstash_all()
        with pytest.raises(RuntimeError, match=NOT_HERE):
            actor.stash()
        told.append("over")

    def closed() -> Door:
        made.append(Door([]))
        return made[-1]

    async with open_runtime(tree(ChildSpec(id="a", factory=closed, backoff=AT_ONCE, shutdown=1))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(linger)
        await quiet()
        ref.incarnation.kill("enough")
        await trio.sleep(ZOMBIE_AFTER + PIERCE_GRACE + 1)
        assert ref.statistics().generation == 2
        await ref.cast("one")
        await quiet()
        release.set()
        await quiet()
        assert (told, figures(ref)) == (["over"], {"failed": 1, "stashed": 1})


async def test_a_stashed_notice_of_a_former_incarnation_is_not_for_the_next(autojump_clock) -> None:
    """A Down is for who watched; it may be set aside and taken up again, but it goes with its incarnation."""
    downs = []

    class Watcher(Actor):
        is_open = False

        async def on_start(self) -> None:
            if self.generation == 1:
                self.monitor(b)

        async def handle(self, message: object) -> None:
            if isinstance(message, Down) and not self.is_open:
                self.stash()
                return
            if isinstance(message, Down):
                downs.append(message.ref.path)
            elif message == "open":
                self.is_open = True
                self.unstash_all()
            elif message == "watch":
                self.monitor(b)
            else:
                raise Boom("told to")

    async with open_runtime(tree(probe("b"))) as runtime:
        b = runtime.ref("top/b")
        ref = await runtime.ref("top").call(StartChild(ChildSpec(id="a", factory=Watcher, backoff=AT_ONCE)))
        assert ref is not None
        await runtime.ref("top").call(TerminateChild("b"))
        await quiet()
        assert ref.statistics().mailbox.stashed == 1
        await ref.cast("crash")
        await ref.cast("open")
        await quiet()
        assert downs == []
        await ref.cast("watch")
        await quiet()
        assert downs == ["top/b"]
        assert ref.statistics().mailbox.stashed == 0
