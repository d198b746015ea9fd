"""Refs: every call ends, with the right outcome and no later than its deadline."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from types import FunctionType
from typing import Any

import pytest
import trio
from kernel_kit import (
    AT_ONCE,
    Boom,
    Loop,
    Plan,
    Probe,
    crash,
    die,
    hang,
    hello,
    loop,
    open_runtime,
    probe,
    probes,
    quiet,
    recorder,
    stubborn,
    tree,
    wait,
)

from agentrt.kernel import (
    Actor,
    ActorDied,
    ActorRef,
    Budget,
    CallCycle,
    CallTimeout,
    ChildSpec,
    Down,
    ExitKind,
    MailboxFull,
    MailboxSpec,
    NoSuchChild,
    Overflow,
    Refusal,
    Restart,
    TerminateChild,
    UnexpectedMessage,
)
from agentrt.kernel.messages import Cast
from agentrt.kernel.serving import BATCH_MESSAGES, BATCH_SECONDS


class Around(Probe, Loop):
    """A probe with a ``run`` of its own."""

    def __init__(self, run: Callable[[Actor], Awaitable[object]]) -> None:
        Probe.__init__(self, Plan())
        Loop.__init__(self, run)


async def test_a_call_is_answered_with_what_the_handler_returned(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        assert await runtime.ref("top/a").call(hello) == "a 1"
        assert runtime.ref("top/a").statistics().counts.answered == 1


async def test_a_call_without_a_timeout_ends_after_a_minute(autojump_clock) -> None:
    """There is no call without a deadline."""
    async with open_runtime(tree(probe("a", shutdown=0))) as runtime:
        with pytest.raises(CallTimeout, match="no answer from top/a before the deadline"):
            await runtime.ref("top/a").call(hang)
        assert trio.current_time() == 60.0


async def test_a_call_that_timed_out_cancels_its_handler_and_the_actor_goes_on(autojump_clock) -> None:
    """The work on a dead request stops; the incarnation is the same, and so is its next answer."""
    cancelled = []

    async def stubborn(_: Actor) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(trio.current_time())
            raise

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        with pytest.raises(CallTimeout):
            await ref.call(stubborn, timeout=2)
        assert await ref.call(hello) == "a 1"
        assert ref.statistics().counts.expired == 1
    assert cancelled == [2.0]


async def test_a_caller_that_is_cancelled_cancels_the_handler(autojump_clock) -> None:
    """Structured: what nobody waits for is not done, at any depth."""
    reached = []

    async with open_runtime(tree(probe("b"), probe("a"))) as runtime:
        b = runtime.ref("top/b")

        async def deep(_: Actor) -> None:
            try:
                await trio.sleep_forever()
            finally:
                reached.append(trio.current_time())

        async def through(_: Actor) -> None:
            await b.call(deep)

        with trio.move_on_after(3):
            await runtime.ref("top/a").call(through)
        assert await runtime.ref("top/a").call(hello) == "a 1"
        assert await b.call(hello) == "b 1"
    assert reached == [3.0]


async def test_a_queued_call_that_was_given_up_is_never_handled(autojump_clock) -> None:
    handled = []

    async def note(_: Actor) -> None:
        handled.append("late")

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(wait(5))
        with pytest.raises(CallTimeout):
            await ref.call(note, timeout=1)
        await ref.call(hello)
    assert handled == []


async def test_a_call_inherits_the_deadline_of_the_message_in_hand(autojump_clock) -> None:
    """However long it may wait itself: nobody wants the answer after that."""
    ended = []

    async with open_runtime(tree(probe("b", shutdown=0), probe("a"))) as runtime:
        b = runtime.ref("top/b")

        async def ask(_: Actor) -> None:
            try:
                await b.call(hang, timeout=50)
            except CallTimeout:
                ended.append(trio.current_time())
                raise Refusal("too late") from None

        with pytest.raises(CallTimeout):
            await runtime.ref("top/a").call(ask, timeout=5)
        assert runtime.ref("top/b").statistics().counts.expired == 1
        assert runtime.ref("top/a").statistics().counts.expired == 1
    assert trio.current_time() == 5.0


async def test_a_shorter_timeout_holds_within_a_longer_deadline(autojump_clock) -> None:
    async with open_runtime(tree(probe("b", shutdown=0), probe("a"))) as runtime:
        b = runtime.ref("top/b")

        async def ask(_: Actor) -> float:
            with pytest.raises(CallTimeout):
                await b.call(hang, timeout=2)
            return trio.current_time()

        assert await runtime.ref("top/a").call(ask, timeout=10) == 2.0


async def test_the_inherited_deadline_holds_where_no_cancellation_comes(autojump_clock) -> None:
    """A cleanup that shields itself and asks somebody waits no longer than the message that it belongs to."""
    ended = []

    async with open_runtime(tree(probe("b", shutdown=0), probe("a"))) as runtime:
        b = runtime.ref("top/b")

        async def ask(_: Actor) -> None:
            with trio.CancelScope(shield=True), pytest.raises(CallTimeout):
                await b.call(hang)
            ended.append(trio.current_time())

        with pytest.raises(CallTimeout):
            await runtime.ref("top/a").call(ask, timeout=5)
        await quiet()
    assert ended == [5.0]


async def test_only_the_handler_of_the_message_given_up_is_cancelled(autojump_clock) -> None:
    """A cancellation that comes late does not hit the next message."""
    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        old = Cast(hello, ref._cell)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, wait(2))
            await quiet()
            ref._cell.incarnation.serving.cancel_handler(old)
        assert ref.statistics().counts.answered == 1


async def test_a_spawned_task_inherits_no_deadline(autojump_clock) -> None:
    """It goes on when the message that began it is done, so that message's deadline is not its own."""
    answers = []

    async with open_runtime(tree(probe("b"), probe("a"))) as runtime:
        b = runtime.ref("top/b")

        async def ask() -> None:
            answers.append(await b.call(wait(20)))

        async def begin(actor: Actor) -> None:
            actor.spawn(ask)
            await trio.sleep(1)

        await runtime.ref("top/a").call(begin, timeout=5)
        await trio.sleep(30)
    assert answers == ["waited"]


async def test_a_spawned_task_may_call_its_own_actor(autojump_clock) -> None:
    """The handler does not wait for it, so that is no cycle, also while the message that began it is in hand."""
    answers = []

    async with open_runtime(tree(probe("a"))) as runtime:

        async def begin(actor: Actor) -> None:
            async def ask() -> None:
                answers.append(await actor.ref.call(hello))

            actor.spawn(ask)
            await trio.sleep(1)

        await runtime.ref("top/a").call(begin)
        await quiet()
    assert answers == ["a 1"]


@pytest.mark.parametrize("first", ["call", "cast"])
async def test_a_call_cycle_fails_at_once_and_names_the_chain(autojump_clock, first) -> None:
    """A -> b -> a waits for itself for ever, whether a was called or only sent a message."""
    chains = []

    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        a, b = runtime.ref("top/a"), runtime.ref("top/b")

        async def back(_: Actor) -> None:
            try:
                await a.call(hello)
            except CallCycle as cycle:
                chains.append((cycle.chain, trio.current_time()))

        async def forth(_: Actor) -> None:
            await b.call(back)

        await getattr(a, first)(forth)
        await trio.sleep(1)
    assert chains == [(("top/a", "top/b", "top/a"), 0.0)]


async def test_two_actors_that_call_each_other_at_the_same_time_are_a_cycle(autojump_clock) -> None:
    """Each handles a message of its own, and none of the two calls has to do with the other; both would wait."""
    told = []

    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:

        def ask(path: str) -> Callable[[Actor], Awaitable[None]]:
            async def message(actor: Actor) -> None:
                await trio.sleep(1)
                try:
                    told.append(await runtime.ref(path).call(hello))
                except CallCycle as cycle:
                    told.append(cycle.chain)

            return message

        runtime.ref("top/a").cast_nowait(ask("top/b"))
        runtime.ref("top/b").cast_nowait(ask("top/a"))
        await trio.sleep(1)
        await quiet()
    assert told[0] in {("top/a", "top/b", "top/a"), ("top/b", "top/a", "top/b")}
    # Who asked first is answered, since the other went on.
    assert told[1:] == ["b 1" if told[0][0] == "top/a" else "a 1"]


async def test_a_cycle_is_found_through_any_of_the_calls_that_a_handler_waits_for(autojump_clock) -> None:
    told = []

    async with open_runtime(tree(*(probe(name) for name in "abcd"))) as runtime:
        refs = {name: runtime.ref(f"top/{name}") for name in "abcd"}

        async def ask_two(_: Actor) -> None:
            async with trio.open_nursery() as nursery:
                # The one that closes the cycle first, so that it is not the last that is remembered.
                nursery.start_soon(refs["c"].call, wait(5))
                await quiet()
                nursery.start_soon(refs["b"].call, wait(5))

        async def ask_d(_: Actor) -> None:
            await refs["d"].call(wait(5))

        async def ask_a(_: Actor) -> None:
            await trio.sleep(1)
            try:
                await refs["a"].call(hello)
            except CallCycle as cycle:
                told.append((cycle.chain, trio.current_time()))

        refs["d"].cast_nowait(ask_a)
        await quiet()
        refs["c"].cast_nowait(ask_d)
        await quiet()
        refs["a"].cast_nowait(ask_two)
        await trio.sleep(2)
    assert told == [(("top/a", "top/c", "top/d", "top/a"), 1.0)]


async def test_a_task_around_the_reading_waits_for_itself_alone(autojump_clock) -> None:
    """It outlives the message over which it was started, and takes no part in those that are in hand later."""
    answers = []

    async def run(actor: Actor) -> None:
        async with trio.open_nursery() as around:
            actor.around = around
            await Actor.run(actor)

    async def later(other: ActorRef) -> None:
        await trio.sleep(2)
        answers.append((await other.call(hello, timeout=60), trio.current_time()))

    async with open_runtime(tree(ChildSpec(id="a", factory=lambda: Around(run)), probe("b"))) as runtime:
        a, b = runtime.ref("top/a"), runtime.ref("top/b")

        async def start(actor: Actor) -> None:
            actor.around.start_soon(later, b)

        async def ask_a(_: Actor) -> None:
            await a.call(wait(4), timeout=10)

        await a.call(start)
        await trio.sleep(1)
        # Which waits for a while the task asks it, under a deadline that is none of the task's.
        await b.call(ask_a, timeout=10)
        await trio.sleep(1)
        await runtime.ref("top").call(TerminateChild("a"))
    assert answers == [("b 1", 5.0)]


async def test_a_call_that_was_turned_away_is_part_of_no_cycle(autojump_clock) -> None:
    """Its caller goes on, and waits for nobody."""
    answers = []
    narrow = MailboxSpec(capacity=1, overflow=Overflow.REJECT)

    async with open_runtime(tree(probe("a"), probe("b", mailbox=narrow))) as runtime:
        a, b = runtime.ref("top/a"), runtime.ref("top/b")

        async def ask_in_vain(_: Actor) -> None:
            with pytest.raises(MailboxFull):
                await b.call(hello)
            await trio.sleep(2)

        async def ask_a(_: Actor) -> None:
            await trio.sleep(1)
            answers.append(await a.call(hello))

        await b.cast(ask_a)
        await quiet()
        await b.cast(hello)
        await a.cast(ask_in_vain)
        await trio.sleep(3)
    assert answers == ["a 1"]


async def test_a_call_that_is_over_is_part_of_no_cycle(autojump_clock) -> None:
    """Answered or given up: whoever made it waits no more."""
    answers = []

    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        a, b = runtime.ref("top/a"), runtime.ref("top/b")

        async def ask_and_go_on(_: Actor) -> None:
            await b.call(hello)
            with pytest.raises(CallTimeout):
                await b.call(wait(5), timeout=1)
            await trio.sleep(3)

        async def ask_a(_: Actor) -> None:
            answers.append(await a.call(hello))

        await a.cast(ask_and_go_on)
        await trio.sleep(2)
        await b.call(ask_a)
        assert trio.current_time() == 4.0
    assert answers == ["a 1"]


async def test_a_call_without_any_limit_waits_as_long_as_its_caller(autojump_clock) -> None:
    """Infinity is not the default."""
    async with open_runtime(tree(probe("a"))) as runtime:
        assert await runtime.ref("top/a").call(wait(1000), timeout=math.inf) == "waited"
    assert trio.current_time() == 1000.0


async def test_an_actor_that_calls_itself_is_a_cycle(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:

        async def itself(actor: Actor) -> None:
            with pytest.raises(CallCycle, match="call cycle: top/a -> top/a"):
                await actor.ref.call(hello)

        await runtime.ref("top/a").call(itself)
        assert await runtime.ref("top/a").call(hello) == "a 1"


async def test_a_cast_breaks_the_chain(autojump_clock) -> None:
    """Whoever was only sent a message holds nobody up, so he may call whoever sent it."""
    answers = []

    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        a, b = runtime.ref("top/a"), runtime.ref("top/b")

        async def back(_: Actor) -> None:
            answers.append(await a.call(hello))

        async def forth(_: Actor) -> None:
            await b.cast(back)
            await trio.sleep(1)

        await a.call(forth)
        await quiet()
    assert answers == ["a 1"]


async def test_a_chain_of_casts_keeps_no_history(autojump_clock) -> None:
    """An actor that sends itself the next tick does not remember all the ticks before."""
    async with open_runtime(tree(probe("a"))) as runtime:
        seen = []

        async def tick(actor: Actor) -> None:
            seen.append(actor.context.incarnation.serving.in_hand.parent)
            if len(seen) < 5:
                await actor.ref.cast(tick)

        await runtime.ref("top/a").cast(tick)
        await quiet()
    assert seen == [None] * 5


async def test_the_caller_of_a_crashed_handler_is_told_at_once(autojump_clock) -> None:
    """With the id, the generation and the exit; messages that wait stay for the next incarnation."""
    answers = []

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")

        async def ask() -> None:
            answers.append(await ref.call(hello))

        async with trio.open_nursery() as nursery:
            await ref.cast(wait(1))
            nursery.start_soon(_expect_death, ref)
            await quiet()
            nursery.start_soon(ask)
        assert ref.statistics().counts.failed == 1
    assert answers == ["a 2"]


async def _expect_death(ref) -> None:
    with pytest.raises(ActorDied) as died:
        await ref.call(die)
    assert (died.value.path, died.value.generation) == ("top/a", 1)
    assert died.value.exit.kind is ExitKind.CRASHED
    assert str(died.value.exit.cause) == "Boom: told to"


async def test_a_refusal_answers_the_caller_and_the_actor_goes_on(autojump_clock) -> None:
    """The event has the reason; a cast that is refused has it too."""
    events, seen = recorder()

    async def no(_: Actor) -> None:
        raise Refusal("not today")

    async with open_runtime(tree(probe("a")), events=events) as runtime:
        ref = runtime.ref("top/a")
        with pytest.raises(Refusal, match="not today"):
            await ref.call(no)
        await ref.cast(no)
        assert await ref.call(hello) == "a 1"
        assert ref.statistics().counts.refused == 2
    assert [event.fields["reason"] for event in seen if event.kind == "message_refused"] == ["not today"] * 2


async def test_an_actor_without_a_handler_says_what_it_got(autojump_clock) -> None:
    """A wrong message is the sender's fault and no crash."""
    async with open_runtime(tree(ChildSpec(id="a", factory=Actor))) as runtime:
        with pytest.raises(UnexpectedMessage, match="top/a has no handler for int"):
            await runtime.ref("top/a").call(1)


async def test_a_ref_outlives_restarts_and_says_where_it_stands(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        first = ref.actor
        assert repr(ref) == "<ActorRef top/a running>"
        assert repr(first) == "<Probe top/a generation 1 running>"
        await crash(ref)
        assert runtime.ref("top/a") is ref
        assert ref.actor is not first
        assert ref.actor.generation == 2
        assert ref.path == "top/a"
    assert ref.actor is None
    assert repr(ref) == "<ActorRef top/a gone>"


async def test_an_actor_that_was_never_started_can_be_printed() -> None:
    assert repr(Actor()) == "<Actor, not started>"


async def test_wait_gone_returns_the_last_exit(autojump_clock) -> None:
    """Also where it is gone already; a restart is not the end."""
    exits = []

    async with open_runtime(tree(probe("a", restart=Restart.TRANSIENT))) as runtime:
        ref = runtime.ref("top/a")

        async def watch() -> None:
            exits.append(await ref.wait_gone())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await crash(ref)
            assert exits == []
            nursery.cancel_scope.cancel()
    exit_ = await ref.wait_gone()
    assert (exit_.kind, exit_.generation) == (ExitKind.STOPPED, 2)


async def test_a_sender_is_told_when_the_actor_is_gone(autojump_clock) -> None:
    async with open_runtime(tree(probe("a", budget=Budget(0, 1)))) as runtime:
        ref = runtime.ref("top/a")
        await crash(ref)
        for send in (ref.call, ref.cast):
            with pytest.raises(ActorDied, match=r"top/a \(generation 1\) is gone: top/a crashed .*Boom: told to"):
                await send(hello)
        with pytest.raises(ActorDied):
            ref.cast_nowait(hello)


async def test_an_unknown_path_is_an_error(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        for path in ("top/b", "other", "top/a/b", "top/b/c"):
            with pytest.raises(NoSuchChild, match=path):
                runtime.ref(path)


async def test_a_cancelled_caller_is_not_heard(autojump_clock) -> None:
    """Its call is taken back before anybody sees it."""
    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        with trio.CancelScope() as scope:
            scope.cancel()
            await ref.call(hello)
        assert scope.cancelled_caught
        await quiet()
        counts = ref.statistics().counts
        assert (counts.answered, counts.expired) == (0, 1)


async def test_a_cast_is_a_checkpoint_only_where_it_waits(autojump_clock) -> None:
    """A cancelled sender whose message finds room has sent it; one that would have to wait for room has not."""
    async with open_runtime(tree(probe("a", mailbox=MailboxSpec(capacity=1)))) as runtime:
        ref = runtime.ref("top/a")
        with trio.CancelScope() as scope:
            scope.cancel()
            await ref.cast(hello)
            await ref.cast(hello)
        assert scope.cancelled_caught
        await quiet()
        assert ref.statistics().counts.answered == 1


async def test_a_handler_that_ignores_its_cancellation_ends_as_it_likes(autojump_clock) -> None:
    """The answer comes too late for its caller, and is counted once, as expired; the next message is handled."""

    async def deaf(_: Actor) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        return "nobody listens"

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        with pytest.raises(CallTimeout):
            await ref.call(deaf, timeout=1)
        assert await ref.call(hello) == "a 1"
        counts = ref.statistics().counts
    assert (counts.answered, counts.expired) == (1, 1)


async def test_a_crash_while_a_handler_is_cancelled_is_a_crash(autojump_clock) -> None:
    """A cancellation never is one; an exception always is."""

    async def fragile(_: Actor) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("in its cleanup")

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        with pytest.raises(CallTimeout):
            await ref.call(fragile, timeout=1)
        assert await ref.call(hello) == "a 2"


async def test_a_busy_actor_lets_others_run(autojump_clock) -> None:
    """Handlers that never wait do not hold the loop: a batch is bounded."""
    turns = []

    async def note(actor: Actor) -> None:
        turns.append(actor.name)

    async with open_runtime(tree(*probes("ab", []))) as runtime:
        for name in "ab":
            for _ in range(200):
                runtime.ref(f"top/{name}").cast_nowait(note)
        await quiet()
    assert sorted(turns) == ["a"] * 200 + ["b"] * 200
    switches = sum(one != other for one, other in pairwise(turns))
    assert switches >= 4


class HandClock(trio.abc.Clock):
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.time = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self.time

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0.0 if deadline <= self.time else 999.0


class Steps(trio.abc.Instrument):
    """Writes down how many messages were handled at the end of each turn of the task that handles them."""

    def __init__(self) -> None:
        self.handled = 0
        self.counts: list[int] = []

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name == "top/a #1" and self.handled:
            self.counts.append(self.handled)


def handled_at_each_turn(takes: float, messages: int, **mailbox: Any) -> list[int]:
    """Say how many of *messages*, each of which *takes* seconds, were handled whenever others had their turn."""
    clock, steps = HandClock(), Steps()

    async def note(_: Actor) -> None:
        clock.time += takes
        steps.handled += 1

    async def main() -> None:
        async with open_runtime(tree(probe("a", mailbox=MailboxSpec(**mailbox)))) as runtime:
            for _ in range(messages):
                runtime.ref("top/a").cast_nowait(note)
            await quiet()
            trio.lowlevel.remove_instrument(steps)

    trio.run(main, clock=clock, instruments=[steps])
    return steps.counts


@pytest.mark.parametrize("priorities", [(), (FunctionType,)], ids=["ordinary", "with priority"])
@pytest.mark.parametrize(
    ("takes", "counts"),
    [
        (0.0, [*range(32, 200, 32), 200]),
        (BATCH_SECONDS, list(range(2, 201, 2))),
        (2 * BATCH_SECONDS, list(range(1, 201))),
    ],
)
def test_a_batch_ends_after_so_many_messages_or_so_long(takes, counts, priorities) -> None:
    """32 messages, or the one that is begun when 1 ms is over; then all others have their turn, whatever the lane."""
    assert (BATCH_MESSAGES, BATCH_SECONDS) == (32, 0.0009)
    assert handled_at_each_turn(takes, 200, priorities=priorities) == counts


async def test_a_handler_that_is_cancelled_leaves_nothing_behind_for_the_next(autojump_clock) -> None:
    """Each goes on in a scope that is not cancelled, however many gave up in a row, and however they took it."""
    log = []

    async def rude(_: Actor) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            log.append("swallowed")

    async def deaf(_: Actor) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
        log.append("deaf")

    async def polite(_: Actor) -> None:
        await trio.sleep(1)
        log.append("polite")

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        for message in (rude, hang, deaf, rude, deaf, hang):
            with pytest.raises(CallTimeout):
                await ref.call(message, timeout=1)
            await ref.call(polite)
        assert await ref.call(hello) == "a 1"
        counts = ref.statistics().counts
    assert (counts.answered, counts.expired, counts.failed) == (7, 6, 0)
    # The one that hangs is cancelled without a word.
    assert log == ["swallowed", "polite", "polite", "deaf", "polite", "swallowed", "polite", "deaf", "polite", "polite"]


async def test_what_waits_in_the_control_lane_is_handled_when_a_handler_was_given_up(autojump_clock) -> None:
    """Not in the scope of that handler, where it would be cut off and lost."""
    downs = []

    class Watcher(Actor):
        async def handle(self, message) -> object:
            if isinstance(message, Down):
                await trio.sleep(1)
                downs.append(message.ref.path)
                return None
            return await message(self)

    async with open_runtime(tree(probe("b"), probe("c"), ChildSpec(id="a", factory=Watcher))) as runtime:
        ref = runtime.ref("top/a")

        async def watch_and_be_deaf(actor: Actor) -> None:
            for name in "bc":
                actor.monitor(runtime.ref(f"top/{name}"))
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_timeout, ref, watch_and_be_deaf, 3)
            await trio.sleep(1)
            await crash(runtime.ref("top/b"))
            await trio.sleep(3)
            await crash(runtime.ref("top/c"))
        await trio.sleep(10)
        counts = ref.statistics().counts
    assert downs == ["top/b", "top/c"]
    assert (counts.answered, counts.expired) == (2, 1)


async def expect_timeout(ref, message, seconds: float) -> None:
    with pytest.raises(CallTimeout):
        await ref.call(message, timeout=seconds)


async def test_a_zombies_handler_that_comes_back_takes_no_further_message(autojump_clock) -> None:
    """Its caller was told when it was given up; what waits is its successor's, and its answer is counted nowhere."""
    release, log = trio.Event(), []

    async def linger(actor: Actor) -> str:
        await stubborn(release)
        log.append(f"back {actor.generation}")
        return "too late"

    async def note(actor: Actor) -> None:
        log.append(f"note {actor.generation}")

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")

        async def ask() -> None:
            with pytest.raises(ActorDied, match="zombie"):
                await ref.call(linger, timeout=1000)
            log.append("told")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await quiet()
            ref.incarnation.kill("enough")
        await trio.sleep(1)
        await ref.cast(wait(1))
        await quiet()
        for _ in range(3):
            await ref.cast(note)
        release.set()
        await trio.sleep(5)
        counts = ref.statistics().counts
    assert log == ["told", "back 1", "note 2", "note 2", "note 2"]
    assert (counts.answered, counts.failed) == (4, 1)


async def test_a_run_of_its_own_may_serve_the_mailbox_besides(autojump_clock) -> None:
    """A stop ends both; serving twice at a time is refused."""
    beats = []

    class Both(Actor):
        async def run(self) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.beat)
                nursery.start_soon(super().run)
                await quiet()
                with pytest.raises(RuntimeError, match="top/a serves its mailbox already"):
                    await super().run()

        async def beat(self) -> None:
            while True:
                beats.append(trio.current_time())
                await trio.sleep(1)

        async def handle(self, message: object) -> object:
            return message

    async with open_runtime(tree(ChildSpec(id="a", factory=Both))) as runtime:
        assert await runtime.ref("top/a").call("ping") == "ping"
        await trio.sleep(2.5)
    assert beats == [0.0, 1.0, 2.0]
    assert runtime.ref("top/a")._cell.last_exit.kind is ExitKind.STOPPED


async def test_a_message_that_comes_while_nobody_reads_waits(autojump_clock) -> None:
    """In backoff, the mailbox stays open: the next incarnation finds what came meanwhile."""
    async with open_runtime(tree(loop("a", hang), probe("b", backoff=AT_ONCE))) as runtime:
        ref = runtime.ref("top/b")
        await ref.cast(die)
        assert await ref.call(hello) == "b 2"


async def test_who_casts_to_its_own_full_mailbox_is_told_and_does_not_wait(autojump_clock) -> None:
    """Only its handler's end makes room, so waiting would never end."""
    seen: list[object] = []

    async def note(number: int, _actor: Actor) -> None:
        seen.append(number)

    async def flood(actor: Actor) -> None:
        try:
            for number in range(5):
                await actor.ref.cast(partial(note, number))
        except MailboxFull as full:
            seen.append(str(full))

    async with open_runtime(tree(probe("a", mailbox=MailboxSpec(capacity=2)))) as runtime:
        await runtime.ref("top/a").call(flood)
        await trio.sleep(1)
    full = "top/a: 2 messages wait; the mailbox holds 2, and waits for its sender: top/a -> top/a"
    assert seen == [full, 0, 1]


async def test_a_timeout_that_is_no_number_is_refused(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        with pytest.raises(ValueError, match="not a number"):
            await runtime.ref("top/a").call(hello, math.nan)
