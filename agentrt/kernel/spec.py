"""Child specs: what a supervisor has to know to start, restart and stop a child."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic

import attrs
from attrs import validators

from agentrt.kernel.mailbox_spec import MailboxSpec
from agentrt.kernel.messages import M
from agentrt.policy.backoff import Backoff
from agentrt.policy.watchdog import Limits

if TYPE_CHECKING:
    from agentrt.kernel.actor import Actor
    from agentrt.kernel.exits import Exit


#: Seconds of grace, where nothing else is said.
DEFAULT_GRACE = 5.0
NO_LIMITS = Limits()


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


class AutoShutdown(enum.Enum):
    """When a supervisor ends by itself, in order and normally, because significant children ended by themselves.

    A child did so where it completed, or failed, and is not to be restarted. One that somebody terminated, that a
    sibling's restart took along, or that said that it is not needed, did not.
    """

    NEVER = "never"
    """No child is significant."""
    ANY_SIGNIFICANT = "any_significant"
    """With the first of them."""
    ALL_SIGNIFICANT = "all_significant"
    """With the last of them: when one did, and of the others none runs or is to run."""


class ChildType(enum.Enum):
    """What a child is: one actor, or a supervisor with a tree below it."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"


@attrs.frozen
class Budget:
    """How many restarts in which window are tolerated; one more is too many."""

    max_restarts: int = attrs.field(default=3, validator=validators.ge(0))
    max_seconds: float = attrs.field(default=30.0, validator=validators.gt(0))


def _valid_id(_: object, __: attrs.Attribute[str], value: str) -> None:
    if not isinstance(value, str) or not value or "/" in value:
        raise ValueError(f"a child's id is a name without a slash, not {value!r}")


@attrs.frozen(kw_only=True)
class ChildSpec(Generic[M]):
    """One actor under a supervisor; that of an ``Actor[M]`` is a ``ChildSpec[M]``.

    Args:
        id: Its name among its siblings.
        factory: Makes the actor, anew for each incarnation; called without arguments.
        restart: When it is started again.
        significant: Whether its own end counts for its supervisor's :class:`AutoShutdown`; not where it is permanent.
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
    factory: Callable[[], Actor[M]] = attrs.field(validator=validators.is_callable())
    restart: Restart = attrs.field(default=Restart.PERMANENT, validator=validators.instance_of(Restart))
    significant: bool = attrs.field(default=False, validator=validators.instance_of(bool))
    budget: Budget = attrs.field(default=Budget(), validator=validators.instance_of(Budget))
    when_exhausted: WhenExhausted = attrs.field(
        default=WhenExhausted.REPORT, validator=validators.instance_of(WhenExhausted)
    )
    backoff: Backoff = attrs.field(default=Backoff(), validator=validators.instance_of(Backoff))
    stable_after: float = attrs.field(default=60.0, validator=validators.ge(0))
    min_uptime: float = attrs.field(default=0.0, validator=validators.ge(0))
    start_timeout: float = attrs.field(default=30.0, validator=validators.gt(0))
    shutdown: float = attrs.field(default=DEFAULT_GRACE, validator=validators.ge(0))
    limits: Limits = attrs.field(default=Limits(), validator=validators.instance_of(Limits))
    mailbox: MailboxSpec = attrs.field(default=MailboxSpec(), validator=validators.instance_of(MailboxSpec))
    on_exit: Callable[[Exit], None] | None = None

    @property
    def own_grace(self) -> float:
        """Seconds that its stop hook may take when it ended by itself; a stop that is asked for brings its own."""
        return self.shutdown or DEFAULT_GRACE

    def __attrs_post_init__(self) -> None:
        """Refuse what can never happen."""
        _refuse_significant_permanent(self)


def _refuse_significant_permanent(spec: ChildSpec | SupervisorSpec) -> None:
    if spec.significant and spec.restart is Restart.PERMANENT:
        raise ValueError(
            f"child {spec.id!r} is significant and permanent: it is always restarted, so its end never counts; "
            "make it transient or temporary"
        )


def refusal_of(child: ChildSpec | SupervisorSpec, supervisor: SupervisorSpec) -> str | None:
    """Say why *supervisor* cannot have *child* among its children; None where it can."""
    if child.significant and supervisor.auto_shutdown is AutoShutdown.NEVER:
        return f"child {child.id!r} is significant, but the auto_shutdown of supervisor {supervisor.id!r} is never"
    return None


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
        auto_shutdown: Whether it ends with its significant children; never where it is dynamic.
        dynamic: Children come and go while it runs (:class:`StartChild`); they stop all at once.
        max_children: Bound for a dynamic supervisor.
        budget: Restarts of all its children together.
        restart, significant, own_budget, when_exhausted, backoff, stable_after, start_timeout, on_exit: As for an
            actor.
    """

    id: str = attrs.field(validator=_valid_id)
    children: tuple[ChildSpec | SupervisorSpec, ...] = attrs.field(default=(), validator=_are_specs)
    strategy: Strategy = attrs.field(default=Strategy.ONE_FOR_ONE, validator=validators.instance_of(Strategy))
    auto_shutdown: AutoShutdown = attrs.field(
        default=AutoShutdown.NEVER, validator=validators.instance_of(AutoShutdown)
    )
    dynamic: bool = attrs.field(default=False, validator=validators.instance_of(bool))
    max_children: float = attrs.field(default=math.inf, validator=validators.ge(0))
    budget: Budget = attrs.field(default=Budget(10, 60.0), validator=validators.instance_of(Budget))
    restart: Restart = attrs.field(default=Restart.PERMANENT, validator=validators.instance_of(Restart))
    significant: bool = attrs.field(default=False, validator=validators.instance_of(bool))
    own_budget: Budget = attrs.field(default=Budget(), validator=validators.instance_of(Budget))
    when_exhausted: WhenExhausted = attrs.field(
        default=WhenExhausted.REPORT, validator=validators.instance_of(WhenExhausted)
    )
    backoff: Backoff = attrs.field(default=Backoff(), validator=validators.instance_of(Backoff))
    stable_after: float = attrs.field(default=60.0, validator=validators.ge(0))
    start_timeout: float = attrs.field(default=math.inf, validator=validators.gt(0))
    on_exit: Callable[[Exit], None] | None = None

    @property
    def limits(self) -> Limits:
        """A supervisor has none: it waits for its children, who have theirs."""
        return NO_LIMITS

    @property
    def own_grace(self) -> float:
        """As long as its children take."""
        return math.inf

    def __attrs_post_init__(self) -> None:
        """Refuse what can never run."""
        _refuse_significant_permanent(self)
        named = Counter(child.id for child in self.children)
        if doubles := sorted(name for name, count in named.items() if count > 1):
            raise ValueError(f"supervisor {self.id!r} has more than one child named {', '.join(doubles)}")
        if self.dynamic and self.strategy is not Strategy.ONE_FOR_ONE:
            raise ValueError(f"supervisor {self.id!r} is dynamic, so its strategy can only be one_for_one")
        if self.dynamic and self.auto_shutdown is not AutoShutdown.NEVER:
            raise ValueError(f"supervisor {self.id!r} is dynamic, so its auto_shutdown can only be never")
        for child in self.children:
            if (refusal := refusal_of(child, self)) is not None:
                raise ValueError(refusal)
        self._refuse_bounds()

    def _refuse_bounds(self) -> None:
        if self.max_children != math.inf and not self.dynamic:
            raise ValueError(f"supervisor {self.id!r} has max_children but is not dynamic")
        if len(self.children) > self.max_children:
            raise ValueError(
                f"supervisor {self.id!r} has {len(self.children)} children but max_children {self.max_children:g}"
            )
