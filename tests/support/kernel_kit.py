"""What tests of the kernel share: children that do as they are told, and a tree around them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio
import trio.testing

from agentrt.kernel import (
    Actor,
    ActorRef,
    ChildSpec,
    Event,
    EventStream,
    Node,
    Runtime,
    SupervisorSpec,
    open_runtime,
)
from agentrt.policy.backoff import Backoff

#: A restart without any wait, and one of exactly a second.
AT_ONCE = Backoff(initial=0.0, maximum=0.0)
ONE_SECOND = Backoff(initial=1.0, factor=1.0, maximum=1.0, jitter=(1.0, 1.0))


class Boom(Exception):
    """What a child in a test dies of."""


@attrs.define(eq=False)
class Plan:
    """How a :class:`Probe` behaves; a test may change it while it runs.

    Args:
        start_takes: Seconds that its start hook takes.
        start_fails: How many of its next starts fail; -1 is all.
        stop_takes: Seconds that its stop hook takes.
        stop_fails: Whether its stop hook raises.
    """

    log: list[str] = attrs.field(factory=list)
    start_takes: float = 0.0
    start_fails: int = 0
    stop_takes: float = 0.0
    stop_fails: bool = False


class Probe(Actor):
    """A child that writes down what happens to it and handles a message by running it: ``await message(self)``."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    async def on_start(self) -> None:
        self.plan.log.append(f"start {self.name}")
        if self.plan.start_takes:
            await trio.sleep(self.plan.start_takes)
        if self.plan.start_fails:
            self.plan.start_fails -= 1
            raise Boom(f"{self.name} does not start")

    async def handle(self, message: Callable[[Actor], Awaitable[object]]) -> object:
        return await message(self)

    async def on_stop(self) -> None:
        self.plan.log.append(f"stop {self.name}")
        if self.plan.stop_takes:
            await trio.sleep(self.plan.stop_takes)
        if self.plan.stop_fails:
            raise Boom(f"{self.name} does not stop well")


class Loop(Actor):
    """A child with a ``run`` of its own."""

    def __init__(self, run: Callable[[Actor], Awaitable[object]]) -> None:
        self._run = run

    async def run(self) -> object:
        return await self._run(self)


class Ends:
    """Has children end by themselves, at a word from the test."""

    def __init__(self) -> None:
        self._doors: dict[str, trio.Event] = {}
        self._crashing: set[str] = set()

    def child(self, id_: str, **spec: Any) -> ChildSpec:
        """Describe a child that lives until :meth:`end`, and is restarted at once."""
        return loop(id_, self._live, **spec)

    def end(self, name: str, *, crash: bool = False) -> None:
        """Have the child of that name complete, or crash."""
        if crash:
            self._crashing.add(name)
        self._doors[name].set()

    async def _live(self, actor: Actor) -> None:
        door = self._doors[actor.name] = trio.Event()
        self._crashing.discard(actor.name)
        await door.wait()
        if actor.name in self._crashing:
            raise Boom("told to")


def probe(id_: str, plan: Plan | None = None, **spec: Any) -> ChildSpec:
    """Describe a :class:`Probe` that is restarted at once."""
    plan = plan if plan is not None else Plan()
    return ChildSpec(id=id_, factory=lambda: Probe(plan), **{"backoff": AT_ONCE, **spec})


def loop(id_: str, run: Callable[[Actor], Awaitable[object]], **spec: Any) -> ChildSpec:
    """Describe a :class:`Loop` that is restarted at once."""
    return ChildSpec(id=id_, factory=lambda: Loop(run), **{"backoff": AT_ONCE, **spec})


def probes(names: str, log: list[str], **spec: Any) -> tuple[ChildSpec, ...]:
    """Describe a :class:`Probe` for each letter of *names*, all with one log."""
    return tuple(probe(name, Plan(log), **spec) for name in names)


async def die(_: Actor) -> None:
    """Message: crash."""
    raise Boom("told to")


async def hang(_: Actor) -> None:
    """Message: never come back."""
    await trio.sleep_forever()


async def hello(actor: Actor) -> str:
    """Message: say which incarnation answers."""
    return f"{actor.name} {actor.generation}"


def wait(seconds: float) -> Callable[[Actor], Awaitable[str]]:
    """Message: answer after *seconds*."""

    async def message(_: Actor) -> str:
        await trio.sleep(seconds)
        return "waited"

    return message


async def shielded(_: Actor) -> None:
    """Do not end, not even when cancelled."""
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def stubborn(release: trio.Event) -> None:
    """Wait for *release* through any cancellation: shielded, and shielded anew where that is pierced."""
    while not release.is_set():
        with contextlib.suppress(trio.Cancelled), trio.CancelScope(shield=True):
            await release.wait()


async def quiet() -> None:
    """Let everything happen that needs no time."""
    await trio.testing.wait_all_tasks_blocked()


def recorder() -> tuple[EventStream, list[Event]]:
    """Make an event stream and the list of what it emits."""
    stream, seen = EventStream(), []
    stream.listen(seen.append)
    return stream, seen


def tree(*children: ChildSpec | SupervisorSpec, **spec: Any) -> SupervisorSpec:
    """Describe a root named ``top``."""
    return SupervisorSpec(id="top", children=children, **spec)


def node(runtime: Runtime, path: str) -> Node:
    """Find a node in the picture of the tree."""
    return next(one for one in runtime.tree().walk() if one.path == path)


def states(runtime: Runtime, path: str = "top") -> dict[str, str]:
    """Say what the children of a supervisor do."""
    return {child.name: child.state for child in node(runtime, path).children}


async def crash(ref: ActorRef) -> None:
    """Crash an actor and let what follows happen, as far as it needs no time."""
    await ref.cast(die)
    await quiet()


__all__ = [
    "AT_ONCE",
    "ONE_SECOND",
    "Boom",
    "Ends",
    "Loop",
    "Plan",
    "Probe",
    "crash",
    "die",
    "hang",
    "hello",
    "loop",
    "node",
    "open_runtime",
    "probe",
    "probes",
    "quiet",
    "recorder",
    "shielded",
    "states",
    "stubborn",
    "tree",
    "wait",
]
