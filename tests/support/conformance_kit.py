"""What the conformance suite shares: OTP's ways to list and count children, and how each of them ended."""

from __future__ import annotations

import attrs
from kernel_kit import AT_ONCE, Ends

from agentrt.kernel import (
    ActorRef,
    AutoShutdown,
    Budget,
    ChildSpec,
    CountChildren,
    Exit,
    ExitKind,
    Restart,
    Strategy,
    SupervisorSpec,
    WhichChildren,
)
from agentrt.policy.backoff import Backoff

#: A restart that does not come while a test runs.
FOREVER = Backoff(initial=1e6, maximum=1e6, jitter=(1.0, 1.0))
#: Restarts without a bound that a test would meet.
PLENTY = Budget(1_000_000, 1e9)
#: Every strategy, and whether the supervisor is dynamic: OTP's ``simple_one_for_one`` is the last.
FAMILIES = [*((strategy, False) for strategy in Strategy), (Strategy.ONE_FOR_ONE, True)]


async def counts(supervisor: ActorRef) -> tuple[int, int, int, int]:
    """Count the children as OTP's suite does: specs, active ones, supervisors, workers."""
    return attrs.astuple(await supervisor.call(CountChildren()))


async def listed(supervisor: ActorRef) -> list[tuple[str, str, bool]]:
    """List the children as OTP does, the last first: each one's name, its state, and whether it has a ref."""
    children = await supervisor.call(WhichChildren())
    return [(child.id, child.state.value, child.ref is not None) for child in children]


def kind_of(ref: ActorRef) -> ExitKind | None:
    """Say how the last incarnation ended; None where it lives."""
    assert ref.incarnation is not None
    return ref.incarnation.exit.kind if ref.incarnation.exit is not None else None


def told(exits: list[Exit]) -> list[str]:
    """Say of each exit whose it is and how it was, as ``a 2 crashed``."""
    return [f"{one.path.rpartition('/')[2]} {one.generation} {one.kind.value}" for one in exits]


def shuts_itself_down(id_: str, ends: Ends, **spec: object) -> SupervisorSpec:
    """Describe a supervisor that ends with its only child, ``done``, as OTP's exit reason ``shutdown`` says."""
    child: ChildSpec = ends.child("done", restart=Restart.TEMPORARY, significant=True)
    auto_shutdown = AutoShutdown.ANY_SIGNIFICANT
    return SupervisorSpec(id=id_, children=(child,), auto_shutdown=auto_shutdown, **{"backoff": AT_ONCE, **spec})
