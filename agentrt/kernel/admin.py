"""What a supervisor can be asked, as messages to its ref; each is answered at once or when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from attrs import validators

from agentrt.kernel.census import ChildCounts, ChildInfo
from agentrt.kernel.exits import Exit
from agentrt.kernel.messages import M, Request
from agentrt.kernel.ref import ActorRef
from agentrt.kernel.spec import ChildSpec, SupervisorSpec

_is_spec = validators.instance_of((ChildSpec, SupervisorSpec))
_is_name = validators.instance_of(str)


@attrs.frozen
class StartChild(Request[ActorRef[M] | None]):
    """Add a child and start it; answered with its ref once it is started, or with None where it is not needed.

    A caller that gives up does not take it back.

    Raises (to the caller): ``AlreadyStarted``, which has the ref, ``AlreadyPresent``, ``TooManyChildren``;
    ``StartFailed``, after which the spec is forgotten; ``Refusal`` where the child is significant and the supervisor
    never shuts down for that.
    """

    spec: ChildSpec[M] | SupervisorSpec = attrs.field(validator=_is_spec)

    if TYPE_CHECKING:

        def __sent__(self) -> tuple[StartChild[Any], ActorRef[M] | None]:
            """Keep ``M`` out of the first part, where mypy would take it from the supervisor's ref."""
            raise NotImplementedError


@attrs.frozen
class TerminateChild(Request[Exit | None]):
    """Stop a child within its grace and leave it down; answered with its last exit, None where it never ran.

    Asked of one that is down it does nothing; one that waits for its restart does not come back. Its spec stays, but
    that of a temporary child, or of one that was started in a dynamic supervisor, goes with it.

    Whoever asks for its own end, or for that of a supervisor above it, is answered before, handles the message in hand
    to its end, and stops in order.

    Raises (to the caller): ``NoSuchChild``.
    """

    id: str = attrs.field(validator=_is_name)


@attrs.frozen
class RestartChild(Request[ActorRef | None]):
    """Start a child that is down, for whatever reason; answered with its ref, or with None where it is not needed.

    It spends nothing, and the child's own budget and backoff begin anew. A child that was down and does not start is
    down again.

    Raises (to the caller): ``NoSuchChild``, ``ChildRunning``, ``ChildRestarting``, ``StartFailed``; ``Refusal`` where
    its spec goes with it.

    Args:
        id: The child's name.
        stop_first: Restart also one that is not down: stop it within its grace, or cut its backoff short. One that
            then does not start has failed, as after a crash, and is restarted within its budget. Siblings that were to
            be restarted with it keep their own backoff, and it waits for those that start before it. Whoever asks for
            its own restart is answered before.
    """

    id: str = attrs.field(validator=_is_name)
    stop_first: bool = False


@attrs.frozen
class DeleteChild(Request[Exit | None]):
    """Forget the spec of a child that is down, or when it is; answered as :class:`TerminateChild`.

    Raises (to the caller): ``NoSuchChild``, ``ChildRunning``, ``ChildRestarting``.
    """

    id: str = attrs.field(validator=_is_name)


@attrs.frozen
class WhichChildren(Request[tuple[ChildInfo, ...]]):
    """List the children, the last in the start order first; answered with a tuple of :class:`ChildInfo`."""


@attrs.frozen
class CountChildren(Request[ChildCounts]):
    """Count the children; answered with a :class:`ChildCounts`."""


@attrs.frozen
class GetChildSpec(Request[ChildSpec | SupervisorSpec]):
    """Look up the spec of a child; answered with what it was started by.

    Raises (to the caller): ``NoSuchChild``.
    """

    id: str = attrs.field(validator=_is_name)
