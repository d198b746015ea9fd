"""The actor: what users and batteries subclass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from agentrt.kernel.errors import UnexpectedMessage
from agentrt.kernel.messages import current_serving

if TYPE_CHECKING:
    import random

    from agentrt.kernel.cell import Cell
    from agentrt.kernel.events import Event
    from agentrt.kernel.incarnation import Incarnation
    from agentrt.kernel.ref import ActorRef


@attrs.frozen
class ActorContext:
    """Where an actor stands: its cell, which outlives restarts, and its incarnation, which does not."""

    cell: Cell
    incarnation: Incarnation


class Actor:
    """Something with a mailbox that a supervisor starts, watches, restarts and stops.

    Each restart makes a new instance; the mailbox and the refs stay. An exception that leaves any of its methods, or a
    task that it spawned, is a crash. A cancellation never is.

    Override what you need. All of it runs in one task, one method at a time, except what is given to :meth:`spawn`.
    """

    context: ActorContext
    #: A stop is a message in the control lane, and ``run`` ends by itself; otherwise ``run`` is cancelled.
    stops_itself: ClassVar[bool] = False

    async def on_start(self) -> None:
        """Prepare; the actor counts as started, and its next sibling may start, when this returns."""

    async def run(self) -> object:
        """Live. By default: serve the mailbox until asked to stop.

        An override is cancelled when a stop is asked for. What it returns stands in the exit record.
        """
        await self.context.incarnation.serve()
        return None

    async def handle(self, message: Any) -> object:
        """Handle one message; what it returns answers a call.

        Raise :class:`~agentrt.kernel.Refusal` to answer with an error; any other exception is a crash.
        """
        raise UnexpectedMessage(f"{self.path} has no handler for {type(message).__name__}")

    async def on_stop(self) -> None:
        """Tidy up at an ordered end, within the grace; spawned tasks still run."""

    def spawn(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run *function* beside this actor until it ends; an exception in it is a crash of the actor.

        It belongs to no message: its calls do not inherit the deadline of the one that is handled now.
        """
        token = current_serving.set(None)
        try:
            self.context.incarnation.nursery.start_soon(function, *args)
        finally:
            current_serving.reset(token)

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
    def ref(self) -> ActorRef:
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
