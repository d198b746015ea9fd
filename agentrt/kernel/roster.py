"""The roster: the children of one incarnation of a supervisor, and what is to be started and stopped among them.

Level-triggered: whoever changes what is known of a child says so by :meth:`Roster.touch`, and :meth:`Roster.reconcile`
does whatever the new picture asks for. It never waits for anything: what takes time comes back as a signal, with the
incarnation that it was made for; a stale one is dropped. Only touched children are looked at, so that one of ten
thousand costs no more than one of ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from agentrt.kernel.children import STARTING, Child, ChildState
from agentrt.kernel.errors import Refusal
from agentrt.kernel.launch import grace_of, launch, patience_of, time_stop
from agentrt.kernel.mailbox_spec import MailboxSpec
from agentrt.kernel.significance import Significance
from agentrt.kernel.spec import ChildSpec, Restart, Strategy, SupervisorSpec
from agentrt.kernel.turns import Turns

if TYPE_CHECKING:
    from agentrt.kernel.cell import Cell
    from agentrt.kernel.events import Event
    from agentrt.kernel.exits import Exit
    from agentrt.kernel.incarnation import Incarnation


# Tuples, because to hash a member of an enum costs more than to compare it with three.
_TO_START = (ChildState.DOWN, ChildState.WAITING, ChildState.STARTING)


class ChildStarted(NamedTuple):
    """Signal: the start hook of *incarnation* returned."""

    child: Child
    incarnation: Incarnation


class ChildExited(NamedTuple):
    """Signal: *incarnation* ended, or was given up."""

    child: Child
    incarnation: Incarnation
    exit: Exit


class RestartDue(NamedTuple):
    """Signal: the backoff of *child* is over."""

    child: Child


class Roster:
    """The children, by name and in start order.

    Args:
        cell: The supervisor's cell.
        spec: The supervisor's spec.
        post: Takes signals, for the supervisor to handle one at a time.
        on_down: Called with each child that is down for good, or until somebody asks for it.

    Attributes:
        ending: Why all of it is to stop; None while it is not.
        why: The event that the end follows from.
        significance: Which of the significant children are awaited.
        is_grouped: Children depend on each other, so that they start and stop in order at any time.
    """

    def __init__(
        self, cell: Cell, spec: SupervisorSpec, post: Callable[[object], None], on_down: Callable[[Child], None]
    ) -> None:
        self.children: dict[str, Child] = {}
        self.ending: str | None = None
        self.why: Event | None = None
        self.significance: Significance[int] = Significance(spec.auto_shutdown)
        self.is_grouped = spec.strategy is not Strategy.ONE_FOR_ONE
        self._cell = cell
        self._spec = spec
        self._post = post
        self._on_down = on_down
        self._now = cell.runtime.timers.now
        self._end_by = math.inf
        self._is_killed = False
        self._alive = 0
        self._added = 0
        self._touched: list[Child] = []
        self._starts = Turns(lambda child: child.ordered and self._waits_for_start(child))
        self._stops = Turns(self._is_to_stop, reverse=True)

    @property
    def is_over(self) -> bool:
        """Whether it was to end and nobody lives any more."""
        return self.ending is not None and not self._alive

    @property
    def all_started(self) -> bool:
        """Whether nobody is left who has to be started before his later siblings, and they are not to end."""
        return self.ending is None and self._starts.is_empty

    def is_current(self, child: Child, incarnation: Incarnation) -> bool:
        """Whether a signal about *incarnation* still says something."""
        return self.children.get(child.spec.id) is child and child.incarnation is incarnation and child.is_alive

    # What the supervisor asks for

    def add(self, spec: ChildSpec | SupervisorSpec, *, is_guest: bool = False) -> Child:
        """Take a child in; it is started in its turn."""
        mailbox = spec.mailbox if isinstance(spec, ChildSpec) else MailboxSpec()
        child = Child(
            spec,
            self._cell.place(spec.id, mailbox),
            index=self._added,
            is_guest=is_guest,
            ordered=not is_guest or self.is_grouped,
        )
        self._added += 1
        self.children[spec.id] = child
        self._want(child)
        return child

    def recall(self, child: Child) -> None:
        """Have *child* started, which is stopped first where it lives."""
        child.cycle = child.is_alive
        child.cell.welcome_callers()
        if not child.is_alive:
            child.state = ChildState.DOWN
        self._want(child)

    def dismiss(self, child: Child) -> None:
        """Have *child* stopped, and left down until somebody asks for it."""
        self.unwant(child)
        if child.is_alive:
            self._turn_callers_away(child)
            self.touch(child)
        else:
            self.retire(child, child.state if child.is_final else ChildState.DOWN)

    def unwant(self, child: Child) -> None:
        """Take down that *child* is not to come back, and that nobody waits for its own end."""
        child.wanted = False
        self.significance.dismiss(child.index)

    def is_kept(self, child: Child) -> bool:
        """Whether the spec of *child* stays when it is down.

        A temporary one goes; and nobody would know a guest's name any more, and a pool does not fill with who is done.
        """
        return child.spec.restart is not Restart.TEMPORARY and not (self._spec.dynamic and child.is_guest)

    def touch(self, child: Child) -> None:
        """Have *child* looked at: something about it changed."""
        self._touched.append(child)

    def ended(self, child: Child, now: float) -> ChildState:
        """Take down that the incarnation of *child* ended just *now*; return what it was doing."""
        was, child.state = child.state, ChildState.DOWN
        self._alive -= 1
        child.cancel_timers()
        child.stop_clock(now)
        self.touch(child)
        return was

    def retire(self, child: Child, state: ChildState, *, failure: Callable[[], Exception] | None = None) -> None:
        """Leave *child* down, for good or until somebody asks for it; tell those who wait for it."""
        child.state = state
        self.unwant(child)
        child.cancel_timers()
        self.tell_not_started(
            child, failure or (lambda: Refusal(f"{child.cell.path} was stopped before it was started"))
        )
        self.tell_stopped(child)
        self._on_down(child)
        if child.forget or not self.is_kept(child) or (child.is_guest and self.ending is not None):
            self.children.pop(child.spec.id, None)
            child.cell.forget()
        else:
            child.cell.close()

    def tell_started(self, child: Child, answer: object) -> None:
        """Answer those who wait for *child* to be started."""
        waiting, child.awaiting_start = child.awaiting_start, ()
        for envelope in waiting:
            envelope.answer(answer)

    def tell_not_started(self, child: Child, failure: Callable[[], Exception]) -> None:
        """Fail those who wait for *child* to be started, each with an error of its own."""
        waiting, child.awaiting_start = child.awaiting_start, ()
        for envelope in waiting:
            envelope.fail(failure())

    def tell_stopped(self, child: Child) -> None:
        """Answer those who asked for *child* to be stopped."""
        waiting, child.awaiting_stop = child.awaiting_stop, ()
        for envelope in waiting:
            envelope.answer(child.cell.last_exit)

    def end(self, reason: str, deadline: float, why: Event | None = None) -> None:
        """Stop them all in order, those that live by *deadline*."""
        self._end_by = min(self._end_by, deadline)
        if self.ending is not None:
            return
        self.ending = reason
        self.why = why
        for child in tuple(self.children.values()):
            if child.is_alive:
                self._turn_callers_away(child)
                self.touch(child)
            else:
                self.retire(child, child.state if child.is_final else ChildState.DOWN)

    def kill(self, reason: str) -> None:
        """Cancel them all, at once."""
        self.end(reason, self._now())
        self._is_killed = True
        for child in self.children.values():
            if child.state is ChildState.STOPPING and child.incarnation is not None:
                child.incarnation.kill(reason)
            elif child.is_alive:
                self.touch(child)

    def _want(self, child: Child) -> None:
        child.wanted = True
        if child.spec.significant:
            self.significance.expect(child.index)
        self.touch(child)

    # What incarnations say

    patience_of = staticmethod(patience_of)

    def has_started(self, incarnation: Incarnation) -> None:
        """See :class:`~agentrt.kernel.incarnation.Owner`."""
        self._post(ChildStarted(incarnation.child, incarnation))

    def has_ended(self, incarnation: Incarnation, exit_: Exit) -> None:
        """See :class:`~agentrt.kernel.incarnation.Owner`."""
        self._post(ChildExited(incarnation.child, incarnation, exit_))

    # What is to be done

    def reconcile(self) -> None:
        """Stop and start what the picture asks for; do nothing where it is right."""
        touched = self._touched
        if not touched and self._stops.is_empty and self._starts.is_empty:
            return
        now, self._touched = self._now(), []
        for child in touched:
            if self._is_to_stop(child):
                self._stop_in_turn(child, now)
            elif child.state is not STARTING and self._waits_for_start(child):
                self._start_in_turn(child, now)
        to_stop = self._stops.head()
        if to_stop is None:
            self._start_next(now)
        elif to_stop.state is not ChildState.STOPPING:
            self._stop(to_stop, now)

    def _is_to_stop(self, child: Child) -> bool:
        return (self.ending is not None or child.cycle or not child.wanted) and child.is_alive

    def _waits_for_start(self, child: Child) -> bool:
        return (
            self.ending is None
            and child.wanted
            and child.state in _TO_START
            and self.children.get(child.spec.id) is child
        )

    def _stop_in_turn(self, child: Child, now: float) -> None:
        one_by_one = self.is_grouped or (self.ending is not None and not self._spec.dynamic)
        if one_by_one and not self._is_killed:
            self._stops.add(child)
        elif child.state is not ChildState.STOPPING:
            self._stop(child, now)

    def _start_in_turn(self, child: Child, now: float) -> None:
        is_due = child.not_before <= now
        if not is_due and child.due is None:
            child.due = self._cell.runtime.timers.at(child.not_before, self._restart_due, child)
        if child.ordered:
            self._starts.add(child)
        elif is_due:
            self._start(child)

    def _start_next(self, now: float) -> None:
        child = self._starts.head()
        if child is not None and child.state is not STARTING and child.not_before <= now:
            self._start(child)

    def _restart_due(self, child: Child) -> None:
        child.due = None
        self._post(RestartDue(child))

    def _start(self, child: Child) -> None:
        child.cancel_timers()
        child.state = STARTING
        child.restarts += not child.is_new
        self._alive += 1
        launch(child, self)

    def _stop(self, child: Child, now: float) -> None:
        assert child.incarnation is not None
        reason = self.ending or ("a sibling restarts" if child.cycle and child.why is not None else "asked for")
        child.why = self.why or child.why
        child.cancel_timers()
        child.state = ChildState.STOPPING
        self._turn_callers_away(child)
        grace = min(grace_of(child), max(0.0, self._end_by - now))
        child.grace = time_stop(child.incarnation, reason, grace)

    def _turn_callers_away(self, child: Child) -> None:
        """Let nobody wait for the answer of an actor that stops for good; a supervisor answers until it ended."""
        is_for_good = self.ending is not None or not (child.cycle and child.wanted)
        if child.state is ChildState.STOPPING and is_for_good and isinstance(child.spec, ChildSpec):
            child.cell.turn_callers_away()
