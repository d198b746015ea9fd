"""Envelopes: a message on its way, with the one outcome that it will have; and messages that say what answers them."""

from __future__ import annotations

import enum
import math
import reprlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self

import outcome
import trio

from agentrt.kernel.errors import CallTimeout, MailboxFull

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from agentrt.kernel.cell import Cell
    from agentrt.kernel.serving import Serving

    M = TypeVar("M", default=Any)
    M_contra = TypeVar("M_contra", contravariant=True, default=Any)
else:
    from typing import TypeVar

    # The default is for type checkers, who know it also where Python does not.
    M = TypeVar("M")
    M_contra = TypeVar("M_contra", contravariant=True)

R = TypeVar("R")
Sent_co = TypeVar("Sent_co", covariant=True)
Reply_co = TypeVar("Reply_co", covariant=True)


class Request(Generic[R]):
    """Base of messages that are answered with an ``R``, so that a type checker knows what a call returns.

    ``class Balance(Request[int])`` makes ``await ref.call(Balance())`` an ``int``, and holds the handler of ``Balance``
    to it. At run time it does nothing.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __sent__(self) -> tuple[Self, R]:
            """Tie the message's own type to its answer's; it does not exist at run time."""
            raise NotImplementedError


class Asks(Protocol[Sent_co, Reply_co]):
    """For type checkers: a message of type ``Sent_co`` that is answered with a ``Reply_co``."""

    def __sent__(self) -> tuple[Sent_co, Reply_co]:
        """Exist for the type checker alone."""
        ...


class Stage(enum.Enum):
    """Where an envelope is."""

    QUEUED = "queued"
    STASHED = "stashed"
    IN_HAND = "in_hand"
    SETTLED = "settled"


class Envelope:
    """A message and the actor that it goes to.

    It is settled once, by one of the methods below, and whoever settles it first is the one that is counted. A
    :class:`Cast` is settled by whoever holds it, so it needs no stage to be asked about.
    """

    __slots__ = ()

    message: Any
    target: Cell
    #: The task that waits for the answer.
    caller: trio.lowlevel.Task | None = None
    #: For a call, the envelope whose handler waits for it; the chain of parents is the chain of calls.
    parent: Envelope | None = None
    #: Trio time after which nobody wants the answer.
    deadline: float = math.inf
    stage: Stage = Stage.QUEUED

    def move(self, stage: Stage) -> None:
        """Take down where it is now."""

    def answer(self, value: Any) -> None:
        """Settle it as answered."""
        if self._settle(outcome.Value(value)):
            self.target.counts.answered += 1

    def refuse(self, error: Exception) -> None:
        """Settle it as refused: the actor will not do what it asks for."""
        if self._settle(outcome.Error(error)):
            self.target.counts.refused += 1

    def fail(self, error: Exception) -> None:
        """Settle it as failed: something died over it."""
        if self._settle(outcome.Error(error)):
            self.target.counts.failed += 1

    def bury(self, error: Exception) -> bool:
        """Settle it as undelivered: nobody is left to handle it. Return whether it had no outcome before."""
        if not self._settle(outcome.Error(error)):
            return False
        self.target.counts.undelivered += 1
        return True

    def drop(self) -> None:
        """Settle it as pushed out of a full mailbox, which is where it is counted."""
        self._settle(outcome.Error(MailboxFull(f"{self.target.path}: dropped as the oldest message of a full mailbox")))

    def _settle(self, result: outcome.Outcome[Any], /) -> bool:
        raise NotImplementedError

    def __repr__(self) -> str:
        """Kind, message (cut short), target and where it is."""
        return f"<{type(self).__name__} {reprlib.repr(self.message)} to {self.target.path}, {self.stage.value}>"


class Cast(Envelope):
    """A message that nobody waits for.

    There is nothing to be said of most of them, so most lie in the mailbox as they are, and get an envelope only when
    they have to be kept: set aside, given back, or asked about by what their handler calls.

    Args:
        message: The message itself.
        target: The cell that it goes to.
    """

    __slots__ = ("message", "target")

    def __init__(self, message: Any, target: Cell) -> None:
        self.message = message
        self.target = target

    @property
    def crashes(self) -> int:
        """How many incarnations died over it."""
        return 0

    def _settle(self, _: outcome.Outcome[Any], /) -> bool:
        return True

    def __repr__(self) -> str:
        """Kind, message (cut short), target and what died over it."""
        over = f", {self.crashes} crashed over it" if self.crashes else ""
        return f"<{type(self).__name__} {reprlib.repr(self.message)} to {self.target.path}{over}>"


def enveloped(item: Any, target: Cell) -> Envelope:
    """Put what waits for *target* into an envelope, unless it lies in one."""
    return item if isinstance(item, Envelope) else Cast(item, target)


def is_settled(item: Any) -> bool:
    """Whether *item*, which waits, was settled already; what lies in no envelope was not."""
    return isinstance(item, Envelope) and item.stage is Stage.SETTLED


class Redelivered(Cast):
    """A cast over which incarnations died, and which the next one gets all the same."""

    __slots__ = ("_crashes",)

    def __init__(self, message: Any, target: Cell, crashes: int) -> None:
        super().__init__(message, target)
        self._crashes = crashes

    @property
    def crashes(self) -> int:
        """How many incarnations died over it."""
        return self._crashes


class Call(Envelope):
    """A message whose sender waits for the answer; it is a timer too, due at its deadline.

    Args:
        message: The message itself.
        target: The cell that it goes to.
        parent: The call or cast whose handler makes it.
        deadline: Trio time after which nobody wants the answer.
        caller: The task that waits.
    """

    __slots__ = ("caller", "deadline", "message", "parent", "stage", "target")

    caller: trio.lowlevel.Task

    def __init__(
        self, message: Any, target: Cell, parent: Envelope | None, deadline: float, caller: trio.lowlevel.Task
    ) -> None:
        self.message = message
        self.target = target
        self.parent = parent
        self.deadline = deadline
        self.caller = caller
        self.stage = Stage.QUEUED

    def move(self, stage: Stage) -> None:
        """Take down where it is now; nothing moves what is settled."""
        if self.stage is not Stage.SETTLED:
            self.stage = stage

    @property
    def is_pending(self) -> bool:
        """Whether its deadline still means something."""
        return self.stage is not Stage.SETTLED

    def fire(self) -> None:
        """Settle it as too late; a handler that works on it is cancelled."""
        stage = self._end()
        late = CallTimeout(f"no answer from {self.target.path} before the deadline")
        trio.lowlevel.reschedule(self.caller, outcome.Error(late))
        self.target.forsake(self, stage)

    def abandon(self, _: Any = None) -> trio.lowlevel.Abort:
        """Settle it because its caller was cancelled; a handler that works on it is cancelled too."""
        stage = self._end()
        self.target.runtime.timers.one_cancelled()
        self.target.forsake(self, stage)
        return trio.lowlevel.Abort.SUCCEEDED

    def _settle(self, result: outcome.Outcome[Any], /) -> bool:
        if self.stage is Stage.SETTLED:
            return False
        self._end()
        self.target.runtime.timers.one_cancelled()
        trio.lowlevel.reschedule(self.caller, result)
        return True

    def _end(self) -> Stage:
        stage, self.stage = self.stage, Stage.SETTLED
        # It may stay among the timers for a while, and a message may be large.
        self.message = self.parent = None
        return stage


#: Which actor's messages the current task handles; calls made from there inherit the deadline and the chain of the one
#: in hand. Set once for the loop that serves a mailbox, because to set it for each message costs as much as a message.
current_serving: ContextVar[Serving | None] = ContextVar("agentrt_current_serving", default=None)
