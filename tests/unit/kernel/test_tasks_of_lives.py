"""Which task an incarnation lives in, what its context is, and what runs beside it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest
import trio
from kernel_kit import (
    Boom,
    Plan,
    crash,
    die,
    hang,
    hello,
    node,
    open_runtime,
    probe,
    probes,
    quiet,
    recorder,
    tree,
    wait,
)

from agentrt.kernel import Actor, Budget, ChildSpec, ExitKind, Strategy, TreeFailed
from agentrt.kernel._trio_internals import is_innermost
from agentrt.policy.backoff import Backoff
from agentrt.policy.watchdog import Limits

ENOUGH = Budget(1000, 1.0)
seen: ContextVar[str] = ContextVar("seen", default="nothing")


class Marks(Actor):
    """Sets a context variable at its start, and keeps what it found there."""

    def __init__(self, found: list[str], *, marks: bool) -> None:
        self.found, self.marks = found, marks

    async def on_start(self) -> None:
        self.found.append(seen.get())
        if self.marks:
            seen.set(f"{self.name} {self.generation}")

    async def handle(self, message: object) -> object:
        if message == "beside":
            self.spawn(self.look)
            await trio.sleep(1)
            return self.found[-1]
        raise Boom

    async def look(self) -> None:
        self.found.append(seen.get())


def marks(id_: str, found: list[str], *, are_set: bool = True) -> ChildSpec:
    at_once = Backoff(initial=0.0, maximum=0.0)
    return ChildSpec(id=id_, factory=lambda: Marks(found, marks=are_set), backoff=at_once, budget=ENOUGH)


async def test_no_incarnation_sees_what_the_last_one_left_in_the_context(autojump_clock) -> None:
    """A restart is a clean one, in whatever task it is."""
    found: list[str] = []
    async with open_runtime(tree(marks("a", found), budget=ENOUGH)) as runtime:
        for _ in range(3):
            await runtime.ref("top/a").cast("crash")
            await quiet()
    assert found == ["nothing"] * 4


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_no_child_sees_the_context_of_a_sibling(autojump_clock, strategy) -> None:
    """Although it is a sibling's start or end that lets it start."""
    found: list[str] = []
    children = [marks(name, found) for name in "abc"]
    token = seen.set("outside")
    try:
        async with open_runtime(tree(*children, strategy=strategy, budget=ENOUGH)) as runtime:
            await runtime.ref("top/a").cast("crash")
            await quiet()
    finally:
        seen.reset(token)
    assert found == ["outside"] * (4 if strategy is Strategy.ONE_FOR_ONE else 6)


async def test_a_spawned_task_has_the_context_of_who_spawned_it(autojump_clock) -> None:
    async with open_runtime(tree(marks("a", []))) as runtime:
        assert await runtime.ref("top/a").call("beside") == "a 1"


async def test_each_of_two_spawned_tasks_has_the_context_of_its_own_moment(autojump_clock) -> None:
    """Also where both wait for the nursery that the first of them opens."""
    found: list[str] = []

    async def look() -> None:
        found.append(seen.get())

    async def spawn_twice(actor: Actor) -> None:
        for value in ("one", "two"):
            seen.set(value)
            actor.spawn(look)

    async with open_runtime(tree(probe("a"))) as runtime:
        await runtime.ref("top/a").call(spawn_twice)
        await quiet()
    assert ["one", "two"] == sorted(found)


@pytest.mark.parametrize("are_set", [False, True])
async def test_an_immediate_restart_takes_over_the_task_if_that_is_as_it_was(autojump_clock, are_set) -> None:
    """And is called by its own generation; one that left something in the context takes its task with it."""
    async with open_runtime(tree(marks("a", [], are_set=are_set), budget=ENOUGH)) as runtime:
        ref = runtime.ref("top/a")
        before = ref.incarnation.task
        await ref.cast("crash")
        await quiet()
        assert (ref.incarnation.task is before) is not are_set
        assert ref.incarnation.task.name == "top/a #2"


async def test_what_crashes_as_soon_as_it_starts_leaves_others_their_turn(autojump_clock) -> None:
    """Restarts at once go through the scheduler now and then."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    plan = Plan()
    async with open_runtime(tree(probe("a", plan, budget=ENOUGH), budget=ENOUGH)) as runtime:
        plan.start_fails = 200
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await runtime.ref("top/a").cast(die)
            assert await runtime.ref("top/a").call(hello) == "a 202"
            nursery.cancel_scope.cancel()
    assert turns >= 20


async def test_nobody_spawns_a_task_beside_an_actor_that_ended(autojump_clock) -> None:
    """It would outlive it; the error says whose it was."""
    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        old = ref.actor
        await crash(ref)
        with pytest.raises(RuntimeError, match=r"top/a \(generation 1\) has ended"):
            old.spawn(trio.sleep, 1)


async def test_nobody_spawns_a_task_after_one_of_the_actors_own_failed(autojump_clock) -> None:
    """It would not be run, and nobody would know."""
    told = []

    async def fail() -> None:
        raise Boom("beside")

    async def spawn_while_it_tidies_up(actor: Actor) -> None:
        actor.spawn(fail)
        try:
            await trio.sleep_forever()
        finally:
            with pytest.raises(RuntimeError, match="it can spawn no more"):
                actor.spawn(trio.sleep, 1)
            told.append("refused")

    async with open_runtime(tree(probe("a"))) as runtime:
        await runtime.ref("top/a").cast(spawn_while_it_tidies_up)
        assert await runtime.ref("top/a").call(hello) == "a 2"
        assert str(runtime.ref("top/a")._cell.last_exit.cause) == "Boom: beside"
    assert told == ["refused"]


async def test_a_fault_in_a_supervisors_own_loop_is_its_crash(autojump_clock) -> None:
    """Whoever brings the signal is not to blame, and no child is left behind."""
    events, _told = recorder()

    def broken() -> float:
        raise Boom("no chance")

    with pytest.raises(TreeFailed, match="no chance"):
        async with open_runtime(tree(*probes("ab", [])), events=events) as runtime:
            runtime.random.random = broken
            await runtime.ref("top/a").cast(die)
            await trio.sleep_forever()
    assert {child.last_exit.kind for child in node(runtime, "top").children} == {ExitKind.CRASHED, ExitKind.KILLED}


async def scoped() -> AsyncIterator[int]:
    with trio.move_on_after(10):
        yield 1


async def test_a_scope_that_is_left_open_is_the_fault_of_whoever_opened_it(autojump_clock) -> None:
    """An async generator that is not closed holds one. It ends that life alone, and no later one is inside it."""
    generators = []

    async def leave_open(_: Actor) -> None:
        generators.append(scoped())
        async for _one in generators[-1]:
            raise Boom("in the middle")

    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        await runtime.ref("top/a").cast(leave_open)
        await quiet()
        exit_ = runtime.ref("top/a")._cell.last_exit
        assert exit_.kind is ExitKind.CRASHED
        assert "Cancel scope stack corrupted" in str(exit_.cause)
        assert "in the middle" in exit_.cause.message
        await trio.sleep(20)
        assert [await runtime.ref(f"top/{name}").call(hello) for name in "ab"] == ["a 2", "b 1"]
    await generators[0].aclose()


async def test_only_the_innermost_scope_of_a_task_is_told_to_be_that() -> None:
    task = trio.lowlevel.current_task()
    with trio.CancelScope() as outer:
        await trio.lowlevel.checkpoint()
        assert is_innermost(outer, task)
        with trio.CancelScope() as inner:
            await trio.lowlevel.checkpoint()
            assert [is_innermost(outer, task), is_innermost(inner, task)] == [False, True]
        assert is_innermost(outer, task)
    assert not is_innermost(outer, task)


@pytest.mark.parametrize("can_tell", [True, False])
async def test_whoever_follows_has_a_scope_as_good_as_new(autojump_clock, monkeypatch, can_tell) -> None:
    """Where it is the one of who was before, what ended that one cuts nobody off; nor where it cannot be told."""
    if not can_tell:
        monkeypatch.setattr("agentrt.kernel.life.is_innermost", lambda *_: False)
    budget = Budget(1000, 1000.0)
    scopes = []

    async def look(actor: Actor) -> None:
        scopes.append(actor.context.incarnation.scope)

    async with open_runtime(tree(probe("a", budget=budget, limits=Limits(progress=5.0)), budget=budget)) as runtime:
        ref = runtime.ref("top/a")
        for act in (die, die, hang, die, wait(1)):
            # One waits behind it already, so that whoever follows has no rest.
            await ref.cast(act)
            await ref.cast(look)
            await trio.sleep(10)
        assert await ref.call(hello) == "a 5"
        kinds = [exit_.kind for exit_ in ref._cell.exits]
    assert kinds == [ExitKind.CRASHED, ExitKind.CRASHED, ExitKind.STUCK, ExitKind.CRASHED]
    kept = [one is other for one, other in itertools.pairwise(scopes)]
    assert kept == ([True, False, True, True] if can_tell else [False, False, False, True])
