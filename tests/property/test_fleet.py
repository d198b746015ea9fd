"""Whatever agents ask each other and whatever breaks meanwhile: each task has one outcome, and none is lost."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from agentrt import Agent, Status, Task, TaskFailed, TaskRefused, ToolError
from agentrt.kernel import NoSuchChild
from agentrt.ports import Json
from agentrt.tasks import PRIORITIES
from agentrt.testing import FleetUnderTest, fleet_under_test

NAMES = ("editor", "writer", "critic")
#: Longer than the deliveries of all tasks of an example with their delays, its outages, and its breakers' recoveries.
LONG = 3600.0
#: Longer than whatever comes again by itself, once each task has its outcome.
SETTLED = 120.0
#: All of it short, so that an example is little work: virtual time is free, but not what happens in it.
SHORT = """
[inbox]
redelivery = ["1s", "5s", "15s"]
ack_wait = "10s"
keepalive = "3s"
[policies.breaker.short]
recovery_timeout = "20s"
max_recovery_timeout = "40s"
[mcp.global.archive]
command = ["archive"]
"""
AGENT = """
[agents.{name}]
class = "made:Up"
mcp = ["archive"]
breaker = "short"
task_timeout = "60s"
progress_timeout = "20s"
"""

Step = tuple[Literal["work", "fail", "refuse", "tool", "ask", "send", "ask at most"], Any]
What = Literal["inbox", "connection", "host", "manager", "bus", "tool", "task"]


@attrs.frozen
class Fault:
    """Something that breaks: when, what, of which agent, and for how long."""

    at: float
    what: What
    agent: str
    seconds: float


@attrs.frozen
class Sent:
    """A task from outside: when, for whom, what it is to do, and how urgent it is."""

    at: float
    agent: str
    steps: list[Any]
    priority: Any


def steps(inner: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[list[Any]]:
    """What an agent does in a task, in order; what it asks of another is a list of steps too."""
    nested = st.tuples(st.sampled_from(NAMES), inner).map(list)
    step = st.one_of(
        st.tuples(st.just("work"), st.sampled_from([0, 1, 8, 30])),
        st.tuples(st.just("tool"), st.sampled_from([0, 5])),
        st.tuples(st.sampled_from(["ask", "send", "ask at most"]), nested),
        st.tuples(st.sampled_from(["fail", "fail once", "refuse"]), st.none()),
    )
    return st.lists(step.map(list), max_size=3)


STEPS = st.recursive(st.just([]), steps, max_leaves=6)
TIMES = st.sampled_from([0.0, 0.01, 1.0, 1.01, 3.0, 20.0])
SENT = st.builds(Sent, at=TIMES, agent=st.sampled_from(NAMES), steps=STEPS, priority=st.sampled_from(PRIORITIES))
FAULTS = st.builds(
    Fault,
    at=TIMES,
    what=st.sampled_from(["inbox", "connection", "host", "manager", "bus", "tool", "task"]),
    agent=st.sampled_from(NAMES),
    seconds=st.sampled_from([0.0, 1.0, 12.0, 40.0]),
)


class Follows(Agent):
    """Does what the steps in its payload say."""

    async def handle(self, task: Task) -> Json:
        for step, what in task.payload:
            if step == "work":
                await trio.sleep(what)
                self.progress("worked")
            elif step == "tool":
                await self.use_tool(what)
            elif step == "ask":
                await self.ask(what[0], what[1])
            elif step == "ask at most":
                with trio.move_on_after(10):
                    await self.ask(what[0], what[1])
            elif step == "send":
                await self.send(what[0], what[1])
            elif step == "refuse":
                raise TaskRefused("no")
            elif step == "fail" or task.attempt == 1:
                raise ValueError("no")
        return "done"

    async def use_tool(self, seconds: float) -> None:
        try:
            await self.tools.call("archive", "wait", {"seconds": seconds})
        except ToolError:
            self.progress("without the archive")


class Archive:
    async def wait(self, seconds: float) -> None:
        await trio.sleep(seconds)


@pytest.fixture(scope="module")
def config() -> Iterator[Path]:
    """Three agents, one of them with another to fall back to, one that does two tasks at once."""
    agents = {name: AGENT.format(name=name) for name in NAMES}
    agents["writer"] += 'fallback = "editor"\n'
    agents["critic"] += "max_concurrent_tasks = 2\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text('schema = 1\n[fleet]\nname = "newsroom"\n' + "".join(agents.values()) + SHORT)
        yield path


def bearable(faults: list[Fault]) -> bool:
    """Whether the fleet is meant to outlive them: a manager that gives up ends it."""
    return sum(fault.what == "manager" for fault in faults) <= 3


def crash(fleet: FleetUnderTest, path: str) -> None:
    """Let something in an actor raise, if there is one."""

    async def fail() -> None:
        raise RuntimeError("told to by a test")

    try:
        actor = fleet.fleet.runtime.ref(path).actor
    except NoSuchChild:
        return
    if actor is not None and actor.context.incarnation.state == "running":
        # One that just got to its end has no room for it any more.
        with contextlib.suppress(RuntimeError):
            actor.spawn(fail)


async def order(fleet: FleetUnderTest, fault: Fault) -> None:
    """Let it happen, for as long as it lasts."""
    await trio.sleep(fault.at)
    if fault.what == "bus":
        async with fleet.chaos.disconnect(fault.agent):
            await trio.sleep(fault.seconds)
    elif fault.what == "tool":
        async with fleet.chaos.crash(f"{fault.agent}/tools/archive", restart_after=fault.seconds):
            await trio.sleep(fault.seconds)
    elif fault.what == "task":
        for task in tuple(fleet.fleet.members[fault.agent].book.in_hand):
            crash(fleet, f"fleet/agents/{fault.agent}/work/{task}")
    elif fault.what == "manager":
        crash(fleet, "fleet/manager")
    else:
        crash(fleet, f"fleet/agents/{fault.agent}/{fault.what}")


async def send(fleet: FleetUnderTest, sent: Sent) -> None:
    """Give an agent a task from outside."""
    await trio.sleep(sent.at)
    await fleet.send(sent.agent, sent.steps, priority=sent.priority)


async def check_that_each_task_has_one_outcome(fleet: FleetUnderTest, sent: list[Sent]) -> None:
    """Those from outside, and all that agents sent to each other."""
    outcomes = await fleet.assert_outcomes_complete(timeout=LONG)
    assert len(sent) == len(outcomes)
    for event in fleet.events_of("message_sent"):
        await fleet.outcome(event.fields["task"], LONG)
    await trio.sleep(SETTLED)
    known = {event.fields["task"] for event in fleet.events_of("message_sent")} | set(outcomes)
    finished = Counter(event.fields["task"] for event in fleet.events_of("task_finished"))
    bucket = fleet.bus.broker.buckets["newsroom-outcomes"]
    assert [] == [task for task in known if bucket.get(task) is None]
    # Two agents may have done a task that was rerouted while it was in hand: the second finds the outcome there.
    doubled = {event.fields["task"] for event in fleet.events_of("outcome_exists")}
    assert {} == {task: count for task, count in finished.items() if count != 1 and task not in doubled}
    assert set(finished) <= known


def check_that_nothing_is_left(fleet: FleetUnderTest) -> None:
    """No task in hand, no slot taken, nothing in the queues, nobody at work."""
    for name, member in fleet.fleet.members.items():
        most = 2 if name == "critic" else 1
        assert (name, {}, most) == (name, member.book.in_hand, member.book.slots.free)
    assert {0} == {consumer.depth() for consumer in fleet.bus.broker.consumers.values()}
    tree = fleet.fleet.runtime.tree()
    assert [] == [node.path for node in tree.walk() if "/work/" in node.path]


def run(config: Path, seed: int, scenario: Callable[[FleetUnderTest], Any]) -> None:
    async def main() -> None:
        classes = dict.fromkeys(NAMES, Follows)
        async with fleet_under_test(config, seed=seed, tools={"archive": Archive()}, classes=classes) as fleet:
            await scenario(fleet)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sent=st.lists(SENT, min_size=1, max_size=6),
    faults=st.lists(FAULTS, max_size=6).filter(bearable),
    seed=st.integers(0, 1000),
    schedule=st.random_module(),
)
def test_every_task_has_one_outcome_whatever_breaks(
    config: Path, sent: list[Sent], faults: list[Fault], seed: int, schedule: Any
):
    """Agents ask each other in any graph; inboxes, hosts, connections, tools, tasks and the bus fail at any moment."""

    async def scenario(fleet: FleetUnderTest) -> None:
        async with trio.open_nursery() as nursery:
            for one in sent:
                nursery.start_soon(send, fleet, one)
            for fault in faults:
                nursery.start_soon(order, fleet, fault)
        await check_that_each_task_has_one_outcome(fleet, sent)
        check_that_nothing_is_left(fleet)

    run(config, seed, scenario)


@settings(max_examples=15, deadline=None)
@given(moments=st.lists(st.sampled_from([0.0, 0.6, 2.0, 5.0]), max_size=3), schedule=st.random_module())
def test_a_fleet_that_is_stopped_and_started_loses_nothing(config: Path, moments: list[float], schedule: Any):
    """Each run finds what the last one left, and the last of them does it all."""

    async def main() -> None:
        bus, tasks = None, []
        classes = dict.fromkeys(NAMES, Follows)
        options = {"tools": {"archive": Archive()}, "classes": classes}
        payload = [["work", 12], ["work", 12], ["ask", ["writer", [["work", 1]]]], ["send", ["critic", []]]]
        for moment in moments:
            async with fleet_under_test(config, bus=bus, **options) as fleet:
                bus = fleet.bus
                tasks += [await fleet.send(name, payload) for name in ("editor", "critic")]
                await trio.sleep(moment)
        async with fleet_under_test(config, bus=bus, **options) as fleet:
            for task in tasks:
                outcome = await fleet.outcome(task, LONG)
                assert Status.ANSWERED is outcome.status
            await trio.sleep(SETTLED)
            check_that_nothing_is_left(fleet)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_the_check_for_a_lost_task_can_fail(config: Path):
    """A task that is taken out of the stream behind everybody's back is found missing."""

    async def scenario(fleet: FleetUnderTest) -> None:
        async with fleet.chaos.disconnect("editor"):
            await trio.sleep(1)
            await fleet.send("editor", [])
            fleet.bus.broker.streams["newsroom-tasks"].remove(1)
        with pytest.raises(AssertionError, match="was lost"):
            await check_that_each_task_has_one_outcome(fleet, [])

    run(config, 0, scenario)


def test_failures_of_one_agent_reach_whoever_asked(config: Path):
    """The steps of this file do what they say."""

    async def scenario(fleet: FleetUnderTest) -> None:
        with pytest.raises(TaskFailed, match="was refused"):
            await fleet.ask("editor", [["ask", ["writer", [["refuse", None]]]]])
        assert "done" == await fleet.ask("editor", [["tool", 1], ["fail once", None], ["ask at most", ["writer", []]]])

    run(config, 0, scenario)
