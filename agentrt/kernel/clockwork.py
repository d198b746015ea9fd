"""The timers of an actor: messages that it sends to itself later, or again and again.

They are entries of the runtime's one heap (:mod:`~agentrt.kernel.timers`), without a task of their own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import trio

from agentrt.kernel.notices import Notice, notices_of

if TYPE_CHECKING:
    from agentrt.kernel.exits import Exit
    from agentrt.kernel.incarnation import Incarnation


#: Seconds by which a beat may be late, where that is a fiftieth of its interval or less. To wake the loop costs more
#: than a beat does, so those of many actors are gathered.
SLACK = 0.02


class Timer:
    """A message that comes later, or again and again; it ends with the incarnation that made it.

    Made by :meth:`Actor.send_after <agentrt.kernel.Actor.send_after>` and :meth:`Actor.send_every
    <agentrt.kernel.Actor.send_every>`. At most one message of a timer waits in the mailbox, whose capacity does not
    concern it. What is due while that one waits is skipped, and so is what was due while the whole process stood still.
    """

    __slots__ = ("_due", "_incarnation", "_interval", "_leave", "_message", "_notice", "is_pending")

    def __init__(self, incarnation: Incarnation, message: Any, delay: float, interval: float | None) -> None:
        self._incarnation = incarnation
        self._message = message
        self._interval = interval
        self._due = trio.current_time() + delay
        self._notice: Notice | None = None
        #: Whether it will still fire.
        self.is_pending = True
        self._leave = incarnation.at_end(self._stop)
        self._push()

    @classmethod
    def after(cls, incarnation: Incarnation, delay: float, message: Any) -> Timer:
        """Make one that sends once; see :meth:`Actor.send_after <agentrt.kernel.Actor.send_after>`."""
        if not delay >= 0:
            raise ValueError(f"a delay is a number of seconds, and not less than 0: {delay!r}")
        return cls(incarnation, message, delay, None)

    @classmethod
    def every(cls, incarnation: Incarnation, interval: float, message: Any) -> Timer:
        """Make one that goes on; see :meth:`Actor.send_every <agentrt.kernel.Actor.send_every>`."""
        if not interval > 0:
            raise ValueError(f"an interval is a number of seconds, and more than 0: {interval!r}")
        return cls(incarnation, message, interval, interval)

    def cancel(self) -> None:
        """Send no more, and take back what waits to be handled; done twice, or too late, it does no harm."""
        if self.is_pending:
            self._leave()
            self._stop()
        if self._notice is not None:
            self._notice.take_back()
            self._notice = None

    def fire(self) -> None:
        """Put the message into the mailbox, unless the last one still waits there; called by the runtime's timers."""
        if self._notice is None or not self._notice.waits:
            self._notice = notices_of(self._incarnation).post(self._message, is_urgent=False)
        if self._interval is None:
            self.is_pending = False
            self._leave()
        else:
            self._due = next_beat(self._due, self._interval, trio.current_time())
            self._push()

    def _push(self) -> None:
        due = self._due
        if self._interval is not None and self._interval >= 50 * SLACK:
            due = gathered(due)
        self._incarnation.cell.runtime.timers.push(due, self)

    def _stop(self, _: Exit | None = None) -> None:
        self.is_pending = False
        self._incarnation.cell.runtime.timers.one_cancelled()


def gathered(due: float) -> float:
    """Move a time to the next whole :data:`SLACK`; one that is on it stays what it is."""
    if due == math.inf:
        return due
    steps = due / SLACK
    nearest = round(steps)
    return due if math.isclose(steps, nearest, rel_tol=0.0, abs_tol=1e-6) else math.ceil(steps) * SLACK


def next_beat(last: float, interval: float, now: float) -> float:
    """Say when the first beat after *now* is due: a whole number of intervals after *last*, so that nothing drifts."""
    due = last + interval * (1 + (now - last) // interval)
    # An interval may be too small for the clock's figures to tell two beats apart.
    return due if due > now else math.nextafter(now, math.inf)
