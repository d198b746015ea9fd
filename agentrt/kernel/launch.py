"""Starting and stopping one incarnation: what the runtime does for its root and each supervisor for its children."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from agentrt.kernel.incarnation import ZOMBIE_AFTER, Incarnation
from agentrt.kernel.spec import ChildSpec
from agentrt.policy.watchdog import Limits

if TYPE_CHECKING:
    from agentrt.kernel.children import Child
    from agentrt.kernel.exits import Exit
    from agentrt.kernel.timers import Timer

#: Seconds that a supervisor's own bookkeeping may add to what its children take.
MARGIN = 1.0


def launch(
    child: Child,
    *,
    on_started: Callable[[Incarnation], None],
    on_exit: Callable[[Incarnation, Exit], None],
) -> Incarnation:
    """Begin a new incarnation of *child*.

    Its task belongs to the runtime's nursery and not to its supervisor's: Trio cannot abandon a task, and a zombie must
    not keep its supervisor from ending. That no child outlives its supervisor is the supervisor's own work.
    """
    cell, spec = child.cell, child.spec
    cell.generation += 1
    cell.open()
    incarnation = Incarnation(
        cell,
        cell.runtime.factory_of(spec),
        spec.limits if isinstance(spec, ChildSpec) else Limits(),
        grace=(spec.shutdown or ZOMBIE_AFTER) if isinstance(spec, ChildSpec) else math.inf,
        patience=partial(patience_of, child),
        on_started=on_started,
        on_exit=on_exit,
    )
    cell.incarnation = child.incarnation = incarnation
    cell.runtime.nursery.start_soon(incarnation.live, name=f"{cell.path} #{cell.generation}")
    return incarnation


def time_stop(incarnation: Incarnation, reason: str, grace: float) -> Timer | None:
    """Ask for an ordered end, and cancel after *grace* seconds; at once where there are none."""
    if grace <= 0:
        incarnation.kill(f"{reason} (no grace)")
        return None
    due = trio.current_time() + grace
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
        return ZOMBIE_AFTER
    return MARGIN + max(map(patience_of, _living_below(child)), default=ZOMBIE_AFTER)


def _living_below(child: Child) -> list[Child]:
    return [one for one in child.cell.children.values() if one.is_alive]


def stack_of(incarnation: Incarnation) -> str:
    """Format where the incarnation's task waits, outermost first."""
    if incarnation.task is None:
        return ""
    frames = [
        traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in incarnation.task.iter_await_frames()
    ]
    return "".join(traceback.format_list(frames))
