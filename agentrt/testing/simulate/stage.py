"""The stage: a plan is carried out on a real runtime, in virtual time, in the order that its seed draws."""

from __future__ import annotations

import gc
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial

import trio

from agentrt.kernel import ActorRef, KernelError, NoSuchChild, Runtime, TreeFailed, open_runtime
from agentrt.kernel._trio_internals import deterministic, throw_away
from agentrt.testing.simulate.clock import NeverEnds, Watch
from agentrt.testing.simulate.mail import ask, call, cast
from agentrt.testing.simulate.orders import Does, Order
from agentrt.testing.simulate.plan import Action, Admin, Arm, Ending, How, Plan, Send, Verb
from agentrt.testing.simulate.puppet import make
from agentrt.testing.simulate.world import Urgent, World

#: Seconds after which all that the faults left behind is over: backoffs, graces, deadlines, zombies.
CALM = 400.0
#: Seconds that an idle actor has to answer in a calm tree.
PING = 1.0
#: One plan in so many is looked through for actors that are kept though they ended, which takes as long as the run.
LOOKED_THROUGH = 100


class LeftByError(Exception):
    """What the block around the runtime is left by, where the plan wants it so."""


def carry_out(plan: Plan) -> World:
    """Carry out *plan* and return what was seen.

    Raises:
        ValueError: The plan cannot be carried out; see :meth:`Plan.check`.
    """
    plan.check()
    world = World(plan.top, make)
    stage = _Stage(plan, world)
    watch = Watch()
    with deterministic(plan.seed):
        try:
            trio.run(stage.main, clock=watch.clock, instruments=[watch])
        except Exception as error:  # noqa: BLE001 - nothing leaves the runtime but what the plan wants, which is caught.
            cause = error.__cause__
            if isinstance(cause, NeverEnds):
                world.break_off("the run ends", str(cause))
                _throw_away(cause)
            else:
                world.break_off("nothing breaks", "".join(traceback.format_exception(error)))
    return world


def _throw_away(never_ends: NeverEnds) -> None:
    """Throw away what a run left that was broken off, without what Python has to say about each part of it."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if never_ends.root is not None:
                throw_away(never_ends.root)
            never_ends.root = never_ends.__traceback__ = None
            gc.collect()
    finally:
        sys.unraisablehook = hook


class _Stage:
    """Carries out one plan."""

    def __init__(self, plan: Plan, world: World) -> None:
        self._plan = plan
        self._world = world
        self._outside: trio.Nursery
        self._callers = 0
        self._no_callers = trio.Event()

    async def main(self) -> None:
        """Run it from start to end."""
        world, top = self._world, self._plan.top.id
        # Senders outside of the tree are no part of what fails with it.
        async with trio.open_nursery() as self._outside:
            try:
                with trio.CancelScope() as whole:
                    await self._run(whole)
            except TreeFailed as failed:
                world.note("tree failed", top, exit=failed.exit.kind.value, error=str(failed.exit.cause))
            except LeftByError:
                world.note("left by an error", top)
            except SystemExit:
                world.note("ended by an exit", top)
            world.note("tree over", top)
        world.note("all over", top)

    async def _run(self, whole: trio.CancelScope) -> None:
        world, plan = self._world, self._plan
        first = [action for action in plan.actions if isinstance(action, Arm) and action.at <= 0]
        for action in first:
            self._arm(action)
        if plan.end is not None and plan.end.how is Ending.CANCEL:
            self._outside.start_soon(self._cancel, whole, plan.end.at)
        spec = plan.top.spec(world.factory, Urgent)
        async with open_runtime(spec, seed=plan.seed, events=world.events) as world.runtime:
            world.note("tree up", plan.top.id)
            await self._live([action for action in plan.actions if action not in first])

    async def _live(self, actions: Sequence[Action]) -> None:
        if (end := self._plan.end) is not None:
            with trio.CancelScope(deadline=end.at):
                await self._act(actions)
                await trio.sleep_forever()
            await self._end(end.how)
            return
        await self._act(actions)
        await self._calm_down()
        await self._mend()
        await self._ping()
        self._stopping(Ending.LEAVE)

    @property
    def _runtime(self) -> Runtime:
        assert self._world.runtime is not None
        return self._world.runtime

    # What befalls it

    async def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            await trio.sleep_until(action.at)
            if isinstance(action, Arm):
                self._arm(action)
                continue
            with suppress(NoSuchChild):
                await self._have_sent(action, self._sending(self._runtime.ref(action.path), action))

    async def _have_sent(self, action: Send | Admin, sending: Callable[[], Awaitable[None]]) -> None:
        waits = isinstance(action, Admin) or action.how is not How.CAST_NOWAIT
        for _ in range(action.count if isinstance(action, Send) else 1):
            if waits:
                self._outside.start_soon(self._send, action.patience, sending)
            else:
                await self._send(None, sending)

    def _arm(self, action: Arm) -> None:
        self._world.starts[action.path] = list(action.starts)
        if action.stop is not None:
            self._world.stops[action.path] = action.stop

    def _sending(self, ref: ActorRef, action: Send | Admin) -> Callable[[], Awaitable[None]]:
        if isinstance(action, Admin):
            return partial(ask, self._world, ref, action)
        if action.how is How.CALL:
            return partial(call, self._world, ref, action.order, action.timeout, urgent=action.urgent)
        return partial(cast, self._world, ref, action.order, action.how, urgent=action.urgent)

    async def _send(self, patience: float | None, sending: Callable[[], Awaitable[None]]) -> None:
        self._callers += 1
        try:
            # To be cancelled after a time that is up already is not the same as not to be cancelled.
            until = nullcontext() if patience is None else trio.CancelScope(deadline=trio.current_time() + patience)
            with until, suppress(KernelError):
                await sending()
        finally:
            self._callers -= 1
            if not self._callers:
                self._no_callers.set()

    # Ends

    def _stopping(self, how: Ending) -> None:
        self._world.note("stopping all", self._plan.top.id, how=how.value)

    async def _cancel(self, whole: trio.CancelScope, at: float) -> None:
        await trio.sleep_until(at)
        self._stopping(Ending.CANCEL)
        whole.cancel()

    async def _end(self, how: Ending) -> None:
        if how is Ending.CANCEL:
            await trio.sleep_forever()
        self._stopping(how)
        if how is Ending.RAISE:
            raise LeftByError
        if how is not Ending.LEAVE:
            end = self._runtime.stop if how is Ending.STOP else self._runtime.kill
            end("told to")
            await self._runtime.wait()

    # Calm

    async def _calm_down(self) -> None:
        world = self._world
        while self._callers:
            self._no_callers = trio.Event()
            await self._no_callers.wait()
        world.starts.clear()
        world.stops.clear()
        await trio.sleep(CALM)
        world.calm = self._states()
        world.busy = {path for path, life in world.last_life.items() if life.in_hand and life.end is None}
        world.zombies_left = len(self._runtime.zombies)
        world.pending_timers = self._runtime.timers.pending
        if self._plan.seed % LOOKED_THROUGH == 0:
            gc.collect()
            world.dead_kept = self._dead_kept()
        world.calm_place = world.note("calm", self._plan.top.id)

    def _dead_kept(self) -> list[str]:
        """Find actors that are kept though they ended; the last one behind each ref is, to be looked at."""
        last = {life.ref: life for life in self._world.lives}
        puppets = [puppet for ref in self._world.puppets if (puppet := ref()) is not None]
        return [repr(puppet) for puppet in puppets if last.get(puppet.ref) is not puppet.life]

    async def _mend(self) -> None:
        """Have all that is down started again, from the top."""
        states = self._states()
        for path, _ in self._plan.top.walk():
            if states.get(path) != "running":
                above, _, name = path.rpartition("/")
                admin = Admin(at=trio.current_time(), path=above, verb=Verb.REVIVE, id=name)
                with suppress(KernelError):
                    await ask(self._world, self._runtime.ref(above), admin)
                states = self._states()
        self._world.mended = states

    async def _ping(self) -> None:
        """See that whoever runs and is idle answers."""
        self._world.first_ping = len(self._world.messages)
        for path, state in self._states().items():
            if state == "running" and path in self._world.last_life:
                with suppress(KernelError):
                    await call(self._world, self._runtime.ref(path), Order(Does.ANSWER), PING)

    def _states(self) -> dict[str, str]:
        return {node.path: node.state for node in self._runtime.tree().walk()}
