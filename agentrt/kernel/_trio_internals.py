"""What is used of Trio's private parts: all of it stands here, guarded, each with what happens where it is missing."""

# ruff: noqa: SLF001 - private names are what this module is for.

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import trio

try:
    from trio._core import _run
except ImportError:
    # Another Trio may have it elsewhere, which must not keep the kernel from running.
    _run = None  # type: ignore[assignment]

#: The versions of Trio that piercing and the step count were tried with; with any other they are not used.
TRIED = frozenset({"0.31", "0.32", "0.33", "0.34", "0.35"})


class _OrderedSet(dict[Any, None]):
    """The part of a set that Trio uses, in the order of adding; a set of objects is in the order of their addresses."""

    __slots__ = ()

    def add(self, item: Any) -> None:
        self[item] = None

    def remove(self, item: Any) -> None:
        del self[item]


def _ordered_status() -> type:
    class OrderedStatus(_run.CancelStatus):
        """Cancels tasks and scopes in the order in which they came."""

        __slots__ = ()

        def __attrs_post_init__(self) -> None:
            # What a cancelled task gives up it gives up at once, so that the order is seen.
            self._children: Any = _OrderedSet()
            self._tasks: Any = _OrderedSet()
            super().__attrs_post_init__()

    return OrderedStatus


def _ordered_add() -> Callable[..., None]:
    count = itertools.count()

    def add(self: Any, deadline: float, cancel_scope: Any) -> None:
        heapq.heappush(self._heap, (deadline, next(count), cancel_scope))
        self._active += 1

    return add


def can_be_deterministic() -> bool:
    """Whether this Trio's scheduler is one whose order :func:`deterministic` can draw."""
    fields = {field.name for field in getattr(getattr(_run, "CancelStatus", None), "__attrs_attrs__", ())}
    return (
        hasattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING")
        and isinstance(getattr(_run, "_r", None), random.Random)
        and {"_children", "_tasks"} <= fields
        and hasattr(getattr(_run, "Deadlines", None), "add")
    )


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Draw the order in which Trio runs and cancels tasks from *seed*, for the runs that begin inside.

    The same program under the same seed then does the same, in any process, where its clock is a ``MockClock``. Done
    for one thread at a time. Where :func:`can_be_deterministic` says no, nothing is changed and the order is Trio's.
    """
    if not can_be_deterministic():
        yield
        return
    patches: list[tuple[Any, str, Any]] = [
        (_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        (_run, "_r", random.Random(seed)),  # noqa: S311 - an order to try, no secret.
        (_run, "CancelStatus", _ordered_status()),
        (_run.Deadlines, "add", _ordered_add()),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def throw_away(root: trio.lowlevel.Task) -> None:
    """Close all tasks of a run that was broken off from outside, below *root* too, silently as far as that goes."""
    tasks = [root]
    nurseries: list[Any] = []
    for task in tasks:
        nurseries.extend(task.child_nurseries)
        tasks.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    for task in reversed(tasks):
        with suppress(BaseException):
            task.coro.close()
    for nursery in nurseries:
        # Else it says, when it is thrown away, that somebody lives in it.
        nursery._children = set()


# Scopes


def is_innermost(scope: trio.CancelScope, task: trio.lowlevel.Task) -> bool:
    """Whether *task* is in *scope* and in no other inside that; no also where another Trio does not let it be told."""
    own = getattr(scope, "_cancel_status", None)
    return own is not None and getattr(task, "_cancel_status", None) is own


async def close_nurseries(task: trio.lowlevel.Task) -> BaseException | None:
    """Cancel and leave the nurseries that the current *task* left open, as their ``async with`` would have.

    Returns:
        What came out of them. With a Trio that it was not tried with nothing is done, and the end of the task is an
        internal error to Trio.
    """
    left: BaseException | None = None
    if _why_untried():
        return left
    for nursery in reversed(task.child_nurseries):
        open_: Any = nursery
        open_.cancel_scope.cancel(reason="agentrt: its actor left it open")
        left = open_.cancel_scope._close(await open_._nested_child_finished(left))
    return left


# Piercing


def pierce(scope: trio.CancelScope) -> int:
    """Let the cancellation of *scope* reach all that runs in it: take off every shield below.

    Done in a task. A shield that is put up later holds again.

    Returns:
        How many shields there were; 0 also where :func:`why_no_piercing` has a reason.
    """
    return 0 if why_no_piercing() else _pierce(scope)


def _pierce(scope: Any) -> int:
    if scope._cancel_status is None:
        return 0
    # Found first and changed then: what is cancelled may change what is below it.
    below = list(scope._cancel_status._children)
    for status in below:
        below.extend(status._children)
    shielded = [status._scope for status in below if status._scope.shield]
    for inner in shielded:
        inner.shield = False
    return len(shielded)


@functools.cache
def why_no_piercing() -> str:
    """Say why shields cannot be taken off with this Trio; "" where they can. Asked first in a task."""
    return _why_untried() or _failure_of(_probe_piercing)


def _probe_piercing() -> None:
    # Without a checkpoint, so nobody else sees anything of it, and nothing is raised in the task that asks.
    task: Any = trio.lowlevel.current_task()
    with trio.CancelScope() as outer, trio.CancelScope(shield=True), trio.CancelScope(shield=True) as inner:  # noqa: ASYNC100 - see above.
        outer.cancel(reason="agentrt: a probe")
        held = not task._cancel_status.effectively_cancelled
        pierced = _pierce(outer)
        reached = task._cancel_status.effectively_cancelled
        if not (held and pierced == 2 and not inner.shield and reached):  # noqa: PLR2004 - the two above.
            raise RuntimeError("a shield that is taken off lets no cancellation through")


# Steps: what a task does between two checkpoints


def step_of(task: trio.lowlevel.Task) -> int:
    """Count the steps that *task* has ended; from any thread. Only where :func:`why_no_steps` has no reason."""
    steps: int = task._schedule_points  # What trio.testing.assert_checkpoints goes by.
    return steps


def is_run_loop(frame: FrameType) -> bool:
    """Whether *frame* is Trio's run loop, which calls each task; whatever else of Trio is called by one."""
    return frame.f_code.co_name == "unrolled_run" and frame.f_globals.get("__name__") == "trio._core._run"


async def why_no_steps() -> str:
    """Say why a task's steps and the run loop cannot be told with this Trio; "" where they can."""
    reason = _why_untried() or _failure_of(_probe_frames)
    if not reason:
        task = trio.lowlevel.current_task()
        before = step_of(task)
        await trio.lowlevel.checkpoint()
        if step_of(task) <= before:
            return "a checkpoint ends no step"
    return reason


def _probe_frames() -> None:
    frame = trio.lowlevel.current_task().coro.cr_frame
    if frame is None or frame.f_back is None or not is_run_loop(frame.f_back):
        raise RuntimeError("a task is not called by the run loop")


def _why_untried() -> str:
    version = ".".join(trio.__version__.split(".")[:2])
    return "" if version in TRIED else f"not tried with Trio {version}"


def _failure_of(probe: Callable[[], None]) -> str:
    try:
        probe()
    except Exception as error:  # noqa: BLE001 - whatever another Trio makes of it.
        return f"{type(error).__name__}: {error}"
    return ""
