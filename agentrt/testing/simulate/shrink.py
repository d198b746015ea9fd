"""Shrinking: from a plan that breaks a promise to a small one that breaks it too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from agentrt.testing.simulate.orders import Order
from agentrt.testing.simulate.plan import Action, ActorPlan, Admin, Plan, Send, SupervisorPlan

Fails = Callable[[Plan], bool]


def shrink(plan: Plan, fails: Fails, *, seconds: float = 30.0) -> Plan:
    """Cut *plan* smaller for as long as *fails* says that it still does, until nothing more can be cut.

    Args:
        plan: A plan that fails.
        fails: Carries a plan out and says whether it fails in the same way.
        seconds: After which the smallest one so far has to do; by the real clock.
    """
    until = time.monotonic() + seconds
    cutter = _Cutter(fails, lambda: time.monotonic() < until)
    before: Plan | None = None
    while plan != before:
        before = plan
        plan = cutter.cut_actions(plan)
        for cuts in (_without_nodes, _without_end, _simpler_actions, _plainer_nodes, _earlier):
            plan = cutter.cut(plan, cuts)
    return plan


class _Cutter:
    """Tries smaller plans."""

    def __init__(self, fails: Fails, has_time: Callable[[], bool]) -> None:
        self._fail = fails
        self._has_time = has_time

    def _fails(self, plan: Plan) -> bool:
        try:
            plan.check()
        except ValueError:
            # Settings of a supervisor and of its children hang together, and only one was taken out.
            return False
        return self._fail(plan)

    def cut(self, plan: Plan, cuts: Callable[[Plan], Iterator[Plan]]) -> Plan:
        """Take each of *cuts* that still fails, and go on from there."""
        tried = 0
        while self._has_time():
            for smaller in _from(cuts(plan), tried):
                if not self._has_time():
                    return plan
                if self._fails(smaller):
                    plan = smaller
                    break
                tried += 1
            else:
                return plan
        return plan

    def cut_actions(self, plan: Plan) -> Plan:
        """Take out as many actions as can be: halves first, then quarters, and at last single ones (ddmin)."""
        actions, size = plan.actions, max(1, len(plan.actions) // 2)
        while size and self._has_time():
            start = 0
            while start < len(actions) and self._has_time():
                fewer = actions[:start] + actions[start + size :]
                if self._fails(attrs.evolve(plan, actions=fewer)):
                    actions = fewer
                else:
                    start += size
            size //= 2
        return attrs.evolve(plan, actions=actions)


def _from(plans: Iterator[Plan], start: int) -> Iterator[Plan]:
    """Leave out those that were tried; what comes before the place of a cut stays as it was."""
    for number, plan in enumerate(plans):
        if number >= start:
            yield plan


# The tree


def _without_nodes(plan: Plan) -> Iterator[Plan]:
    """Leave out one child and all below it, and whatever is done to it."""
    for path, _ in plan.top.walk():
        top = _changed(plan.top, plan.top.id, path, None)
        left = tuple(action for action in plan.actions if not _concerns(action, path))
        yield attrs.evolve(plan, top=top, actions=left)


def _concerns(action: Action, path: str) -> bool:
    target = f"{action.path}/{action.id}" if isinstance(action, Admin) else action.path
    return f"{target}/".startswith(f"{path}/") or f"{action.path}/".startswith(f"{path}/")


def _plainer_nodes(plan: Plan) -> Iterator[Plan]:
    """Set one setting of one actor or supervisor to its default."""
    for path, node in [(plan.top.id, plan.top), *plan.top.walk()]:
        for plainer in _plainer(node):
            yield attrs.evolve(plan, top=_changed(plan.top, plan.top.id, path, plainer))


def _plainer(node: Any) -> Iterator[Any]:
    for field in attrs.fields(type(node)):
        if field.name in {"id", "children", "path", "order", "at", "verb", "child", "does", "then"}:
            continue
        if getattr(node, field.name) != field.default:
            try:
                yield attrs.evolve(node, **{field.name: field.default})
            except ValueError:
                # Some settings hang together.
                continue


def _changed(node: SupervisorPlan, here: str, path: str, new: ActorPlan | SupervisorPlan | None) -> SupervisorPlan:
    """Put *new* where *path* is, or nothing."""
    if here == path:
        assert isinstance(new, SupervisorPlan)
        return new
    children: list[ActorPlan | SupervisorPlan] = []
    for child in node.children:
        below = f"{here}/{child.id}"
        if below == path:
            children += [new] if new is not None else []
        elif isinstance(child, SupervisorPlan) and path.startswith(f"{below}/"):
            children.append(_changed(child, below, path, new))
        else:
            children.append(child)
    return attrs.evolve(node, children=tuple(children))


# What befalls it


def _without_end(plan: Plan) -> Iterator[Plan]:
    if plan.end is not None:
        yield attrs.evolve(plan, end=None)


def _simpler_actions(plan: Plan) -> Iterator[Plan]:
    """Simplify one action: its settings, its orders."""
    for number, action in enumerate(plan.actions):
        for simpler in _simpler(action):
            yield _with_action(plan, number, simpler)


def _simpler(action: Action) -> Iterator[Action]:
    yield from _plainer(action)
    if isinstance(action, Send):
        for order in _simpler_orders(action.order):
            yield attrs.evolve(action, order=order)
    elif isinstance(action, Admin):
        for child in _plainer(action.child) if action.child is not None else ():
            yield attrs.evolve(action, child=child)
    else:
        for place in range(len(action.starts)):
            yield attrs.evolve(action, starts=action.starts[:place] + action.starts[place + 1 :])


def _simpler_orders(order: Order) -> Iterator[Order]:
    if order.then is not None:
        yield order.then
        for then in _simpler_orders(order.then):
            yield attrs.evolve(order, then=then)
    yield from _plainer(order)


def _earlier(plan: Plan) -> Iterator[Plan]:
    """Leave out a pause between two actions, or halve it."""
    times = [0.0, *(action.at for action in plan.actions)]
    for number in range(len(plan.actions)):
        pause = times[number + 1] - times[number]
        for less in (pause, pause % 1, pause / 2):
            # Halves go down to what a person reads at a glance.
            if less > 1 / 8 or (less and less == pause):
                yield _shifted(plan, number, less)


def _shifted(plan: Plan, first: int, seconds: float) -> Plan:
    moved = tuple(
        attrs.evolve(action, at=action.at - seconds) if number >= first else action
        for number, action in enumerate(plan.actions)
    )
    end = plan.end
    if end is not None and end.at >= plan.actions[first].at:
        end = attrs.evolve(end, at=end.at - seconds)
    return attrs.evolve(plan, actions=moved, end=end)


def _with_action(plan: Plan, number: int, action: Action) -> Plan:
    actions: Sequence[Action] = [*plan.actions[:number], action, *plan.actions[number + 1 :]]
    return attrs.evolve(plan, actions=tuple(actions))
