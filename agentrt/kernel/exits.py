"""Exit records: how one incarnation of an actor ended, without keeping a frame alive."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import attrs

from agentrt.kernel.errors import (
    ActorDied,
    ChildGaveUp,
    DeathPact,
    KernelError,
    LinkBroken,
    RestartIntensityExceeded,
    StartFailed,
)
from agentrt.kernel.reports import Outlook, lines_of
from agentrt.kernel.tracebacks import PARTS_KEPT, Trace, cut, message_of

#: Characters of a message that a line shows.
MESSAGE_SHOWN = 300


class ExitKind(enum.Enum):
    """How an incarnation ended."""

    COMPLETED = "completed"
    """Its ``run`` returned."""
    CRASHED = "crashed"
    """An exception left it."""
    STOPPED = "stopped"
    """It was asked to stop and did, within its grace."""
    CRASHED_DURING_STOP = "crashed_during_stop"
    """It was asked to stop and an exception left it on the way."""
    KILLED = "killed"
    """It was cancelled: after its grace, or from outside the tree."""
    STUCK = "stuck"
    """It made no progress within its progress limit."""
    TIMED_OUT = "timed_out"
    """It took longer than its total limit."""
    IGNORED = "ignored"
    """Its start hook raised :class:`~agentrt.kernel.Ignore`: it is not needed."""
    ZOMBIE = "zombie"
    """It did not even end when cancelled, and is left behind."""


# A tuple, because to hash a member of an enum costs more than to compare it with three.
_NORMAL = (ExitKind.COMPLETED, ExitKind.STOPPED, ExitKind.IGNORED)


@attrs.frozen
class Cause:
    """An exception as it is kept: its type, message and the last frames of its traceback as text.

    It never holds the exception or a frame, because a frame keeps everything alive that its function knew. And it is
    bounded: an exception may say a whole transcript, or have a thousand others behind it.

    Args:
        type: The exception's class, by name.
        message: What it said, cut where it is very long.
        exits: The exits that it reports, where it is an error of the kernel, oldest first.
        headline: Its message without those; empty where there are none.
    """

    type: str
    message: str
    exits: tuple[Exit, ...] = ()
    headline: str = ""
    _trace: Trace | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def traceback(self) -> str:
        """The formatted traceback, formatted only when it is asked for."""
        return self._trace.format() if self._trace is not None else ""

    def __str__(self) -> str:
        """Type and message in one line."""
        said = " ".join(filter(None, map(str.strip, self.message.splitlines())))
        return f"{self.type}: {cut(said, MESSAGE_SHOWN)}" if said else self.type

    def earlier(self) -> Iterator[str]:
        """Name the exceptions that led to it, the nearest first."""
        return self._trace.earlier() if self._trace is not None else iter(())

    @classmethod
    def of(cls, error: BaseException) -> Cause:
        """Describe *error*; a group that holds a single exception is that exception.

        A user's class may do anything where it is looked into, also raise; then it is described by its name.
        """
        try:
            return cls._of(error)
        except Exception as broken:  # noqa: BLE001 - see above.
            return cls(type(error).__name__, f"<to look into it raised {type(broken).__name__}>")

    @classmethod
    def _of(cls, error: BaseException) -> Cause:
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        trace, name = Trace(error), type(error).__name__
        if isinstance(error, KernelError):
            return cls(name, trace.message, _exits_of(error), error.headline, trace)
        message = _members(error) if isinstance(error, BaseExceptionGroup) else trace.message
        return cls(name, message, (), "", trace)


def _members(error: BaseExceptionGroup[BaseException]) -> str:
    parts = list(leaves(error))
    named = [str(Cause(type(part).__name__, message_of(part))) for part in parts[:PARTS_KEPT]]
    more = [f"and {len(parts) - PARTS_KEPT} more"] if len(parts) > PARTS_KEPT else []
    return "; ".join(named + more)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Give what is in a group, at any depth; what is no group gives itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def _exits_of(error: BaseException) -> tuple[Exit, ...]:
    if isinstance(error, RestartIntensityExceeded):
        return error.exits
    if isinstance(error, (ChildGaveUp, StartFailed, ActorDied, DeathPact, LinkBroken)) and error.exit is not None:
        return (error.exit,)
    return ()


@attrs.frozen
class Exit:
    """The end of one incarnation.

    Args:
        path: The actor.
        generation: Which incarnation; counts from 1.
        kind: How it ended.
        reason: Who ended it and why, where somebody did.
        cause: The exception, where there was one.
        uptime: Seconds from started to ended; 0 when it never got to be started.
        started: Whether its start hook had returned.
        result: What ``run`` returned.
        ends_run: It raised KeyboardInterrupt or SystemExit, which is no crash of its own and ends the whole run.
        suspected_masked: The exception that a cancellation took the place of, where it seems that one did: the actor
            was on its way to crash when it was cancelled. It changes neither the kind nor what the supervisor does.
        outlook: How it goes on, where its supervisor had to decide about that; put in as soon as it did, which is after
            others were told of the exit.
    """

    path: str
    generation: int
    kind: ExitKind
    reason: str = ""
    cause: Cause | None = None
    uptime: float = 0.0
    started: bool = True
    result: Any = attrs.field(default=None, repr=False)
    ends_run: bool = False
    suspected_masked: Cause | None = None
    outlook: Outlook | None = attrs.field(default=None, eq=False)

    @classmethod
    def never_started(cls, path: str) -> Exit:
        """Stand for the end of an actor that never lived."""
        return cls(path, 0, ExitKind.STOPPED, "never started", started=False)

    def shallow(self) -> Exit:
        """Give it without the exits that led to it, each of which may have as many again."""
        if self.cause is None or not self.cause.exits:
            return self
        return attrs.evolve(self, cause=attrs.evolve(self.cause, exits=()))

    def foresee(self, outlook: Outlook) -> None:
        """Put in how it goes on, wherever this record is held; done once, by the supervisor."""
        object.__setattr__(self, "outlook", outlook)

    @property
    def is_abnormal(self) -> bool:
        """Whether a transient child is restarted after it."""
        return self.kind not in _NORMAL

    def summary(self) -> str:
        """Say it in one line: ``fleet/editor/inbox crashed (generation 2): ValueError: no``."""
        what = f"{self.path} {self.kind.value} (generation {self.generation})"
        why = str(self.cause) if self.cause is not None else self.reason
        return f"{what}: {why}" if why else what

    def report(self, indent: int = 0) -> str:
        """Say it in a few lines: its life, its cause, how it goes on, and the exits that led to it, innermost last."""
        return "\n".join(" " * indent + line for line in lines_of(self))
