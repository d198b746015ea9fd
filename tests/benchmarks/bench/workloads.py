"""The workloads: what is measured, with which parameters, and what is to come out."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import attrs

#: A message to another actor waits for no more than this: one batch of the one that is flooded.
BATCH_MESSAGES = 64
BATCH_SECONDS = 0.002
#: Seconds that a slow handler works, where fairness is bounded by time and not by messages.
SLOW_HANDLER = 0.0001

_CAPACITY = 256
#: Which peers take part in a workload: actor libraries, or what stands between an MCP client and its server.
ACTORS, GUARDS = "actors", "guards"


class Against(enum.Enum):
    """What a goal is a bound for."""

    CONTROL = "control"
    """The ratio to the control of the same round."""
    NOTHING = "nothing"
    """The figure itself."""


@attrs.frozen
class Goal:
    """A bound for the median over the rounds, inclusive."""

    bound: float
    at_least: bool
    against: Against = Against.CONTROL

    def is_met(self, value: float) -> bool:
        """Say whether *value* keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        """Say it as it stands in the table."""
        sign = "≥" if self.at_least else "≤"
        times = " ×" if self.against is Against.CONTROL else ""
        return f"{sign} {self.bound:g}{times}"


def at_least(ratio: float) -> Goal:
    """*ratio* times the control, or more."""
    return Goal(ratio, at_least=True)


def at_most(ratio: float) -> Goal:
    """*ratio* times the control, or less."""
    return Goal(ratio, at_least=False)


def no_more_than(figure: float) -> Goal:
    """The figure itself is *figure* or less."""
    return Goal(figure, at_least=False, against=Against.NOTHING)


@attrs.frozen
class Figure:
    """One figure of a workload.

    Args:
        key: Its name in what the contender returns.
        title: What the table calls it.
        unit: Its unit; ``/s`` means that more is better, any other that less is.
        goal: What it has to reach; None where it is there for information.
        is_compared: Whether agentrt is to be ahead of the peers in it.
        is_relative: Whether its ratio to the control says anything.
    """

    key: str
    title: str
    unit: str
    goal: Goal | None = None
    is_compared: bool = True
    is_relative: bool = True

    @property
    def more_is_better(self) -> bool:
        """Whether a higher figure is the better one."""
        return self.unit.endswith("/s")


@attrs.frozen
class Workload:
    """One workload, as every contender does it.

    Args:
        name: Its name on the command line.
        method: The contender's method.
        parameters: What the method is called with.
        quick: What replaces some of it in a smoke test.
        figures: What it yields.
        group: Which peers take part.
    """

    name: str
    method: str
    figures: tuple[Figure, ...]
    parameters: Mapping[str, float]
    quick: Mapping[str, float] = MappingProxyType({})
    group: str = ACTORS

    @property
    def is_compared(self) -> bool:
        """Whether peers do it too."""
        return any(figure.is_compared for figure in self.figures)

    def parameters_for(self, seconds: float | None, *, quick: bool) -> dict[str, float]:
        """Say what the method is called with; *seconds* replaces how long it measures, where that is free."""
        chosen = dict(self.parameters)
        if quick:
            chosen |= {"seconds": 0.05} if "seconds" in chosen else {}
            return chosen | self.quick
        if seconds is not None and chosen.get("seconds") == SECONDS:
            chosen["seconds"] = seconds
        return chosen


#: How long most workloads measure, after their warm-up.
SECONDS = 1.0


def _workloads() -> tuple[Workload, ...]:
    room = {"seconds": SECONDS, "capacity": _CAPACITY}
    beat = {"seconds": 10.0, "count": 1000}
    few = {"seconds": 0.05, "count": 50}
    cpu = Figure("cpu_percent", "", "% CPU")
    return (
        Workload("tell", "tell", (Figure("per_second", "tell, one to one", "msg/s", at_least(7)),), room),
        Workload(
            "fan-in",
            "fan_in",
            (Figure("per_second", "fan-in, 10 producers", "msg/s", at_least(3)),),
            {**room, "producers": 10},
        ),
        Workload(
            "fan-in-blocked",
            "fan_in_blocked",
            (Figure("per_second", "fan-in, 100 producers, most of them blocked", "msg/s", at_least(3)),),
            {**room, "producers": 100},
        ),
        Workload(
            "call",
            "call",
            (
                Figure("p50_us", "call, sequential, p50", "µs", at_most(0.7)),
                Figure("p99_us", "call, sequential, p99", "µs", is_compared=False),
            ),
            room,
        ),
        Workload(
            "outstanding",
            "outstanding",
            (Figure("per_second", "1,000 calls outstanding", "calls/s", at_least(3)),),
            {**room, "callers": 1000, "capacity": 1024},
            {"callers": 50},
        ),
        Workload(
            "ring",
            "ring",
            (Figure("per_second", "ring of 100", "hops/s", at_least(1.4)),),
            {**room, "size": 100},
            {"size": 10},
        ),
        Workload(
            "crash",
            "crash",
            (Figure("p50_us", "crash to next message handled, p50", "µs", at_most(1)),),
            room,
        ),
        Workload(
            "spawn",
            "spawn",
            (
                Figure("each_us", "spawn 10,000 until ready, each", "µs", at_most(1.2)),
                Figure("each_kib", "spawn 10,000, memory each", "KiB", no_more_than(8), is_compared=False),
                Figure("stop_us", "stop 10,000, each", "µs", is_compared=False),
            ),
            {"count": 10_000, "capacity": _CAPACITY},
            {"count": 100},
        ),
        Workload(
            "spawn-one",
            "spawn_one",
            (Figure("each_us", "spawn one after the other, each", "µs", is_compared=False),),
            {"count": 2000, "capacity": _CAPACITY},
            {"count": 20},
        ),
        Workload(
            "idle-watched",
            "idle_watched",
            (attrs.evolve(cpu, title="1,000 idle, watched", goal=at_most(0.1), is_compared=False),),
            beat,
            few,
        ),
        Workload(
            "idle-beats",
            "idle_beats",
            (attrs.evolve(cpu, title="1,000 idle, each with a handler a second", goal=at_most(0.6)),),
            beat,
            few,
        ),
        Workload(
            "fair",
            "fair",
            (
                Figure(
                    "between",
                    "flooded neighbour: its messages before mine, most",
                    "",
                    no_more_than(BATCH_MESSAGES),
                    False,
                ),
                Figure("p99_us", "flooded neighbour: p99", "µs", is_compared=False),
                Figure("max_us", "flooded neighbour: longest", "µs", is_compared=False),
            ),
            {**room, "work": 0.0},
        ),
        Workload(
            "fair-slow",
            "fair",
            (
                Figure(
                    "p99_us",
                    "flooded neighbour, handlers of 100 µs: p99",
                    "µs",
                    no_more_than(1e6 * (BATCH_SECONDS + SLOW_HANDLER)),
                    is_compared=False,
                ),
                Figure("max_us", "flooded neighbour, handlers of 100 µs: longest", "µs", is_compared=False),
            ),
            {**room, "work": SLOW_HANDLER},
        ),
        Workload(
            "watched-steps",
            "watched_steps",
            (Figure("each_ns", "a checkpoint, while the loop is watched", "ns", is_compared=False),),
            {"seconds": SECONDS},
        ),
        *(
            Workload(
                f"tool-calls-{callers}",
                "tool_calls",
                (Figure("per_second", f"tool calls over stdio, {callers} at once", "calls/s", at_least(0.9), False),),
                {"seconds": SECONDS, "callers": callers},
            )
            for callers in (1, 16)
        ),
        *_nats(),
        _guard(),
    )


def _guard() -> Workload:
    own = partial(Figure, is_relative=False)
    return Workload(
        "guard",
        "guard",
        (
            own("added_p50_us", "added to a call, p50", "µs", no_more_than(250)),
            own("added_p99_us", "added to a call, p99", "µs", no_more_than(1000)),
            own("p50_us", "call, p50", "µs"),
            own("p99_us", "call, p99", "µs"),
            own("back_us", "from SIGKILL of the server to the next good answer", "µs", no_more_than(60_000)),
            own("rss_mb", "resident memory", "MB", no_more_than(40)),
            own("helpers_mb", "resident memory of its helpers", "MB"),
            own("start_us", "from its start to the first answer", "µs"),
            own("spawns", "starts of a server that dies of every call, in 5 s", "", no_more_than(5)),
        ),
        {"seconds": SECONDS, "kills": 5},
        {"kills": 1, "loop": 0.1},
        GUARDS,
    )


def _nats() -> tuple[Workload, ...]:
    rate = Figure("per_second", "", "msg/s", is_compared=False)
    timed = {"seconds": SECONDS}
    return (
        Workload(
            "nats-publish",
            "nats_publish",
            (attrs.evolve(rate, title="core publish", goal=at_least(0.6)),),
            timed,
        ),
        Workload(
            "nats-store",
            "nats_store",
            (attrs.evolve(rate, title="JetStream publish with acknowledgement, 512 in flight", goal=at_least(1.5)),),
            {**timed, "callers": 512},
            {"callers": 8},
        ),
        Workload(
            "nats-consume",
            "nats_consume",
            (attrs.evolve(rate, title="durable consume and acknowledge", goal=at_least(2)),),
            {"count": 40_000},
            {"count": 500},
        ),
        Workload(
            "nats-request",
            "nats_request",
            (attrs.evolve(rate, title="64 concurrent requests", unit="requests/s", goal=at_least(0.8)),),
            {**timed, "callers": 64},
            {"callers": 4},
        ),
        Workload(
            "nats-connections",
            "nats_connections",
            (
                Figure("up_us", "200 connections, until the last is ready", "µs", is_compared=False),
                Figure("each_kib", "200 connections, memory each", "KiB", no_more_than(40), is_compared=False),
                Figure("cpu_percent", "200 connections, idle", "% CPU", is_compared=False),
            ),
            {"seconds": 10.0, "count": 200},
            {"seconds": 0.05, "count": 5},
        ),
    )


WORKLOADS: Mapping[str, Workload] = MappingProxyType({one.name: one for one in _workloads()})
