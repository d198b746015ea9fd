"""Check of what ties actors together: each monitor tells of one end, and who is linked shares a failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from agentrt.kernel import ActorRef
from agentrt.testing.simulate.lives import PATIENCE
from agentrt.testing.simulate.world import Life, Tie, Violation, World

#: Ends that break a link: of one that nobody asked to end.
_FAILURES = frozenset({"crashed", "stuck", "timed_out"})

_Lives = Mapping[tuple[ActorRef, int | None], Life]


def check(world: World) -> Iterator[Violation]:
    """Check the monitors and links of a run that is over."""
    lives: dict[tuple[ActorRef, int | None], Life] = {(life.ref, life.generation): life for life in world.lives}
    for life in world.lives:
        yield from _no_end_is_told_twice(life)
        if world.calm is not None and _lives_at(life, world.calm_place) and life.path not in world.busy:
            yield from _each_end_is_told(life, lives, world.calm_place)
        for tie in life.links:
            other = lives.get((tie.ref, tie.generation))
            if other is not None and tie.ref not in life.unlinked and life.ref not in other.unlinked:
                yield from _failure_is_shared(life, other, tie)
                yield from _failure_is_shared(other, life, tie)


def _lives_at(life: Life, place: int) -> bool:
    return life.up is not None and life.up < place and (life.end is None or life.end > place)


def _no_end_is_told_twice(life: Life) -> Iterator[Violation]:
    made = Counter(tie.ref for tie in life.monitors)
    for ref, told in Counter(tie.ref for tie in life.downs).items():
        if told > made[ref]:
            yield Violation("a monitor tells once", f"{life} was told {told} times of {ref.path}")


def _each_end_is_told(life: Life, lives: _Lives, place: int) -> Iterator[Violation]:
    """Whoever is idle was told of each end that he waited for."""
    ended: Counter[ActorRef] = Counter()
    for tie in life.monitors:
        other = lives.get((tie.ref, tie.generation))
        # Of a supervisor's lives nothing is known here.
        if tie.generation is None or (other is not None and not _lives_at(other, place)):
            ended[tie.ref] += 1
    told = Counter(tie.ref for tie in life.downs)
    for ref, count in ended.items():
        if told[ref] < count:
            yield Violation(
                "a monitor tells", f"{life} was told {told[ref]} times of {ref.path}, which ended {count} times"
            )


def _failure_is_shared(failed: Life, other: Life, tie: Tie) -> Iterator[Violation]:
    end = failed.end_event
    if end is None or failed.end is None or failed.end < tie.place or end.fields["exit"] not in _FAILURES:
        return
    # One that is asked to end already, or does not notice, has its time for that.
    by = end.time + other.plan.shutdown + PATIENCE
    if other.end_event is None or other.end_event.time > by:
        yield Violation("a failure is shared", f"{other} is linked to {failed}, which failed at {end.time:g}")
