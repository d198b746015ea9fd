"""What holds an incarnation: its limits, and the last resort for one that does not end when it is cancelled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agentrt.kernel._trio_internals import pierce
from agentrt.policy.watchdog import Limits, judge, next_due

if TYPE_CHECKING:
    from agentrt.kernel.actor import Actor
    from agentrt.kernel.incarnation import Incarnation
    from agentrt.kernel.timers import Timer

#: Seconds after which a cancelled incarnation that did not end is pierced, and given up as a zombie where it cannot be.
#: One more than Trio gives a process, between its SIGTERM and its SIGKILL, when what waits for it is cancelled.
ZOMBIE_AFTER = 6.0
#: Seconds that it has to end once its shields were taken off.
PIERCE_GRACE = 1.0


async def start_in_time(incarnation: Incarnation, actor: Actor, limit: float) -> None:
    """Have *actor* prepare; its incarnation is killed where that takes longer than *limit* seconds."""
    if limit == math.inf:
        await actor.on_start()
        return
    timers = incarnation.cell.runtime.timers
    timer = timers.at(timers.now() + limit, incarnation.start_exceeded, limit)
    try:
        await actor.on_start()
    finally:
        timer.cancel()


class Leash:
    """The total time and the time without progress that one incarnation has; kills it when one is over.

    It is looked at when a limit may be reached, and not at all while the actor waits for a message.
    """

    __slots__ = ("_incarnation", "_limits", "_timer")

    def __init__(self, incarnation: Incarnation, limits: Limits) -> None:
        self._incarnation = incarnation
        self._limits = limits
        self._timer: Timer | None = None
        self._arm(limits, incarnation.last_progress)

    def cancel(self) -> None:
        """Hold it no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, limits: Limits, moved_at: float) -> None:
        self.cancel()
        incarnation = self._incarnation
        assert incarnation.started_at is not None
        due = next_due(limits, incarnation.started_at, moved_at)
        if due is not None:
            self._timer = incarnation.cell.runtime.timers.at(due, self._check)

    def _arm_again(self) -> None:
        self._arm(self._limits, self._moved_at())

    def _check(self) -> None:
        incarnation = self._incarnation
        if incarnation.is_stopping or incarnation.started_at is None:
            # A stop has its grace, which is the shorter leash.
            return
        now, moved_at = incarnation.cell.runtime.timers.now(), self._moved_at()
        verdict = judge(self._limits, incarnation.started_at, moved_at, now)
        if verdict is not None:
            incarnation.exceeded(verdict)
        elif incarnation.serving.is_idle and self._limits.progress is not None:
            # Whoever waits for a message is not stuck, and costs nothing until one comes.
            incarnation.serving.on_busy = self._arm_again
            self._arm(Limits(self._limits.total), moved_at)
        else:
            self._arm(self._limits, moved_at)

    def _moved_at(self) -> float:
        """An actor that waits for messages, or for another agent, is idle and not stuck."""
        incarnation = self._incarnation
        if incarnation.serving.is_idle or incarnation.is_waiting:
            return incarnation.cell.runtime.timers.now()
        return max(incarnation.last_progress, incarnation.serving.taken_at)


class LastResort:
    """What is done about an incarnation that was cancelled and does not end: its shields go, and then it is given up.

    Args:
        incarnation: The one that was cancelled.
        patience: Seconds until it is given up; the last :data:`PIERCE_GRACE` of them are without its shields.
    """

    __slots__ = ("_incarnation", "_timer")

    def __init__(self, incarnation: Incarnation, patience: float) -> None:
        self._incarnation = incarnation
        timers = incarnation.cell.runtime.timers
        if incarnation.actor is not None and incarnation.actor.stops_itself:
            # A supervisor is shielded for as long as its children take, each of which has a last resort of its own.
            self._timer = timers.at(timers.now() + patience, incarnation.give_up)
        else:
            self._timer = timers.at(timers.now() + patience - PIERCE_GRACE, self._pierce)

    def cancel(self) -> None:
        """It ended."""
        self._timer.cancel()

    def _pierce(self) -> None:
        """Take off the shields that keep the cancellation out; where there are none, nothing more can be done."""
        incarnation = self._incarnation
        shields = sum(pierce(scope) for scope in incarnation.scopes)
        if not shields:
            incarnation.give_up()
            return
        incarnation.pierced(shields)
        timers = incarnation.cell.runtime.timers
        self._timer = timers.at(timers.now() + PIERCE_GRACE, incarnation.give_up)
