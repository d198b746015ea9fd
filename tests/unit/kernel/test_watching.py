"""Monitors: each tells once of one end, however and whenever that came, and only whom it belongs to."""

from __future__ import annotations

import gc

import pytest
import trio
from kernel_kit import (
    ONE_SECOND,
    Boom,
    crash,
    die,
    hello,
    loop,
    open_runtime,
    probe,
    quiet,
    stubborn,
    tree,
    wait,
)
from watch_kit import Keeper, downs, keeper, monitor

from agentrt.kernel import (
    Actor,
    ActorDied,
    Budget,
    ChildSpec,
    Down,
    ExitKind,
    MailboxSpec,
    Monitor,
    RestartChild,
    SupervisorSpec,
    TerminateChild,
    UnexpectedMessage,
    handles,
)
from agentrt.kernel.notices import Notice

ENOUGH = Budget(1_000_000, 1.0)


async def test_an_end_is_told_once_with_its_exit(autojump_clock) -> None:
    """The monitor is done with that: the end of the next incarnation is not told."""
    kept: list = []
    async with open_runtime(tree(keeper("w", kept), probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        watch = await runtime.ref("top/w").call(monitor(ref))
        assert watch.ref is ref
        await crash(ref)
        exit_ = ref._cell.last_exit
        assert exit_.cause.type == "Boom"
        assert kept == [(1, Down(ref, exit_))]
        await crash(ref)
        assert kept == [(1, Down(ref, exit_))]


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("completes", ExitKind.COMPLETED),
        ("crashes", ExitKind.CRASHED),
        ("stops", ExitKind.STOPPED),
        ("crashes on the way", ExitKind.CRASHED_DURING_STOP),
        ("is killed", ExitKind.KILLED),
    ],
)
async def test_each_kind_of_end_is_told(autojump_clock, how, kind) -> None:
    kept: list = []
    go = trio.Event()

    async def run(_: Actor) -> None:
        try:
            await go.wait()
        finally:
            if how.startswith("crashes"):
                raise Boom(how)

    grace = 0 if how == "is killed" else 5
    async with open_runtime(tree(keeper("w", kept), loop("a", run, shutdown=grace, backoff=ONE_SECOND))) as runtime:
        await runtime.ref("top/w").call(monitor(runtime.ref("top/a")))
        if how in {"completes", "crashes"}:
            go.set()
        else:
            await runtime.ref("top").call(TerminateChild("a"))
        await quiet()
        assert downs(kept) == [(1, "top/a", 1, kind.value)]


async def test_one_that_is_down_already_is_told_at_once_with_its_last_exit(autojump_clock) -> None:
    """Be it that it waits for its restart, or that it will not be started again."""
    kept: list = []
    async with open_runtime(tree(probe("a", backoff=ONE_SECOND), probe("b"), keeper("w", kept))) as runtime:
        await crash(runtime.ref("top/a"))
        await runtime.ref("top").call(TerminateChild("b"))
        await runtime.ref("top/w").call(monitor(runtime.ref("top/a")))
        await runtime.ref("top/w").call(monitor(runtime.ref("top/b")))
        await quiet()
        assert downs(kept) == [(1, "top/a", 1, "crashed"), (1, "top/b", 1, "stopped")]
        await trio.sleep(2)
        assert await runtime.ref("top/a").call(hello) == "a 2"
        assert len(kept) == 2


async def test_one_that_never_lived_is_told_at_once_too(autojump_clock) -> None:
    """As for OTP's ``noproc``: whoever starts earlier cannot watch whoever starts later."""
    kept: list = []

    class Early(Keeper):
        async def on_start(self) -> None:
            self.monitor(self.context.cell.runtime.ref("top/a"))

    early = ChildSpec(id="w", factory=lambda: Early(kept))
    async with open_runtime(tree(early, probe("a"))):
        await quiet()
    ((_, down),) = kept
    assert (down.ref.path, down.exit.kind, down.exit.reason) == ("top/a", ExitKind.STOPPED, "never started")
    assert (down.exit.generation, down.exit.started) == (0, False)


async def test_a_zombie_is_told_when_it_is_given_up_and_not_again(autojump_clock) -> None:
    kept: list = []
    release = trio.Event()
    async with open_runtime(tree(keeper("w", kept), loop("a", lambda _: stubborn(release), shutdown=0))) as runtime:
        await runtime.ref("top/w").call(monitor(runtime.ref("top/a")))
        await runtime.ref("top").call(TerminateChild("a"))
        await quiet()
        assert downs(kept) == [(1, "top/a", 1, "zombie")]
        await runtime.ref("top/w").call(monitor(runtime.ref("top/a")))
        await quiet()
        assert downs(kept) == [(1, "top/a", 1, "zombie")] * 2
        release.set()
        await quiet()
        assert len(kept) == 2


async def test_two_monitors_of_one_actor_tell_twice(autojump_clock) -> None:
    """They are stackable: each is a watch of its own, and so is the end of each."""
    kept: list = []
    async with open_runtime(tree(keeper("w", kept), probe("a"))) as runtime:
        watcher, ref = runtime.ref("top/w"), runtime.ref("top/a")
        await watcher.call(monitor(ref))
        second = await watcher.call(monitor(ref))
        await watcher.call(monitor(ref))
        second.cancel()
        await crash(ref)
        assert downs(kept) == [(1, "top/a", 1, "crashed")] * 2


async def test_a_restart_in_between_does_not_lose_an_end(autojump_clock) -> None:
    """The watcher is busy while the watched crashes and comes back: it hears of the end that it watched for."""
    kept: list = []
    async with open_runtime(tree(keeper("w", kept), probe("a"))) as runtime:
        watcher, ref = runtime.ref("top/w"), runtime.ref("top/a")
        await watcher.call(monitor(ref))
        await watcher.cast(wait(5))
        await quiet()
        await crash(ref)
        await crash(ref)
        assert await ref.call(hello) == "a 3"
        assert kept == []
        await trio.sleep(6)
        assert downs(kept) == [(1, "top/a", 1, "crashed")]


async def test_an_end_is_not_told_to_the_next_incarnation_of_the_watcher(autojump_clock) -> None:
    """Neither one that waits in its mailbox when it crashes, nor one that comes afterwards."""
    kept: list = []
    async with open_runtime(tree(keeper("w", kept), probe("a"), probe("b"))) as runtime:
        watcher = runtime.ref("top/w")
        await watcher.call(monitor(runtime.ref("top/a")))
        await watcher.call(monitor(runtime.ref("top/b")))

        async def busy_and_dies(_: Actor) -> None:
            await trio.sleep(5)
            raise Boom("busy")

        await watcher.cast(busy_and_dies)
        await quiet()
        await crash(runtime.ref("top/a"))
        await trio.sleep(6)
        await crash(runtime.ref("top/b"))
        assert await watcher.call(hello) == "w 2"
        assert kept == []


async def test_an_end_in_hand_at_a_crash_is_not_given_to_the_next_incarnation(autojump_clock) -> None:
    """It belongs to the incarnation that watched, also where the mailbox gives messages twice."""
    seen = []

    class Weak(Actor):
        @handles(Down)
        async def down(self, message: Down) -> None:
            seen.append((self.generation, message.ref.path))
            raise Boom("cannot bear it")

        async def handle(self, message) -> object:
            return await message(self)

    weak = ChildSpec(id="w", factory=Weak, mailbox=MailboxSpec(redeliveries=3), backoff=probe("x").backoff)
    async with open_runtime(tree(weak, probe("a"))) as runtime:
        await runtime.ref("top/w").call(monitor(runtime.ref("top/a")))
        await crash(runtime.ref("top/a"))
        assert await runtime.ref("top/w").call(hello) == "w 2"
        assert seen == [(1, "top/a")]


async def test_a_cancelled_monitor_tells_nothing(autojump_clock) -> None:
    """Also where the end waits to be told already, as OTP's ``demonitor`` with ``flush``; more of it does no harm."""
    kept: list = []
    async with open_runtime(tree(keeper("w", kept), probe("a"), probe("b"), probe("c"))) as runtime:
        watcher = runtime.ref("top/w")
        a, b, c = [await watcher.call(monitor(runtime.ref(f"top/{name}"))) for name in "abc"]
        await watcher.cast(wait(5))
        await quiet()
        a.cancel()
        for name in "abc":
            await crash(runtime.ref(f"top/{name}"))
        b.cancel()
        b.cancel()
        await trio.sleep(6)
        assert downs(kept) == [(1, "top/c", 1, "crashed")]
        # Each message that came in has one outcome: three requests, a wait and two ends, of which one was taken back.
        figures = watcher.statistics()
        assert (figures.mailbox.received, figures.counts.answered, figures.counts.expired) == (6, 5, 1)
        assert figures.mailbox.waiting == 0
        c.cancel()
        a.cancel()
        assert await watcher.call(hello) == "w 1"


async def test_an_end_that_was_set_aside_can_be_taken_back(autojump_clock) -> None:
    """A stashed one is as little handled as one that waits."""
    seen = []

    class Stasher(Actor):
        @handles(Down)
        async def down(self, message: Down) -> None:
            seen.append(message.ref.path)
            if seen.count(message.ref.path) == 1:
                self.stash()

        async def handle(self, message) -> object:
            return await message(self)

    async def unstash(actor: Actor) -> int:
        return actor.unstash_all()

    async with open_runtime(tree(ChildSpec(id="w", factory=Stasher), probe("a"), probe("b"), probe("c"))) as runtime:
        watcher = runtime.ref("top/w")
        watches = [await watcher.call(monitor(runtime.ref(f"top/{name}"))) for name in "abc"]
        for name in "abc":
            await crash(runtime.ref(f"top/{name}"))
        assert watcher.statistics().mailbox.stashed == 3
        watches[0].cancel()
        assert await watcher.call(unstash) == 2
        watches[1].cancel()
        await quiet()
        assert seen == ["top/a", "top/b", "top/c", "top/b", "top/c"]


async def test_an_end_goes_before_all_messages_and_into_a_full_mailbox(autojump_clock) -> None:
    kept: list = []
    async with open_runtime(tree(keeper("w", kept, mailbox=MailboxSpec(capacity=2)), probe("a"))) as runtime:
        watcher = runtime.ref("top/w")
        await watcher.call(monitor(runtime.ref("top/a")))
        await watcher.cast(wait(5))
        await quiet()
        await watcher.cast("first")
        await watcher.cast("second")
        await crash(runtime.ref("top/a"))
        await trio.sleep(6)
        assert [what if isinstance(what, str) else "down" for _, what in kept] == ["down", "first", "second"]


async def test_an_end_that_nobody_handles_is_a_crash_of_the_watcher(autojump_clock) -> None:
    """A death pact: who watched and does not say what to do then cannot go on as if nothing were."""
    async with open_runtime(tree(probe("a"), ChildSpec(id="w", factory=Deaf, backoff=ONE_SECOND))) as runtime:
        await quiet()
        await crash(runtime.ref("top/a"))
        exit_ = runtime.ref("top/w")._cell.last_exit
        assert exit_.kind is ExitKind.CRASHED
        assert exit_.report().splitlines() == [
            "top/w crashed (generation 1, up 0 s): DeathPact: no handler for the Down of top/a (crashed)",
            "  restarted in 1 s, attempt 1; 2 of 3 restarts left in 30 s, 8 of 10 for top",
            "  top/a crashed (generation 1, up 0 s): Boom: told to",
            "    restarted at once, attempt 1; 2 of 3 restarts left in 30 s, 9 of 10 for top",
        ]


class Deaf(Actor):
    """Watches its sibling and handles nothing."""

    async def on_start(self) -> None:
        self.monitor(self.context.cell.runtime.ref("top/a"))


async def test_any_other_message_that_nobody_handles_is_refused(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"), ChildSpec(id="w", factory=Deaf))) as runtime:
        with pytest.raises(UnexpectedMessage, match="top/w has no handler for str"):
            await runtime.ref("top/w").call("hello?")
        assert runtime.ref("top/w").statistics().generation == 1


async def test_a_supervisor_can_be_monitored(autojump_clock) -> None:
    kept: list = []
    sub = SupervisorSpec(id="sub", children=(probe("a"),), budget=Budget(0, 1.0))
    async with open_runtime(tree(keeper("w", kept), sub)) as runtime:
        await runtime.ref("top/w").call(monitor(runtime.ref("top/sub")))
        await crash(runtime.ref("top/sub/a"))
        ((_, down),) = kept
        assert (down.exit.kind, down.exit.cause.type) == (ExitKind.CRASHED, "RestartIntensityExceeded")


async def test_wait_gone_waits_for_the_end_for_good_and_a_monitor_does_not(autojump_clock) -> None:
    kept: list = []
    gone = []

    async def wait_gone(ref) -> None:
        gone.append(await ref.wait_gone())

    async with open_runtime(tree(keeper("w", kept), probe("a"))) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(wait_gone, runtime.ref("top/a"))
        await runtime.ref("top/w").call(monitor(runtime.ref("top/a")))
        await crash(runtime.ref("top/a"))
        assert (downs(kept), gone) == ([(1, "top/a", 1, "crashed")], [])
        await runtime.ref("top").call(TerminateChild("a"))
        await quiet()
        assert [exit_.generation for exit_ in gone] == [2]


async def test_who_watches_itself_hears_nothing(autojump_clock) -> None:
    """Its end is also the watcher's."""
    kept: list = []
    async with open_runtime(tree(keeper("w", kept))) as runtime:
        watcher = runtime.ref("top/w")
        await watcher.call(monitor(watcher))
        await crash(watcher)
        assert await watcher.call(hello) == "w 2"
        assert kept == []


async def test_who_ended_cannot_watch(autojump_clock) -> None:
    """Nothing would ever take its monitor away."""
    actors = []
    async with open_runtime(tree(probe("w"), probe("a"))) as runtime:
        actors.append(runtime.ref("top/w").actor)
        await crash(runtime.ref("top/w"))
        with pytest.raises(ActorDied, match="Boom: told to") as caught:
            actors[0].monitor(runtime.ref("top/a"))
        assert (caught.value.path, caught.value.generation) == ("top/w", 1)


# What is kept


def count(kind: type) -> int:
    """Count the instances that are still alive."""
    gc.collect()
    return sum(type(one) is kind for one in gc.get_objects())


async def test_a_hundred_thousand_cancelled_monitors_leave_nothing(autojump_clock) -> None:
    """Neither at the watcher nor at the watched, nor in the mailbox, be the watched alive or down."""
    async with open_runtime(tree(keeper("w", []), probe("a"), probe("b", backoff=ONE_SECOND))) as runtime:
        a, b = runtime.ref("top/a"), runtime.ref("top/b")
        await crash(b)

        async def on_and_off(actor: Actor) -> None:
            for _ in range(50_000):
                actor.monitor(a).cancel()
                actor.monitor(b).cancel()

        await runtime.ref("top/w").call(on_and_off)
        assert (count(Monitor), count(Notice)) == (0, 0)
        assert a.incarnation._endings == {}
        # What listens for its own end, once: to take its notices back.
        assert len(runtime.ref("top/w").incarnation._endings) == 1
        assert runtime.ref("top/w")._cell.mailbox.pop_urgent() is None


async def test_watchers_that_ended_leave_nothing_at_the_watched(autojump_clock) -> None:
    """However they ended, and however much they watched."""
    specs = tree(keeper("w", [], budget=ENOUGH), probe("a", budget=ENOUGH), budget=ENOUGH)
    async with open_runtime(specs) as runtime:
        watcher, ref = runtime.ref("top/w"), runtime.ref("top/a")
        for _ in range(100):
            for _ in range(10):
                await watcher.call(monitor(ref))
            await crash(watcher)
        await watcher.call(monitor(ref))
        await runtime.ref("top").call(RestartChild("w", stop_first=True))
        assert ref.incarnation._endings == {}
        assert (count(Monitor), count(Notice)) == (0, 0)


async def test_ends_that_were_told_leave_nothing(autojump_clock) -> None:
    """A watcher of ten thousand short lives holds no more than one of none."""
    kept: list = []
    async with open_runtime(tree(keeper("w", kept), probe("a", budget=ENOUGH), budget=ENOUGH)) as runtime:
        watcher, ref = runtime.ref("top/w"), runtime.ref("top/a")
        for _ in range(1000):
            await watcher.call(monitor(ref))
            await ref.cast(die)
            await quiet()
        assert len(kept) == 1000
        kept.clear()
        # The one message that it looked at last is forgotten over the next.
        await watcher.call(hello)
        assert (count(Monitor), count(Notice), count(Down)) == (0, 0, 0)
        assert len(watcher.incarnation._endings) == 1
