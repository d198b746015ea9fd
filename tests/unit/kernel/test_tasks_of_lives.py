"""Which task an incarnation lives in, what its context is, and what runs beside it."""

from __future__ import annotations

from contextvars import ContextVar

import pytest
import trio
from kernel_kit import Boom, Plan, crash, die, hello, node, open_runtime, probe, probes, quiet, recorder, tree

from agentrt.kernel import Actor, Budget, ChildSpec, ExitKind, Strategy, TreeFailed
from agentrt.policy.backoff import Backoff

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
