"""The interrupt with a real loop, a real thread that watches it, and a real signal."""

from __future__ import annotations

import contextlib
import gc
import random
import re
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import pytest
import structlog
import trio
from kernel_kit import AT_ONCE, Actor, Loop, hello, open_runtime, probe, tree

from agentrt.kernel import ActorDied, Budget, ChildSpec, Exit, ExitKind, Runtime, SupervisorSpec
from agentrt.ops.board import SnapshotBoard
from agentrt.ops.interrupt import Interrupt, Step
from agentrt.ops.looptasks import Loop as EventLoop
from agentrt.ops.loopwatch import LoopWatch

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGURG"), reason="needs POSIX"),
    # An interrupt that strikes while coverage holds its own lock would leave that locked for ever.
    pytest.mark.no_cover,
]

#: Seconds after which a test gives up; what blocks would block for as long.
PATIENCE = 30.0
ENOUGH = Budget(10_000, 1.0)


@attrs.frozen
class World:
    """A tree under a watch, and what the watch logs."""

    runtime: Runtime
    logs: Sequence[MutableMapping[str, Any]]

    def named(self, event: str) -> list[MutableMapping[str, Any]]:
        return [entry for entry in tuple(self.logs) if entry["event"] == event]


@asynccontextmanager
async def watched(
    *children: ChildSpec | SupervisorSpec, interrupt_after: float | None = 0.3, stall_limit: float = 0.5
) -> AsyncIterator[World]:
    watch = LoopWatch(SnapshotBoard(beat_interval=0.05), stall_limit, interrupt_after=interrupt_after)
    with structlog.testing.capture_logs() as logs, trio.fail_after(2 * PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.beat_forever)
            while interrupt_after is not None and signal.getsignal(signal.SIGURG) is signal.SIG_DFL:
                await trio.lowlevel.checkpoint()
            watch.start()
            try:
                async with open_runtime(tree(*children)) as runtime:
                    yield World(runtime, logs)
            finally:
                watch.stop()
            nursery.cancel_scope.cancel()


def spin(until: Callable[[], bool] = lambda: False) -> None:
    """Compute something useless, for ever as far as the test is concerned."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not until():
        pass


def sleep_in_the_way() -> None:
    """Call what blocks and knows nothing of the loop."""
    time.sleep(PATIENCE)


def wait_for_a_lock() -> None:
    """Wait for a thread that never answers."""
    threading.Event().wait(PATIENCE)


def message(function: Callable[[], object]) -> Callable[[Actor], Any]:
    async def run(_: Actor) -> object:
        return function()

    return run


@pytest.mark.parametrize("block", [spin, sleep_in_the_way, wait_for_a_lock])
async def test_a_handler_that_blocks_the_loop_crashes_and_the_others_go_on(block) -> None:
    """It is restarted and answers the next message; its caller hears of it; a neighbour answers as before."""
    async with watched(probe("a"), probe("b")) as world:
        a, b = (world.runtime.ref(f"top/{name}") for name in "ab")
        with pytest.raises(ActorDied, match="ActorHung: top/a #1 held the event loop for"):
            await a.call(message(block))
        assert (await a.call(hello), await b.call(hello)) == ("a 2", "b 1")
        exit_ = a._cell.exits[0]
        await trio.to_thread.run_sync(wait_for, lambda: world.named("event_loop_interrupted"))
    assert exit_.kind is ExitKind.CRASHED
    assert f"in {block.__name__}" in exit_.cause.traceback
    (told,) = world.named("event_loop_interrupted")
    assert told["task"] == "top/a #1"
    assert told["seconds"] >= 0.3


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


async def test_code_that_catches_everything_is_interrupted_again() -> None:
    """As long as it blocks; at last it is no different from any code that is done."""
    caught = []

    def stubborn() -> str:
        while len(caught) < 2:
            try:
                spin()
            except Exception as error:  # noqa: BLE001 - as a tool loop does it.
                caught.append(type(error).__name__)
        return "done"

    async with watched(probe("a")) as world:
        assert await world.runtime.ref("top/a").call(message(stubborn)) == "done"
        assert await world.runtime.ref("top/a").call(hello) == "a 1"
    assert caught == ["ActorHung"] * 2


async def test_who_blocks_is_named_and_at_the_stall_limit_where_the_others_wait() -> None:
    """Without an interrupt nothing is raised, for however long; the log has all that there is to know."""
    async with watched(probe("a"), probe("idle"), interrupt_after=None, stall_limit=2.0) as world:
        ref = world.runtime.ref("top/a")
        await ref.call(message(lambda: spin(until=lambda: len(world.named("event_loop_blocked")) >= 2)))
        assert await ref.call(hello) == "a 1"
    first, second = world.named("event_loop_blocked")
    assert (first["task"], second["task"]) == ("top/a #1", "top/a #1")
    assert all("in spin" in told["stack"] for told in (first, second))
    assert "others" not in first
    assert "top/idle #1" in second["others"]
    assert "top/a #1" not in second["others"]
    assert world.named("event_loop_interrupted") == []


async def test_protected_code_is_left_alone_and_that_is_told() -> None:
    """It is tried again with each look, and told once for each step."""

    @trio.lowlevel.enable_ki_protection
    def careful() -> str:
        spin(until=lambda: bool(world.named("event_loop_not_interrupted")))
        # It is looked at, and left alone, some times more.
        time.sleep(0.3)
        return "held together"

    async with watched(probe("a")) as world:
        assert await world.runtime.ref("top/a").call(message(careful)) == "held together"
        assert await world.runtime.ref("top/a").call(hello) == "a 1"
    (told,) = world.named("event_loop_not_interrupted")
    assert (told["reason"], told["task"]) == ("it is protected, as from Ctrl-C", "top/a #1")


async def test_what_a_supervisor_calls_is_left_alone() -> None:
    """A hook of an exit is the supervisor's own code: nobody else would restart the child."""
    exits: list[Exit] = []

    def dawdle(exit_: Exit) -> None:
        exits.append(exit_)
        if len(exits) == 1:
            spin(until=lambda: bool(world.named("event_loop_not_interrupted")))

    async with watched(probe("a", on_exit=dawdle)) as world:
        ref = world.runtime.ref("top/a")
        with pytest.raises(ActorDied):
            await ref.call(message(lambda: 1 // 0))
        assert await ref.call(hello) == "a 2"
    assert [exit_.cause.type for exit_ in exits[:1]] == ["ZeroDivisionError"]
    (told,) = world.named("event_loop_not_interrupted")
    assert told["reason"].startswith("it is in agentrt.kernel.")
    assert world.named("event_loop_interrupted") == []


async def test_the_programs_own_task_is_left_alone() -> None:
    """Nobody would restart it."""
    async with watched(probe("a")) as world:
        spin(until=lambda: bool(world.named("event_loop_not_interrupted")))
        assert await world.runtime.ref("top/a").call(hello) == "a 1"
    (told,) = world.named("event_loop_not_interrupted")
    assert told["reason"] == "it is no actor"


# At any moment


def compute(rounds: int) -> int:
    total = 0
    for number in range(rounds):
        total += number * number
    return total


@contextmanager
def limited() -> Iterator[trio.CancelScope]:
    with trio.CancelScope() as scope:
        compute(50)
        yield scope
        compute(50)


@asynccontextmanager
async def helped() -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        compute(50)
        yield
        nursery.cancel_scope.cancel()


class Entered:
    """Enters a scope in a method of its own, and dawdles after it."""

    def __enter__(self) -> None:
        self.scope = trio.CancelScope()
        self.scope.__enter__()
        compute(50)

    def __exit__(self, *error: Any) -> bool | None:  # noqa: PYI036 - handed on as it is.
        compute(50)
        return self.scope.__exit__(*error)


async def use_everything(lock: trio.Lock) -> None:
    """Enter and leave whatever an interrupt could leave open."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(step_by_step)
            compute(300)
            with limited(), Entered():
                async with helped():
                    compute(200)
                    await trio.lowlevel.checkpoint()
            async with lock:
                compute(100)
                await trio.lowlevel.checkpoint()
            send, receive = trio.open_memory_channel[int](1)
            async with send, receive:
                await send.send(1)
                compute(100)
                assert await receive.receive() == 1
            with contextlib.ExitStack() as stack:
                stack.enter_context(limited())
                stack.enter_context(Entered())
                compute(50)
                await trio.lowlevel.checkpoint()


async def step_by_step() -> None:
    with trio.move_on_after(PATIENCE):
        for _ in range(3):
            compute(200)
            await trio.lowlevel.checkpoint()


async def use_it_all(actor: Actor) -> None:
    await use_everything(trio.Lock())
    actor.spawn(step_by_step)


async def use_it_for_ever(_: Actor) -> None:
    lock = trio.Lock()
    while True:
        await use_everything(lock)


@contextmanager
def eager_threads() -> Iterator[None]:
    """Let threads take turns after microseconds, so that the moments are many."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def quiet_collector() -> Iterator[None]:
    """Have nothing called by the garbage collector, as Hypothesis has: what is raised there goes nowhere."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = callbacks


@pytest.mark.usefixtures("quiet_collector")
async def test_two_hundred_interrupts_at_any_moment_are_two_hundred_ordinary_crashes() -> None:
    """None of them reaches the kernel, Trio or a neighbour, whatever was entered or left at that moment."""
    exits: list[Exit] = []
    interrupt = Interrupt(0.0)
    rng = random.Random(20)
    enough = threading.Event()

    def hung() -> int:
        return sum(exit_.kind is ExitKind.CRASHED for exit_ in exits)

    def strike_at_random(loop: EventLoop) -> None:
        while not enough.is_set() and hung() < 200:
            time.sleep(rng.random() * 0.001)
            task = loop.running()
            if task is not None:
                interrupt.strike(loop.thread, Step.of(task), 1.0)

    def child(name: str, factory: Callable[[], Actor]) -> ChildSpec:
        return ChildSpec(id=name, factory=factory, budget=ENOUGH, backoff=AT_ONCE, on_exit=exits.append)

    def busy(name: str) -> ChildSpec:
        return child(name, lambda: Loop(use_it_for_ever))

    inner = SupervisorSpec(id="s", children=(busy("d"), probe("e", budget=ENOUGH, on_exit=exits.append)), budget=ENOUGH)
    root = tree(probe("a", budget=ENOUGH, on_exit=exits.append), busy("b"), busy("c"), inner, budget=ENOUGH)

    async def feed(path: str) -> None:
        while not enough.is_set():
            with contextlib.suppress(ActorDied):
                await runtime.ref(path).call(use_it_all)
            await trio.lowlevel.checkpoint()

    with eager_threads(), trio.fail_after(4 * PATIENCE):
        assert await interrupt.arm() == ""
        async with open_runtime(root) as runtime:
            async with trio.open_nursery() as nursery:
                for path in ("top/a", "top/s/e"):
                    nursery.start_soon(feed, path)
                await trio.to_thread.run_sync(strike_at_random, EventLoop.current(), abandon_on_cancel=True)
                enough.set()
            interrupt.disarm()
            answers = [(await runtime.ref(path).call(hello)).split()[0] for path in ("top/a", "top/s/e")]
            assert runtime.zombies == []
            assert {node.state for node in runtime.tree().walk()} == {"running"}
    crashes = [exit_ for exit_ in exits if exit_.is_abnormal]
    assert answers == ["a", "e"]
    assert len(crashes) >= 200
    assert [exit_.summary() for exit_ in crashes if causes_of(exit_) != {"ActorHung"}] == []


def causes_of(exit_: Exit) -> set[str]:
    """Say what it died of; it may be several things, where more than one of its tasks was struck."""
    return set(re.findall(r"(\w+): ", str(exit_.cause))) - {"ExceptionGroup"}
