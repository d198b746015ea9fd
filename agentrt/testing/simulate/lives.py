"""Check of the lives of actors: how each one ended, and how long that took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from agentrt.kernel import Event
from agentrt.testing.simulate.plan import ActorPlan, Ending, SupervisorPlan
from agentrt.testing.simulate.world import EXITS, Life, Violation, World

#: Seconds between being cancelled and being pierced, and from there to being given up, as the kernel documents them.
PIERCED_AFTER, GIVEN_UP_AFTER = 6.0, 1.0
#: Seconds between being cancelled and being given up.
PATIENCE = PIERCED_AFTER + GIVEN_UP_AFTER
#: Ends that read as if nothing had gone wrong by itself.
_QUIET = frozenset({"completed", "stopped", "killed", "ignored"})
#: Ends of a supervisor that take its children along without any grace.
_CUT = frozenset({"killed", "crashed_during_stop", "zombie"})
#: Why an actor is stopped though its supervisor goes on.
_STOPPED_ALONE = ("asked for", "a sibling restarts")
#: Seconds by which two ways to add up the same floats may differ.
_TINY = 1e-6


def check(world: World) -> Iterator[Violation]:
    """Check every life of a run that is over."""
    cut = _cut_places(world)
    for life in world.lives:
        if life.end_event is not None and not life.ends_run:
            yield from _ends_as_told(life, life.end_event)
            yield from _has_its_grace(life, life.end_event, cut)
            yield from _keeps_its_limits(life, life.end_event)
    yield from _stop_order(world)
    yield from _stop_in_time(world)


# One life


def _ends_as_told(life: Life, end: Event) -> Iterator[Violation]:
    """What an actor knows of its own end is what its exit says."""
    kind, error = end.fields["exit"], str(end.fields["error"])
    told = f"{life} {kind} ({error})"
    if life.fault and kind in _QUIET and life.fault != "Ignore":
        yield Violation("an exit tells the truth", f"{told}, but raised {life.fault}")
    if kind == "crashed" and not (life.fault or error.startswith("LinkBroken")):
        yield Violation("an exit tells the truth", f"{told}, but raised nothing")
    if kind == "completed" and not life.is_own_end:
        yield Violation("an exit tells the truth", f"{told}, but did not come to an end by itself")
    if kind == "ignored" and life.fault != "Ignore":
        yield Violation("an exit tells the truth", f"{told}, but did not say so")
    if (kind == "stuck" and life.plan.limits.progress is None) or (
        kind == "timed_out" and life.plan.limits.total is None
    ):
        yield Violation("an exit tells the truth", f"{told}, but has no such limit")


def _has_its_grace(life: Life, end: Event, cut: dict[str, list[int]]) -> Iterator[Violation]:
    if life.stop_begun is None or life.end is None or life.stop_begun > life.end:
        return
    took = end.time - life.stop_at
    grace = life.plan.shutdown if not life.is_own_end else life.plan.shutdown or PIERCED_AFTER
    if took > grace + PATIENCE + _TINY:
        yield Violation("stops in time", f"{life} took {took:g} s to stop")
    # One that was busy was asked before its stop hook began, and one that is asked before it is up has no grace.
    was_idle = max(life.busy_until, life.up_at or 0.0) < life.stop_at
    if was_idle and not life.is_own_end and life.stop_cut is not None and life.stop_cut < life.stop_at + grace - _TINY:
        # Where a supervisor is cut short, so are its children.
        is_excused = life.fault or _is_cut(life.path, life.end, cut)
        if not is_excused:
            yield Violation("grace is granted", f"{life} was cut after {took:g} s of its {grace:g} s")


def _cut_places(world: World) -> dict[str, list[int]]:
    """Say where each supervisor ended in a way that takes its children along."""
    supervisors, top = world.supervisors(), world.top.id
    cut: defaultdict[str, list[int]] = defaultdict(list)
    for place, entry in enumerate(world.log):
        if entry.kind in EXITS and entry.path in supervisors:
            is_failed = str(entry.fields["error"]).startswith("LinkBroken")
            if entry.fields["exit"] in _CUT or is_failed:
                cut[entry.path].append(place)
        elif entry.kind == "tree failed":
            cut[top].append(place)
    return cut


def _is_cut(path: str, place: int, cut: dict[str, list[int]]) -> bool:
    while path := path.rpartition("/")[0]:
        if any(one > place for one in cut.get(path, ())):
            return True
    return False


def _keeps_its_limits(life: Life, end: Event) -> Iterator[Violation]:
    total = life.plan.limits.total
    if total is not None and life.up_at is not None:
        lasted = end.time - life.up_at
        if lasted > total + max(life.plan.shutdown, PIERCED_AFTER) + PATIENCE + _TINY:
            yield Violation("limits are kept", f"{life} lasted {lasted:g} s, with a limit of {total:g} s")


# The order


def _stop_order(world: World) -> Iterator[Violation]:
    """The children of a supervisor that ends stop in reverse, each when the later ones are down."""
    supervisors = world.supervisors()
    by_parent: defaultdict[str, list[Life]] = defaultdict(list)
    for life in world.lives:
        by_parent[life.path.rpartition("/")[0]].append(life)
    for path, begins, ends in _supervisor_lives(world):
        plan = supervisors[path]
        if plan.dynamic:
            continue
        # By the plan itself: somebody may have started another child by the name of one that is gone.
        index = {id(child): number for number, child in enumerate(plan.children)}
        last = {
            id(life.plan): life for life in by_parent[path] if begins < life.begun < ends and id(life.plan) in index
        }
        yield from _check_order(list(last.values()), index, ends)


def _supervisor_lives(world: World) -> Iterator[tuple[str, int, int]]:
    """Give the lives of supervisors that were not cut short: path, where it begins and where it ends."""
    supervisors, begins = world.supervisors(), dict.fromkeys(world.supervisors(), -1)
    for place, entry in enumerate(world.log):
        if entry.kind in EXITS and entry.path in supervisors:
            if entry.fields["exit"] not in _CUT and not str(entry.fields["error"]).startswith("LinkBroken"):
                yield entry.path, begins[entry.path], place
            begins[entry.path] = place


def _check_order(lives: list[Life], index: dict[int, int], ends: int) -> Iterator[Violation]:
    for life in lives:
        if life.stop_begun is None or life.is_own_end or life.end_event is None or life.end is None:
            continue
        # A zombie that comes so far is nobody's business any more.
        if life.stop_begun > life.end or str(life.end_event.fields["reason"]).startswith(_STOPPED_ALONE):
            continue
        for later in lives:
            is_later = index[id(later.plan)] > index[id(life.plan)]
            if is_later and later.end is not None and life.stop_begun < later.end < ends:
                yield Violation("stop order", f"{life} stops before {later}, which started after it")


# The whole run


def _stop_in_time(world: World) -> Iterator[Violation]:
    """The tree is down within the sum of the graces; zombies are known, and hold only the process."""
    asked, over = None, None
    for entry in world.log:
        if entry.kind == "stopping all" and asked is None:
            asked = entry
        elif entry.kind in {"run_held_by_zombies", "tree over"} and over is None:
            over = entry.time
    if asked is None or over is None:
        return
    is_killed = asked.fields["how"] == Ending.KILL.value
    bound = PATIENCE if is_killed else longest_stop(world)
    if over - asked.time > bound + _TINY:
        yield Violation("stops in time", f"the tree took {over - asked.time:g} s to stop, not {bound:g} s")


def longest_stop(world: World) -> float:
    """Add up what a stop in order may take, with every child that ever was."""
    guests: defaultdict[str, dict[str, ActorPlan]] = defaultdict(dict)
    for life in world.lives:
        guests[life.path.rpartition("/")[0]][life.plan.id] = life.plan
    return _longest_stop(world.top, world.top.id, guests)


def _longest_stop(plan: SupervisorPlan, path: str, guests: dict[str, dict[str, ActorPlan]]) -> float:
    children = {child.id: child for child in plan.children} | guests.get(path, {})
    each = [
        _longest_stop(child, f"{path}/{id_}", guests)
        if isinstance(child, SupervisorPlan)
        else child.shutdown + PATIENCE
        for id_, child in children.items()
    ]
    return max(each, default=0.0) if plan.dynamic else sum(each)
