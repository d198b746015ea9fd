"""What the log tells of one child of one life of its supervisor."""

from __future__ import annotations

import enum

import attrs

from agentrt.kernel import Event, Restart
from agentrt.testing.simulate.budget_model import ROUNDED, OwnRestarts
from agentrt.testing.simulate.plan import ActorPlan, SupervisorPlan
from agentrt.testing.simulate.world import Life

_NORMAL = frozenset({"completed", "stopped"})


class Status(enum.Enum):
    """Where a child is, as far as the log tells."""

    FRESH = "not started yet"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting for its restart"
    DOWN = "down"
    DONE = "done"
    EXHAUSTED = "exhausted"
    IGNORED = "ignored"


#: Where a child still has to come up.
NOT_UP = frozenset({Status.FRESH, Status.STARTING, Status.WAITING})
#: Where it stays until somebody asks for it.
FINAL = frozenset({Status.DONE, Status.EXHAUSTED, Status.IGNORED})
#: Where it lives.
LIVES = frozenset({Status.STARTING, Status.RUNNING})


@attrs.define(eq=False)
class Record:
    """One child.

    What somebody asked for and what happened at the same moment may have met in either order; then there is a doubt
    about the child until something happens to it at a later one.

    Attributes:
        is_wanted: It is to run.
        is_cycled: It is to be stopped and started: a sibling's restart takes it along, or somebody asked for it.
        is_on_trial: Somebody waits for its start, and where that fails it is down.
        is_forgotten: Its record goes when it is down.
        was_up: It was started in this life of its supervisor.
        attempts: What its backoff may have counted; more than one figure where the log leaves it open.
        due: Before when it must not be restarted.
        doubt: The moment that leaves a doubt.
        is_open: Nobody can tell what was asked for last.
    """

    plan: ActorPlan | SupervisorPlan
    path: str
    index: int
    restarts: OwnRestarts
    is_guest: bool = False
    status: Status = Status.FRESH
    is_wanted: bool = True
    is_cycled: bool = False
    is_on_trial: bool = False
    is_forgotten: bool = False
    was_up: bool = False
    attempts: set[int] = attrs.field(factory=lambda: {0})
    due: float = 0.0
    doubt: float | None = None
    is_open: bool = False

    @classmethod
    def of(cls, plan: ActorPlan | SupervisorPlan, path: str, index: int, *, is_guest: bool = False) -> Record:
        """Begin with a full budget."""
        budget = plan.budget if isinstance(plan, ActorPlan) else plan.own_budget
        return cls(plan, path, index, OwnRestarts(budget), is_guest, is_on_trial=is_guest)

    @property
    def is_sure(self) -> bool:
        """Whether the log leaves no doubt about it."""
        return self.doubt is None and not self.is_open

    @property
    def may_have_been_started(self) -> bool:
        """Whether it may live though the log does not say so: not before its start hook begins, if it has one."""
        is_next = self.status in {Status.FRESH, Status.WAITING}
        return is_next and (isinstance(self.plan, SupervisorPlan) or self.status is Status.FRESH)

    def happened(self, now: float) -> None:
        """Drop a doubt about an earlier moment."""
        if self.doubt is not None and now > self.doubt:
            self.doubt = None

    def may_be_left(self, event: Event, life: Life | None) -> set[bool]:
        """Say whether its restart type lets it be after such an end; both, where that is a matter of rounding."""
        if self.plan.restart is not Restart.TRANSIENT:
            return {self.plan.restart is Restart.TEMPORARY}
        if event.fields["exit"] not in _NORMAL:
            return {False}
        least = self.plan.min_uptime if isinstance(self.plan, ActorPlan) else 0.0
        return _reaches(event, life, least)

    def count_attempt(self, event: Event, life: Life | None) -> None:
        """Count one more attempt, from the beginning where the last run was good."""
        was_good = {True} if life is not None and life.progressed else _reaches(event, life, self.plan.stable_after)
        before = self.attempts if False in was_good else set()
        self.attempts = {attempt + 1 for attempt in before | ({0} if True in was_good else set())}


def _reaches(event: Event, life: Life | None, least: float) -> set[bool]:
    """Say whether the uptime is *least* or more; both, where only the event tells it, which is rounded."""
    if life is not None and life.up_at is not None:
        return {event.time - life.up_at >= least}
    uptime = event.fields["uptime"]
    return {uptime - slack >= least for slack in (-ROUNDED, ROUNDED)} if uptime else {least <= 0}
