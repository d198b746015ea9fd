"""Where an exception may be raised between two bytecodes: in an actor's code and what it calls, and nowhere else."""

from __future__ import annotations

import contextlib
import sys
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import trio

from agentrt.ops import safepoint
from agentrt.ops.safepoint import why_never, why_not_in

HERE = __name__


def judge() -> str:
    """Judge the frame that calls this."""
    return why_not_in(sys._getframe(1))


def ordinary() -> str:
    """Judge code of no special kind."""
    return judge()


def code_of(module: str, source: str) -> dict[str, Any]:
    """Run *source* as if it stood in *module*."""
    names: dict[str, Any] = {"__name__": module, "judge": judge}
    exec(source, names)
    return names


def inside(module: str) -> str:
    """Judge code of *module*."""
    return code_of(module, "def look(): return judge()")["look"]()


def below(module: str) -> str:
    """Judge ordinary code that was called by code of *module*."""
    return code_of(module, "def call(function): return function()")["call"](ordinary)


async def awaited_by(module: str) -> str:
    """Judge ordinary code that is awaited by code of *module*."""

    async def look() -> str:
        return judge()

    return await code_of(module, "async def call(function): return await function()")["call"](look)


async def test_ordinary_code_may_be_interrupted() -> None:
    """At any depth, and inside what it entered."""

    def deep(depth: int) -> str:
        return deep(depth - 1) if depth else judge()

    async with trio.open_nursery():
        with trio.CancelScope(), contextlib.suppress(KeyError):
            assert judge() == ""
            assert deep(20) == ""
            assert [judge() for _ in range(2)] == ["", ""]
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("module", ["trio", "trio._core._run", "logging", "logging.handlers", "asyncio.base_events"])
async def test_code_that_nobody_may_interrupt(module) -> None:
    """Nor what it calls: it waits for that to return, with something half done or a lock held."""
    expected = f"it is in {module}"
    assert [inside(module), below(module), await awaited_by(module)] == [expected] * 3


async def test_a_module_of_another_name_is_not_meant() -> None:
    """The package's whole name counts."""
    assert [inside("trionic"), inside("loggings.trio"), below("my.logging")] == [""] * 3


@pytest.mark.parametrize("module", ["agentrt.kernel.serving", "agentrt.agent.work", "actors.inbox"])
async def test_our_own_code_may_await_what_is_interrupted_and_no_more(module) -> None:
    """Actors are awaited by ours; what ours calls in passing, a listener or a comparison, would leave it half done."""
    itself = await code_of(module, "async def look(): return judge()")["look"]()
    assert [inside(module), below(module), itself] == [f"it is in {module}"] * 3
    assert await awaited_by(module) == ""


async def test_a_supervisor_is_never_interrupted() -> None:
    """Not in what it awaits either."""
    assert await awaited_by("agentrt.kernel.supervisor") == "it is in agentrt.kernel.supervisor"


async def test_what_enters_or_leaves_a_context_is_not_interrupted() -> None:
    """What it entered would stay open."""

    class Manager:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def __enter__(self) -> None:
            self.seen.append(judge())

        def __exit__(self, *_: object) -> None:
            self.seen.append(judge())

        async def __aenter__(self) -> None:
            self.seen.append(ordinary())

        async def __aexit__(self, *_: object) -> None:
            self.seen.append(ordinary())

    manager = Manager()
    with manager:
        pass
    async with manager:
        pass
    assert manager.seen == [f"it enters or leaves a context in {HERE}"] * 4


async def test_a_generator_that_is_a_context_is_not_interrupted_while_it_is_entered_or_left() -> None:
    """Its body is; so is what has such a context as a decorator."""
    seen = []

    @contextlib.contextmanager
    def manager():
        seen.append(judge())
        yield
        seen.append(judge())

    with manager():
        assert judge() == ""
    with contextlib.ExitStack() as stack:
        stack.enter_context(manager())
        assert judge() == ""
    assert manager()(ordinary)() == ""
    # As what keeps books of several does, between entering one and writing it down.
    assert inside("contextlib") == "it enters or leaves a context in contextlib"
    assert seen == ["it enters or leaves a context in contextlib"] * 6


async def test_between_a_call_and_its_await_nothing_is_raised() -> None:
    """What was made would never be awaited; where it is to leave a nursery, that would stay open."""
    seen = []

    def make(frame: FrameType):
        seen.append(why_not_in(frame))
        return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - that is the case.

    await make(sys._getframe())
    waits = make(sys._getframe())
    await waits
    assert seen == [f"it is about to wait in {HERE}", ""]


async def test_at_the_end_of_an_async_with_nothing_is_raised() -> None:
    """That is such a place, though no call is to be seen."""
    seen = []

    class Manager:
        async def __aenter__(self) -> None:
            pass

        def __aexit__(self, *_: object):
            seen.append(why_not_in(sys._getframe(1)))
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - as above.

    async with Manager():
        pass
    assert seen == [f"it is about to wait in {HERE}"]


def test_outside_of_trio_nothing_is_raised() -> None:
    assert judge() == "it is not called by Trio"
    assert why_not_in(None) == "it is not called by Trio"


def test_the_last_bytecode_of_all_is_no_riddle() -> None:
    """There is none after it to look at, as at the end of an endless loop."""
    code = SimpleNamespace(co_code=bytes(4), co_name="spin", co_flags=0)
    frame: Any = SimpleNamespace(f_code=code, f_lasti=2, f_globals={}, f_back=None)
    assert why_not_in(frame) == "it is not called by Trio"


def test_another_python_is_not_trusted(monkeypatch) -> None:
    """Which places are safe follows from its bytecodes. Where this fails: run the tests of interrupts with it first."""
    assert why_never() == ""
    monkeypatch.setattr(safepoint, "TRIED", frozenset({(2, 7)}))
    assert why_never() == f"not tried with Python {sys.version_info[0]}.{sys.version_info[1]}"
