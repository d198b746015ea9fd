"""Scale, as OTP's supervisor suite has it: ten times the children cost ten times as much.

OTP takes the time of 1,000 and of 100,000, and allows for a lot. Here it is counted what is done, which is the same on
every machine, so that a tenth of that many tell as much: calls of functions, those of heaps and queues among them,
steps of the scheduler, and how often a child is looked at while all of them are gone through.
"""

from __future__ import annotations

import cProfile
import gc
from collections.abc import Awaitable, Callable, Iterator, ValuesView
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel
from conformance_kit import FAMILIES, PLENTY, counts, listed
from kernel_kit import Ends, open_runtime, probe, quiet, states, tree

from agentrt.kernel import ActorRef, Restart, StartChild, Strategy, TerminateChild
from agentrt.kernel import supervisor as supervisor_module
from agentrt.kernel.roster import Roster

FEW, MANY = 100, 1_000
#: How much more, or less, a child may cost among many than among few.
TOLERANCE = 0.1


@attrs.define
class Tally:
    """What was done, in three counts."""

    calls: float = 0
    steps: float = 0
    looks: float = 0

    def per(self, children: int) -> Tally:
        """Say what it is for each child."""
        return Tally(self.calls / children, self.steps / children, self.looks / children)


class Looks(ValuesView[Any]):
    """The children of a roster while all of them are gone through."""

    def __init__(self, children: Looked) -> None:
        self._children = children

    def __iter__(self) -> Iterator[Any]:
        return map(self._children.__getitem__, self._children)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(list(self))

    def __len__(self) -> int:
        return len(self._children)


class Looked(dict[str, Any]):
    """The children of a roster, who count how often one of them is met when all are gone through."""

    looks = 0

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            type(self).looks += 1
            yield name

    def values(self) -> Any:
        return Looks(self)


class CountedRoster(Roster):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.children = Looked()


class Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.taken = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken += 1


async def tally(work: Callable[[], Awaitable[object]]) -> Tally:
    """Count what is done in *work*."""
    profile, steps, looks = cProfile.Profile(), Steps(), Looked.looks
    gc.disable()
    trio.lowlevel.add_instrument(steps)
    profile.enable()
    try:
        await work()
    finally:
        profile.disable()
        trio.lowlevel.remove_instrument(steps)
        gc.enable()
    calls = sum(entry.callcount for entry in profile.getstats())
    return Tally(calls, steps.taken, Looked.looks - looks)


@pytest.fixture(autouse=True)
def _counted(monkeypatch) -> None:
    monkeypatch.setattr(supervisor_module, "Roster", CountedRoster)


def assert_linear(few: Tally, many: Tally) -> None:
    """Hold the cost of a child among many to that of one among few."""
    one, other = few.per(FEW), many.per(MANY)
    for name in ("calls", "steps", "looks"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=TOLERANCE), name


async def start_all(supervisor: ActorRef, ends: Ends, number: int, restart: Restart) -> None:
    for n in range(number):
        await supervisor.call(StartChild(ends.child(f"t{n}", restart=restart, budget=PLENTY)))


@pytest.mark.parametrize(("strategy", "dynamic"), FAMILIES, ids=str)
async def test_starting_and_terminating_many_children_is_linear(autojump_clock, strategy, dynamic) -> None:
    """Case 29: supervisor_SUITE: scale_start_stop_many_children; one by one, by hand."""

    async def both(number: int) -> tuple[Tally, Tally]:
        async with open_runtime(tree(strategy=strategy, dynamic=dynamic)) as runtime:
            top = runtime.ref("top")

            async def terminate() -> None:
                for n in range(number):
                    await top.call(TerminateChild(f"t{n}"))

            started = await tally(lambda: start_all(top, Ends(), number, Restart.PERMANENT))
            assert list(states(runtime).values()) == ["running"] * number
            terminated = await tally(terminate)
            assert list(states(runtime).values()) == ([] if dynamic else ["down"] * number)
            return started, terminated

    for few, many in zip(await both(FEW), await both(MANY), strict=True):
        assert_linear(few, many)


@pytest.mark.parametrize(("strategy", "dynamic"), FAMILIES, ids=str)
async def test_a_tree_of_many_children_starts_and_stops_in_linear_time(autojump_clock, strategy, dynamic) -> None:
    """Case 29: supervisor_SUITE: scale_start_stop_many_children; as its own children, all in order."""

    async def life(number: int) -> None:
        family = (probe(f"t{n}") for n in range(number))
        async with open_runtime(tree(*family, strategy=strategy, dynamic=dynamic)) as runtime:
            assert (await counts(runtime.ref("top")))[:2] == (number, number)

    assert_linear(await tally(lambda: life(FEW)), await tally(lambda: life(MANY)))


@pytest.mark.parametrize("crash", [False, True], ids=["completed", "crashed"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
async def test_the_ends_of_many_temporary_children_are_linear(autojump_clock, dynamic, crash) -> None:
    """Case 29: supervisor_SUITE: simple_one_for_one_scale_many_temporary_children; one end costs the same among few."""

    async def all_end(number: int) -> Tally:
        async with open_runtime(tree(dynamic=dynamic)) as runtime:
            ends = Ends()
            await start_all(runtime.ref("top"), ends, number, Restart.TEMPORARY)

            async def end() -> None:
                for n in range(number):
                    ends.end(f"t{n}", crash=crash)
                await quiet()

            ended = await tally(end)
            assert states(runtime) == {}
            return ended

    assert_linear(await all_end(FEW), await all_end(MANY))


@pytest.mark.parametrize(
    ("strategy", "crashes"), [(Strategy.ONE_FOR_ONE, None), (Strategy.ONE_FOR_ALL, 1), (Strategy.REST_FOR_ONE, 1)]
)
async def test_the_restarts_of_many_children_are_linear(autojump_clock, strategy, crashes) -> None:
    """Case 29: supervisor_SUITE: scale_start_stop_many_children; each by itself, or all of them with the first."""

    async def all_restart(number: int) -> Tally:
        async with open_runtime(tree(strategy=strategy, budget=PLENTY)) as runtime:
            ends = Ends()
            await start_all(runtime.ref("top"), ends, number, Restart.PERMANENT)

            async def end() -> None:
                for n in range(crashes or number):
                    ends.end(f"t{n}", crash=True)
                    await quiet()

            restarted = await tally(end)
            assert {node.generation for node in runtime.tree().children} == {2}
            return restarted

    assert_linear(await all_restart(FEW), await all_restart(MANY))


@pytest.mark.parametrize("question", [counts, listed])
async def test_counting_and_listing_many_children_is_linear(autojump_clock, question) -> None:
    """Case 29: supervisor_SUITE: count_children, which asks 1,000 and then 2,000 of them."""

    async def asked(number: int) -> Tally:
        async with open_runtime(tree(*(probe(f"t{n}") for n in range(number)), dynamic=True)) as runtime:
            return await tally(lambda: question(runtime.ref("top")))

    few, many = await asked(FEW), await asked(MANY)
    assert (few.looks, many.looks) == (FEW, MANY)
    assert many.calls / few.calls <= MANY / FEW
    assert many.steps == few.steps
