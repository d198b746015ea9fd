"""Breakers of agents: what opens them, where the work goes meanwhile, and how they close again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from agentrt import Agent, BusRefused, Status, Task, TaskRefused
from agentrt.fleet.breakers import AgentBreaker
from agentrt.kernel import EventStream, Refusal, TerminateChild
from agentrt.policy.breaker import Breaker, BreakerState
from agentrt.testing import FleetUnderTest, fleet_under_test

Config = Callable[..., Path]
Acting = Callable[..., type[Agent]]
Clock = trio.testing.MockClock
RECOVERY = 300.0


class Newsroom:
    """A writer who fails while *is_broken*, and an editor who may be his fallback."""

    def __init__(self) -> None:
        self.is_broken = True
        self.seconds = 0.0
        self.began: list[tuple[Any, float]] = []
        self.edited: list[Any] = []

    async def write(self, _agent: Agent, task: Task) -> Any:
        self.began.append((task.payload, trio.current_time()))
        await trio.sleep(self.seconds)
        if self.is_broken or task.payload == "poison":
            raise ValueError("no ink")
        if task.payload == "refused":
            raise TaskRefused("no")
        return "written"

    async def edit(self, agent: Agent, task: Task) -> Any:
        if task.payload == "ask the writer":
            return await agent.ask("writer", "for the editor")
        self.edited.append(task.payload)
        return "edited"


@asynccontextmanager
async def running(
    config: Config, acting: Acting, room: Newsroom, writer: str = "", more: str = ""
) -> AsyncIterator[FleetUnderTest]:
    # Bound methods would not be bound to the agents.
    classes = {
        "writer": acting(lambda agent, task: room.write(agent, task)),  # noqa: PLW0108
        "editor": acting(lambda agent, task: room.edit(agent, task)),  # noqa: PLW0108
    }
    async with fleet_under_test(config(more, editor="", writer=writer), classes=classes) as fleet:
        await trio.sleep(1)
        yield fleet


def breaker_events(fleet: FleetUnderTest) -> list[str]:
    return [event.kind for event in fleet.events if event.kind.startswith("breaker_")]


async def open_breaker(fleet: FleetUnderTest) -> list[str]:
    tasks = [await fleet.send("writer", number) for number in range(3)]
    await trio.sleep(5)
    assert "open" == fleet.fleet.members["writer"].breaker.state
    return tasks


async def test_three_tasks_that_fail_open_the_breaker(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """The alert is published once, by its name, with the agent and the reason; the other agent is untouched."""
    async with running(fleet_config, acting, Newsroom()) as fleet:
        await open_breaker(fleet)
        (opened,) = fleet.events_of("breaker_opened")
        assert ("AgentCircuitOpen", "writer") == (opened.fields["alert"], opened.fields["agent"])
        assert "no ink" in opened.fields["reason"]
        writer = next(status for status in fleet.fleet.statuses() if status.name == "writer")
        assert ("open", False) == (writer.breaker, writer.ready)
        assert "no ink" in writer.why
        assert "edited" == await fleet.ask("editor", 1)


async def test_two_are_enough_for_a_critical_agent(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """And it is probed after two minutes."""
    room = Newsroom()
    async with running(fleet_config, acting, room, "critical = true") as fleet:
        for number in range(2):
            await fleet.send("writer", number)
        await trio.sleep(5)
        assert BreakerState.OPEN is fleet.fleet.members["writer"].breaker.state
        await trio.sleep(120)
        assert ["breaker_opened", "breaker_half_opened"] == breaker_events(fleet)[:2]


async def test_a_breaker_by_name_is_the_one_that_counts(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """Defined once under its name, referenced by the agent."""
    more = '[policies.breaker.touchy]\nfailure_threshold = 1\nrecovery_timeout = "10s"'
    async with running(fleet_config, acting, Newsroom(), 'breaker = "touchy"', more) as fleet:
        await fleet.send("writer", 1)
        await trio.sleep(5)
        assert BreakerState.OPEN is fleet.fleet.members["writer"].breaker.state


async def test_one_poisoned_task_parks_nobody(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """All four of its attempts fail, and count as one; the others are done meanwhile."""
    room = Newsroom()
    room.is_broken = False
    async with running(fleet_config, acting, room) as fleet:
        poison = await fleet.send("writer", "poison")
        assert Status.DEAD_LETTERED is (await fleet.outcome(poison)).status
        assert 4 == len(room.began)
        assert [] == breaker_events(fleet)
        assert "written" == await fleet.ask("writer", 1)


async def test_a_success_in_between_begins_the_count_again(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """What counts are failures in a row; a refusal is work that was done."""
    room = Newsroom()
    more = "[inbox]\nmax_deliveries = 1"
    async with running(fleet_config, acting, room, more=more) as fleet:
        for payload in ("poison", "poison", "fine", "poison", "poison", "refused", "poison", "poison"):
            room.is_broken = payload == "poison"
            await fleet.outcome(await fleet.send("writer", payload))
        assert [] == breaker_events(fleet)


async def test_work_waits_while_the_breaker_is_open(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """Nothing is tried for five minutes, and nothing is lost: it is done when the agent works again."""
    room = Newsroom()
    async with running(fleet_config, acting, room) as fleet:
        tasks = await open_breaker(fleet)
        tasks.append(await fleet.send("writer", "later"))
        room.is_broken = False
        before = len(room.began)
        await trio.sleep(RECOVERY - 10)
        assert before == len(room.began)
        assert {Status.ANSWERED} == {(await fleet.outcome(task)).status for task in tasks}
        assert ["breaker_opened", "breaker_half_opened", "breaker_closed"] == breaker_events(fleet)


async def test_half_open_lets_one_probe_through(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """Although the agent may do three tasks at once and five wait; the others follow when the probe succeeded."""
    room = Newsroom()
    async with running(fleet_config, acting, room, "max_concurrent_tasks = 3") as fleet:
        tasks = await open_breaker(fleet)
        tasks += [await fleet.send("writer", f"later {number}") for number in range(3)]
        room.is_broken, room.seconds, room.began = False, 20.0, []
        await trio.sleep(RECOVERY + 10)
        assert 1 == len(room.began)
        await trio.sleep(20)
        assert 4 == len(room.began)
        assert {Status.ANSWERED} == {(await fleet.outcome(task)).status for task in tasks}


async def test_a_probe_that_fails_opens_it_for_twice_as_long(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """5 minutes, then 10, then 20: each with one task tried."""
    room = Newsroom()
    more = '[inbox]\nredelivery = ["1s"]\nmax_deliveries = 100'
    async with running(fleet_config, acting, room, more=more) as fleet:
        await open_breaker(fleet)
        opened_at = fleet.events_of("breaker_opened")[0].time
        room.began = []
        await trio.sleep(2100 + 60)
        starts = [began - opened_at for _, began in room.began]
        assert [300, 900, 2100] == pytest.approx(starts, abs=10)


async def test_a_task_that_was_in_hand_before_is_no_probe(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """Its end says nothing about now: neither closes it the breaker, nor lets it a second probe through."""
    room = Newsroom()
    lines = 'max_concurrent_tasks = 4\ntask_timeout = "2h"\nprogress_timeout = "1h"'
    async with running(fleet_config, acting, room, lines) as fleet:
        room.seconds = 400.0
        old = await fleet.send("writer", "old")
        await trio.sleep(1)
        room.seconds = 0.0
        tasks = await open_breaker(fleet)
        room.is_broken, room.seconds = False, 200.0
        await trio.sleep(RECOVERY + 10)
        probes = len(room.began) - 4
        assert Status.ANSWERED is (await fleet.outcome(old, timeout=120)).status
        await trio.sleep(1)
        assert 1 == probes == len(room.began) - 4
        assert BreakerState.HALF_OPEN is fleet.fleet.members["writer"].breaker.state
        for task in tasks:
            assert Status.ANSWERED is (await fleet.outcome(task)).status


async def test_a_probe_without_a_result_gives_its_permit_back(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """An operator ended it: the next task is the probe, at once and not after a lease of half an hour."""
    room = Newsroom()
    async with running(fleet_config, acting, room) as fleet:
        tasks = await open_breaker(fleet)
        room.is_broken, room.seconds = False, 50.0
        await trio.sleep(RECOVERY)
        (probe,) = fleet.fleet.members["writer"].book.in_hand
        await fleet.fleet.runtime.ref("fleet/agents/writer/work").call(TerminateChild(probe))
        for task in tasks:
            assert Status.ANSWERED is (await fleet.outcome(task, timeout=400)).status


async def test_a_probe_that_could_not_be_begun_gives_its_permit_back(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """That says nothing about the agent."""
    room = Newsroom()
    async with running(fleet_config, acting, room) as fleet:
        tasks = await open_breaker(fleet)
        room.is_broken = False

        async def unwilling(*_: Any, **__: Any) -> Any:
            raise Refusal("for a test")

        inbox = fleet.fleet.runtime.ref("fleet/agents/writer/inbox").actor
        inbox._begin = unwilling
        await trio.sleep(RECOVERY + 45)
        assert 30 < len(fleet.events_of("task_not_begun"))
        assert BreakerState.HALF_OPEN is fleet.fleet.members["writer"].breaker.state
        del inbox._begin
        for task in tasks:
            assert Status.ANSWERED is (await fleet.outcome(task, timeout=100)).status


# Where the work goes


async def test_work_of_a_parked_agent_goes_to_its_fallback(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """What waits and what comes; each is told of, and goes no more when the agent is back."""
    room = Newsroom()
    async with running(fleet_config, acting, room, 'fallback = "editor"') as fleet:
        tasks = await open_breaker(fleet)
        tasks.append(await fleet.send("writer", "later"))
        for task in tasks:
            outcome = await fleet.outcome(task, timeout=100)
            assert ("editor", "edited") == (outcome.agent, outcome.answer)
        assert tasks[:3] != [] == fleet.events_of("task_not_rerouted")
        assert set(tasks) == {event.fields["task"] for event in fleet.events_of("task_rerouted")}
        room.is_broken = False
        await trio.sleep(RECOVERY)
        assert "written" == await fleet.ask("writer", "again")
        assert "written" == await fleet.ask("writer", "and again")
        assert BreakerState.CLOSED is fleet.fleet.members["writer"].breaker.state


async def test_a_task_that_came_through_the_fallback_waits_for_its_agent(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Sent back it would go round in a circle. However often it is looked at, it is no dead letter for that."""
    room = Newsroom()
    lines = 'fallback = "editor"\nbreaker = "slow"'
    more = '[policies.breaker.slow]\nrecovery_timeout = "20m"'
    async with running(fleet_config, acting, room, lines, more) as fleet:
        await open_breaker(fleet)
        asked = await fleet.send("editor", "ask the writer")
        room.is_broken = False
        await trio.sleep(1000)
        assert ["ask the writer"] != room.edited
        outcome = await fleet.outcome(asked)
        assert (Status.ANSWERED, "written") == (outcome.status, outcome.answer)
        assert "for the editor" not in room.edited


async def test_what_is_no_task_is_not_sent_on(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """It waits for the inbox that puts it where it belongs."""
    room = Newsroom()
    async with running(fleet_config, acting, room, 'fallback = "editor"') as fleet:
        await open_breaker(fleet)
        await fleet.fleet.bus.store("newsroom.tasks.writer.normal", b"{", {}, msg_id="x")
        room.is_broken = False
        await trio.sleep(RECOVERY + 60)
        await fleet.ask("writer", 1)
        await trio.sleep(60)
        assert 1 == len(await fleet.fleet.bus.browse("newsroom-dlq", "newsroom.dlq.writer"))


async def test_work_that_cannot_be_sent_on_is_told_of_and_comes_again(
    fleet_config: Config, acting: Acting, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """The bus did not take it, or was away: nothing is lost, and nothing done twice."""
    room = Newsroom()
    async with running(fleet_config, acting, room, 'fallback = "editor"') as fleet:

        async def refuse(*_: Any, **__: Any) -> bool:
            raise BusRefused("the store is full")

        tasks = [await fleet.send("writer", number) for number in range(3)]
        monkeypatch.setattr(fleet.fleet.bus, "store", refuse)
        await trio.sleep(100)
        assert {"the store is full"} == {e.fields["reason"] for e in fleet.events_of("task_not_rerouted")}
        monkeypatch.undo()
        fleet.fleet.bus.disconnect()
        await trio.sleep(50)
        fleet.fleet.bus.reconnect()
        for task in tasks:
            assert "editor" == (await fleet.outcome(task, timeout=120)).agent
        assert 3 == len(room.edited)


# The breaker by itself


def watched() -> tuple[AgentBreaker, list[str]]:
    events, kinds = EventStream(), list[str]()
    events.listen(lambda event: kinds.append(event.kind))
    return AgentBreaker("writer", "fleet/agents/writer", Breaker(3, 10.0, 100.0), events), kinds


async def test_failed_tasks_that_are_remembered_are_bounded(autojump_clock: Clock):
    """Over a thousand tasks that failed between others that did not."""
    breaker, kinds = watched()
    for number in range(1000):
        breaker.failed(f"{number}", "no")
        breaker.succeeded(f"{number} again")
    assert (256, []) == (len(breaker._failed), kinds)


async def test_an_escalation_opens_it_at_once_and_only_once(autojump_clock: Clock):
    """No counting; while it is open already, nothing new is said."""
    breaker, kinds = watched()
    assert breaker.admit("1")
    breaker.escalated("its connection gave up")
    breaker.escalated("again")
    assert (["breaker_opened"], "its connection gave up") == (kinds, breaker.reason)
    assert "its connection gave up" in str(breaker.closed())
    assert not breaker.admit("2")
    assert 10.0 == breaker.next_due


async def test_only_the_probe_decides(autojump_clock: Clock):
    """Whatever the others report: success, failure or nothing at all."""
    breaker, kinds = watched()
    breaker.escalated("gave up")
    await trio.sleep(11)
    assert breaker.closed() is None
    assert breaker.admit("probe")
    assert "probe is under way" in str(breaker.closed())
    for report in (breaker.succeeded, breaker.released, lambda task: breaker.failed(task, "no")):
        report("other")
        assert (BreakerState.HALF_OPEN, False) == (breaker.state, breaker.admit("another"))
    breaker.released("probe")
    assert breaker.admit("second probe")
    breaker.succeeded("second probe")
    assert ["breaker_opened", "breaker_half_opened", "breaker_closed"] == kinds
