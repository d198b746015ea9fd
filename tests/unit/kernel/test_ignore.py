"""Ignore: an actor that says at its start that it is not needed."""

from __future__ import annotations

import attrs
import pytest
import trio
from kernel_kit import ONE_SECOND, crash, hello, node, open_runtime, probe, quiet, recorder, states, tree

from agentrt.kernel import (
    Actor,
    ActorDied,
    Budget,
    ChildCounts,
    ChildSpec,
    CountChildren,
    ExitKind,
    Ignore,
    NoSuchChild,
    Restart,
    RestartChild,
    StartChild,
    Strategy,
    SupervisorSpec,
    TerminateChild,
)


@attrs.define
class Need:
    """Whether it is needed; a test may change it while it runs."""

    it: bool = False
    asked: int = 0


class Maybe(Actor):
    def __init__(self, need: Need) -> None:
        self.need = need

    async def on_start(self) -> None:
        self.spawn(trio.sleep_forever)
        self.need.asked += 1
        if not self.need.it:
            raise Ignore("the disk has it")

    async def handle(self, message: object) -> object:
        if message == "crash":
            raise ValueError("told to")
        if message == "ignore":
            raise Ignore("too late")
        return "needed"


def maybe(id_: str, need: Need, **spec: object) -> ChildSpec:
    return ChildSpec(id=id_, factory=lambda: Maybe(need), **{"backoff": ONE_SECOND, **spec})


async def test_a_child_that_is_not_needed_is_kept_and_its_siblings_start(autojump_clock) -> None:
    """supervisor_SUITE: sup_start_ignore_child; its spec stays, with no incarnation."""
    events, seen = recorder()
    async with open_runtime(tree(maybe("a", Need()), probe("b")), events=events) as runtime:
        assert states(runtime) == {"a": "ignored", "b": "running"}
        assert await runtime.ref("top").call(CountChildren()) == ChildCounts(2, 1, 0, 2)
        exit_ = node(runtime, "top/a").last_exit
        assert exit_.summary() == "top/a ignored (generation 1): the disk has it"
        assert (exit_.kind, exit_.is_abnormal, exit_.started) == (ExitKind.IGNORED, False, False)
    (told,) = [event for event in seen if event.path == "top/a"]
    assert (told.kind, told.fields["exit"], told.fields["reason"]) == ("actor_exited", "ignored", "the disk has it")


async def test_a_temporary_child_that_is_not_needed_leaves_nothing(autojump_clock) -> None:
    """supervisor_SUITE: sup_start_ignore_temporary_child."""
    async with open_runtime(tree(maybe("a", Need(), restart=Restart.TEMPORARY), probe("b"))) as runtime:
        assert states(runtime) == {"b": "running"}
        with pytest.raises(NoSuchChild):
            runtime.ref("top/a")


@pytest.mark.parametrize(
    ("supervisor", "restart", "left"),
    [
        ({}, Restart.TRANSIENT, {"a": "ignored"}),
        ({}, Restart.TEMPORARY, {}),
        ({"dynamic": True}, Restart.PERMANENT, {}),
    ],
)
async def test_a_start_by_hand_that_is_not_needed_has_no_ref(autojump_clock, supervisor, restart, left) -> None:
    """supervisor_SUITE: sup_start_ignore_…_start_child; nobody would know a dynamic guest's name any more."""
    async with open_runtime(tree(**supervisor)) as runtime:
        assert await runtime.ref("top").call(StartChild(maybe("a", Need(), restart=restart))) is None
        assert states(runtime) == left


async def test_whoever_calls_it_is_told_at_once(autojump_clock) -> None:
    """Those who wait in its mailbox, and those who come later."""
    told = []

    class Slow(Maybe):
        async def on_start(self) -> None:
            await trio.sleep(2)
            await super().on_start()

    async def ask() -> None:
        with pytest.raises(ActorDied, match=r"is gone: top/a ignored .*the disk has it"):
            await runtime.ref("top/a").call("hello")
        told.append(trio.current_time())

    async with open_runtime(tree(probe("b"))) as runtime, trio.open_nursery() as nursery:
        await runtime.ref("top").cast(StartChild(ChildSpec(id="a", factory=lambda: Slow(Need()))))
        await quiet()
        nursery.start_soon(ask)
        await trio.sleep(3)
        await ask()
    assert told == [2.0, 3.0]


async def test_a_restart_that_is_not_needed_leaves_it_down(autojump_clock) -> None:
    """It is no failure: it costs nothing more, and is not tried again."""
    need = Need(it=True)
    async with open_runtime(tree(maybe("a", need, budget=Budget(1, 60)))) as runtime:
        need.it = False
        await runtime.ref("top/a").cast("crash")
        await trio.sleep(100)
        assert (states(runtime), need.asked) == ({"a": "ignored"}, 2)
        assert runtime.ref("top").actor.statistics().restarts == 1


async def test_it_is_asked_again_by_hand(autojump_clock) -> None:
    """Behind the same ref, as often as somebody likes."""
    need = Need()
    async with open_runtime(tree(maybe("a", need))) as runtime:
        top, ref = runtime.ref("top"), runtime.ref("top/a")
        assert await top.call(RestartChild("a")) is None
        assert states(runtime) == {"a": "ignored"}
        need.it = True
        assert await top.call(RestartChild("a")) is ref
        assert await ref.call("hello") == "needed"
        assert (await top.call(TerminateChild("a"))).kind is ExitKind.STOPPED


async def test_terminating_it_changes_nothing(autojump_clock) -> None:
    async with open_runtime(tree(maybe("a", Need()))) as runtime:
        assert (await runtime.ref("top").call(TerminateChild("a"))).kind is ExitKind.IGNORED
        assert states(runtime) == {"a": "ignored"}


async def test_a_siblings_restart_does_not_ask_it_again_and_its_supervisors_does(autojump_clock) -> None:
    """Who is down does not come back because a sibling does."""
    need = Need()
    inner = SupervisorSpec(
        id="inner", children=(maybe("a", need), probe("b")), strategy=Strategy.ONE_FOR_ALL, backoff=ONE_SECOND
    )
    async with open_runtime(tree(inner)) as runtime:
        await crash(runtime.ref("top/inner/b"))
        assert states(runtime, "top/inner") == {"a": "ignored", "b": "running"}
        assert need.asked == 1
        need.it = True
        await runtime.ref("top").call(RestartChild("inner", stop_first=True))
        assert states(runtime, "top/inner") == {"a": "running", "b": "running"}


async def test_raised_anywhere_else_it_is_a_crash(autojump_clock) -> None:
    async with open_runtime(tree(maybe("a", Need(it=True)))) as runtime:
        await runtime.ref("top/a").cast("ignore")
        await quiet()
        exit_ = node(runtime, "top/a").last_exit
        assert (exit_.kind, str(exit_.cause)) == (ExitKind.CRASHED, "Ignore: too late")


async def test_what_it_spawned_before_it_is_cancelled_and_may_still_crash(autojump_clock) -> None:
    """A crash is never hidden behind a polite word."""

    class Rude(Actor):
        async def on_start(self) -> None:
            self.spawn(self.beside)
            await trio.sleep(1)
            raise Ignore("not needed")

        async def beside(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("on the way out")

    async with open_runtime(tree(probe("b"))) as runtime:
        with pytest.raises(Exception, match="ValueError: on the way out"):
            await runtime.ref("top").call(StartChild(ChildSpec(id="a", factory=Rude)))
        assert states(runtime) == {"b": "running"}


async def test_one_that_is_stopped_meanwhile_was_stopped(autojump_clock) -> None:
    """Who asked for the stop is told of a stop."""

    class Stubborn(Actor):
        async def on_start(self) -> None:
            try:
                await trio.sleep(5)
            finally:
                raise Ignore("not needed")

    async with open_runtime(tree(probe("b"))) as runtime:
        await runtime.ref("top").cast(StartChild(ChildSpec(id="a", factory=Stubborn)))
        await quiet()
        assert (await runtime.ref("top").call(TerminateChild("a"))).kind is ExitKind.STOPPED
        assert await runtime.ref("top/b").call(hello) == "b 1"
