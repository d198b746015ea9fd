"""Child specs: what a supervisor has to know to start, restart and stop a child."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from attrs import validators

from agentrt.kernel.mailbox import MailboxSpec
from agentrt.policy.backoff import Backoff
from agentrt.policy.watchdog import Limits

if TYPE_CHECKING:
    from agentrt.kernel.actor import Actor
    from agentrt.kernel.exits import Exit


class Restart(enum.Enum):
    """When a child that ended by itself is started again."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """After an abnormal end."""
    TEMPORARY = "temporary"
    """Never; its spec goes with it."""


class Strategy(enum.Enum):
    """Which siblings a restart takes along."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class WhenExhausted(enum.Enum):
    """What a child's spent budget means for its supervisor."""

    REPORT = "report"
    """The child stays down and is reported; its siblings go on."""
    ESCALATE = "escalate"
    """The supervisor cannot do without it, and fails."""


@attrs.frozen
class Budget:
    """How many restarts in which window are tolerated; one more is too many."""

    max_restarts: int = attrs.field(default=3, validator=validators.ge(0))
    max_seconds: float = attrs.field(default=30.0, validator=validators.gt(0))


def _valid_id(_: object, __: attrs.Attribute[str], value: str) -> None:
    if not value or "/" in value:
        raise ValueError(f"a child's id is a name without a slash, not {value!r}")


@attrs.frozen(kw_only=True)
class ChildSpec:
    """One actor under a supervisor.

    Args:
        id: Its name among its siblings.
        factory: Makes the actor, anew for each incarnation; called without arguments.
        restart: When it is started again.
        budget: Its own restarts, counted over the time that it runs.
        when_exhausted: What the end of that budget means.
        backoff: The wait before each restart.
        stable_after: Seconds of running after which the backoff begins anew; a progress mark does that too.
        min_uptime: A completed run shorter than this counts as a failure; seconds.
        start_timeout: Seconds that the start hook may take.
        shutdown: Grace in seconds between being asked to stop and being cancelled; 0 cancels at once.
        limits: Total time and time without progress of one incarnation.
        mailbox: Its mailbox.
        on_exit: Called with each exit record, in the supervisor's task; must not raise.
    """

    id: str = attrs.field(validator=_valid_id)
    factory: Callable[[], Actor]
    restart: Restart = attrs.field(default=Restart.PERMANENT, validator=validators.instance_of(Restart))
    budget: Budget = Budget()
    when_exhausted: WhenExhausted = attrs.field(
        default=WhenExhausted.REPORT, validator=validators.instance_of(WhenExhausted)
    )
    backoff: Backoff = Backoff()
    stable_after: float = attrs.field(default=60.0, validator=validators.ge(0))
    min_uptime: float = attrs.field(default=0.0, validator=validators.ge(0))
    start_timeout: float = attrs.field(default=30.0, validator=validators.gt(0))
    shutdown: float = attrs.field(default=5.0, validator=validators.ge(0))
    limits: Limits = Limits()
    mailbox: MailboxSpec = MailboxSpec()
    on_exit: Callable[[Exit], None] | None = None


def _are_specs(_: object, __: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
    for child in value:
        if not isinstance(child, (ChildSpec, SupervisorSpec)):
            raise TypeError(f"a child is a ChildSpec or a SupervisorSpec, not {child!r}")


@attrs.frozen(kw_only=True)
class SupervisorSpec:
    """A supervisor and its children; itself a child of the supervisor above.

    Args:
        id: Its name among its siblings.
        children: Started in this order, stopped in reverse.
        strategy: Which siblings a restart takes along.
        dynamic: Children come and go while it runs (:class:`StartChild`); they stop all at once.
        max_children: Bound for a dynamic supervisor.
        budget: Restarts of all its children together.
        restart, own_budget, when_exhausted, backoff, stable_after, start_timeout: As for an actor.
    """

    id: str = attrs.field(validator=_valid_id)
    children: tuple[ChildSpec | SupervisorSpec, ...] = attrs.field(default=(), validator=_are_specs)
    strategy: Strategy = attrs.field(default=Strategy.ONE_FOR_ONE, validator=validators.instance_of(Strategy))
    dynamic: bool = False
    max_children: float = math.inf
    budget: Budget = Budget(10, 60.0)
    restart: Restart = attrs.field(default=Restart.PERMANENT, validator=validators.instance_of(Restart))
    own_budget: Budget = Budget()
    when_exhausted: WhenExhausted = attrs.field(
        default=WhenExhausted.REPORT, validator=validators.instance_of(WhenExhausted)
    )
    backoff: Backoff = Backoff()
    stable_after: float = attrs.field(default=60.0, validator=validators.ge(0))
    start_timeout: float = attrs.field(default=math.inf, validator=validators.gt(0))
    on_exit: Callable[[Exit], None] | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse what can never run."""
        ids = [child.id for child in self.children]
        if doubles := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"supervisor {self.id!r} has more than one child named {', '.join(doubles)}")
        if self.dynamic and self.strategy is not Strategy.ONE_FOR_ONE:
            raise ValueError(f"supervisor {self.id!r} is dynamic, so its strategy can only be one_for_one")
        if self.max_children != math.inf and not self.dynamic:
            raise ValueError(f"supervisor {self.id!r} has max_children but is not dynamic")
        if len(self.children) > self.max_children:
            raise ValueError(
                f"supervisor {self.id!r} has {len(self.children)} children but max_children {self.max_children:g}"
            )
