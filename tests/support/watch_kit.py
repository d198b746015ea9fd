"""What tests of monitors, links and timers share: a child that keeps what it is told, and messages that set it up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kernel_kit import AT_ONCE, Plan, Probe

from agentrt.kernel import Actor, ActorRef, ChildSpec, Down, Monitor, Timer

Message = Callable[[Any], Awaitable[Any]]


class Keeper(Probe):
    """A :class:`Probe` that keeps its generation and each message that is no function, in order."""

    def __init__(self, kept: list[tuple[int, Any]]) -> None:
        super().__init__(Plan())
        self.kept = kept

    async def handle(self, message: Any) -> object:
        if callable(message):
            return await super().handle(message)
        self.kept.append((self.generation, message))
        return None


def keeper(id_: str, kept: list[tuple[int, Any]], **spec: Any) -> ChildSpec:
    """Describe a :class:`Keeper` that is restarted at once."""
    return ChildSpec(id=id_, factory=lambda: Keeper(kept), **{"backoff": AT_ONCE, **spec})


def downs(kept: list[tuple[int, Any]]) -> list[tuple[int, str, int, str]]:
    """Say of each :class:`Down` that was kept who got it, and of whose end it tells."""
    return [
        (generation, down.ref.path, down.exit.generation, down.exit.kind.value)
        for generation, down in kept
        if isinstance(down, Down)
    ]


def monitor(ref: ActorRef) -> Message:
    """Message: monitor *ref*; answered with the monitor."""

    async def message(actor: Actor) -> Monitor:
        return actor.monitor(ref)

    return message


def link(ref: ActorRef) -> Message:
    """Message: link to *ref*."""

    async def message(actor: Actor) -> None:
        actor.link(ref)

    return message


def unlink(ref: ActorRef) -> Message:
    """Message: unlink from *ref*."""

    async def message(actor: Actor) -> None:
        actor.unlink(ref)

    return message


def send_after(delay: float, text: object) -> Message:
    """Message: send *text* to itself later; answered with the timer."""

    async def message(actor: Actor) -> Timer:
        return actor.send_after(delay, text)

    return message


def send_every(interval: float, text: object) -> Message:
    """Message: send *text* to itself again and again; answered with the timer."""

    async def message(actor: Actor) -> Timer:
        return actor.send_every(interval, text)

    return message
