"""Plans: a tree, what is done to it and when, as pure data that can be written down, read back and cut smaller."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Iterator

import attrs
import cattrs
from attrs import validators
from cattrs.strategies import configure_tagged_union

from agentrt.kernel import (
    Actor,
    AutoShutdown,
    Budget,
    ChildSpec,
    MailboxSpec,
    Overflow,
    Restart,
    Strategy,
    SupervisorSpec,
    WhenExhausted,
)
from agentrt.policy.backoff import Backoff
from agentrt.policy.watchdog import Limits
from agentrt.testing.simulate.orders import Order

#: What stands for a setting that nobody drew: the plainest there is, which is what a plan is cut down to.
ENOUGH = Budget(500, 1.0)
AT_ONCE = Backoff(0.0, 1.0, 0.0)


@attrs.frozen(kw_only=True)
class ActorPlan:
    """One actor. What is not named here is as in :class:`~agentrt.kernel.ChildSpec`, but for plainer defaults.

    Args:
        capacity, overflow, stash, redeliveries: Of its mailbox.
        has_urgent: Urgent messages go before all others in its mailbox.
        runs: It has a ``run`` of its own, which serves the mailbox.
        beside: It has a task beside for as long as it lives.
    """

    id: str
    restart: Restart = Restart.PERMANENT
    significant: bool = False
    budget: Budget = ENOUGH
    when_exhausted: WhenExhausted = WhenExhausted.REPORT
    backoff: Backoff = AT_ONCE
    stable_after: float = 60.0
    min_uptime: float = 0.0
    start_timeout: float = 30.0
    shutdown: float = 5.0
    limits: Limits = Limits()
    capacity: int = 256
    overflow: Overflow = Overflow.BLOCK
    stash: int = 256
    redeliveries: int = 0
    has_urgent: bool = False
    runs: bool = False
    beside: bool = False

    def spec(self, factory: Callable[[ActorPlan], Actor], urgent: type) -> ChildSpec:
        """Make the spec, with *factory* for the actor and *urgent* for the messages that go first."""
        mailbox = MailboxSpec(
            capacity=self.capacity,
            overflow=self.overflow,
            stash=self.stash,
            redeliveries=self.redeliveries,
            priorities=(urgent,) if self.has_urgent else (),
        )
        settings = {name: getattr(self, name) for name in _OF_A_CHILD}
        return ChildSpec(**settings, mailbox=mailbox, factory=lambda: factory(self))


_OF_A_CHILD = frozenset(attrs.fields_dict(ActorPlan)) & frozenset(attrs.fields_dict(ChildSpec))


@attrs.frozen(kw_only=True)
class SupervisorPlan:
    """One supervisor; its settings are those of :class:`~agentrt.kernel.SupervisorSpec`, with plainer defaults.

    Args:
        max_children: None is without bound.
        start_timeout: None is without bound.
    """

    id: str
    children: tuple[ActorPlan | SupervisorPlan, ...] = ()
    strategy: Strategy = Strategy.ONE_FOR_ONE
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    dynamic: bool = False
    max_children: int | None = None
    budget: Budget = ENOUGH
    restart: Restart = Restart.PERMANENT
    significant: bool = False
    own_budget: Budget = ENOUGH
    when_exhausted: WhenExhausted = WhenExhausted.REPORT
    backoff: Backoff = AT_ONCE
    stable_after: float = 60.0
    start_timeout: float | None = None

    def spec(self, factory: Callable[[ActorPlan], Actor], urgent: type) -> SupervisorSpec:
        """Make the spec, as :meth:`ActorPlan.spec` does."""
        settings = {field.name: getattr(self, field.name) for field in attrs.fields(SupervisorPlan)}
        settings["children"] = tuple(child.spec(factory, urgent) for child in self.children)
        for bound in ("max_children", "start_timeout"):
            settings[bound] = math.inf if settings[bound] is None else settings[bound]
        return SupervisorSpec(**settings)

    def walk(self, above: str = "") -> Iterator[tuple[str, ActorPlan | SupervisorPlan]]:
        """Give all below it with their paths, each before what is below it."""
        path = f"{above}/{self.id}" if above else self.id
        for child in self.children:
            yield f"{path}/{child.id}", child
            if isinstance(child, SupervisorPlan):
                yield from child.walk(path)


class How(enum.Enum):
    """How a message is sent."""

    CALL = "call"
    CAST = "cast"
    CAST_NOWAIT = "cast_nowait"


class Verb(enum.Enum):
    """What a supervisor is asked for."""

    START = "start"
    TERMINATE = "terminate"
    RESTART = "restart"
    """Whatever it does."""
    REVIVE = "revive"
    """Restart it, but only where it is down."""
    DELETE = "delete"
    WHICH = "which"
    COUNT = "count"


class Ending(enum.Enum):
    """How the run is ended."""

    LEAVE = "leave"
    """Its block is left."""
    STOP = "stop"
    """``Runtime.stop``, and the block is left when the tree is down."""
    KILL = "kill"
    """``Runtime.kill``, for the second signal."""
    CANCEL = "cancel"
    """The whole block is cancelled from outside."""
    RAISE = "raise"
    """The block raises."""


@attrs.frozen(kw_only=True)
class Send:
    """Send an order to an actor, from outside the tree.

    Args:
        at: Seconds of virtual time.
        timeout: Of a call.
        patience: Seconds after which the sender itself is cancelled; None is never.
        count: How many of the same, at once.
        urgent: The message is one that goes first, where the mailbox knows that.
    """

    at: float
    path: str
    order: Order
    how: How = How.CALL
    timeout: float | None = None
    patience: float | None = None
    count: int = attrs.field(default=1, validator=validators.ge(1))
    urgent: bool = False

    def __str__(self) -> str:
        """Say it as a person would."""
        times = f"{self.count} times " if self.count > 1 else ""
        urgent = "urgent " if self.urgent else ""
        return f"{times}{urgent}{self.how.value} {self.path}: {self.order}{_limits(self)}"


@attrs.frozen(kw_only=True)
class Arm:
    """Have an actor's next starts, one order each, and its stops from now on do something.

    Armed at 0 it is there for the very first start.
    """

    at: float
    path: str
    starts: tuple[Order, ...] = ()
    stop: Order | None = None

    def __str__(self) -> str:
        """Say it as a person would."""
        told = [f"next starts: {', '.join(map(str, self.starts))}"] if self.starts else []
        told += [f"stops: {self.stop}"] if self.stop is not None else []
        return f"arm {self.path}, {'; '.join(told)}"


@attrs.frozen(kw_only=True)
class Admin:
    """Ask the supervisor at *path* to do something about its child *id*.

    Args:
        child: The child to start.
    """

    at: float
    path: str
    verb: Verb
    id: str = ""
    child: ActorPlan | None = None
    timeout: float | None = None
    patience: float | None = None

    def __str__(self) -> str:
        """Say it as a person would."""
        what = _describe(self.child) if self.child is not None else self.id
        return f"ask {self.path} to {self.verb.value} {what}{_limits(self)}"


def _limits(action: Send | Admin) -> str:
    limits = (("timeout", action.timeout), ("cancelled after", action.patience))
    return "".join(f", {name} {value:g} s" for name, value in limits if value is not None)


@attrs.frozen
class End:
    """End the run in the middle of it all."""

    at: float
    how: Ending


Action = Send | Arm | Admin


@attrs.frozen(kw_only=True)
class Plan:
    """One run, all of it.

    Args:
        seed: For the scheduler's order and the jitter of the backoffs.
        top: The tree.
        actions: What is done to it, by time.
        end: How the run ends before its time; None lets it calm down, be mended and stop.
    """

    seed: int
    top: SupervisorPlan
    actions: tuple[Action, ...] = ()
    end: End | None = None

    def to_json(self) -> str:
        """Write it down in one line; what is as by default is left out."""
        return json.dumps(_converter.unstructure(self, Plan), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read it back.

        Raises:
            ValueError: It is no plan; the message says where.
        """
        try:
            return _converter.structure(json.loads(text), cls)
        except cattrs.BaseValidationError as error:
            raise ValueError("; ".join(cattrs.transform_error(error))) from error

    def check(self) -> None:
        """See whether it could be carried out.

        Raises:
            ValueError: The settings of an actor or a supervisor cannot go together.
        """
        self.top.spec(_no_actor, Actor)
        for action in self.actions:
            if isinstance(action, Admin) and action.child is not None:
                action.child.spec(_no_actor, Actor)

    def describe(self) -> str:
        """Say it in lines that a person reads: the tree, and then what happens by time."""
        tree = [f"seed {self.seed}", _describe(self.top)]
        tree += [f"{'  ' * path.count('/')}{_describe(node)}" for path, node in self.top.walk()]
        told = [(action.at, str(action)) for action in self.actions]
        if self.end is not None:
            told.append((self.end.at, f"end: {self.end.how.value}"))
        return "\n".join(tree + [f"{at:>8g} s  {what}" for at, what in sorted(told, key=lambda one: one[0])])


def _no_actor(plan: ActorPlan) -> Actor:
    raise NotImplementedError(plan.id)


def _describe(node: ActorPlan | SupervisorPlan) -> str:
    told = [f"{node.id}:" if isinstance(node, SupervisorPlan) else node.id]
    for field in attrs.fields(type(node)):
        value = getattr(node, field.name)
        if field.name not in {"id", "children"} and value != field.default:
            told.append(field.name if value is True else f"{field.name} {_value(value)}")
    return ", ".join(told)


def _value(value: object) -> str:
    match value:
        case enum.Enum():
            return str(value.value)
        case Budget():
            return f"{value.max_restarts} in {value.max_seconds:g} s"
        case Backoff():
            low, high = value.jitter
            return f"{value.initial:g} s x {value.factor:g} to {value.maximum:g} s, x {low:g} to {high:g}"
        case Limits():
            limits = (("total", value.total), ("progress", value.progress))
            return " and ".join(f"{name} {seconds:g} s" for name, seconds in limits if seconds is not None)
        case float():
            return f"{value:g}"
    return str(value)


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(omit_if_default=True, forbid_extra_keys=True)
    configure_tagged_union(Action, converter, tag_name="do", tag_generator=lambda one: one.__name__.lower())
    configure_tagged_union(
        ActorPlan | SupervisorPlan,
        converter,
        tag_name="is",
        tag_generator=lambda one: one.__name__.removesuffix("Plan").lower(),
    )
    return converter


_converter = _make_converter()
