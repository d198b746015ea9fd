"""Check of a calm tree: nobody is left behind, everybody answers, and whoever is restarted runs again."""

from __future__ import annotations

from collections.abc import Iterator

from agentrt.kernel import Restart
from agentrt.testing.simulate.plan import How
from agentrt.testing.simulate.world import Violation, World


def check(world: World) -> Iterator[Violation]:
    """Check what a run left when it was calm, where it got there."""
    if world.calm is None or world.calm.get(world.top.id) != "running":
        return
    yield from _nothing_is_left(world)
    yield from _all_is_mended(world)
    yield from _everybody_answers(world)


def _nothing_is_left(world: World) -> Iterator[Violation]:
    if world.zombies_left:
        yield Violation("nothing is left behind", f"{world.zombies_left} zombies when all was calm")
    if world.dead_kept:
        yield Violation("nothing is left behind", f"actors that ended are kept: {', '.join(world.dead_kept)}")
    living = [life for life in world.last_life.values() if life.up is not None]
    # A limit each, what it asked for itself, and the call of a message that it still has in hand.
    bound = sum(1 + life.asked_for + life.in_hand for life in living)
    if world.pending_timers > bound:
        yield Violation("nothing is left behind", f"{world.pending_timers} timers are pending, {bound} at most have to")


def _all_is_mended(world: World) -> Iterator[Violation]:
    """What is down when all is calm runs after it was restarted; only who is temporary may be gone."""
    states = world.mended or {}
    for path, plan in world.top.walk():
        above = path.rpartition("/")[0]
        if states.get(above) == "running" and states.get(path) != "running" and plan.restart is not Restart.TEMPORARY:
            yield Violation("an admin's restart mends it", f"{path} is {states.get(path)}")


def _everybody_answers(world: World) -> Iterator[Violation]:
    for message in world.messages[world.first_ping :] if world.first_ping is not None else ():
        is_ping = message.how is How.CALL and message.parent is None and message.admin is None
        if is_ping and message.outcome != "answered" and message.path not in world.busy:
            yield Violation("who runs answers", f"{message}: {message.outcome}")
