"""The tasks of an event loop, seen from a thread outside it: which one runs, and where the others wait.

Nothing is kept on the loop's side for it. It is meant for a loop that stands; while it turns, a picture may be torn,
but taking it does no harm.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from itertools import islice

import attrs
import trio

from agentrt.kernel.launch import incarnation_task

#: Of the stack of who runs, the innermost frames are shown: they say who blocks.
MAX_FRAMES = 24
#: What is shown of those who wait: tasks looked at, different stacks among them, frames of each and names at each.
MAX_TASKS = 2000
MAX_STACKS = 20
MAX_AWAIT_FRAMES = 6
MAX_NAMES = 4


@attrs.frozen(eq=False)
class Loop:
    """One run of an event loop: the thread that it is in, and the task above all others."""

    thread: int
    root: trio.lowlevel.Task

    @classmethod
    def current(cls) -> Loop:
        """Return the loop that this is called in.

        Raises:
            RuntimeError: It is called outside of one.
        """
        root = trio.lowlevel.current_root_task()
        assert root is not None
        return cls(threading.get_ident(), root)

    def tasks(self) -> Iterator[trio.lowlevel.Task]:
        """Give every task, parents before children."""
        todo = [self.root]
        while todo:
            task = todo.pop()
            yield task
            todo += [child for nursery in task.child_nurseries for child in nursery.child_tasks]

    def running(self) -> trio.lowlevel.Task | None:
        """Find the task that runs right now; None while none does."""
        return next((task for task in self.tasks() if _runs(task)), None)

    def waiting(self) -> str:
        """Return where all tasks wait that do not run, those that wait at the same place together."""
        places: dict[tuple[str, ...], list[str]] = {}
        tasks = self.tasks()
        for task in islice(tasks, MAX_TASKS):
            if not _runs(task):
                places.setdefault(_await_stack(task), []).append(describe(task))
        left_out = sum(1 for _ in tasks)
        parts = [f"{_names(names)}:\n{''.join(stack)}" for stack, names in islice(places.items(), MAX_STACKS)]
        if len(places) > MAX_STACKS:
            parts.append(f"... {len(places) - MAX_STACKS} other places\n")
        if left_out:
            parts.append(f"... {left_out} tasks were not looked at\n")
        return "".join(parts)


def describe(task: trio.lowlevel.Task) -> str:
    """Name *task*, with the actor that it belongs to where it is not that actor's own."""
    actor = actor_of(task)
    return task.name if actor in {"", task.name} else f"{task.name} of {actor}"


def actor_of(task: trio.lowlevel.Task) -> str:
    """Return path and generation of the actor that *task* belongs to, as ``fleet/editor/inbox #2``; "" where none."""
    owner = incarnation_task(task)
    return owner.name if owner is not None else ""


def stack_of(thread: int) -> str:
    """Return where the thread of this ident is right now, outermost frame first, at most :data:`MAX_FRAMES` of them."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to see another thread's stack.
    if frame is None:
        return "the thread has ended"
    frames = traceback.extract_stack(frame)
    left_out = len(frames) - MAX_FRAMES
    lines = traceback.format_list(frames[-MAX_FRAMES:])
    if left_out > 0:
        lines.insert(0, f"  ... {left_out} outer frames\n")
    return "".join(lines)


def _runs(task: trio.lowlevel.Task) -> bool:
    # What is no coroutine of Python's own, as one that was compiled, does not say.
    return getattr(task.coro, "cr_running", False)


def _await_stack(task: trio.lowlevel.Task) -> tuple[str, ...]:
    try:
        summaries = [
            traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name)
            for frame, line in task.iter_await_frames()
            # Which ends every stack and says nothing.
            if frame.f_globals.get("__name__") != "trio._core._traps"
        ][-MAX_AWAIT_FRAMES:]
    except Exception:  # noqa: BLE001 - the task moved on while it was looked at.
        return ("  it moves\n",)
    return tuple(traceback.format_list(summaries))


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return f"{shown} and {len(names) - MAX_NAMES} others" if len(names) > MAX_NAMES else shown
