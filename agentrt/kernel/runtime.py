"""The runtime: one tree, its timers, its events and its source of chance."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, overload

import attrs
import trio

from agentrt.kernel.actor import Actor
from agentrt.kernel.cell import Cell
from agentrt.kernel.children import Child, ChildState, tell_hook
from agentrt.kernel.errors import NoSuchChild, TreeFailed
from agentrt.kernel.events import EventStream
from agentrt.kernel.exits import Cause, Exit
from agentrt.kernel.incarnation import Incarnation
from agentrt.kernel.launch import grace_of, launch, patience_of, stack_of, time_stop
from agentrt.kernel.mailbox_spec import MailboxSpec
from agentrt.kernel.messages import M
from agentrt.kernel.ref import ActorRef
from agentrt.kernel.spec import ChildSpec, SupervisorSpec
from agentrt.kernel.supervisor import Supervisor
from agentrt.kernel.timers import Timers


@attrs.frozen
class Node:
    """One actor in a picture of the tree.

    Args:
        restarts_left: What its own budget has left; None for the root, which nobody restarts.
        supervisor_restarts_left: For a supervisor that lives, what its budget for all its children has left.
        next_attempt_in: Seconds until it is restarted; None where it does not wait for that.
    """

    name: str
    path: str
    kind: str
    state: str
    generation: int
    restarts: int
    waiting: int
    seconds_since_progress: float | None
    last_exit: Exit | None
    children: tuple[Node, ...] = ()
    restarts_left: int | None = None
    supervisor_restarts_left: int | None = None
    next_attempt_in: float | None = None

    def walk(self) -> Iterator[Node]:
        """Give this node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


class Runtime:
    """Runs one tree of actors. Use :func:`open_runtime`.

    Attributes:
        events: What happens, for whoever listens.
        random: The run's source of chance.
        timers: The run's timers.
        nursery: Where all incarnations run, while the tree does.
        zombies: Exits of incarnations that could not be ended. A process that has some cannot end in order.
        body: Around what runs beside the tree: cancelled when the tree fails under it.
    """

    nursery: trio.Nursery

    def __init__(self, root: SupervisorSpec, *, seed: int | None = None, events: EventStream | None = None) -> None:
        self.events = events or EventStream()
        self.random = random.Random(seed)  # noqa: S311 - jitter, no secret.
        self.timers = Timers(self._timer_failed)
        self.events.now = self.timers.now
        self.zombies: list[Exit] = []
        self.body = trio.CancelScope()
        self._root = Child(root, Cell(root.id, None, self, MailboxSpec()))
        self._started = trio.Event()
        self._down = trio.Event()
        self._over = trio.Event()
        self._exit: Exit | None = None
        self._was_up = False
        self._ends_run: BaseException | None = None
        self._stop_reason: str | None = None

    # What incarnations say

    def factory_of(self, spec: ChildSpec | SupervisorSpec) -> Callable[[], Actor]:
        """Say how an incarnation of *spec* is made."""
        return spec.factory if isinstance(spec, ChildSpec) else partial(Supervisor, spec)

    def pierced(self, incarnation: Incarnation, shields: int, reason: str) -> None:
        """Take down that the shields of an incarnation that does not end were taken off, with its stack."""
        self.events.emit(
            "actor_pierced",
            incarnation.cell.path,
            generation=incarnation.generation,
            shields=shields,
            reason=reason,
            stack=stack_of(incarnation),
        )

    def zombie_left(self, incarnation: Incarnation, exit_: Exit) -> None:
        """Take down that an incarnation cannot be ended, with its stack."""
        self.zombies.append(exit_)
        self.events.emit(
            "actor_zombie", exit_.path, generation=exit_.generation, reason=exit_.reason, stack=stack_of(incarnation)
        )

    def zombie_ended(self, incarnation: Incarnation, exit_: Exit) -> None:
        """Take down that a zombie ended after all."""
        self.zombies.remove(exit_)
        self.events.emit("actor_zombie_ended", exit_.path, generation=incarnation.generation)

    def _timer_failed(self, error: Exception) -> None:
        cause = Cause.of(error)
        self.events.emit("timer_failed", self._root.cell.path, error=str(cause), traceback=cause.traceback)

    def end_run(self, error: BaseException) -> None:
        """End the run in order, and raise *error* from it at the end."""
        if self._ends_run is None:
            self._ends_run = error
        self.stop(f"{type(error).__name__}")

    # What the composition root uses

    @overload
    def ref(self, path: str) -> ActorRef: ...

    @overload
    def ref(self, path: str, kind: type[Actor[M]]) -> ActorRef[M]: ...

    def ref(self, path: str, kind: type[Actor[Any]] | None = None) -> ActorRef:
        """Find an actor by its path.

        Args:
            path: As ``fleet/editor/inbox``.
            kind: Its class, for a ref that takes its messages alone, as type checkers see it.

        Raises:
            NoSuchChild: There is none.
            TypeError: The actor that lives there is of another class.
        """
        first, *names = path.split("/")
        cell = self._root.cell if first == self._root.cell.name else None
        for name in names:
            cell = cell.below.get(name) if cell is not None else None
        if cell is None:
            raise NoSuchChild(f"no actor at {path!r}")
        if kind is not None and (actor := cell.ref.actor) is not None and not isinstance(actor, kind):
            raise TypeError(f"{path} is of class {type(actor).__name__}, not {kind.__name__}")
        return cell.ref

    def stop(self, reason: str) -> None:
        """Ask the tree to stop in order; asked twice does no harm."""
        if self._stop_reason is None:
            self._stop_reason = reason
            if self._root.incarnation is not None:
                time_stop(self._root.incarnation, reason, grace_of(self._root))

    def kill(self, reason: str) -> None:
        """Cancel all that can be cancelled, without any grace: for the second signal."""
        self._stop_reason = self._stop_reason or reason
        if self._root.incarnation is not None:
            self._root.incarnation.kill(reason)

    async def wait(self) -> Exit:
        """Wait until the tree is down; return the root's exit.

        Returns also when there are :attr:`zombies`; :func:`open_runtime` does not end while they live.
        """
        await self._down.wait()
        assert self._exit is not None
        return self._exit

    def tree(self) -> Node:
        """Draw the tree as it is now."""
        return attrs.evolve(_node(self._root, trio.current_time()), restarts_left=None)

    # Its life

    async def run(self) -> None:
        """Run the tree until it is down. Done once, by :func:`open_runtime`.

        Shielded: a cancellation from outside asks for an ordered stop, which the graces bound.
        """
        try:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as timing:
                    # Outside: where the tree is broken, it takes a timer to give up who will never tell of his end.
                    timing.start_soon(self.timers.run, name="agentrt timers")
                    async with trio.open_nursery() as self.nursery:
                        await self._run_tree()
                    timing.cancel_scope.cancel(reason="agentrt: the run is over")
        finally:
            # Also where the kernel itself is broken: nobody waits for what will not come.
            self._started.set()
            self._over.set()

    async def _run_tree(self) -> None:
        launch(self._root, self)
        if self._stop_reason is not None:
            self.kill(self._stop_reason)
        await self._down.wait()
        if self.zombies:
            self.events.emit("run_held_by_zombies", self._root.cell.path, zombies=[one.path for one in self.zombies])
        self.nursery.cancel_scope.cancel(reason="agentrt: the tree is down")

    patience_of = staticmethod(patience_of)

    def has_started(self, _: Incarnation) -> None:
        """Take down that the root is started."""
        if self._stop_reason is None:
            self._root.state = ChildState.RUNNING
            self._was_up = True
            self._started.set()

    def has_ended(self, _: Incarnation, exit_: Exit) -> None:
        """Take down that the root ended."""
        self._exit = exit_
        tell_hook(self._root, exit_, self.events)
        self._root.state = ChildState.DOWN
        self._root.cell.close()
        self._started.set()
        self._down.set()
        if exit_.is_abnormal or self._ends_run is not None:
            self.body.cancel(reason=f"agentrt: {exit_.summary()}")

    async def wait_started(self) -> bool:
        """Wait until the tree is started, or will never be; say which.

        One that was started and shut down by itself since counts as started: there is an outcome to look at.
        """
        await self._started.wait()
        return self._was_up and (self._exit is None or not self._exit.is_abnormal)

    async def finish(self) -> None:
        """Stop in order and wait until nothing is left; a caller that is cancelled waits all the same."""
        self.stop("the run is over")
        with trio.CancelScope(shield=True):
            await self._over.wait()

    def raise_outcome(self, failure: BaseException | None, *, was_started: bool) -> None:
        """Raise what the run has to end with: what an actor meant for the process, the body's failure, the root's."""
        if self._ends_run is not None:
            raise self._ends_run
        assert self._exit is not None
        tree_failed = self._exit.is_abnormal or not was_started
        if failure is not None:
            if tree_failed:
                failure.add_note(f"The tree failed too: {self._exit.summary()}")
            raise failure
        if tree_failed:
            raise TreeFailed(self._exit)


def _node(child: Child, now: float) -> Node:
    cell, incarnation = child.cell, child.incarnation
    actor = incarnation.actor if incarnation is not None else None
    backoff_until = child.backoff_until(now)
    return Node(
        name=cell.name,
        path=cell.path,
        kind=type(actor).__name__ if actor is not None else incarnation.kind if incarnation is not None else "",
        state=child.state.value,
        generation=cell.generation,
        restarts=child.restarts,
        waiting=len(cell.mailbox),
        seconds_since_progress=incarnation.seconds_since_progress if incarnation is not None else None,
        last_exit=cell.last_exit,
        children=tuple(_node(one, now) for one in cell.children.values()),
        restarts_left=child.budget_left(now).left,
        supervisor_restarts_left=actor.restarts_left if isinstance(actor, Supervisor) and child.is_alive else None,
        next_attempt_in=backoff_until - now if backoff_until is not None else None,
    )


@asynccontextmanager
async def open_runtime(
    root: SupervisorSpec, *, seed: int | None = None, events: EventStream | None = None
) -> AsyncIterator[Runtime]:
    """Start a tree; on leaving, stop it in order.

    A cancellation from outside is a stop in order too: it takes as long as the graces need. :meth:`Runtime.kill` is for
    whoever cannot wait. While there are zombies it does not return, because Trio cannot abandon a task: then
    :meth:`Runtime.wait` returned, and there was an event ``run_held_by_zombies``.

    Args:
        root: The supervisor at the top.
        seed: For jitter and whatever else is drawn; None draws one.
        events: Where events go.

    Raises:
        TreeFailed: The root did not start, or ended abnormally.
    """
    runtime = Runtime(root, seed=seed, events=events)
    failure: BaseException | None = None
    was_started = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runtime.run, name="agentrt runtime")
        try:
            was_started = await runtime.wait_started()
            if was_started:
                with runtime.body:
                    yield runtime
        except BaseException as raised:  # noqa: BLE001, ASYNC103 - raised below, outside the nursery.
            failure = raised
        await runtime.finish()
    runtime.raise_outcome(failure, was_started=was_started)
