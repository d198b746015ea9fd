"""The desk: where a supervisor is asked about its children, and to start, terminate, restart and delete them.

A request changes what is known of a child and leaves the rest to the roster, so it is taken at once whatever goes on:
also while a child waits for its restart, or takes its time to stop. What is asked for is judged by where the child is
going: one that is being terminated counts as down already.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from agentrt.kernel.admin import (
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from agentrt.kernel.census import counted, listed
from agentrt.kernel.children import Child, Standing
from agentrt.kernel.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildRestarting,
    ChildRunning,
    KernelError,
    NoSuchChild,
    Refusal,
    TooManyChildren,
    UnexpectedMessage,
)
from agentrt.kernel.launch import incarnation_task
from agentrt.kernel.messages import Envelope, Stage
from agentrt.kernel.spec import Restart, SupervisorSpec, refusal_of

if TYPE_CHECKING:
    import trio

    from agentrt.kernel.cell import Cell
    from agentrt.kernel.roster import Roster

#: Children that an error names.
CHILDREN_NAMED = 10


class Desk:
    """Takes admin calls for one incarnation of a supervisor."""

    def __init__(self, cell: Cell, spec: SupervisorSpec, roster: Roster) -> None:
        self._path = cell.path
        self._events = cell.runtime.events
        self._spec = spec
        self._roster = roster
        self._questions: dict[type, Callable[[Any], object]] = {
            WhichChildren: self._which,
            CountChildren: self._count,
            GetChildSpec: self._spec_of,
        }
        self._acts: dict[type, Callable[[Envelope, Any], None]] = {
            StartChild: self._start,
            TerminateChild: self._terminate,
            RestartChild: self._restart,
            DeleteChild: self._delete,
        }

    def take(self, envelope: Envelope) -> None:
        """Take an admin call: it is answered now, or when the child has got where it is asked to go."""
        envelope.move(Stage.IN_HAND)
        message = envelope.message
        try:
            if (question := self._questions.get(type(message))) is not None:
                envelope.answer(question(message))
            else:
                self._act(envelope, message)
        except KernelError as refusal:
            envelope.refuse(refusal)
            self._events.emit("message_refused", self._path, reason=str(refusal))

    def _act(self, envelope: Envelope, message: Any) -> None:
        act = self._acts.get(type(message))
        if act is None:
            understood = ", ".join(one.__name__ for one in (*self._acts, *self._questions))
            raise UnexpectedMessage(
                f"{self._path} is a supervisor and has no handler for {type(message).__name__}; it has for {understood}"
            )
        if self._roster.ending is not None:
            raise Refusal(f"{self._path} is stopping: {self._roster.ending}")
        act(envelope, message)

    # What is asked about them, also while all of them stop

    def _which(self, _: WhichChildren) -> object:
        return listed(reversed(self._roster.children.values()))

    def _count(self, _: CountChildren) -> object:
        return counted(self._roster.children.values())

    def _spec_of(self, message: GetChildSpec) -> object:
        return self._child(message.id).spec

    # What is asked for

    def _start(self, envelope: Envelope, message: StartChild) -> None:
        children, spec = self._roster.children, message.spec
        if (refusal := refusal_of(spec, self._spec)) is not None:
            raise Refusal(refusal)
        if (child := children.get(spec.id)) is not None:
            if child.standing is Standing.RUNNING:
                raise AlreadyStarted(child.cell.ref, child.state.value)
            raise AlreadyPresent(child.cell.path, child.state.value)
        if len(children) >= self._spec.max_children:
            raise TooManyChildren(f"{self._path} has its {self._spec.max_children:g} children already")
        child = self._roster.add(spec, is_guest=True)
        child.on_trial = True
        child.awaiting_start += (envelope,)

    def _terminate(self, envelope: Envelope, message: TerminateChild) -> None:
        child = self._child(message.id)
        if self._is_inside(envelope.caller, child):
            # It goes on with the message in hand, and stops in order after that.
            envelope.answer(child.cell.last_exit)
        else:
            child.awaiting_stop += (envelope,)
        self._roster.dismiss(child)

    def _restart(self, envelope: Envelope, message: RestartChild) -> None:
        child = self._child(message.id)
        if not message.stop_first:
            self._refuse_unless_down(child)
        if child.spec.restart is Restart.TEMPORARY:
            raise Refusal(f"{child.cell.path} is temporary: it is never started again")
        if child.standing is Standing.DOWN:
            if child.forget or not self._roster.is_kept(child):
                raise Refusal(f"{child.cell.path} is being stopped to be forgotten; start it anew when that is done")
            child.on_trial = True
        child.renew_budget()
        child.not_before = 0.0
        if self._is_inside(envelope.caller, child):
            envelope.answer(child.cell.ref)
        else:
            child.awaiting_start += (envelope,)
        self._roster.recall(child)

    def _delete(self, envelope: Envelope, message: DeleteChild) -> None:
        child = self._child(message.id)
        self._refuse_unless_down(child)
        child.forget = True
        child.awaiting_stop += (envelope,)
        self._roster.dismiss(child)

    def _is_inside(self, caller: trio.lowlevel.Task | None, child: Child) -> bool:
        """Whether whoever waits for the answer is a part of what would have to end first."""
        task = incarnation_task(caller) if caller is not None else None
        if task is None:
            return False
        cells = [child.cell]
        for cell in cells:
            if cell.incarnation is not None and task in cell.incarnation.tasks:
                return True
            cells.extend(cell.below.values())
        return False

    def _refuse_unless_down(self, child: Child) -> None:
        standing, path, state = child.standing, child.cell.path, child.state.value
        if standing is Standing.RUNNING:
            raise ChildRunning(path, state)
        if standing is Standing.RESTARTING:
            raise ChildRestarting(path, state)

    def _child(self, id_: str) -> Child:
        children = self._roster.children
        if id_ not in children:
            named = ", ".join(islice(children, CHILDREN_NAMED)) or "none"
            more = f" and {len(children) - CHILDREN_NAMED} more" if len(children) > CHILDREN_NAMED else ""
            raise NoSuchChild(f"{self._path} has no child {id_!r}; it has {named}{more}")
        return children[id_]
