"""Observing a fleet: from its handles to the snapshot that health and metrics are served from."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import structlog
import trio

from agentrt.fleet import Fleet, Member
from agentrt.fleet.fleet import AgentStatus
from agentrt.kernel import Event
from agentrt.ops.board import SnapshotBoard
from agentrt.ops.snapshot import AgentSnapshot, Check, FleetSnapshot
from agentrt.policy import Latch

_log = structlog.get_logger()

#: Seconds between two snapshots where nothing happens.
INTERVAL = 0.5
#: Events after which a snapshot is taken at once, by how their kinds begin.
_TELLING = ("nats_", "mcp_server_", "breaker_", "agent_", "memory_", "registration_")


class Observer:
    """Puts snapshots of a fleet on a board: every half second, and at once when something happens.

    A check that failed is shown as failed for two seconds more, because what heals in milliseconds would else be seen
    by nobody.

    Args:
        fleet: The fleet.
        board: Where to.
    """

    def __init__(self, fleet: Fleet, board: SnapshotBoard) -> None:
        self._fleet = fleet
        self._board = board
        self._latch = Latch()
        self._woken = trio.Event()
        fleet.runtime.events.listen(self._note)

    async def run(self) -> None:
        """Publish again and again, for ever."""
        while True:
            self._woken = trio.Event()
            self.publish()
            with trio.move_on_after(INTERVAL):
                await self._woken.wait()

    def publish(self) -> None:
        """Take a snapshot and publish it."""
        try:
            self._board.publish(self._held(snapshot_of(self._fleet, self._board.now())))
        except Exception:  # noqa: BLE001 - logged, and see below.
            # The fleet does not die of being looked at. Health gets a 503 when the last snapshot is too old.
            _log.exception("snapshot_failed")

    def _note(self, event: Event) -> None:
        if event.kind.startswith(_TELLING):
            self._woken.set()

    def _held(self, snapshot: FleetSnapshot) -> FleetSnapshot:
        return attrs.evolve(
            snapshot,
            checks=tuple(self._hold("", snapshot.checks, snapshot.taken_at)),
            agents=tuple(
                attrs.evolve(agent, checks=tuple(self._hold(agent.name, agent.checks, snapshot.taken_at)))
                for agent in snapshot.agents
            ),
        )

    def _hold(self, agent: str, checks: Iterable[Check], now: float) -> Iterable[Check]:
        for check in checks:
            ok, reason = self._latch.look(f"{agent}/{check.name}", ok=check.ok, reason=check.reason, now=now)
            yield Check(check.name, ok, reason)


def snapshot_of(fleet: Fleet, taken_at: float) -> FleetSnapshot:
    """Say how the fleet is now.

    Args:
        fleet: The fleet.
        taken_at: Monotonic seconds on the board's clock.
    """
    statuses = {status.name: status for status in fleet.statuses()}
    return FleetSnapshot(
        fleet=fleet.name,
        agents=tuple(_agent(member, statuses[name]) for name, member in fleet.members.items()),
        checks=tuple(Check(name, ok, reason) for name, (ok, reason) in fleet.checks().items()),
        stopping=fleet.is_stopping,
        taken_at=taken_at,
    )


def _agent(member: Member, status: AgentStatus) -> AgentSnapshot:
    checks = [Check(name, ok, reason) for name, (ok, reason) in member.checks().items()]
    checks.append(Check("breaker_not_open", status.breaker != "open", member.breaker.reason))
    return AgentSnapshot(
        name=member.name,
        state=status.state,
        checks=tuple(checks),
        tasks_in_hand=status.tasks_in_hand,
        seconds_since_progress=member.seconds_since_progress(),
        queue_depth=status.queue_depth,
        memory_bytes=member.memory_bytes,
        last_activity=member.last_activity,
        context_usage=member.context_usage,
        breaker=status.breaker,
        restarts=status.restarts,
    )
