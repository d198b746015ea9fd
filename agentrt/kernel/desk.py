"""The desk: where a supervisor is asked to start, terminate and restart children.

A request changes what is known of a child and leaves the rest to the roster, so it is taken at once whatever goes on:
also while a child waits for its restart, or takes its time to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentrt.kernel.admin import RestartChild, StartChild, TerminateChild
from agentrt.kernel.children import Child, ChildState
from agentrt.kernel.errors import ChildExists, KernelError, NoSuchChild, Refusal, TooManyChildren, UnexpectedMessage
from agentrt.kernel.messages import Envelope, Stage
from agentrt.kernel.spec import SupervisorSpec

if TYPE_CHECKING:
    from agentrt.kernel.roster import Roster


class Desk:
    """Takes admin calls for one incarnation of a supervisor."""

    def __init__(self, path: str, spec: SupervisorSpec, roster: Roster) -> None:
        self._path = path
        self._spec = spec
        self._roster = roster
        self._acts: dict[type, Callable[[Envelope, Any], None]] = {
            StartChild: self._start,
            TerminateChild: self._terminate,
            RestartChild: self._restart,
        }

    def take(self, envelope: Envelope) -> None:
        """Take an admin call: it is answered now, or when the child has got where it is asked to go."""
        envelope.stage = Stage.IN_HAND
        act = self._acts.get(type(envelope.message))
        try:
            if act is None:
                raise UnexpectedMessage(f"{self._path} has no handler for {type(envelope.message).__name__}")
            if self._roster.ending is not None:
                raise Refusal(f"{self._path} is stopping: {self._roster.ending}")
            act(envelope, envelope.message)
        except KernelError as refusal:
            envelope.refuse(refusal)

    def _start(self, envelope: Envelope, message: StartChild) -> None:
        children, id_ = self._roster.children, message.spec.id
        if id_ in children:
            raise ChildExists(f"{self._path} has a child {id_!r} already ({children[id_].state.value})")
        if len(children) >= self._spec.max_children:
            raise TooManyChildren(f"{self._path} has its {self._spec.max_children:g} children already")
        self._roster.add(message.spec, is_guest=True).awaiting_start.append(envelope)

    def _terminate(self, envelope: Envelope, message: TerminateChild) -> None:
        child = self._child(message.id)
        child.wanted = False
        child.forget = child.forget or message.forget
        child.awaiting_stop.append(envelope)
        if child.is_alive:
            self._roster.touch(child)
        else:
            self._roster.retire(child, ChildState.DOWN)

    def _restart(self, envelope: Envelope, message: RestartChild) -> None:
        child = self._child(message.id)
        if child.forget:
            raise Refusal(f"{child.cell.path} is being stopped to be forgotten; start it anew when that is done")
        if child.state is ChildState.EXHAUSTED:
            child.renew_budget()
        child.wanted = True
        child.attempt = 0
        child.not_before = 0.0
        child.cycle = child.is_alive
        if not child.is_alive:
            child.state = ChildState.DOWN
        child.awaiting_start.append(envelope)
        self._roster.touch(child)

    def _child(self, id_: str) -> Child:
        children = self._roster.children
        if id_ not in children:
            raise NoSuchChild(f"{self._path} has no child {id_!r}; it has {', '.join(children) or 'none'}")
        return children[id_]
