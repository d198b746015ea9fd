"""Exit records: how one incarnation of an actor ended, without keeping a frame alive."""

from __future__ import annotations

import enum
import traceback
from typing import Any

import attrs

from agentrt.kernel.errors import ActorDied, ChildGaveUp, RestartIntensityExceeded, StartFailed

#: Frames kept of a traceback, the innermost ones.
TRACEBACK_FRAMES = 20


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
    ZOMBIE = "zombie"
    """It did not even end when cancelled, and is left behind."""


_NORMAL = frozenset({ExitKind.COMPLETED, ExitKind.STOPPED})


@attrs.frozen
class Cause:
    """An exception as it is kept: its type, message and the last frames of its traceback as text.

    It never holds the exception or a frame, because a frame keeps everything alive that its function knew.
    """

    type: str
    message: str
    exits: tuple[Exit, ...] = ()
    _report: traceback.TracebackException | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def traceback(self) -> str:
        """The formatted traceback, formatted only when it is asked for."""
        return "".join(self._report.format()) if self._report is not None else ""

    def __str__(self) -> str:
        """Type and message in one line."""
        return f"{self.type}: {self.message}" if self.message else self.type

    @classmethod
    def of(cls, error: BaseException) -> Cause:
        """Describe *error*; a group that holds a single exception is that exception."""
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        report = traceback.TracebackException(
            type(error), error, error.__traceback__, limit=-TRACEBACK_FRAMES, lookup_lines=False, compact=True
        )
        return cls(type(error).__name__, _message(error), _exits_of(error), report)


def _message(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(str(Cause.of(part)) for part in error.exceptions)
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may do anything.
        return f"<its __str__ raised {type(broken).__name__}>"


def _exits_of(error: BaseException) -> tuple[Exit, ...]:
    if isinstance(error, RestartIntensityExceeded):
        return error.exits
    if isinstance(error, (ChildGaveUp, StartFailed, ActorDied)) and error.exit is not None:
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
        """Say it with the chain of exits that led to it, one line each, innermost last."""
        lines = [" " * indent + self.summary()]
        if self.cause is not None:
            lines += [exit_.report(indent + 2) for exit_ in self.cause.exits]
        return "\n".join(lines)
