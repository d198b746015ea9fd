"""What the kernel raises, each error named for its condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from agentrt.kernel.exits import Exit
    from agentrt.kernel.ref import ActorRef


class KernelError(Exception):
    """Base of all that the kernel raises by itself.

    Attributes:
        headline: For one that reports exits, its message without them; a report tells those in lines of their own.
    """

    headline: str = ""


class Refusal(KernelError):
    """Raised by a handler to answer its caller with an error without crashing the actor."""


class Ignore(KernelError):
    """Raised by ``on_start``: this actor is not needed, which is neither a failure nor a run.

    Its spec stays with no incarnation until somebody restarts it, its siblings go on starting, and whoever calls it is
    told at once. Raised anywhere else it is a crash.
    """


class ActorDied(KernelError):
    """The actor that was asked died before it answered, is gone for good, or is being stopped for good.

    You do not get it for messages that wait in the mailbox of an actor that will be restarted: those stay.

    Attributes:
        path: The actor.
        generation: The incarnation that died; 0 where none was ever started.
        exit: Its exit record, where there is one; None where it is only being stopped.
    """

    def __init__(self, path: str, generation: int, exit_: Exit | None, what: str = "is gone") -> None:
        self.headline = f"{path} (generation {generation}) {what}"
        super().__init__(f"{self.headline}: {exit_.summary()}" if exit_ is not None else self.headline)
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


class StashFull(KernelError):
    """An actor stashed more messages than its stash holds."""


class UnexpectedMessage(KernelError):
    """An actor got a message that it has no handler for: a fault of the sender, answered and not a crash."""


class DeathPact(KernelError):
    """An actor that it monitored ended, and it has no handler for the :class:`~agentrt.kernel.Down`.

    Attributes:
        path: The actor that ended.
        exit: Its exit record.
    """

    def __init__(self, path: str, exit_: Exit) -> None:
        super().__init__(f"no handler for the Down of {path} ({exit_.kind.value})")
        self.path = path
        self.exit = exit_


class LinkBroken(KernelError):
    """An actor that it is linked to failed, so it fails too.

    Attributes:
        path: The other actor.
        exit: Its exit record.
    """

    def __init__(self, path: str, exit_: Exit) -> None:
        super().__init__(f"linked to {path} ({exit_.kind.value})")
        self.path = path
        self.exit = exit_


class AlreadyRegistered(KernelError):
    """A registry of unique keys has this one already.

    Attributes:
        key: The key.
        ref: The actor that has it.
    """

    def __init__(self, key: Hashable, ref: ActorRef) -> None:
        super().__init__(f"{key!r} is taken by {ref.path}")
        self.key = key
        self.ref = ref


class NoSuchChild(KernelError, LookupError):
    """A supervisor has no child of that name."""


class ChildExists(KernelError):
    """A supervisor has a child of that name already: an :class:`AlreadyStarted` or an :class:`AlreadyPresent` one.

    Attributes:
        path: The child.
    """

    def __init__(self, path: str, state: str) -> None:
        supervisor, _, name = path.rpartition("/")
        super().__init__(f"{supervisor} has a child {name!r} already ({state})")
        self.path = path


class AlreadyStarted(ChildExists):
    """The child of that name runs, or is on its first way up.

    Attributes:
        ref: The one that has the name.
    """

    def __init__(self, ref: ActorRef, state: str) -> None:
        super().__init__(ref.path, state)
        self.ref = ref


class AlreadyPresent(ChildExists):
    """The child of that name does not run: it is down, on its way down, or on its way back."""


class ChildRunning(KernelError):
    """What was asked for needs a child that is down, and this one runs."""

    def __init__(self, path: str, state: str) -> None:
        super().__init__(f"{path} is not down ({state})")
        self.path = path


class ChildRestarting(KernelError):
    """What was asked for needs a child that is down, and this one is on its way back."""

    def __init__(self, path: str, state: str) -> None:
        super().__init__(f"{path} is being restarted ({state})")
        self.path = path


class TooManyChildren(KernelError):
    """A dynamic supervisor is at its ``max_children``."""


class StartFailed(KernelError):
    """A child did not start: it raised, was cancelled or took too long.

    Attributes:
        path: The child.
        exit: Its exit record, with the cause.
    """

    def __init__(self, path: str, exit_: Exit) -> None:
        self.headline = f"{path} did not start"
        super().__init__(f"{self.headline}: {exit_.summary()}")
        self.path = path
        self.exit = exit_


class RestartIntensityExceeded(KernelError):
    """A supervisor restarted too often and gave up: restarting does not help, so the failure is its parent's.

    Attributes:
        path: The supervisor.
        exits: The exits of children that led here, oldest first.
    """

    def __init__(self, path: str, max_restarts: int, max_seconds: float, exits: tuple[Exit, ...]) -> None:
        self.headline = f"{path}: more than {max_restarts} restarts in {max_seconds:g} s"
        super().__init__(f"{self.headline}; last: {exits[-1].summary()}" if exits else self.headline)
        self.path = path
        self.exits = exits


class ChildGaveUp(KernelError):
    """A child that its supervisor cannot do without spent its own restart budget.

    Attributes:
        path: The child.
        exit: Its last exit.
    """

    def __init__(self, path: str, exit_: Exit) -> None:
        self.headline = f"{path} gave up"
        super().__init__(f"{self.headline}: {exit_.summary()}")
        self.path = path
        self.exit = exit_


class ActorHung(KernelError):
    """An actor held the event loop in one step for too long, and was interrupted where it stood.

    Raised in the actor's own code, and only where the interrupt is switched on.

    Attributes:
        actor: Its path and generation, as ``fleet/editor/inbox #2``.
        seconds: How long it was seen to hold the loop.
    """

    def __init__(self, actor: str, seconds: float) -> None:
        super().__init__(f"{actor} held the event loop for {seconds:.1f} s without a checkpoint")
        self.actor = actor
        self.seconds = seconds


class TreeFailed(KernelError):
    """The root supervisor ended abnormally: nobody is left to mend it. Its text is the report of that exit.

    Attributes:
        exit: The root's exit record.
    """

    def __init__(self, exit_: Exit) -> None:
        super().__init__(exit_.report())
        self.exit = exit_
