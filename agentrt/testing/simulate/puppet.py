"""The actors of a simulation: they do what they are ordered to, and tell the world what happens to them."""

from __future__ import annotations

import math

import attrs
import trio

from agentrt.kernel import Actor, ActorRef, Down, Refusal, Timer, UnexpectedMessage
from agentrt.testing.simulate.deeds import perform
from agentrt.testing.simulate.orders import Does, Order
from agentrt.testing.simulate.plan import ActorPlan, How
from agentrt.testing.simulate.world import Handling, Life, Message, Tie, World

#: Times that a message is carried out; one that comes again and again would keep a tree from ever being calm.
TIRED = 5
#: Beats of a timer that goes on; a calm tree is to be quiet.
TICKS = 3


@attrs.define(eq=False)
class Tick:
    """A message of an actor's own timer, which is cancelled after the last of some."""

    order: Order
    timer: Timer | None = None
    left: int = TICKS


class _AtWork:
    """Around a part of an actor that is at work: it is seen, and so is what it raises that is no answer."""

    __slots__ = ("_is_handler", "_life", "_world")

    def __init__(self, world: World, life: Life, *, is_handler: bool = False) -> None:
        self._world = world
        self._life = life
        self._is_handler = is_handler

    def __enter__(self) -> None:
        self._world.part_begins(self._life)
        self._life.in_hand += self._is_handler

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        life = self._life
        self._world.part_ends(life)
        if self._is_handler:
            life.in_hand -= 1
            life.busy_until = trio.current_time()
        is_answer = self._is_handler and isinstance(error, (Refusal, UnexpectedMessage))
        if kind is not None and isinstance(error, Exception) and not (is_answer or life.is_zombie):
            life.fault = kind.__name__


class Puppet(Actor):
    """Does as it is told."""

    life: Life

    def __init__(self, world: World, plan: ActorPlan) -> None:
        self.world = world
        self.plan = plan

    async def on_start(self) -> None:
        """Do what this start has in store."""
        world = self.world
        self.life = life = world.born(self)
        with _AtWork(self.world, self.life):
            if self.plan.beside:
                self.do_beside(0.0, Order(Does.HANG))
            if starts := world.starts.get(self.path):
                await perform(self, starts.pop(0))
        life.up, life.up_at = world.note("up", self.path), trio.current_time()

    async def on_stop(self) -> None:
        """Do what its stops have in store."""
        life = self.life
        life.stop_begun, life.stop_at = self.world.note("stopping", self.path), trio.current_time()
        with _AtWork(self.world, self.life):
            if (order := self.world.stops.get(self.path)) is not None:
                try:
                    await perform(self, order)
                except trio.Cancelled:
                    life.stop_cut = trio.current_time()
                    raise

    async def handle(self, message: Message | Tick | Down) -> object:
        """Carry out what the message orders; the answer is its number."""
        with _AtWork(self.world, self.life, is_handler=True):
            if isinstance(message, Message):
                return await self._carry_out(message)
            self.life.ticks += 1
            await self._hear(message)
            return None

    async def _carry_out(self, message: Message) -> int:
        assert message.order is not None
        life = self.life
        handling = Handling(life, len(self.world.log), trio.current_time())
        message.handlings.append(handling)
        handling.how = "cancelled"
        try:
            if len(message.handlings) <= TIRED:
                await perform(self, message.order, message)
            handling.how = "stashed" if handling.was_stashed else "returned"
        except Exception as error:
            handling.how = type(error).__name__
            raise
        finally:
            handling.ended_at = trio.current_time()
            if life.is_zombie:
                handling.how = "given up"
        return message.number

    async def _hear(self, message: Tick | Down) -> None:
        if isinstance(message, Down):
            generation = message.exit.generation
            place = self.world.note("down", self.path, whom=message.ref.path, generation=generation)
            self.life.downs.append(Tie(message.ref, generation, place))
            return
        message.left -= 1
        if not message.left and message.timer is not None:
            message.timer.cancel()
        # For who is called by it, it is a message like any other.
        sent = Message(-1, self.ref, How.CAST_NOWAIT, message.order, None, None, trio.current_time(), math.inf)
        await perform(self, message.order, sent)

    async def _beside(self, seconds: float, order: Order) -> None:
        with _AtWork(self.world, self.life):
            if seconds:
                await trio.sleep(seconds)
            await perform(self, order)

    # What it can be told to do

    def find(self, path: str) -> ActorRef:
        """Find another actor."""
        return self.context.cell.runtime.ref(path)

    def do_beside(self, seconds: float, order: Order) -> None:
        """Carry out *order* in a task beside."""
        self.spawn(self._beside, seconds, order)

    def send_later(self, seconds: float, order: Order, *, again: bool) -> None:
        """Have a timer bring *order*."""
        tick = Tick(order)
        tick.timer = self.send_every(seconds, tick) if again else self.send_after(seconds, tick)
        self.life.asked_for += 1

    def watch(self, ref: ActorRef) -> None:
        """Be told when another actor ends."""
        self.life.monitors.append(self._tie_to(ref))
        self.monitor(ref)
        self.life.asked_for += 1

    def tie(self, ref: ActorRef) -> None:
        """Share failures with another actor."""
        self.link(ref)
        self.life.links.append(self._tie_to(ref))

    def untie(self, ref: ActorRef) -> None:
        """Share them no more."""
        self.unlink(ref)
        self.life.unlinked.add(ref)

    def _tie_to(self, ref: ActorRef) -> Tie:
        lives = ref.incarnation is not None and ref.incarnation.exit is None
        return Tie(ref, ref.statistics().generation if lives else None, len(self.world.log))

    def set_aside(self, message: Message) -> None:
        """Stash the message in hand, unless it comes from there."""
        handling = message.handlings[-1]
        if not any(one.was_stashed for one in message.handlings):
            self.stash()
            handling.was_stashed = self.life.did_stash = True

    def come_to_an_end(self) -> None:
        """Have ``run`` return, where there is one of its own."""


class Runner(Puppet):
    """Has a ``run`` of its own, which can come to an end."""

    def __init__(self, world: World, plan: ActorPlan) -> None:
        super().__init__(world, plan)
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Serve until a stop is asked for, or until it is told to come to its end."""
        with _AtWork(self.world, self.life), self._scope:
            await self.context.incarnation.serve()

    def come_to_an_end(self) -> None:
        """Have ``run`` return; at once, where it did not begin yet."""
        self.life.is_own_end = True
        self._scope.cancel()


def make(world: World, plan: ActorPlan) -> Puppet:
    """Make the actor of *plan*."""
    return Runner(world, plan) if plan.runs else Puppet(world, plan)
