"""The actor: what users and batteries subclass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVarTuple

from agentrt.kernel.clockwork import Timer
from agentrt.kernel.errors import DeathPact, UnexpectedMessage
from agentrt.kernel.handlers import Receivers, handlers_of
from agentrt.kernel.messages import M
from agentrt.kernel.notices import living
from agentrt.kernel.watching import Down, Monitor, link, unlink

if TYPE_CHECKING:
    import random

    from agentrt.kernel.cell import Cell
    from agentrt.kernel.events import Event
    from agentrt.kernel.incarnation import Incarnation
    from agentrt.kernel.ref import ActorRef

Args = TypeVarTuple("Args")


class ActorContext(NamedTuple):
    """Where an actor stands: its cell, which outlives restarts, and its incarnation, which does not."""

    cell: Cell
    incarnation: Incarnation


class Actor(Generic[M]):
    """Something with a mailbox that a supervisor starts, watches, restarts and stops.

    Each restart makes a new instance; the mailbox and the refs stay. An exception that leaves any of its methods, or a
    task that it spawned, is a crash. A cancellation never is.

    Messages go to the methods that :func:`~agentrt.kernel.handles` names, by their class, else to :meth:`handle`. An
    ``Actor[M]`` takes messages of type ``M``, which type checkers hold its handlers and its refs to.

    Override what you need. All of it runs in one task, one method at a time, except what is given to :meth:`spawn`.
    """

    context: ActorContext
    #: A stop is a message in the control lane, and ``run`` ends by itself; otherwise ``run`` is cancelled.
    stops_itself: ClassVar[bool] = False
    _handlers: ClassVar[dict[type, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the handlers."""
        super().__init_subclass__(**kwargs)
        cls._handlers = handlers_of(cls)

    async def on_start(self) -> None:
        """Prepare; the actor counts as started, and its next sibling may start, when this returns.

        Raise :class:`~agentrt.kernel.Ignore` to say that the actor is not needed; any other exception is a crash.
        """

    async def run(self) -> object:
        """Live. By default: serve the mailbox until asked to stop.

        An override is cancelled when a stop is asked for. What it returns stands in the exit record.
        """
        await self.context.incarnation.serve()
        return None

    def receivers(self) -> Receivers:
        """Make the table that tells what handles a message; asked for once, when the mailbox is served."""
        return Receivers(self, self._handlers)

    async def handle(self, message: M) -> object:
        """Handle a message that has no handler of its own; what it returns answers a call.

        Raise :class:`~agentrt.kernel.Refusal` to answer with an error; any other exception is a crash. By default each
        message is refused, but a :class:`~agentrt.kernel.Down` is a crash: who watched cannot go on as if nothing were.
        """
        if isinstance(message, Down):
            raise DeathPact(message.ref.path, message.exit)
        raise UnexpectedMessage(f"{self.path} has no handler for {type(message).__name__}")

    async def on_stop(self) -> None:
        """Tidy up at an ordered end, within the grace; spawned tasks still run."""

    def spawn(self, function: Callable[[*Args], Awaitable[object]], *args: *Args) -> None:
        """Run *function* beside this actor until it ends; an exception in it is a crash of the actor.

        It belongs to no message: its calls do not inherit the deadline of the one that is handled now.
        """
        self.context.incarnation.spawn(function, args)

    def stash(self) -> None:
        """Set the message in hand aside, unanswered, until :meth:`unstash_all`; return from the handler after it.

        Nothing is lost when the actor crashes: what was stashed waits for the next incarnation, in its order.

        Raises:
            StashFull: The stash has no room; ``MailboxSpec(stash=…)`` sets it.
        """
        self.context.incarnation.serving.stash()

    def unstash_all(self) -> int:
        """Have all that was stashed handled next, in its order; return how many messages that are.

        Each goes before all others of its own priority.

        Raises:
            ActorDied: This incarnation was given up; what was stashed is its successor's.
        """
        return living(self).cell.mailbox.unstash()

    def monitor(self, ref: ActorRef[Any]) -> Monitor:
        """Be told once, by a message :class:`~agentrt.kernel.Down`, when the present incarnation of an actor ended.

        At once where none lives. The message goes before all others and is never lost nor refused, but it is only for
        this incarnation of the watcher. Each call makes one more monitor. An end that is followed by a restart is an
        end too: to be told of the next one, monitor again. ``ref.wait_gone()`` waits for the end for good.
        """
        return Monitor(living(self), ref)

    def link(self, ref: ActorRef[Any]) -> None:
        """Share a failure: when this incarnation or the present one of another actor fails, the other crashes too.

        It crashes with :class:`~agentrt.kernel.LinkBroken`, which its own supervisor deals with. Who completed, or was
        asked to end, has not failed, however that went. Two actors have one link, whoever made it, and however often;
        it goes with either incarnation.

        Raises:
            ActorDied: The other is down, stops, or fails just now.
            ValueError: The other is this actor.
        """
        link(self, ref)

    def unlink(self, ref: ActorRef[Any]) -> None:
        """Share failures with the present incarnation of *ref* no more; nothing happens where there is no link."""
        unlink(self, ref)

    def send_after(self, delay: float, message: M) -> Timer:
        """Send *message* to this incarnation after *delay* seconds, unless it ended before.

        It waits among the ordinary messages, whatever the mailbox's fill. One that stops handles no more messages.

        Raises:
            ValueError: *delay* is less than 0 or not a number.
        """
        return Timer.after(living(self), delay, message)

    def send_every(self, interval: float, message: M) -> Timer:
        """Send *message* to this incarnation every *interval* seconds, as :meth:`send_after` does, until it ends.

        The beats are whole intervals apart, however late one was; one is skipped where the last still waits. With an
        interval of a second or more, each may be up to 20 ms late, so that the beats of many actors come together.

        Raises:
            ValueError: *interval* is not more than 0, or not a number.
        """
        return Timer.every(living(self), interval, message)

    def progress(self, what: str = "") -> None:
        """Say that the work moved: the progress watchdog and the restart backoff begin anew.

        A heartbeat is not progress: call it where something was done that brings the end nearer.
        """
        self.context.incarnation.mark_progress(what)

    def emit(self, kind: str, /, *, cause: Event | int | None = None, **fields: Any) -> Event:
        """Publish an event about this actor."""
        cell = self.context.cell
        return cell.runtime.events.emit(kind, cell.path, cause, **fields)

    @property
    def name(self) -> str:
        """Its id among its siblings."""
        return self.context.cell.name

    @property
    def path(self) -> str:
        """Its place in the tree, as ``fleet/editor/inbox``."""
        return self.context.cell.path

    @property
    def generation(self) -> int:
        """Which incarnation this is; counts from 1."""
        return self.context.incarnation.generation

    @property
    def ref(self) -> ActorRef[M]:
        """The address that outlives restarts."""
        return self.context.cell.ref

    @property
    def random(self) -> random.Random:
        """The run's source of chance, seeded in tests."""
        return self.context.cell.runtime.random

    def __repr__(self) -> str:
        """Name, generation and state."""
        context = getattr(self, "context", None)
        if context is None:
            return f"<{type(self).__name__}, not started>"
        return f"<{type(self).__name__} {self.path} generation {self.generation} {context.incarnation.state}>"
