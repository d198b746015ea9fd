"""Simulating: a plan is carried out, everything that was seen is checked, and what came of it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs

from agentrt.kernel._trio_internals import can_be_deterministic
from agentrt.testing.simulate import calm, lives, messages, stashes, ties
from agentrt.testing.simulate.draw import ACTIONS, draw
from agentrt.testing.simulate.plan import Plan
from agentrt.testing.simulate.stage import carry_out
from agentrt.testing.simulate.tree_model import Replay
from agentrt.testing.simulate.world import EXITS, Violation, World

#: What many simulations have to meet, or their faults do not bite.
COVERED = frozenset(
    {
        "actor_gave_up",
        "actor_pierced",
        "actor_restarting",
        "actor_started",
        "actor_zombie",
        "actor_zombie_ended",
        "all was calm",
        "call ActorDied",
        "call AlreadyPresent",
        "call AlreadyStarted",
        "call CallCycle",
        "call CallTimeout",
        "call ChildRestarting",
        "call ChildRunning",
        "call MailboxFull",
        "call NoSuchChild",
        "call Refusal",
        "call StartFailed",
        "call TooManyChildren",
        "call UnexpectedMessage",
        "call answered",
        "call cancelled",
        "cast ActorDied",
        "cast MailboxFull",
        "cast accepted",
        "cast cancelled",
        "down",
        "exit completed",
        "exit crashed",
        "exit crashed_during_stop",
        "exit ignored",
        "exit killed",
        "exit stopped",
        "exit stuck",
        "exit timed_out",
        "exit zombie",
        "links broken",
        "message_quarantined",
        "message_refused",
        "messages_dropped",
        "messages_undelivered",
        "ended by an exit",
        "left by an error",
        "run_held_by_zombies",
        "stopped by cancel",
        "stopped by kill",
        "stopped by leave",
        "stopped by raise",
        "stopped by stop",
        "supervisor_auto_shutdown",
        "supervisor_escalated",
        "tree failed",
        "verdicts checked",
    }
)
#: Notes of the log that are counted like events.
_NOTES = frozenset({"down", "ended by an exit", "left by an error", "tree failed"})


@attrs.frozen
class Report:
    """What came of one simulation; pure data.

    Args:
        plan: What was carried out.
        violations: The promises that were not kept; none is as it should be.
        digest: Of all that happened, in order. The same plan has the same digest, in any process.
        counters: How often what happened, by name.
        is_reproducible: Whether the order of tasks was drawn from the seed; not with a Trio that cannot do that.
    """

    plan: Plan
    violations: tuple[Violation, ...]
    digest: str
    counters: Mapping[str, int]
    is_reproducible: bool

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations

    @property
    def broken(self) -> frozenset[str]:
        """Which promises were not."""
        return frozenset(violation.invariant for violation in self.violations)


def simulate(seed: int, *, actions: int = ACTIONS) -> Report:
    """Draw a tree and faults from *seed*, carry them out in virtual time, and check what the kernel promises.

    Done outside of Trio, in one thread at a time.

    Args:
        seed: The same gives the same run, byte for byte.
        actions: How many things befall the tree, on the average.
    """
    return run_plan(draw(seed, actions=actions))


def run_plan(plan: Plan) -> Report:
    """Carry out *plan* and check what came of it; see :func:`simulate`.

    Raises:
        ValueError: It cannot be carried out.
    """
    world = carry_out(plan)
    violations = list(world.violations)
    counters = _count(world)
    if not world.was_broken_off:
        replay = Replay(world)
        for check in (messages.check, stashes.check, lives.check, ties.check, calm.check):
            violations += check(world)
        violations += replay.run()
        counters["verdicts checked"], counters["verdicts left open"] = replay.checked, replay.unchecked
    return Report(plan, tuple(violations), world.digest(), counters, can_be_deterministic())


def _count(world: World) -> Counter[str]:
    counters: Counter[str] = Counter(actors=len(world.lives), messages=len(world.messages))
    for entry in world.log:
        if entry.kind in EXITS:
            counters[f"exit {entry.fields['exit']}"] += 1
            counters["links broken"] += str(entry.fields["error"]).startswith("LinkBroken")
        elif entry.kind == "stopping all":
            counters[f"stopped by {entry.fields['how']}"] += 1
        elif entry.kind in _NOTES or "_" in entry.kind:
            counters[entry.kind] += 1
    for message in world.messages:
        counters[f"{'call' if message.how.value == 'call' else 'cast'} {message.outcome}"] += 1
    counters["all was calm"] = world.calm is not None
    return counters
