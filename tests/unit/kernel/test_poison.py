"""Messages over which an actor dies: given again where that is wanted, set aside for good when that does not help."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from kernel_kit import AT_ONCE, Boom, die, hang, hello, open_runtime, probe, quiet, recorder, stubborn, tree, wait

from agentrt.kernel import (
    Actor,
    ActorDied,
    ActorRef,
    Budget,
    ChildSpec,
    ExitKind,
    MailboxSpec,
    RestartChild,
    StartChild,
    TerminateChild,
)
from agentrt.kernel.leash import PIERCE_GRACE, ZOMBIE_AFTER
from agentrt.policy.watchdog import Limits

Message = Callable[[Actor], Awaitable[object]]


def patient(redeliveries: int = 2, **spec) -> ChildSpec:
    """Describe a probe that is restarted as often as it takes."""
    return probe("a", mailbox=MailboxSpec(redeliveries=redeliveries), **{"budget": Budget(1000, 1), **spec})


def tree_of(child: ChildSpec):
    return tree(child, budget=Budget(1000, 1))


def fails(times: int, log: list[int]) -> Message:
    """Make a message that crashes as many incarnations, and is then handled."""

    async def message(actor: Actor) -> None:
        log.append(actor.generation)
        if len(log) <= times:
            raise Boom(f"time {len(log)}")

    return message


def note(log: list[str], text: str) -> Message:
    """Make a message that writes *text* down."""

    async def message(actor: Actor) -> None:
        log.append(f"{text} {actor.generation}")

    return message


def outcomes(ref: ActorRef) -> dict[str, int]:
    """Say what became of an actor's messages, without what is 0."""
    counts = ref.statistics().counts
    found = {name: getattr(counts, name) for name in counts.__slots__ if not name.startswith("_")}
    return {name: count for name, count in found.items() if count}


async def test_without_redeliveries_a_crash_is_the_outcome(autojump_clock) -> None:
    """Failed, once; the next incarnation begins with the next message."""
    log = []
    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(die)
        await ref.cast(note(log, "next"))
        await quiet()
        assert ref.quarantine() == ()
    assert log == ["next 2"]
    assert outcomes(ref) == {"failed": 1, "answered": 1}


@pytest.mark.parametrize("redeliveries", [1, 2, 5])
async def test_a_message_is_given_again_before_all_others(autojump_clock, redeliveries) -> None:
    """And is handled to its end where it crashes no more than *redeliveries* times."""
    log, others = [], []
    async with open_runtime(tree_of(patient(redeliveries))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(fails(redeliveries, log))
        await ref.cast(note(others, "next"))
        await quiet()
    assert log == list(range(1, redeliveries + 2))
    assert others == [f"next {redeliveries + 1}"]
    assert outcomes(ref) == {"answered": 2}


@pytest.mark.parametrize("redeliveries", [1, 2, 5])
async def test_a_message_that_crashes_once_more_is_poison(autojump_clock, redeliveries) -> None:
    """It is quarantined with the last exit, and is an event; the actor goes on with the next message."""
    events, seen = recorder()
    log, others = [], []
    poison = fails(1000, log)
    async with open_runtime(tree_of(patient(redeliveries)), events=events) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(poison)
        await ref.cast(note(others, "next"))
        await quiet()
        (found,) = ref.quarantine()
    assert log == list(range(1, redeliveries + 2))
    assert others == [f"next {redeliveries + 2}"]
    assert outcomes(ref) == {"quarantined": 1, "answered": 1}
    assert found.message is poison
    assert (found.exit.kind, found.exit.generation) == (ExitKind.CRASHED, redeliveries + 1)
    (event,) = (event for event in seen if event.kind == "message_quarantined")
    assert event.path == "top/a"
    assert event.fields == {
        "message": "function",
        "crashes": redeliveries + 1,
        "error": f"top/a crashed (generation {redeliveries + 1}): Boom: time {redeliveries + 1}",
    }


async def test_the_same_object_sent_twice_is_two_messages(autojump_clock) -> None:
    """Each has its own count."""
    log = []
    message = fails(3, log)
    async with open_runtime(tree_of(patient(2))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(message)
        await ref.cast(message)
        await quiet()
    assert log == [1, 2, 3, 4]
    assert outcomes(ref) == {"quarantined": 1, "answered": 1}


async def test_the_last_sixteen_poison_messages_are_kept(autojump_clock) -> None:
    """Oldest first; all are counted."""
    bad = [fails(1000, []) for _ in range(20)]
    async with open_runtime(tree_of(patient(1))) as runtime:
        ref = runtime.ref("top/a")
        for message in bad:
            await ref.cast(message)
        await quiet()
        assert [poison.message for poison in ref.quarantine()] == bad[4:]
    assert outcomes(ref) == {"quarantined": 20}


async def test_a_call_is_never_given_twice(autojump_clock) -> None:
    """Its caller is told at the first crash, however patient the mailbox is."""
    log = []
    async with open_runtime(tree_of(patient(5))) as runtime:
        ref = runtime.ref("top/a")
        with pytest.raises(ActorDied, match="time 1"):
            await ref.call(fails(1, log))
        assert await ref.call(hello) == "a 2"
    assert log == [1]
    assert outcomes(ref) == {"failed": 1, "answered": 1}


async def test_only_the_message_in_hand_is_to_blame(autojump_clock) -> None:
    """A message that was handled before the crash, or waits at it, is not counted."""
    log = []
    async with open_runtime(tree_of(patient(1))) as runtime:
        ref = runtime.ref("top/a")
        for text in "one", "two":
            await ref.cast(note(log, text))
            await ref.cast(die)
        await ref.cast(note(log, "three"))
        await quiet()
        ref.incarnation.fail(Boom("from outside, with nothing in hand"))
        await quiet()
    assert log == ["one 1", "two 3", "three 5"]
    assert outcomes(ref) == {"answered": 3, "quarantined": 2}


@pytest.mark.parametrize(
    ("limits", "kind"), [(Limits(total=2.0), ExitKind.TIMED_OUT), (Limits(progress=2.0), ExitKind.STUCK)]
)
async def test_a_message_that_hangs_is_poison_too(autojump_clock, limits, kind) -> None:
    """A limit that ends the actor over it is a crash."""
    async with open_runtime(tree_of(patient(2, limits=limits))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(hang)
        await trio.sleep(100)
        assert [(poison.message, poison.exit.kind) for poison in ref.quarantine()] == [(hang, kind)]
    assert outcomes(ref) == {"quarantined": 1}


async def test_a_crash_on_the_way_to_a_stop_counts(autojump_clock) -> None:
    """The message did that; nobody told it to raise."""

    async def late(_: Actor) -> None:
        await trio.sleep(1)
        raise Boom("while it was to stop")

    async with open_runtime(tree_of(patient(1))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(late)
        await quiet()
        for generation in (1, 2):
            await runtime.ref("top").call(RestartChild("a", stop_first=True))
            assert ref._cell.last_exit.kind is ExitKind.CRASHED_DURING_STOP
            assert ref._cell.last_exit.generation == generation
        assert [poison.message for poison in ref.quarantine()] == [late]


async def test_a_message_that_is_cut_off_by_a_stop_is_given_again_and_not_blamed(autojump_clock) -> None:
    """However often: it did not crash anything, its time was up. What it took from its own crashes stays counted."""
    log = []

    async def slow(actor: Actor) -> None:
        log.append(actor.generation)
        if actor.generation == 1:
            raise Boom("once")
        if actor.generation < 6:
            await trio.sleep(10)

    async with open_runtime(tree_of(patient(1, shutdown=1))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(slow)
        await quiet()
        for _ in range(4):
            await runtime.ref("top").call(RestartChild("a", stop_first=True))
            assert ref._cell.last_exit.kind is ExitKind.KILLED
        await quiet()
    assert log == [1, 2, 3, 4, 5, 6]
    assert outcomes(ref) == {"answered": 1}


async def test_without_redeliveries_a_message_that_is_cut_off_failed(autojump_clock) -> None:
    """It was begun, and is not begun again unless somebody said so."""
    async with open_runtime(tree(probe("a", shutdown=1))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(hang)
        await quiet()
        await runtime.ref("top").call(RestartChild("a", stop_first=True))
        assert await ref.call(hello) == "a 2"
    assert outcomes(ref) == {"failed": 1, "answered": 1}


async def test_a_message_that_is_cut_off_by_the_end_is_undelivered(autojump_clock) -> None:
    """Nobody comes who could take it, and an event says so."""
    events, seen = recorder()
    async with open_runtime(tree_of(patient(1, shutdown=1)), events=events) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(hang)
        await quiet()
        await runtime.ref("top").call(TerminateChild("a"))
    assert outcomes(ref) == {"undelivered": 1}
    assert [event.fields["count"] for event in seen if event.kind == "messages_undelivered"] == [1]


async def test_a_message_in_hand_at_a_stop_is_handled_to_its_end(autojump_clock) -> None:
    """The grace is there for it; it is answered and not given again."""
    log = []

    async def slow(actor: Actor) -> None:
        log.append(actor.generation)
        await trio.sleep(2)

    async with open_runtime(tree_of(patient(1))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(slow)
        await quiet()
        await runtime.ref("top").call(RestartChild("a", stop_first=True))
        assert trio.current_time() == 2.0
    assert log == [1]
    assert outcomes(ref) == {"answered": 1}


async def test_an_actor_that_ends_by_itself_blames_no_message(autojump_clock) -> None:
    """Its own ``run`` may cut a handler off; its successor begins that message anew."""
    log = []

    class Shift(Actor):
        async def run(self) -> None:
            with trio.move_on_after(5):
                await super().run()

        async def handle(self, message: float) -> None:
            log.append((self.generation, trio.current_time()))
            await trio.sleep(message if self.generation < 4 else 0)

    spec = ChildSpec(id="a", factory=Shift, mailbox=MailboxSpec(redeliveries=1), budget=Budget(10, 100))
    async with open_runtime(tree(spec), seed=1) as runtime:
        await runtime.ref("top/a").cast(10)
        await trio.sleep(60)
        assert [generation for generation, _ in log] == [1, 2, 3, 4]
        assert runtime.ref("top/a").statistics().counts.answered == 1


async def test_a_message_waits_for_its_next_try_as_long_as_the_backoff_takes(autojump_clock) -> None:
    """It stands among those that wait, and the place's end finds it there."""
    async with open_runtime(tree(patient(1, budget=Budget(0, 1)))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(die)
        await quiet()
        assert ref.statistics().state == "gone"
    assert outcomes(ref) == {"undelivered": 1}


async def test_who_is_cancelled_already_begins_no_message(autojump_clock) -> None:
    """Else it would be cut off at its first checkpoint and lost, though it had only waited."""
    log = []

    async def slow(actor: Actor) -> None:
        log.append(actor.generation)
        await trio.sleep(1)

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        # The actor is woken, and then cancelled before it had its turn.
        ref.cast_nowait(slow)
        ref.incarnation.fail(Boom("from outside"))
        await trio.sleep(5)
    assert log == [2]
    assert outcomes(ref) == {"answered": 1}


async def test_who_is_cancelled_at_the_end_of_its_start_begins_no_message(autojump_clock) -> None:
    log, door = [], trio.Event()

    class Slow(Actor):
        async def on_start(self) -> None:
            await door.wait()

        async def handle(self, message: object) -> None:
            log.append(self.generation)
            await trio.sleep(1)

    async with open_runtime(tree(probe("b"))) as runtime:
        spec = ChildSpec(id="a", factory=Slow, backoff=AT_ONCE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.ref("top").call, StartChild(spec))
            await quiet()
            ref = runtime.ref("top/a")
            await ref.cast("message")
            door.set()
            ref.incarnation.fail(Boom("from outside"))
        await trio.sleep(5)
    assert log == [2]
    assert outcomes(ref) == {"answered": 1}


async def test_a_zombies_message_goes_to_its_successor_once(autojump_clock) -> None:
    """Where the zombie comes back after all, its message has its outcome elsewhere, and it takes no other."""
    release, log = trio.Event(), []

    async def linger(actor: Actor) -> None:
        log.append(f"begun {actor.generation}")
        if actor.generation == 1:
            await stubborn(release)
            log.append("zombie back")

    async with open_runtime(tree_of(patient(1))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(linger)
        await quiet()
        ref.incarnation.kill("enough")
        await trio.sleep(ZOMBIE_AFTER + PIERCE_GRACE + 1)
        assert (log, outcomes(ref)) == (["begun 1", "begun 2"], {"answered": 1})
        for _ in range(3):
            await ref.cast(wait(1))
        release.set()
        await ref.cast(note(log, "next"))
        await trio.sleep(5)
    assert log == ["begun 1", "begun 2", "zombie back", "next 2"]
    assert outcomes(ref) == {"answered": 5}


async def test_the_count_starts_anew_with_each_message(autojump_clock) -> None:
    """One that crashed before it was handled does not make the next one poison."""
    log = []
    async with open_runtime(tree_of(patient(2))) as runtime:
        ref = runtime.ref("top/a")
        for _ in range(3):
            await ref.cast(fails(2, []))
        await ref.cast(note(log, "last"))
        await quiet()
    assert log == ["last 7"]
    assert outcomes(ref) == {"answered": 4}


@pytest.mark.parametrize("redeliveries", [-1, -5])
def test_redeliveries_are_not_negative(redeliveries) -> None:
    with pytest.raises(ValueError, match="redeliveries"):
        MailboxSpec(redeliveries=redeliveries)
