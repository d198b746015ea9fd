"""Monitors, links and timers under random schedules: each end is told once, to whom it belongs; nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st
from kernel_kit import die, open_runtime, quiet, tree
from trio.testing import MockClock
from watch_kit import keeper, link, send_every, unlink

from agentrt.kernel import (
    Actor,
    ActorDied,
    ActorRef,
    Budget,
    Down,
    KernelError,
    Monitor,
    RestartChild,
    Runtime,
    Strategy,
    SupervisorSpec,
    TerminateChild,
)
from agentrt.kernel.incarnation import Incarnation
from agentrt.policy.backoff import Backoff

#: Watchers and watched; all of them crash and are linked.
WATCHERS = ("top/w", "top/v")
WATCHED = ("top/a", "top/sub/b", "top/sub/c")
ALL = WATCHERS + WATCHED
ENOUGH = Budget(10_000, 1.0)
#: Seconds after which all that the steps began is over.
CALM = 200.0

steps = st.lists(
    st.tuples(
        st.sampled_from(["monitor", "monitor", "cancel", "crash", "fail", "stop", "start", "link", "unlink", "beat"]),
        st.sampled_from(WATCHERS),
        st.sampled_from(WATCHED),
        st.sampled_from(ALL),
        # Seconds until the next step; without any, what it began goes on at the same time.
        st.sampled_from([0, 0, 0, 1, 3]),
    ),
    max_size=40,
)


@attrs.define(eq=False)
class Watch:
    """A monitor as the model sees it: who watches the end of whose life."""

    watcher: str
    generation: int
    watched: str
    life: int
    monitor: Monitor
    is_to_tell: bool = True
    is_cancelled: bool = False

    @property
    def key(self) -> tuple[str, int, str, int]:
        return self.watcher, self.generation, self.watched, self.life

    def cancel(self) -> None:
        """Cancel it, which is too late where it was told."""
        if not self.is_cancelled:
            notice = self.monitor._notice
            self.is_to_tell = notice is not None and not notice.waits
            self.is_cancelled = True
        self.monitor.cancel()


@attrs.define(eq=False)
class World:
    """What the actors of one example did and were told."""

    runtime: Runtime
    kept: dict[str, list[tuple[int, Any]]]
    watches: list[Watch] = attrs.field(factory=list)
    lives: list[Incarnation] = attrs.field(factory=list)

    def ref(self, path: str) -> ActorRef:
        return self.runtime.ref(path)

    def told(self) -> Counter[tuple[str, int, str, int]]:
        """Count who was told of which end, in which of his lives."""
        return Counter(
            (path, generation, message.ref.path, message.exit.generation)
            for path, kept in self.kept.items()
            for generation, message in kept
            if isinstance(message, Down)
        )

    def cast(self, path: str, message: Any) -> None:
        try:
            self.ref(path).cast_nowait(message)
        except KernelError:
            event("nobody there")

    async def ask(self, kind: Callable[[str], object], path: str) -> None:
        supervisor, _, name = path.rpartition("/")
        try:
            await self.runtime.ref(supervisor).call(kind(name), timeout=50)
        except KernelError as error:
            event(f"asked in vain: {type(error).__name__}")

    def step(self, what: str, watcher: str, watched: str, anyone: str, nursery: trio.Nursery) -> None:
        match what:
            case "monitor":
                self.cast(watcher, monitor(self, watched))
            case "cancel":
                self.cast(watcher, cancel_last(self))
            case "crash":
                self.cast(anyone, die)
            case "fail":
                self.ref(anyone).incarnation.fail(RuntimeError("from outside"))
            case "stop":
                nursery.start_soon(self.ask, TerminateChild, watched)
            case "start":
                nursery.start_soon(self.ask, partial(RestartChild, stop_first=True), anyone)
            case "link":
                self.cast(anyone, tolerant(link(self.ref(watched))))
            case "unlink":
                self.cast(anyone, tolerant(unlink(self.ref(watched))))
            case "beat":
                self.cast(anyone, send_every(0.75, "beat"))

    def note_lives(self) -> None:
        """Remember who lives, and see that links are of two who live."""
        for path in ALL:
            incarnation = self.ref(path).incarnation
            if incarnation not in self.lives:
                self.lives.append(incarnation)
            for other in incarnation.links or ():
                assert incarnation in other.links
                assert (incarnation.exit, other.exit) == (None, None)

    def check(self) -> None:
        """See what was told, when all that was watched is down and nothing goes on any more."""
        told = self.told()
        # Nobody is told twice of what he watched once, or of another's watch, be that his own earlier life.
        assert told <= Counter(one.key for one in self.watches)
        wanted = Counter(one.key for one in self.watches if one.is_to_tell)
        for path in WATCHERS:
            generation = self.ref(path).incarnation.generation
            of_this_life = {key for key in wanted | told if key[:2] == (path, generation)}
            assert {key: told[key] for key in of_this_life} == {key: wanted[key] for key in of_this_life}
            if of_this_life:
                event("told")
        for exit_ in (life.exit for life in self.lives if life.exit is not None):
            if exit_.cause is not None and exit_.cause.type == "LinkBroken":
                event("link broken")
                assert exit_.cause.exits[0].is_abnormal

    def check_what_is_left(self) -> None:
        for life in self.lives:
            assert not life.links
            assert life.notices is None or not life.notices.pending
            if life.exit is not None:
                assert not life._endings


def monitor(world: World, watched: str):
    async def message(actor: Actor) -> None:
        ref = world.ref(watched)
        watch = Watch(actor.path, actor.generation, watched, ref.incarnation.generation, actor.monitor(ref))
        world.watches.append(watch)

    return message


def cancel_last(world: World):
    async def message(actor: Actor) -> None:
        mine = [one for one in world.watches if (one.watcher, one.generation) == (actor.path, actor.generation)]
        if mine:
            mine[-1].cancel()

    return message


def tolerant(message: Any):
    """Let a message be that asks for what cannot be."""

    async def tried(actor: Actor) -> None:
        try:
            await message(actor)
        except (ActorDied, ValueError) as refused:
            event(f"refused: {type(refused).__name__}")

    return tried


async def follow(script: list[tuple[str, str, str, str, float]], strategy: Strategy) -> None:
    kept: dict[str, list] = {path: [] for path in ALL}
    backoff = Backoff(initial=1.0, maximum=2.0)
    specs = {path: keeper(path[-1], kept[path], budget=ENOUGH, backoff=backoff) for path in ALL}
    children = tuple(specs[path] for path in ("top/sub/b", "top/sub/c"))
    sub = SupervisorSpec(id="sub", children=children, strategy=strategy, budget=ENOUGH)
    top = tree(specs["top/w"], specs["top/a"], sub, specs["top/v"], budget=ENOUGH)
    async with open_runtime(top) as runtime:
        world = World(runtime, kept)
        async with trio.open_nursery() as nursery:
            for what, watcher, watched, anyone, pause in script:
                world.note_lives()
                world.step(what, watcher, watched, anyone, nursery)
                if pause:
                    await trio.sleep(pause)
        await trio.sleep(CALM)
        world.note_lives()
        for path in WATCHED:
            await world.ask(TerminateChild, path)
        await quiet()
        world.note_lives()
        world.check()
    world.check_what_is_left()


@settings(max_examples=150, deadline=None)
@given(script=steps, strategy=st.sampled_from(Strategy), schedule=st.random_module())
def test_each_end_is_told_once_to_whom_it_belongs(script, strategy, schedule) -> None:
    async def main() -> None:
        await follow(script, strategy)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=150, deadline=None)
@given(names=st.permutations(["a", "b", "c"]), strategy=st.sampled_from(Strategy), schedule=st.random_module())
def test_however_linked_siblings_fail_each_restarts_once(names, strategy, schedule) -> None:
    """In whatever order they and their supervisor get to run: under one_for_all that is one unit of its budget."""

    async def main() -> None:
        units = {Strategy.ONE_FOR_ALL: 1}.get(strategy, 3)
        kept: list = []
        children = tuple(keeper(name, kept, budget=ENOUGH) for name in "abc")
        top = tree(*children, strategy=strategy, budget=Budget(units, 1000.0))
        async with open_runtime(top) as runtime:
            first, second, third = (runtime.ref(f"top/{name}") for name in names)
            await first.call(link(second))
            await second.call(link(third))
            await third.call(link(first))
            first.cast_nowait(die)
            await trio.sleep(CALM)
            assert runtime.ref("top").statistics().state == "running"
            generations = {name: runtime.ref(f"top/{name}").statistics().generation for name in "abc"}
            if strategy is not Strategy.REST_FOR_ONE:
                assert generations == {"a": 2, "b": 2, "c": 2}
            assert all(len(runtime.ref(f"top/{name}")._cell.exits) == generations[name] - 1 for name in "abc")

    trio.run(main, clock=MockClock(autojump_threshold=0))
