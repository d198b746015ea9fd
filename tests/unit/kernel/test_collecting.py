"""Fewer garbage collections while many actors are made, and as many as before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from kernel_kit import open_runtime, probes, tree

from agentrt.kernel.collecting import MANY, RELAXED, making


@pytest.fixture(autouse=True)
def threshold() -> Iterator[tuple[int, int, int]]:
    """The collector's setting, put back whatever a test does."""
    before, was_enabled = gc.get_threshold(), gc.isenabled()
    yield before
    gc.set_threshold(*before)
    (gc.enable if was_enabled else gc.disable)()


def test_the_collector_comes_by_rarely_while_many_are_made(threshold: tuple[int, int, int]) -> None:
    """And as before when that is over, also where it failed."""
    with pytest.raises(RuntimeError), making(MANY):
        assert gc.get_threshold() == (RELAXED, *threshold[1:])
        raise RuntimeError
    assert gc.get_threshold() == threshold


def test_a_few_change_nothing(threshold: tuple[int, int, int]) -> None:
    """It is the process's setting, and not worth touching for them."""
    with making(MANY - 1):
        assert gc.get_threshold() == threshold


@pytest.mark.parametrize("first", [0, RELAXED, 2 * RELAXED])
def test_whoever_set_it_looser_is_left_in_peace(first: int) -> None:
    """Zero switches it off altogether."""
    gc.set_threshold(first, 10, 10)
    with making(MANY):
        assert gc.get_threshold() == (first, 10, 10)


async def test_a_large_supervisor_starts_so_and_leaves_no_trace(threshold, autojump_clock) -> None:
    """What is seen from a start hook is the relaxed setting; from the body, the one before."""
    seen: list[int] = []

    class Log(list[str]):
        def append(self, _: str) -> None:
            seen.append(gc.get_threshold()[0])

    names = [chr(0x4E00 + number) for number in range(MANY)]
    async with open_runtime(tree(*probes("".join(names), Log()), dynamic=True)):
        assert gc.get_threshold() == threshold
        assert set(seen) == {RELAXED}
