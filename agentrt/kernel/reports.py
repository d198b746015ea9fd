"""Reports: what happened to an actor and how it goes on, in a few lines that a person reads."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from agentrt.kernel.exits import Exit

#: Levels of supervisors that a report goes down, and children that it names on each.
LEVELS = 10
CHILDREN_NAMED = 5


class Sequel(enum.Enum):
    """What a supervisor does about a child that failed."""

    RESTART = "restart"
    GIVE_UP = "give_up"
    """The child's own budget is spent."""
    ESCALATE = "escalate"
    """The supervisor's budget is spent."""


class BudgetLeft(NamedTuple):
    """How many restarts a budget of *max_restarts* in *max_seconds* had left at some moment."""

    left: int
    max_restarts: int
    max_seconds: float

    def __str__(self) -> str:
        """Say it as ``7 of 10 restarts left in 60 s``."""
        return f"{self.left} of {self.max_restarts} restarts left in {seconds(self.max_seconds)}"


class Outlook(NamedTuple):
    """How it goes on after an exit, as the supervisor decided it.

    Args:
        sequel: What it does.
        supervisor: Its path.
        own: What the child's own budget has left after this exit.
        shared: What the supervisor's budget has left after this exit.
        delay: Seconds until the child is restarted; None where it is not.
        attempt: Which restart that is since it last ran well, from 1; None where it is none.
    """

    sequel: Sequel
    supervisor: str
    own: BudgetLeft
    shared: BudgetLeft
    delay: float | None = None
    attempt: int | None = None

    def __str__(self) -> str:
        """Say it in one line, as ``restarted in 0.42 s, attempt 2; 1 of 3 restarts left in 30 s, 7 of 10 ...``."""
        left = f"{self.own}, {self.shared.left} of {self.shared.max_restarts} for {self.supervisor}"
        match self.sequel:
            case Sequel.RESTART:
                when = f"in {seconds(self.delay)}" if self.delay else "at once"
                return f"restarted {when}, attempt {self.attempt}; {left}"
            case Sequel.GIVE_UP:
                return f"given up; {left}"
            case Sequel.ESCALATE:
                return f"{self.supervisor} gives up; {left}"

    def fields(self) -> dict[str, Any]:
        """Say it as fields of an event, each a plain value."""
        fields: dict[str, Any] = {"restarts_left": self.own.left, "supervisor_restarts_left": self.shared.left}
        if self.delay is not None:
            fields |= {"delay": round(self.delay, 3), "attempt": self.attempt}
        return fields


def seconds(duration: float) -> str:
    """Write a duration with what matters of it: ``0.42 s``, ``12.3 s``, ``3600 s``."""
    return f"{round(duration, 2):g} s" if duration < 1000 else f"{duration:.0f} s"  # noqa: PLR2004 - four figures.


def lines_of(exit_: Exit, levels: int = LEVELS) -> Iterator[str]:
    """Tell an exit: how it ended and why, how it goes on, and what it comes from, the innermost last."""
    cause = exit_.cause
    yield f"{exit_.path} {exit_.kind.value} (generation {exit_.generation}, {_life(exit_)}){_why(exit_)}"
    if exit_.outlook is not None:
        yield f"  {exit_.outlook}"
    if exit_.suspected_masked is not None:
        yield f"  its cancellation took the place of {exit_.suspected_masked}, it seems"
    if cause is None:
        return
    yield from (f"  because of {one}" for one in cause.earlier())
    if cause.exits and levels > 1:
        yield from _others(cause.exits[:-1])
        yield from (f"  {line}" for line in lines_of(cause.exits[-1], levels - 1))
    elif cause.exits:
        yield "  ..."


def _life(exit_: Exit) -> str:
    return f"up {seconds(exit_.uptime)}" if exit_.started else "not started"


def _why(exit_: Exit) -> str:
    cause = exit_.cause
    if cause is None:
        return f": {exit_.reason}" if exit_.reason else ""
    # What the exits below it say is said there.
    text = f"{cause.type}: {cause.headline}" if cause.headline and cause.exits else str(cause)
    # What failed it from outside is both.
    return f": {text}" + (f" ({exit_.reason})" if exit_.reason and exit_.reason != str(cause) else "")


def _others(exits: Sequence[Exit]) -> Iterator[str]:
    """Name those that came before the last one, each kind of end of each child once, in the order of their last."""
    counts = Counter((one.path, one.kind.value, str(one.cause or one.reason)) for one in reversed(exits))
    named = list(counts.items())[:CHILDREN_NAMED]
    for (path, kind, why), count in reversed(named):
        yield f"  before: {path} {kind}" + (f" {count} times" if count > 1 else "") + (f": {why}" if why else "")
