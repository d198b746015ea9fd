"""An actor's timers: messages to itself that come when they are due, never pile up, and go with it."""

from __future__ import annotations

import gc
import math
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from kernel_kit import (
    AT_ONCE,
    Boom,
    crash,
    hello,
    open_runtime,
    quiet,
    tree,
    wait,
)
from watch_kit import Keeper, keeper, send_after, send_every

from agentrt.kernel import (
    Actor,
    ActorDied,
    Budget,
    ChildSpec,
    MailboxSpec,
    Overflow,
    TerminateChild,
    Timer,
    handles,
)
from agentrt.kernel.clockwork import SLACK, gathered, next_beat
from agentrt.kernel.notices import Notice


class Clocked(Keeper):
    """Keeps when it got each message, and takes its time over it."""

    def __init__(self, kept: list, takes: float = 0.0) -> None:
        super().__init__(kept)
        self.takes = takes

    async def handle(self, message: object) -> object:
        if callable(message):
            return await super().handle(message)
        self.kept.append((trio.current_time(), message))
        await trio.sleep(self.takes)
        return None


def clocked(id_: str, kept: list, takes: float = 0.0, **spec) -> ChildSpec:
    return ChildSpec(id=id_, factory=lambda: Clocked(kept, takes), **{"backoff": AT_ONCE, **spec})


def count(kind: type) -> int:
    """Count the instances that are still alive."""
    gc.collect()
    return sum(type(one) is kind for one in gc.get_objects())


async def test_a_message_comes_once_after_its_delay(autojump_clock) -> None:
    kept: list = []
    async with open_runtime(tree(clocked("a", kept))) as runtime:
        timer = await runtime.ref("top/a").call(send_after(2.5, "tick"))
        assert timer.is_pending
        await trio.sleep(60)
        assert kept == [(2.5, "tick")]
        assert not timer.is_pending


async def test_a_delay_of_nothing_comes_after_what_waits_already(autojump_clock) -> None:
    """Never inside the call: a timer is a message like any other."""
    kept: list = []

    async def soon(actor: Actor) -> None:
        actor.send_after(0, "timer")
        actor.ref.cast_nowait("message")
        assert kept == []

    async with open_runtime(tree(clocked("a", kept))) as runtime:
        await runtime.ref("top/a").call(soon)
        await quiet()
        assert kept == [(0.0, "message"), (0.0, "timer")]


async def test_beats_are_whole_intervals_apart(autojump_clock) -> None:
    kept: list = []
    async with open_runtime(tree(clocked("a", kept))) as runtime:
        await trio.sleep(0.5)
        await runtime.ref("top/a").call(send_every(2, "tick"))
        await trio.sleep(9)
        assert [time for time, _ in kept] == [2.5, 4.5, 6.5, 8.5]


async def test_a_slow_handler_makes_no_queue_and_no_drift(autojump_clock) -> None:
    """A beat is skipped while the last one still waits; those that come are where they would have been."""
    kept: list = []
    async with open_runtime(tree(clocked("a", kept, takes=2.25))) as runtime:
        await runtime.ref("top/a").call(send_every(1, "tick"))
        await trio.sleep(9.5)
        # The first is handled until 3.25, where that of 2 waits; at 5.5 that of 4 waits, at 7.75 that of 6.
        assert [time for time, _ in kept] == [1.0, 3.25, 5.5, 7.75]
        assert runtime.ref("top/a").statistics().mailbox.waiting == 1
        runtime.ref("top/a").actor.takes = 0
        await trio.sleep(4)
        assert [time for time, _ in kept][4:] == [10.0, 11.0, 12.0, 13.0]


async def test_what_was_due_while_the_process_stood_still_is_one_beat(autojump_clock) -> None:
    """As after a laptop slept: nobody wants to make up for it."""
    kept: list = []
    async with open_runtime(tree(clocked("a", kept))) as runtime:
        await runtime.ref("top/a").call(send_every(1, "tick"))
        fired = runtime.timers._count
        autojump_clock.jump(10_000.5)
        await trio.sleep(2)
        assert [time for time, _ in kept] == [10_000.5, 10_001.0, 10_002.0]
        assert runtime.timers._count == fired + 3


@pytest.mark.parametrize("delay", [-1, -0.001, -math.inf, math.nan])
async def test_a_delay_that_is_none_is_refused(autojump_clock, delay) -> None:
    async with open_runtime(tree(keeper("a", []))) as runtime:
        with pytest.raises(ValueError, match="a delay is a number of seconds, and not less than 0"):
            runtime.ref("top/a").actor.send_after(delay, "tick")


@pytest.mark.parametrize("interval", [0, -1, -math.inf, math.nan])
async def test_an_interval_that_is_none_is_refused(autojump_clock, interval) -> None:
    """An interval of nothing would keep the actor busy with nothing else."""
    async with open_runtime(tree(keeper("a", []))) as runtime:
        with pytest.raises(ValueError, match="an interval is a number of seconds, and more than 0"):
            runtime.ref("top/a").actor.send_every(interval, "tick")


async def test_a_timer_that_never_comes_does_no_harm(autojump_clock) -> None:
    kept: list = []
    async with open_runtime(tree(clocked("a", kept))) as runtime:
        await runtime.ref("top/a").call(send_after(math.inf, "never"))
        await runtime.ref("top/a").call(send_every(math.inf, "never"))
        await trio.sleep(80_000)
        assert kept == []


# Cancelling


async def test_a_cancelled_timer_sends_nothing(autojump_clock) -> None:
    """Also where its message waits already; more of it does no harm."""
    kept: list = []
    async with open_runtime(tree(clocked("a", kept))) as runtime:
        ref = runtime.ref("top/a")
        pending = await ref.call(send_after(100, "pending"))
        beats = await ref.call(send_every(1, "beat"))
        once = await ref.call(send_after(1, "once"))
        other = await ref.call(send_after(1, "other"))
        await ref.cast(wait(5))
        await trio.sleep(2)
        assert ref.statistics().mailbox.waiting == 3
        for timer in (pending, beats, once, pending, beats, once):
            timer.cancel()
            assert not timer.is_pending
        assert ref.statistics().mailbox.waiting == 1
        assert ref.statistics().counts.expired == 2
        await trio.sleep(200)
        assert kept == [(5.0, "other")]
        other.cancel()
        assert await ref.call(hello) == "a 1"
        assert ref.statistics().mailbox.waiting == 0


async def test_a_timer_can_be_cancelled_over_its_own_message(autojump_clock) -> None:
    """The message in hand is handled; there is no other."""
    kept: list = []

    class Thrice(Keeper):
        async def on_start(self) -> None:
            self.timer = self.send_every(1, "tick")

        async def handle(self, message: object) -> object:
            await super().handle(message)
            if len(kept) == 3:
                self.timer.cancel()
            return None

    async with open_runtime(tree(ChildSpec(id="a", factory=lambda: Thrice(kept)))) as runtime:
        await trio.sleep(60)
        assert kept == [(1, "tick")] * 3
        assert runtime.ref("top/a").statistics().counts.answered == 3


# The mailbox


async def test_a_full_mailbox_is_no_obstacle(autojump_clock) -> None:
    """A timer takes nobody's room for long and does not wait for any: senders are let in as before."""
    kept: list = []
    done = []

    async def send(text: str) -> None:
        await runtime.ref("top/a").cast(text)
        done.append((trio.current_time(), text))

    async with open_runtime(tree(clocked("a", kept, mailbox=MailboxSpec(capacity=1)))) as runtime:
        ref = runtime.ref("top/a")
        for number in range(3):
            await ref.call(send_every(1, f"tick {number}"))
        await ref.cast(wait(10))
        await quiet()
        async with trio.open_nursery() as nursery:
            for text in ("one", "two", "three"):
                nursery.start_soon(send, text)
                await quiet()
            await trio.sleep(9)
            assert done == [(0.0, "one")]
            # What bounds it is the number of timers.
            assert ref.statistics().mailbox.waiting == 1 + 3
        assert [text for _, text in kept] == ["one", "tick 0", "tick 1", "tick 2", "two", "three"]
        assert [text for _, text in done] == ["one", "two", "three"]


async def test_a_fast_timer_does_not_starve_messages(autojump_clock) -> None:
    """Whatever the interval, one beat waits in its turn and no other goes before what came first."""
    kept: list = []
    async with open_runtime(tree(clocked("a", kept, takes=1))) as runtime:
        ref = runtime.ref("top/a")
        await ref.call(send_every(0.001, "tick"))
        await trio.sleep(2.5)
        for number in range(3):
            await ref.cast(number)
        await trio.sleep(10)
        texts = [text for _, text in kept]
        first = texts.index(0)
        assert texts[first : first + 3] == [0, 1, 2]
        assert first <= 5


async def test_a_beat_that_a_full_mailbox_dropped_is_not_the_last(autojump_clock) -> None:
    """Among the oldest messages a timer's is as good as any other."""
    kept: list = []
    spec = MailboxSpec(capacity=1, overflow=Overflow.DROP_OLDEST)
    async with open_runtime(tree(clocked("a", kept, mailbox=spec))) as runtime:
        ref = runtime.ref("top/a")
        await ref.call(send_every(2, "tick"))
        await ref.cast(wait(3))
        await trio.sleep(2.5)
        await ref.cast("message")
        assert ref.statistics().mailbox.dropped == 1
        await trio.sleep(2)
        assert kept == [(3.0, "message"), (4.0, "tick")]


# Its incarnation


async def test_timers_go_with_the_incarnation_that_made_them(autojump_clock) -> None:
    """What is pending, what waits and what was set aside; the next incarnation makes its own."""
    kept: list = []

    class Stasher(Clocked):
        @handles(int)
        async def number(self, _: int) -> None:
            self.stash()

    spec = ChildSpec(id="a", factory=lambda: Stasher(kept), backoff=AT_ONCE, mailbox=MailboxSpec(redeliveries=3))
    async with open_runtime(tree(spec)) as runtime:
        ref = runtime.ref("top/a")
        await ref.call(send_after(1, 1))
        await ref.call(send_after(3, "waits"))
        await ref.call(send_after(10, "pending"))
        await ref.call(send_every(2, "beat"))

        async def busy_and_dies(_: Actor) -> None:
            await trio.sleep(5)
            raise Boom("busy")

        await trio.sleep(1.5)
        assert ref.statistics().mailbox.stashed == 1
        await ref.cast(busy_and_dies)
        await trio.sleep(1)
        old = ref.incarnation
        assert len(old.notices.pending) == 2
        await trio.sleep(60)
        assert ref.incarnation.generation > 1
        assert kept == []
        assert (old._endings, old.notices.pending) == ({}, {})


async def test_a_message_in_hand_at_a_crash_is_not_given_to_the_next_incarnation(autojump_clock) -> None:
    """Also where the mailbox gives messages twice."""
    seen = []

    class Weak(Keeper):
        @handles(str)
        async def tick(self, message: str) -> None:
            seen.append((self.generation, message))
            raise Boom("cannot bear it")

    weak = ChildSpec(id="a", factory=lambda: Weak([]), backoff=AT_ONCE, mailbox=MailboxSpec(redeliveries=3))
    async with open_runtime(tree(weak)) as runtime:
        await runtime.ref("top/a").call(send_after(1, "tick"))
        await trio.sleep(60)
        assert seen == [(1, "tick")]
        assert await runtime.ref("top/a").call(hello) == "a 2"


async def test_one_that_stops_handles_no_more_of_them(autojump_clock) -> None:
    """Its timers go on until it ended, but it takes no more messages; nothing is left of them."""
    kept: list = []

    class Slow(Clocked):
        async def on_stop(self) -> None:
            await trio.sleep(3.5)
            kept.append((trio.current_time(), "stopped"))

    async with open_runtime(tree(ChildSpec(id="a", factory=lambda: Slow(kept)))) as runtime:
        ref = runtime.ref("top/a")
        await ref.call(send_every(1, "tick"))
        await trio.sleep(1.5)
        await runtime.ref("top").call(TerminateChild("a"))
        assert kept == [(1.0, "tick"), (5.0, "stopped")]
        assert ref.statistics().counts.undelivered == 0
        await trio.sleep(60)
        assert len(kept) == 2


async def test_who_ended_has_no_timers(autojump_clock) -> None:
    async with open_runtime(tree(keeper("a", []))) as runtime:
        old = runtime.ref("top/a").actor
        await crash(runtime.ref("top/a"))
        for call in (old.send_after, old.send_every):
            with pytest.raises(ActorDied, match=r"top/a \(generation 1\)"):
                call(1, "tick")


# What it costs


async def test_a_thousand_heartbeats_are_a_thousand_entries_of_one_heap(autojump_clock) -> None:
    """No task of their own, and nothing that grows from beat to beat."""
    kept: list = []
    async with open_runtime(tree(*(keeper(f"a{number}", kept) for number in range(1000)))) as runtime:
        await quiet()
        tasks = trio.lowlevel.current_statistics().tasks_living
        for number in range(1000):
            runtime.ref(f"top/a{number}").actor.send_every(1.0, "beat")
        await trio.sleep(20.5)
        assert len(kept) == 20_000
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert sum(due.is_pending for _, _, due in runtime.timers._heap) == 1000
        assert sum(len(runtime.ref(f"top/a{number}").incarnation._endings) for number in range(1000)) == 2000


async def test_timers_that_came_or_were_cancelled_leave_nothing(autojump_clock) -> None:
    async with open_runtime(tree(keeper("a", []))) as runtime:
        ref = runtime.ref("top/a")

        async def many(actor: Actor) -> None:
            for _ in range(10_000):
                actor.send_after(1, "never").cancel()
                actor.send_every(1, "never").cancel()
                actor.send_after(1, "comes")

        await ref.call(many)
        await trio.sleep(2)
        assert ref.statistics().counts.answered == 10_001
        await ref.call(hello)
        assert len(ref.incarnation._endings) == 1
        assert ref.incarnation.notices.pending == {}
        assert (count(Timer), count(Notice)) == (0, 0)


async def test_cancelled_timers_do_not_fill_the_heap(autojump_clock) -> None:
    """Nor do those of incarnations that ended long before they were due."""
    async with open_runtime(tree(keeper("a", [], budget=Budget(1000, 1.0)), budget=Budget(1000, 1.0))) as runtime:
        ref = runtime.ref("top/a")

        async def many(actor: Actor) -> None:
            for _ in range(100):
                actor.send_after(80_000, "never").cancel()
                actor.send_after(80_000, "never")

        for _ in range(50):
            await ref.call(many)
            await crash(ref)
        assert len(runtime.timers._heap) < 1000


# When the next beat is due


@given(
    last=st.integers(0, 10**6),
    interval=st.integers(1, 10**4),
    late=st.integers(0, 10**4),
)
def test_the_next_beat_is_the_first_whole_interval_after_now(last: int, interval: int, late: int) -> None:
    now = last + late
    due = next_beat(float(last), float(interval), float(now))
    assert due == next(beat for beat in range(last, now + interval + 1, interval) if beat > now)


@given(
    last=st.floats(0, 1e9),
    interval=st.floats(1e-12, 1e9),
    late=st.floats(0, 1e9),
)
def test_the_next_beat_is_always_later(last: float, interval: float, late: float) -> None:
    """Also where the clock's figures cannot tell two beats apart: a timer never fires twice in one moment."""
    assert next_beat(last, interval, last + late) > last + late


async def test_the_beats_of_many_actors_come_together(autojump_clock) -> None:
    """To wake the loop costs more than a beat: each is up to 20 ms late, none is early, and none drifts."""
    times: list[float] = []

    class Beating(Actor):
        def __init__(self, phase: float) -> None:
            self.phase = phase

        async def on_start(self) -> None:
            self.send_after(self.phase, "begin")

        async def handle(self, message: object) -> None:
            if message == "begin":
                self.send_every(1.0, "beat")
            else:
                now = trio.current_time()
                times.append(now)
                late = (now - self.phase) % 1.0
                assert min(late, 1.0 - late) <= SLACK + 1e-6

    phases = [number / 500 + 0.0003 for number in range(500)]
    children = [ChildSpec(id=f"a{number}", factory=partial(Beating, phase)) for number, phase in enumerate(phases)]
    async with open_runtime(tree(*children, dynamic=True)):
        await trio.sleep(4.5)
    assert len(times) >= 500 * 3
    assert len(set(times)) <= 4.5 / SLACK


@pytest.mark.parametrize("due", [0.0, 0.3, 1.1, 5.0, 123456.78, math.inf])
def test_a_time_that_is_on_the_step_stays_what_it_is(due: float) -> None:
    """In virtual time beats come when they are due."""
    assert gathered(due) == due


@given(due=st.floats(0.0, 1e6))
def test_a_gathered_time_is_never_early_and_little_late(due: float) -> None:
    """Up to what the figures of a clock can tell apart."""
    assert -1e-7 <= gathered(due) - due <= SLACK + 1e-7
