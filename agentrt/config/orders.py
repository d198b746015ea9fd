"""Values that must stand in an order, such as a limit on progress below the limit on the whole task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import attrs

from agentrt.config.model import Config
from agentrt.config.problems import Fault, KeyPath, dotted
from agentrt.config.servers import all_servers
from agentrt.config.structure import Draft
from agentrt.config.units import format_duration, format_size


@attrs.frozen
class _Value:
    path: KeyPath
    value: float


@attrs.frozen
class Order:
    """One value must be less than another, or not more than it.

    Args:
        low: The lesser one.
        high: The greater one.
        why: What goes wrong where the order is another.
        show: Writes a value for people.
        may_be_equal: Whether the two may be the same.
        anchors: Where a fault may be reported, if not at one of the two; a key that is written is preferred.
    """

    low: _Value
    high: _Value
    why: str
    show: Callable[[float], str]
    may_be_equal: bool = False
    anchors: tuple[KeyPath, ...] = ()

    def check(self, draft: Draft, written: Collection[KeyPath]) -> Iterator[Fault]:
        """Yield a fault where the order is wrong and both values are the document's or defaults."""
        low, high = self.low, self.high
        anchors = self.anchors or (low.path, high.path)
        if any(draft.is_damaged(path) for path in (low.path, high.path, *anchors)):
            return
        if low.value < high.value or (self.may_be_equal and low.value == high.value):
            return
        relation = "must not be more than" if self.may_be_equal else "must be less than"
        sides = [f"{self._name(side)} ({self._figure(side, written)})" for side in (low, high)]
        message = f"{sides[0]} {relation} {sides[1]}: {self.why}"
        path = next((path for path in anchors if path in written), anchors[0])
        yield Fault(path, message, f"raise {self._name(high)} or lower {self._name(low)}")

    def _name(self, side: _Value) -> str:
        # Two keys of one table need no path, for the fault has it.
        return dotted(side.path if self.low.path[:-1] != self.high.path[:-1] else side.path[-1:])

    def _figure(self, side: _Value, written: Collection[KeyPath]) -> str:
        return self.show(side.value) + ("" if side.path in written else " by default")


def orders(config: Config) -> Iterator[Order]:
    """Yield every pair of values whose order matters."""

    def order(table: KeyPath, values: object, low: str, high: str, why: str, *, may_be_equal: bool = False) -> Order:
        left, right = (_Value((*table, key), getattr(values, key)) for key in (low, high))
        return Order(left, right, why, format_duration, may_be_equal=may_be_equal)

    why = "else the platform kills the fleet while it drains"
    yield order(("fleet",), config.fleet, "drain_timeout", "kill_timeout", why)
    why = "else a task is delivered again while it is worked on"
    yield order(("inbox",), config.inbox, "keepalive", "ack_wait", why)
    why = "else the bus is never ready for long"
    yield order(("bus",), config.bus, "probe_interval", "probe_limit", why)
    for name, connection in config.connections.items():
        why = "else the connection is thrown away between two probes"
        yield order(("connections", name), connection, "probe_interval", "probe_limit", why)
    for name, agent in config.agents.items():
        why = "else a task is over before it can count as stuck"
        yield order(("agents", name), agent, "progress_timeout", "task_timeout", why)
    why = "no delay is longer than the maximum"
    for name, retry in config.policies.retry.items():
        yield order(("policies", "retry", name), retry, "initial", "maximum", why, may_be_equal=True)
    for name, restart in config.policies.restart.items():
        yield order(("policies", "restart", name), restart, "initial", "maximum", why, may_be_equal=True)
    for name, again in config.policies.server_restart.items():
        yield order(("policies", "server_restart", name), again, "initial", "maximum", why, may_be_equal=True)
        longer = "else the wait that is for what does not pass is the shorter one"
        yield order(("policies", "server_restart", name), again, "maximum", "extended", longer, may_be_equal=True)
    why = "the recovery time grows up to the maximum"
    for name, breaker in config.policies.breaker.items():
        table = ("policies", "breaker", name)
        yield order(table, breaker, "recovery_timeout", "max_recovery_timeout", why, may_be_equal=True)
    yield from _count_orders(config)
    yield from _memory_orders(config)


def _count_orders(config: Config) -> Iterator[Order]:
    gate = config.flood_gate
    yield Order(
        _Value(("flood_gate", "self_messages"), gate.self_messages),
        _Value(("flood_gate", "self_window"), gate.self_window),
        "else no loop is ever seen",
        str,
        may_be_equal=True,
    )


def _memory_orders(config: Config) -> Iterator[Order]:
    why = "else the warning never comes before the restart"
    warn = _Value(("memory", "server_warn"), config.memory.server_warn)
    limit = _Value(("memory", "server_limit"), config.memory.server_limit)

    def show(size: float) -> str:
        return format_size(int(size))

    yield Order(warn, limit, why, show)
    for path, server in all_servers(config):
        anchors = ((*path, "memory_warn"), (*path, "memory_limit"))
        low = warn if server.memory_warn is None else _Value(anchors[0], server.memory_warn)
        high = limit if server.memory_limit is None else _Value(anchors[1], server.memory_limit)
        if low is not warn or high is not limit:
            yield Order(low, high, why, show, anchors=anchors)
