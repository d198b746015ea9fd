"""What Pekko's SupervisionSpec adds: backoff, what becomes of messages meanwhile, limits, and what is no failure."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from conformance_kit import PLENTY
from kernel_kit import (
    AT_ONCE,
    ONE_SECOND,
    Boom,
    Plan,
    Probe,
    crash,
    die,
    hello,
    loop,
    open_runtime,
    probe,
    quiet,
    recorder,
    tree,
)

from agentrt.kernel import (
    Actor,
    ActorRef,
    ChildSpec,
    MailboxFull,
    MailboxSpec,
    Overflow,
)
from agentrt.policy.backoff import Backoff

DOUBLING = Backoff(initial=1, factor=2, maximum=8, jitter=(1.0, 1.0))


async def test_restarts_wait_longer_and_longer(autojump_clock) -> None:
    """Case 31: SupervisionSpec: "restart after exponential backoff"."""
    starts = []

    async def run(_: Actor) -> None:
        starts.append(trio.current_time())
        raise Boom("again")

    async with open_runtime(tree(loop("a", run, backoff=DOUBLING, budget=PLENTY), budget=PLENTY)):
        await trio.sleep(33)
    assert starts == [0.0, 1.0, 3.0, 7.0, 15.0, 23.0, 31.0]


async def test_no_restart_waits_longer_than_the_maximum_whatever_the_jitter(autojump_clock) -> None:
    """Case 31: SupervisionSpec: "restart after exponential backoff"; Pekko adds its jitter on top of the maximum."""
    starts = []

    async def run(_: Actor) -> None:
        starts.append(trio.current_time())
        raise Boom("again")

    spec = loop("a", run, backoff=Backoff(initial=1, maximum=8, jitter=(1.0, 1.5)), budget=PLENTY)
    async with open_runtime(tree(spec, budget=PLENTY), seed=1):
        await trio.sleep(200)
    waits = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert max(waits) == pytest.approx(8)
    assert 1 < waits[0] < 1.5


@pytest.mark.parametrize(("quiet_time", "attempts"), [(19, [1, 2, 3]), (20, [1, 2, 1])])
async def test_the_backoff_begins_anew_after_a_quiet_time(autojump_clock, quiet_time, attempts) -> None:
    """Case 32: SupervisionSpec: "reset exponential backoff count after reset timeout"."""
    events, seen = recorder()
    async with open_runtime(tree(probe("a", backoff=DOUBLING, stable_after=20)), events=events) as runtime:
        for generation, time in enumerate((0, 0, quiet_time), start=1):
            assert await runtime.ref("top/a").call(hello) == f"a {generation}"
            await trio.sleep(time)
            await crash(runtime.ref("top/a"))
    assert [event.fields["attempt"] for event in seen if event.kind == "actor_restarting"] == attempts


async def progress_and_die(actor: Actor) -> None:
    """Message: say that something was done, and crash."""
    actor.progress("a step")
    raise Boom("told to")


async def test_the_backoff_begins_anew_after_real_progress(autojump_clock) -> None:
    """Case 32: SupervisionSpec: "reset exponential backoff count after reset timeout"; where Pekko knows only time."""
    events, seen = recorder()
    async with open_runtime(tree(probe("a", backoff=DOUBLING)), events=events) as runtime:
        for message in (die, die, progress_and_die):
            await runtime.ref("top/a").cast(message)
            await trio.sleep(3)
    assert [event.fields["attempt"] for event in seen if event.kind == "actor_restarting"] == [1, 2, 1]


@attrs.frozen
class Ping:
    """A message by number."""

    number: int


class Target(Probe):
    """Writes down the pings that it handles, with its generation; what can be called is called with it."""

    def __init__(self, pongs: list[tuple[int, int]]) -> None:
        super().__init__(Plan())
        self.pongs = pongs

    async def handle(self, message: Any) -> object:
        if not isinstance(message, Ping):
            return await super().handle(message)
        self.pongs.append((message.number, self.generation))
        return message.number


def target(pongs: list[tuple[int, int]], **spec: Any) -> ChildSpec:
    return ChildSpec(id="a", factory=partial(Target, pongs), **{"backoff": AT_ONCE, **spec})


async def test_messages_wait_for_the_end_of_the_backoff(autojump_clock) -> None:
    """Case 33: SupervisionSpec: "restart after exponential backoff", which has to drop them.

    Here the mailbox is the actor's place's and not its incarnation's, and so is the ref: a call is answered too.
    """
    pongs = []
    async with open_runtime(tree(target(pongs, backoff=ONE_SECOND))) as runtime:
        ref = runtime.ref("top/a")
        await crash(ref)
        await ref.cast(Ping(1))
        assert await ref.call(Ping(2)) == 2
        assert trio.current_time() == 1.0
        assert pongs == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("overflow", "errors", "handled", "told_of", "figures"),
    [
        (Overflow.REJECT, [3, 4], [1, 2], [], (0, 2)),
        (Overflow.DROP_OLDEST, [], [3, 4], [("messages_dropped", 1), ("messages_dropped", 2)], (2, 0)),
        (Overflow.BLOCK, [], [1, 2, 3, 4], [], (0, 0)),
    ],
)
async def test_a_full_mailbox_says_what_it_loses_during_the_backoff(
    autojump_clock, overflow, errors, handled, told_of, figures
) -> None:
    """Case 33: SupervisionSpec: "publish dropped messages while backing off and stash is full".

    Two have room. Then the sender is told, or the oldest goes and an event and the figures tell of it, or the sender
    waits until the actor is back: nothing is lost in silence.
    """
    events, seen = recorder()
    pongs, refused = [], []
    spec = target(pongs, backoff=ONE_SECOND, mailbox=MailboxSpec(capacity=2, overflow=overflow))
    async with open_runtime(tree(spec), events=events) as runtime:
        ref = runtime.ref("top/a")
        await crash(ref)
        for number in (1, 2, 3, 4):
            try:
                await ref.cast(Ping(number))
            except MailboxFull:
                refused.append(number)
        sent_at = trio.current_time()
        await trio.sleep(1.5)
        assert [number for number, _ in pongs] == handled
        assert refused == errors
        assert sent_at == (1.0 if overflow is Overflow.BLOCK else 0.0)
        assert [(one.kind, one.fields["total"]) for one in seen if one.kind == "messages_dropped"] == told_of
        mailbox = ref.statistics().mailbox
        assert (mailbox.dropped, mailbox.rejected) == figures


def spawn_and_watch(ref: ActorRef, log: list[str], name: str) -> Callable[[Actor], Awaitable[None]]:
    """Make a message: run a task beside the actor, and watch *ref*."""

    async def beside() -> None:
        log.append(f"begin {name}")
        try:
            await trio.sleep_forever()
        finally:
            log.append(f"end {name}")

    async def message(actor: Actor) -> None:
        actor.spawn(beside)
        actor.monitor(ref)

    return message


@pytest.mark.parametrize("backoff", [AT_ONCE, ONE_SECOND], ids=["at-once", "1 s"])
async def test_what_an_incarnation_began_ends_with_it_each_time(autojump_clock, backoff) -> None:
    """Case 34: SupervisionSpec: "stop children when backoff second time during unstash", "... when restarting ...".

    Children of an actor are its background tasks here, and its monitors. The second crash is one of the messages that
    waited for the first restart.
    """
    log, pongs = [], []
    async with open_runtime(tree(target(pongs, backoff=backoff), probe("watched", backoff=AT_ONCE))) as runtime:
        ref, watched = runtime.ref("top/a"), runtime.ref("top/watched")
        for name in ("first", "second"):
            ref.cast_nowait(spawn_and_watch(watched, log, name))
            ref.cast_nowait(wait_a_moment)
            ref.cast_nowait(die)
        ref.cast_nowait(Ping(1))
        await trio.sleep(3)
        assert log == ["begin first", "end first", "begin second", "end second"]
        await crash(watched)
        await quiet()
        assert await ref.call(hello) == "a 3"
        assert pongs == [(1, 3)]


async def wait_a_moment(_: Actor) -> None:
    """Message: let others run."""
    await trio.sleep(0.01)


class Collector(Target):
    """Stashes every ping until it is told to go on, and dies over one number."""

    def __init__(self, pongs: list[tuple[int, int]], deadly: set[int]) -> None:
        super().__init__(pongs)
        self.deadly = deadly
        self.is_open = False

    async def handle(self, message: Any) -> object:
        if isinstance(message, Ping) and not self.is_open:
            self.stash()
            return None
        if isinstance(message, Ping) and message.number in self.deadly:
            raise Boom(f"died over {message.number}")
        return await super().handle(message)


async def go_on(actor: Collector) -> None:
    """Message: take up what was stashed."""
    actor.is_open = True
    actor.unstash_all()


@pytest.mark.parametrize("backoff", [AT_ONCE, ONE_SECOND], ids=["at-once", "1 s"])
async def test_a_crash_while_unstashing_keeps_the_rest(autojump_clock, backoff) -> None:
    """Case 35: SupervisionSpec: "ensure unhandled message retention during unstash exception when restart".

    And "... when backoff". Twice in a row, and to the next incarnation each time, in order; only what it died over is
    gone.
    """
    pongs, deadly = [], {2, 4}
    spec = ChildSpec(id="a", factory=lambda: Collector(pongs, deadly), backoff=backoff)
    async with open_runtime(tree(spec)) as runtime:
        ref = runtime.ref("top/a")
        for number in range(1, 7):
            ref.cast_nowait(Ping(number))
        await quiet()
        assert ref.statistics().mailbox.stashed == 6
        for _ in range(3):
            # The next incarnation is closed at first, so what came back to it is stashed anew.
            ref.cast_nowait(go_on)
            await trio.sleep(1.5)
        assert pongs == [(1, 1), (3, 2), (5, 3), (6, 3)]
        assert (ref.statistics().counts.failed, len(ref.quarantine())) == (2, 0)


@pytest.mark.parametrize("backoff", [AT_ONCE, ONE_SECOND], ids=["at-once", "1 s"])
async def test_a_crash_over_what_waited_for_the_restart_keeps_the_rest(autojump_clock, backoff) -> None:
    """Case 35: SupervisionSpec: "ensure unhandled message retention during unstash exception when restart".

    What waits during a backoff is stashed in Pekko, and was lost with the second crash once; here it never left.
    """
    pongs = []
    async with open_runtime(tree(target(pongs, backoff=backoff))) as runtime:
        ref = runtime.ref("top/a")
        for message in (die, Ping(1), die, Ping(2), die, Ping(3), Ping(4)):
            ref.cast_nowait(message)
        await trio.sleep(3.5)
        assert pongs == [(1, 2), (2, 3), (3, 4), (4, 4)]
