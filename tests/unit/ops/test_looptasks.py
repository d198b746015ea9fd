"""The tasks of a loop, seen from outside: which one runs, whose it is, and where the others wait."""

from __future__ import annotations

import threading
import time

import trio
from kernel_kit import Actor, hang, loop, open_runtime, probe, quiet, tree

from agentrt.ops import looptasks
from agentrt.ops.looptasks import MAX_FRAMES, Loop, actor_of, describe, stack_of


def in_a_thread(function):
    """Ask *function* in another thread, while this one stands still."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(function()))
    thread.start()
    thread.join()
    return answers[0]


async def test_the_task_that_runs_is_found_from_another_thread() -> None:
    """Also one far down in the tree; the loop keeps nothing for it."""
    found = []

    async def look(loop_: Loop) -> None:
        found.append(in_a_thread(loop_.running) is trio.lowlevel.current_task())

    here = Loop.current()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        async with trio.open_nursery() as inner:
            inner.start_soon(look, here)
        await look(here)
        nursery.cancel_scope.cancel()
    assert found == [True, True]


async def test_while_no_task_runs_none_is_found() -> None:
    """The loop is between two steps, or waits."""
    here, patience = Loop.current(), time.monotonic() + 20

    def once_nothing_runs() -> object:
        # This task may not have left its step yet.
        while (task := here.running()) is not None and time.monotonic() < patience:
            time.sleep(0.001)
        return task

    assert await trio.to_thread.run_sync(once_nothing_runs) is None


async def test_a_task_is_named_with_its_actor(autojump_clock) -> None:
    """An actor's own task has its path and generation; one that it spawned has a name of its own."""
    seen = []

    async def work() -> None:
        seen.append(describe(trio.lowlevel.current_task()))

    async def message(actor: Actor) -> None:
        seen.append(describe(trio.lowlevel.current_task()))
        actor.spawn(work)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, name="deeper")

    async with open_runtime(tree(probe("a"))) as runtime:
        await runtime.ref("top/a").call(message)
        await quiet()
    task = trio.lowlevel.current_task()
    assert sorted(seen) == ["deeper of top/a #1", f"{work.__module__}.{work.__qualname__} of top/a #1", "top/a #1"]
    assert (actor_of(task), describe(task)) == ("", task.name)


async def test_those_who_wait_at_the_same_place_are_shown_together(autojump_clock) -> None:
    """By name, up to a few; who runs is not among them."""
    names = "abcdefgh"
    async with open_runtime(tree(*(loop(name, hang) for name in names))) as runtime:
        await quiet()
        shown = in_a_thread(Loop.current().waiting)
        runtime.stop("over")
    (place,) = [line for line in shown.splitlines() if line.startswith("top/") and line.endswith(":")]
    assert place.endswith(" and 4 others:")
    assert place.count("top/") == 4
    assert shown.count("in hang\n    await trio.sleep_forever()") == 1
    assert trio.lowlevel.current_task().name not in shown


async def test_what_is_shown_is_bounded(monkeypatch) -> None:
    """Tasks that are looked at, places and frames; what is left out is counted."""
    monkeypatch.setattr(looptasks, "MAX_TASKS", 30)
    monkeypatch.setattr(looptasks, "MAX_STACKS", 5)
    namespace: dict[str, object] = {"trio": trio}
    async with trio.open_nursery() as nursery:
        for number in range(100):
            exec(f"async def wait{number}(): await trio.sleep_forever()", namespace)
            nursery.start_soon(namespace[f"wait{number}"])
        await quiet()
        here = Loop.current()
        tasks = sum(1 for _ in here.tasks())
        shown = in_a_thread(here.waiting)
        nursery.cancel_scope.cancel()
    assert f"... {tasks - 30} tasks were not looked at" in shown
    assert "other places\n" in shown
    headings = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert len(headings) == 5
    assert shown.count("File ") <= 5 * looptasks.MAX_AWAIT_FRAMES


async def test_of_a_long_wait_the_innermost_frames_are_shown() -> None:
    """They say what is waited for; the last that Trio adds to each says nothing and is left out."""

    # Two functions, because a line that repeats is shown once.
    async def dive(depth: int) -> None:
        if depth:
            await deeper(depth)
        await trio.sleep_forever()

    async def deeper(depth: int) -> None:
        await dive(depth - 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dive, 20, name="diver")
        await quiet()
        shown = in_a_thread(Loop.current().waiting)
        nursery.cancel_scope.cancel()
    lines = shown[shown.index("diver:\n") :].splitlines()[1:]
    stack = "\n".join(lines[: 2 * looptasks.MAX_AWAIT_FRAMES])
    assert stack.count("File ") == looptasks.MAX_AWAIT_FRAMES
    assert stack.count(" in d") == looptasks.MAX_AWAIT_FRAMES - 1
    assert "in sleep_forever" in stack.splitlines()[-2]


def test_a_task_that_moves_on_meanwhile_is_no_error() -> None:
    """What it awaited may be gone by the time that it is looked at."""

    class Moving:
        def iter_await_frames(self):
            raise AttributeError("'NoneType' object has no attribute 'f_lineno'")

    assert looptasks._await_stack(Moving()) == ("  it moves\n",)


def test_a_deep_stack_is_cut_on_the_outside() -> None:
    """The innermost frames say who blocks."""

    # Two functions, because a line that repeats is shown once.
    def dive(depth: int) -> str:
        return deeper(depth) if depth else stack_of(threading.get_ident())

    def deeper(depth: int) -> str:
        return dive(depth - 1)

    lines = dive(200).splitlines()
    assert lines[0].endswith("outer frames")
    assert sum(line.lstrip().startswith("File") for line in lines) == MAX_FRAMES
    assert "in stack_of" in "\n".join(lines[-4:])


def test_a_thread_that_is_gone_has_no_stack() -> None:
    """Asking for it is no error."""
    assert stack_of(-1) == "the thread has ended"
