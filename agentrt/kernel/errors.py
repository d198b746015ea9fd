"""What the kernel raises, each error named for its condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentrt.kernel.exits import Exit


class KernelError(Exception):
    """Base of all that the kernel raises by itself."""


class Refusal(KernelError):
    """Raised by a handler to answer its caller with an error without crashing the actor."""


class ActorDied(KernelError):
    """The actor that was asked died before it answered, or is gone for good.

    You do not get it for messages that wait in the mailbox of an actor that will be restarted: those stay.

    Attributes:
        path: The actor.
        generation: The incarnation that died; 0 where none was ever started.
        exit: Its exit record, where there is one.
    """

    def __init__(self, path: str, generation: int, exit_: Exit | None) -> None:
        detail = f": {exit_.summary()}" if exit_ is not None else ""
        super().__init__(f"{path} (generation {generation}) is gone{detail}")
        self.path = path
        self.generation = generation
        self.exit = exit_


class CallTimeout(KernelError, TimeoutError):
    """A call had no answer before its deadline; the callee's handler is cancelled."""


class CallCycle(KernelError):
    """A call would wait for an actor that already waits for the caller; raised at once, with the chain named."""

    def __init__(self, chain: tuple[str, ...]) -> None:
        super().__init__("call cycle: " + " -> ".join(chain))
        self.chain = chain


class MailboxFull(KernelError):
    """The mailbox has no room and does not wait for any."""


class UnexpectedMessage(KernelError):
    """An actor got a message that it has no handler for: a fault of the sender, answered and not a crash."""


class NoSuchChild(KernelError, LookupError):
    """A supervisor has no child of that name."""


class ChildExists(KernelError):
    """A supervisor has a child of that name already."""


class TooManyChildren(KernelError):
    """A dynamic supervisor is at its ``max_children``."""


class StartFailed(KernelError):
    """A child did not start: it raised, was cancelled or took too long.

    Attributes:
        path: The child.
        exit: Its exit record, with the cause.
    """

    def __init__(self, path: str, exit_: Exit) -> None:
        super().__init__(f"{path} did not start: {exit_.summary()}")
        self.path = path
        self.exit = exit_


class RestartIntensityExceeded(KernelError):
    """A supervisor restarted too often and gave up: restarting does not help, so the failure is its parent's.

    Attributes:
        path: The supervisor.
        exits: The exits of children that led here, oldest first.
    """

    def __init__(self, path: str, max_restarts: int, max_seconds: float, exits: tuple[Exit, ...]) -> None:
        last = f"; last: {exits[-1].summary()}" if exits else ""
        super().__init__(f"{path}: more than {max_restarts} restarts in {max_seconds:g} s{last}")
        self.path = path
        self.exits = exits


class ChildGaveUp(KernelError):
    """A child that its supervisor cannot do without spent its own restart budget.

    Attributes:
        path: The child.
        exit: Its last exit.
    """

    def __init__(self, path: str, exit_: Exit) -> None:
        super().__init__(f"{path} gave up: {exit_.summary()}")
        self.path = path
        self.exit = exit_


class TreeFailed(KernelError):
    """The root supervisor ended abnormally: nobody is left to mend it.

    Attributes:
        exit: The root's exit record.
    """

    def __init__(self, exit_: Exit) -> None:
        super().__init__(exit_.summary())
        self.exit = exit_
