"""The census: the children of a supervisor in lists and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from agentrt.kernel.children import Child, ChildState
from agentrt.kernel.spec import ChildSpec, ChildType

if TYPE_CHECKING:
    from agentrt.kernel.ref import ActorRef


@attrs.frozen
class ChildInfo:
    """One child, as :class:`~agentrt.kernel.WhichChildren` lists it; *ref* is None where no incarnation lives."""

    id: str
    ref: ActorRef | None
    state: ChildState
    type: ChildType


@attrs.frozen
class ChildCounts:
    """How many children there are.

    Args:
        specs: All of them.
        active: Those with a living incarnation.
        supervisors: Those that are supervisors, whether they live or not.
        workers: The others.
    """

    specs: int
    active: int
    supervisors: int
    workers: int


@attrs.frozen
class ChildStatistics:
    """One child in figures.

    Args:
        state: What it does.
        restarts: How often this incarnation of its supervisor restarted it, siblings' restarts included.
        restarts_left: What its own budget has left.
        backoff_until: When it is restarted, in Trio time; None where it does not wait for that.
    """

    state: ChildState
    restarts: int
    restarts_left: int
    backoff_until: float | None


@attrs.frozen
class SupervisorStatistics:
    """One incarnation of a supervisor in figures.

    Args:
        states: How many children do what; states that nobody is in are left out.
        restarts: Units of its budget that were spent in all, each one however many siblings it took along.
        restarts_left: What its budget has left.
        escalations: How often a supervisor among its children failed because it could not mend what was below it.
        children: Each child, by name, in start order.
    """

    states: Mapping[ChildState, int]
    restarts: int
    restarts_left: int
    escalations: int
    children: Mapping[str, ChildStatistics]


def listed(children: Iterable[Child]) -> tuple[ChildInfo, ...]:
    """List *children* in their order."""
    return tuple(
        ChildInfo(one.spec.id, one.cell.ref if one.is_alive else None, one.state, _type_of(one)) for one in children
    )


def counted(children: Iterable[Child]) -> ChildCounts:
    """Count *children*."""
    types, active = Counter[ChildType](), 0
    for child in children:
        types[_type_of(child)] += 1
        active += child.is_alive
    return ChildCounts(types.total(), active, types[ChildType.SUPERVISOR], types[ChildType.WORKER])


def in_figures(child: Child, now: float) -> ChildStatistics:
    """Say in figures how *child* is at *now*."""
    return ChildStatistics(child.state, child.restarts, child.budget_left(now).left, child.backoff_until(now))


def _type_of(child: Child) -> ChildType:
    return ChildType.WORKER if isinstance(child.spec, ChildSpec) else ChildType.SUPERVISOR
