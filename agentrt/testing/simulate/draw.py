"""Drawing plans: from a number, a tree and what befalls it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

from agentrt.kernel import AutoShutdown, Budget, Overflow, Restart, Strategy, WhenExhausted
from agentrt.policy.backoff import Backoff
from agentrt.policy.watchdog import Limits
from agentrt.testing.simulate.orders import Does, Order
from agentrt.testing.simulate.plan import (
    AT_ONCE,
    ENOUGH,
    Action,
    ActorPlan,
    Admin,
    Arm,
    End,
    Ending,
    How,
    Plan,
    Send,
    SupervisorPlan,
    Verb,
)

T = TypeVar("T")

#: Actions of a plan, on the average.
ACTIONS = 25
#: Levels of supervisors, at most.
DEPTH = 3
#: Actors of a tree, at most; more of them would only meet less.
ACTORS = 9
#: Levels of orders in orders, at most.
NESTED = 2
#: Pauses between actions: mostly none or a round figure, so that much falls on the same moment and on a window's edge.
PAUSES = (0.0, 0.0, 0.0, 0.25, 0.5, 1.0, 1.0, 2.0, 4.0)
_SMALL = (Budget(0, 5.0), Budget(1, 2.0), Budget(1, 5.0), Budget(2, 4.0), Budget(3, 10.0))
_BACKOFFS = (
    AT_ONCE,
    Backoff(0.5, 2.0, 4.0, jitter=(1.0, 1.0)),
    Backoff(1.0, 1.0, 1.0, jitter=(1.0, 1.0)),
    Backoff(1.0, 2.0, 8.0),
    Backoff(0.25, 3.0, 6.0, jitter=(1.0, 1.5)),
)
_RESTARTS = (*[Restart.PERMANENT] * 3, *[Restart.TRANSIENT] * 2, Restart.TEMPORARY)


def draw(seed: int, *, actions: int = ACTIONS) -> Plan:
    """Draw the plan of *seed*.

    Args:
        seed: The same gives the same plan.
        actions: How many actions there are, on the average.
    """
    chance = _Chance(random.Random(seed))  # noqa: S311 - faults, no secret.
    trees = _Trees(chance)
    top = trees.supervisor("top", "top", 1)
    faults = _Faults(chance, trees)
    drawn = faults.actions(int(chance.between(actions / 2, actions * 3 / 2)))
    return Plan(seed=seed, top=top, actions=tuple(drawn), end=faults.end())


class _Chance:
    """Draws from a seeded source."""

    def __init__(self, source: random.Random) -> None:
        self._draw = source.random

    def one(self, choices: Sequence[T]) -> T:
        """Draw one of *choices*."""
        return choices[int(self._draw() * len(choices))]

    def maybe(self, chance: float) -> bool:
        """Say yes with that *chance*."""
        return self._draw() < chance

    def between(self, low: float, high: float) -> float:
        """Draw a number."""
        return low + (high - low) * self._draw()


class _Trees:
    """Draws trees.

    Attributes:
        actors: Their paths.
        children: The names of the children of each supervisor, by its path.
    """

    def __init__(self, chance: _Chance) -> None:
        self._chance = chance
        self._is_generous = chance.maybe(0.45)
        self.actors: list[str] = []
        self.children: dict[str, list[str]] = {}

    def supervisor(self, id_: str, path: str, depth: int) -> SupervisorPlan:
        one, maybe = self._chance.one, self._chance.maybe
        dynamic = maybe(0.25)
        shutdown = AutoShutdown.NEVER if dynamic or maybe(0.7) else one(_SHUTDOWNS)
        self.children[path] = names = []
        children: list[ActorPlan | SupervisorPlan] = []
        for number in range(one((1, 2, 2, 3, 3, 4))):
            if len(self.actors) >= ACTORS:
                break
            is_significant = shutdown is not AutoShutdown.NEVER and maybe(0.6)
            if depth < DEPTH and maybe(0.3):
                names.append(f"s{number}")
                child: ActorPlan | SupervisorPlan = self.supervisor(names[-1], f"{path}/{names[-1]}", depth + 1)
            else:
                names.append(f"a{number}")
                self.actors.append(f"{path}/{names[-1]}")
                child = self.actor(names[-1])
            children.append(_significant(child) if is_significant else child)
        return SupervisorPlan(
            id=id_,
            children=tuple(children),
            strategy=Strategy.ONE_FOR_ONE if dynamic else one(tuple(Strategy)),
            auto_shutdown=shutdown,
            dynamic=dynamic,
            max_children=len(children) + one((0, 1, 2)) if dynamic and maybe(0.5) else None,
            budget=self._budget(0.5),
            restart=one(_RESTARTS),
            own_budget=self._budget(0.5),
            when_exhausted=self._when_exhausted(),
            backoff=one(_BACKOFFS),
            stable_after=one((60.0, 5.0)),
            start_timeout=one((None, None, 3.0, 60.0)),
        )

    def actor(self, id_: str) -> ActorPlan:
        one, maybe = self._chance.one, self._chance.maybe
        restart = one(_RESTARTS)
        # A total limit ends even a calm actor again and again, so only one that is not restarted has it.
        total = 30.0 if restart is Restart.TEMPORARY and maybe(0.5) else None
        return ActorPlan(
            id=id_,
            restart=restart,
            budget=self._budget(0.3),
            when_exhausted=self._when_exhausted(),
            backoff=one(_BACKOFFS),
            stable_after=one((60.0, 2.0)),
            min_uptime=one((0.0, 0.0, 1.0)),
            start_timeout=one((30.0, 2.0)),
            shutdown=one((5.0, 1.0, 0.0)),
            limits=Limits(total=total, progress=one((None, None, 3.0, 10.0))),
            capacity=one((1, 2, 3, 256)),
            overflow=one(tuple(Overflow)),
            stash=one((256, 1)),
            redeliveries=one((0, 0, 0, 1, 2)),
            has_urgent=maybe(0.3),
            runs=maybe(0.5),
            beside=maybe(0.4),
        )

    def _budget(self, small: float) -> Budget:
        return self._chance.one(_SMALL) if not self._is_generous and self._chance.maybe(small) else ENOUGH

    def _when_exhausted(self) -> WhenExhausted:
        return WhenExhausted.ESCALATE if self._chance.maybe(0.25) else WhenExhausted.REPORT


def _significant(child: ActorPlan | SupervisorPlan) -> ActorPlan | SupervisorPlan:
    if child.restart is Restart.PERMANENT:
        return child
    if isinstance(child, ActorPlan):
        # A total limit would end its supervisor again and again.
        child = attrs.evolve(child, limits=Limits(progress=child.limits.progress))
    return attrs.evolve(child, significant=True)


class _Faults:
    """Draws what befalls a tree."""

    def __init__(self, chance: _Chance, trees: _Trees) -> None:
        self._chance = chance
        self._trees = trees
        self._supervisors = tuple(trees.children)
        self._now = 0.0

    def actions(self, count: int) -> list[Action]:
        """Draw *count* of them, by time."""
        kinds: tuple[Callable[[], Action], ...] = (self._send, self._arm, self._admin)
        # How much there is of each kind is drawn too, so that plans differ in character.
        shares = [share * self._chance.one((0.0, 0.5, 1.0, 3.0)) + 0.05 for share in (4.0, 1.0, 1.0)]
        lots = [kind for kind, share in zip(kinds, shares, strict=True) for _ in range(round(20 * share))]
        drawn: list[Action] = [self._arm()] if self._chance.maybe(0.2) else []
        while len(drawn) < count:
            self._now += self._chance.one(PAUSES)
            drawn.append(self._chance.one(lots)())
        return drawn

    def end(self) -> End | None:
        """Draw whether and how the run ends before its time."""
        if self._chance.maybe(0.65):
            return None
        at = self._chance.between(0.0, self._now)
        return End(at if self._chance.maybe(0.3) else float(round(at)), self._chance.one(_ENDINGS))

    def _send(self) -> Send:
        one, maybe = self._chance.one, self._chance.maybe
        how = one((How.CALL, How.CALL, How.CAST, How.CAST_NOWAIT))
        is_call = how is How.CALL
        return Send(
            at=self._now,
            path=self._target(),
            order=self._order(),
            how=how,
            timeout=one((None, None, 0.5, 1.0, 6.0)) if is_call else None,
            # A cast may wait for room, and has no deadline of its own.
            patience=one((None, None, None, 0.0, 1.0, 3.0)) if is_call else one((8.0, 0.5)),
            count=one((1, 1, 1, 1, 2, 5)),
            urgent=maybe(0.2),
        )

    def _target(self) -> str:
        if self._chance.maybe(0.03):
            return self._chance.one(self._supervisors)
        if not self._trees.actors or self._chance.maybe(0.05):
            return f"{self._chance.one(self._supervisors)}/{self._guest()}"
        return self._chance.one(self._trees.actors)

    def _guest(self) -> str:
        return self._chance.one(("g0", "g1", "g2"))

    def _order(self, depth: int = 0) -> Order:
        one, maybe = self._chance.one, self._chance.maybe
        does = one(_ORDERS)
        if does is Does.EXIT and not maybe(0.1):
            does = Does.CRASH
        if does not in _NESTED:
            return self._deed(does)
        if depth > NESTED:
            return Order(Does.ANSWER)
        return Order(
            does,
            seconds=one(_SECONDS) if does in _LATER else 0.0,
            path=self._target() if does not in _LATER else "",
            then=self._order(depth + 1) if does not in _TIES else None,
            timeout=one((None, None, 1.0, 4.0)) if does is Does.ASK else None,
            strict=maybe(0.3),
        )

    def _deed(self, does: Does) -> Order:
        if does in {Does.SHIELD, Does.SWALLOW}:
            return Order(does, seconds=self._chance.one((0.5, 2.0, 8.0, 20.0)))
        return Order(does, seconds=self._chance.one(_SECONDS) if does is Does.SLEEP else 0.0)

    def _arm(self) -> Arm:
        one = self._chance.one
        starts = tuple(self._deed(one(_AT_START)) for _ in range(one((0, 1, 1, 2, 3))))
        stop = self._deed(one(_AT_STOP)) if not starts or self._chance.maybe(0.4) else None
        return Arm(at=self._now, path=self._target(), starts=starts, stop=stop)

    def _admin(self) -> Admin:
        one = self._chance.one
        path, verb = one(self._supervisors), one(_VERBS)
        names = self._trees.children[path]
        if verb is Verb.START:
            # An actor is not to take the place of a supervisor.
            names = [name for name in names if f"{path}/{name}" not in self._trees.children]
        # To delete a child of the plan would leave less to look at; to start one that is there is an error.
        is_guest = not names or self._chance.maybe({Verb.START: 0.85, Verb.DELETE: 1.0}.get(verb, 0.2))
        id_ = self._guest() if is_guest else one(names)
        return Admin(
            at=self._now,
            path=path,
            verb=verb,
            id=id_,
            child=self._trees.actor(id_) if verb is Verb.START else None,
            timeout=one((None, None, 1.0)),
            patience=one((None, None, None, 0.0, 2.0)),
        )


_SHUTDOWNS = (AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT)
_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0)
#: Orders that others are in: of what comes later, of messages, and of what ties actors together.
_LATER = frozenset({Does.BESIDE, Does.LATER, Does.AGAIN})
_TIES = frozenset({Does.MONITOR, Does.LINK, Does.UNLINK})
_NESTED = frozenset({Does.ASK, Does.TELL}) | _LATER | _TIES
_ENDINGS = (Ending.LEAVE, Ending.STOP, Ending.STOP, Ending.KILL, Ending.CANCEL, Ending.RAISE)
_VERBS = (
    *[Verb.START] * 3,
    *[Verb.TERMINATE] * 3,
    *[Verb.RESTART] * 3,
    Verb.REVIVE,
    Verb.REVIVE,
    Verb.DELETE,
    Verb.WHICH,
    Verb.COUNT,
)
_ORDERS = (
    *[Does.CRASH] * 9,
    *[Does.ASK] * 7,
    *[Does.ANSWER] * 3,
    *[Does.TELL, Does.BESIDE, Does.SLEEP, Does.LATER] * 2,
    Does.AGAIN,
    Does.HANG,
    Does.SHIELD,
    Does.SWALLOW,
    Does.REFUSE,
    Does.MISTAKE,
    Does.COMPLETE,
    Does.PROGRESS,
    Does.STASH,
    Does.UNSTASH,
    Does.MONITOR,
    Does.LINK,
    Does.UNLINK,
    Does.TERMINATE,
    Does.RESTART,
    Does.EXIT,
)
_AT_START = (*[Does.CRASH] * 3, Does.SLEEP, Does.HANG, Does.SHIELD, Does.SWALLOW, Does.COMPLETE, Does.IGNORE)
_AT_STOP = (Does.CRASH, Does.SLEEP, Does.SLEEP, Does.HANG, Does.SHIELD, Does.SWALLOW)
