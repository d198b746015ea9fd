"""What the event loop publishes about the fleet, and the pure questions that a health check asks of it."""

from __future__ import annotations

from typing import Any

import attrs

from agentrt.ops.redact import scrub


@attrs.frozen
class Check:
    """One named yes or no, with the reason in words for people.

    Args:
        name: Such as ``nats_connected`` or ``mcp:archive``; worded so that ok is the good answer.
        ok: The result.
        reason: Why. It may be what somebody's library said, so what looks like a secret is hidden where it is shown.
    """

    name: str
    ok: bool
    reason: str = ""


@attrs.frozen(kw_only=True)
class AgentSnapshot:
    """One agent as it was when the snapshot was taken.

    Args:
        name: The agent's name.
        state: A word for people, such as ``running`` or ``parked``.
        checks: All that it needs to do its work.
        tasks_in_hand: Tasks that it works on.
        seconds_since_progress: Of the task in hand that has not moved for longest; None where none is in hand.
        queue_depth: Tasks that wait for it; None where that is not known.
        memory_bytes: Resident memory of what it runs; None where that is not known.
        last_activity: Wall clock seconds of the last thing that it did; None before the first.
        context_usage: Percent of the model's context window, as the agent said; None where it never did.
        breaker: ``closed``, ``open`` or ``half_open``.
        restarts: Restarts of its actors in this run.
    """

    name: str
    state: str
    checks: tuple[Check, ...] = ()
    tasks_in_hand: int = 0
    seconds_since_progress: float | None = None
    queue_depth: int | None = None
    memory_bytes: int | None = None
    last_activity: float | None = None
    context_usage: float | None = None
    breaker: str = "closed"
    restarts: int = 0

    @property
    def healthy(self) -> bool:
        """Whether every check is good and no breaker keeps work away from it."""
        return self.breaker != "open" and all(check.ok for check in self.checks)


@attrs.frozen(kw_only=True)
class FleetSnapshot:
    """The whole fleet at one moment.

    Args:
        fleet: The fleet's name.
        agents: Every agent of this process.
        checks: What holds for the process as a whole.
        stopping: Whether the fleet drains or stops.
        taken_at: Monotonic seconds (``time.monotonic``), on the clock of the board that it is published on.
    """

    fleet: str
    agents: tuple[AgentSnapshot, ...] = ()
    checks: tuple[Check, ...] = ()
    stopping: bool = False
    taken_at: float


@attrs.frozen
class Report:
    """The answer to one health question: every check by name, for the process and for each agent."""

    process: tuple[Check, ...]
    agents: tuple[tuple[str, tuple[Check, ...]], ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of what is not good: ``event_loop`` for the process, ``editor/jetstream`` for an agent."""
        of_process = [check.name for check in self.process if not check.ok]
        of_agents = [f"{agent}/{check.name}" for agent, checks in self.agents for check in checks if not check.ok]
        return (*of_process, *of_agents)

    @property
    def ok(self) -> bool:
        """Whether every single check is good."""
        return not self.failed

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values; checks are lists, so that two of one name are both seen."""
        return {
            "ok": self.ok,
            "failed": list(self.failed),
            "process": [_shown(check) for check in self.process],
            "agents": {agent: [_shown(check) for check in checks] for agent, checks in self.agents},
        }


def _shown(check: Check) -> dict[str, Any]:
    return {**attrs.asdict(check), "reason": scrub(check.reason)}


def liveness(last_beat: float, now: float, stall_limit: float) -> Report:
    """Say whether the event loop turns.

    Nothing else counts: what a restart of the process would not mend must not cause one.

    Args:
        last_beat: When the event loop last turned, monotonic seconds.
        now: Monotonic seconds, on the same clock.
        stall_limit: Seconds without a turn that are still tolerated.
    """
    age = max(0.0, now - last_beat)
    if age > stall_limit:
        reason = f"has not turned for {age:.1f} s, the limit is {stall_limit:g} s"
        return Report((Check("event_loop", ok=False, reason=reason),))
    return Report((Check("event_loop", ok=True, reason=f"turned {age:.1f} s ago"),))


def readiness(snapshot: FleetSnapshot | None, now: float, stall_limit: float) -> Report:
    """Say whether every agent could do its job now, by a snapshot that is fresh enough to know.

    Args:
        snapshot: The latest one, or None before the first.
        now: Monotonic seconds, on the snapshot's clock.
        stall_limit: Age in seconds at which a snapshot no longer counts.
    """
    fresh = _freshness(snapshot, now, stall_limit)
    if snapshot is None:
        return Report((fresh,))
    stopping = Check("not_stopping", not snapshot.stopping, "the fleet is stopping" if snapshot.stopping else "")
    return Report((fresh, stopping, *snapshot.checks), tuple((agent.name, agent.checks) for agent in snapshot.agents))


def progress(snapshot: FleetSnapshot | None, now: float, stall_limit: float, progress_limit: float) -> Report:
    """Say whether each task in hand moves; an idle agent is not stuck.

    The age of the snapshot counts as time without progress: while the event loop stands, no task moves.

    Args:
        snapshot: The latest one, or None before the first.
        now: Monotonic seconds, on the snapshot's clock.
        stall_limit: Age in seconds at which a snapshot no longer counts.
        progress_limit: Seconds that a task in hand may go without moving.
    """
    fresh = _freshness(snapshot, now, stall_limit)
    if snapshot is None:
        return Report((fresh,))
    age = max(0.0, now - snapshot.taken_at)
    moving = tuple((agent.name, (_movement(agent, age, progress_limit),)) for agent in snapshot.agents)
    return Report((fresh,), moving)


def is_stale(snapshot: FleetSnapshot, now: float, stall_limit: float) -> bool:
    """Whether a snapshot is too old to tell anything about the fleet as it is now."""
    return now - snapshot.taken_at > stall_limit


def _freshness(snapshot: FleetSnapshot | None, now: float, stall_limit: float) -> Check:
    name = "snapshot_fresh"
    if snapshot is None:
        return Check(name, ok=False, reason="the fleet is starting: it has not published its state yet")
    age = max(0.0, now - snapshot.taken_at)
    if is_stale(snapshot, now, stall_limit):
        return Check(name, ok=False, reason=f"the fleet's state is {age:.1f} s old, the limit is {stall_limit:g} s")
    return Check(name, ok=True, reason=f"{age:.1f} s old")


def _movement(agent: AgentSnapshot, age: float, progress_limit: float) -> Check:
    name = "progress"
    if not agent.tasks_in_hand:
        return Check(name, ok=True, reason="no task in hand")
    silence = (agent.seconds_since_progress or 0.0) + age
    if silence > progress_limit:
        reason = f"a task in hand has not moved for {silence:.1f} s, the limit is {progress_limit:g} s"
        return Check(name, ok=False, reason=reason)
    return Check(name, ok=True, reason=f"moved {silence:.1f} s ago")
