"""Starting and stopping one incarnation: what the runtime does for its root and each supervisor for its children."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import trio

from agentrt.kernel.beside import Beside
from agentrt.kernel.incarnation import Incarnation
from agentrt.kernel.leash import PIERCE_GRACE, ZOMBIE_AFTER
from agentrt.kernel.life import live
from agentrt.kernel.owner import Owner
from agentrt.kernel.spec import ChildSpec

if TYPE_CHECKING:
    from agentrt.kernel.children import Child
    from agentrt.kernel.timers import Timer

#: Seconds that a supervisor's own bookkeeping may add to what its children take.
MARGIN = 1.0
#: Tasks of an incarnation whose stacks are shown where it does not end.
TASKS_SHOWN = 10


def launch(child: Child, owner: Owner) -> Incarnation:
    """Begin a new incarnation of *child*, of which *owner* hears.

    Its task belongs to the runtime's nursery and not to its supervisor's: Trio cannot abandon a task, and a zombie must
    not keep its supervisor from ending. That no child outlives its supervisor is the supervisor's own work.
    """
    cell = child.cell
    cell.generation += 1
    cell.open()
    before, incarnation = child.incarnation, Incarnation(child, owner)
    cell.incarnation = child.incarnation = incarnation
    if before is None or not before.precede(incarnation):
        cell.runtime.nursery.start_soon(live, incarnation, name=incarnation.name)
    return incarnation


def time_stop(incarnation: Incarnation, reason: str, grace: float) -> Timer | None:
    """Ask for an ordered end, and cancel after *grace* seconds; at once where there are none."""
    if grace <= 0:
        incarnation.kill_at_once(f"{reason} (no grace)")
        return None
    due = incarnation.cell.runtime.timers.now() + grace
    incarnation.request_stop(reason, due)
    return incarnation.cell.runtime.timers.at(due, incarnation.kill, f"{reason}: did not stop within {grace:g} s")


def grace_of(child: Child) -> float:
    """Seconds between asking *child* to stop and cancelling it; a supervisor's are computed from its children's.

    They include what it takes to find that one of them is a zombie: its siblings still stop in order after that.
    """
    if isinstance(child.spec, ChildSpec):
        return child.spec.shutdown
    graces = [grace_of(one) + patience_of(one) for one in _living_below(child)]
    return MARGIN + (max(graces, default=0.0) if child.spec.dynamic else sum(graces))


def patience_of(child: Child) -> float:
    """Seconds between cancelling *child* and giving it up; a supervisor gives up its children first."""
    if isinstance(child.spec, ChildSpec):
        return ZOMBIE_AFTER + PIERCE_GRACE
    return MARGIN + max(map(patience_of, _living_below(child)), default=ZOMBIE_AFTER)


def _living_below(child: Child) -> list[Child]:
    return [one for one in child.cell.children.values() if one.is_alive]


_LIVES = frozenset({live.__code__, Beside.live.__code__})


def incarnation_task(task: trio.lowlevel.Task) -> trio.lowlevel.Task | None:
    """Find the task of the incarnation that *task* is a part of; None where it is a part of none. From any thread.

    That task is called by the actor's path and generation, as ``fleet/editor/inbox #2``.
    """
    found: trio.lowlevel.Task | None = task
    while found is not None and getattr(found.coro, "cr_code", None) not in _LIVES:
        found = found.parent_nursery.parent_task if found.parent_nursery is not None else None
    return found


def stack_of(incarnation: Incarnation) -> str:
    """Format where the incarnation waits, its own task and then those below it, each outermost frame first."""
    if incarnation.task is None:
        return ""
    tasks = incarnation.tasks
    for task in tasks:
        tasks.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    stacks = [_await_stack(incarnation.task)]
    stacks += [f"{task.name}:\n{_await_stack(task)}" for task in tasks[1:TASKS_SHOWN]]
    if len(tasks) > TASKS_SHOWN:
        stacks.append(f"... and {len(tasks) - TASKS_SHOWN} tasks more\n")
    return "".join(stacks)


def _await_stack(task: trio.lowlevel.Task) -> str:
    frames = [
        traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in task.iter_await_frames()
    ]
    return "".join(traceback.format_list(frames))
