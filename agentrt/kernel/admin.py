"""What a supervisor can be asked, as messages to its ref; each is answered at once or when it is done."""

from __future__ import annotations

import attrs
from attrs import validators

from agentrt.kernel.spec import ChildSpec, SupervisorSpec

_is_spec = validators.instance_of((ChildSpec, SupervisorSpec))


@attrs.frozen
class StartChild:
    """Add a child and start it; answered with its ref once it is started.

    Raises (to the caller): ``ChildExists``, ``TooManyChildren``, ``StartFailed`` (the spec is then forgotten). A caller
    that gives up does not take it back.
    """

    spec: ChildSpec | SupervisorSpec = attrs.field(validator=_is_spec)


@attrs.frozen
class TerminateChild:
    """Stop a child within its grace and leave it down; answered with its exit. Done twice it does no harm.

    Raises (to the caller): ``NoSuchChild``.

    Args:
        id: The child's name.
        forget: Forget its spec too, so that the name is free again.
    """

    id: str
    forget: bool = False


@attrs.frozen
class RestartChild:
    """Start a child that is down, done or exhausted, or stop and start one that runs; answered with its ref.

    Spends no budget; one that was spent is renewed. Raises (to the caller): ``NoSuchChild``, ``StartFailed``.
    """

    id: str
