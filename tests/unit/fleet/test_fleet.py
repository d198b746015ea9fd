"""Fleets: agents are started, parked when they give up, probed later, and do not harm each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.memory_bus import MemoryConnection
from agentrt import Agent, Status, Task, load, open_fleet
from agentrt.agent import TaskActor
from agentrt.fleet import Batteries
from agentrt.kernel import NoSuchChild, RestartChild, TerminateChild, TreeFailed
from agentrt.ops.observe import snapshot_of
from agentrt.policy.breaker import BreakerState
from agentrt.testing import FleetUnderTest, fleet_under_test
from agentrt.testing.fleet import _NoGuard, _NoServer, _WritableWorkspace

Config = Callable[..., Path]
Clock = trio.testing.MockClock


class Good(Agent):
    async def handle(self, task: Task) -> Any:
        await trio.sleep(5)
        return self.name


@asynccontextmanager
async def newsroom(
    config: Config, editor: type[Agent] = Good, lines: str = "", more: str = "", **options: Any
) -> AsyncIterator[FleetUnderTest]:
    """Run a fleet of an editor and a writer; nothing is waited for."""
    path = config(more, editor=lines, writer="")
    async with fleet_under_test(path, classes={"editor": editor, "writer": Good}, **options) as fleet:
        yield fleet


def crash(fleet: FleetUnderTest, path: str) -> None:
    """Let something in an actor raise, if it runs now."""

    async def fail() -> None:
        raise RuntimeError("told to by a test")

    actor = fleet.fleet.runtime.ref(path).actor
    if actor is not None:
        actor.spawn(fail)


async def crash_until_parked(fleet: FleetUnderTest, path: str) -> None:
    for _ in range(100):
        if fleet.events_of("agent_parked"):
            return
        crash(fleet, path)
        await trio.sleep(0.2)
    raise AssertionError(f"{path} does not give up")


def starts(fleet: FleetUnderTest, path: str) -> int:
    return sum(1 for event in fleet.events_of("actor_started") if event.path == path)


# Escalation


@pytest.mark.parametrize("part", ["connection", "inbox", "memory-guard", "tools/archive"])
async def test_an_agent_whose_actor_gives_up_is_parked_and_probed_later(
    part: str, fleet_config: Config, autojump_clock: Clock
):
    """With the chain of causes; the other agent is not touched, and work waits and is done."""

    class Archive:
        async def search(self) -> None: ...

    more = '[mcp.global.archive]\ncommand = ["archive"]'
    async with newsroom(fleet_config, lines='mcp = ["archive"]', more=more, tools={"archive": Archive()}) as fleet:
        await trio.sleep(1)
        await crash_until_parked(fleet, f"fleet/agents/editor/{part}")
        (parked,) = fleet.events_of("agent_parked")
        assert ("fleet/agents/editor", "editor") == (parked.path, parked.fields["agent"])
        (crash,) = [event for event in fleet.events if event.id == parked.cause]
        assert ("actor_crashed", parked.path) == (crash.kind, crash.path)
        assert [parked.id] == [event.cause for event in fleet.events_of("breaker_opened")]
        assert f"fleet/agents/editor/{part} crashed" in parked.fields["report"]
        assert "told to by a test" in parked.fields["report"]
        assert ["editor"] == [event.fields["agent"] for event in fleet.events_of("breaker_opened")]
        assert {"editor": "parked", "writer": "running"} == {one.name: one.state for one in fleet.fleet.statuses()}
        waits = await fleet.send("editor", 1)
        assert "writer" == await fleet.ask("writer", 1, timeout=10)
        assert 1 == starts(fleet, "fleet/agents/writer")
        assert "editor" == (await fleet.outcome(waits, timeout=400)).answer
        assert BreakerState.CLOSED is fleet.fleet.members["editor"].breaker.state
        assert 2 == starts(fleet, "fleet/agents/editor")


async def test_an_agent_that_does_not_start_holds_up_nobody(fleet_config: Config, autojump_clock: Clock):
    """Neither one that raises in its start hook nor one that hangs there; the third time in a row it is parked."""
    tries: list[float] = []

    class Broken(Good):
        async def on_start(self) -> None:
            tries.append(trio.current_time())
            if len(tries) == 2:
                await trio.sleep_forever()
            if len(tries) <= 3:
                raise ValueError("no desk")

    async with newsroom(fleet_config, Broken) as fleet:
        task = await fleet.send("editor", 1)
        assert "writer" == await fleet.ask("writer", 1, timeout=10)
        await trio.sleep(100)
        said = "fleet/agents/editor/host crashed (generation 1): ValueError: no desk"
        assert said == fleet.events_of("agent_start_failed")[0].fields["reason"]
        assert f"breaker open: {said}" == next(one.why for one in fleet.fleet.statuses() if one.name == "editor")
        assert "no desk" in fleet.events_of("agent_parked")[0].fields["report"]
        assert {"parked", "running"} == {one.state for one in fleet.fleet.statuses()}
        assert "editor" == (await fleet.outcome(task)).answer
        # A moment after the first; when the second gave up at its start timeout; and 5 minutes after it was parked.
        assert [1, 33, 300] == pytest.approx([b - a for a, b in pairwise(tries)], abs=2)
        assert 2 == len(fleet.events_of("agent_start_failed"))


async def test_a_task_in_hand_when_its_agent_is_parked_is_done_later(fleet_config: Config, autojump_clock: Clock):
    """It has one outcome, though its first attempt was cut off."""
    began: list[int] = []

    class Slow(Agent):
        async def handle(self, task: Task) -> Any:
            began.append(task.attempt)
            await trio.sleep(60)
            return "slow"

    async with newsroom(fleet_config, Slow) as fleet:
        task = await fleet.send("editor", 1)
        await trio.sleep(1)
        await crash_until_parked(fleet, "fleet/agents/editor/connection")
        outcome = await fleet.outcome(task)
        assert (Status.ANSWERED, "slow") == (outcome.status, outcome.answer)
        await trio.sleep(100)
        assert 1 == len(fleet.events_of("task_finished"))
        assert ({}, 1) == (fleet.fleet.members["editor"].book.in_hand, fleet.fleet.members["editor"].book.slots.free)


async def test_a_task_that_waits_for_an_agent_that_takes_no_more_tasks_does_not_hold_up_a_stop(
    fleet_config: Config, acting: Any, autojump_clock: Clock
):
    """It cannot be answered any more in this run, so it is given back at once, and not after the whole drain."""

    async def ask(agent: Agent, task: Task) -> Any:
        return await agent.ask("writer", task.payload)

    async def write(_agent: Agent, _task: Task) -> Any:
        await trio.sleep(2)
        return "written"

    config = fleet_config(editor="max_concurrent_tasks = 3", writer="")
    async with fleet_under_test(config, classes={"editor": acting(ask), "writer": acting(write)}) as fleet:
        for number in range(3):
            await fleet.send("editor", number)
        await trio.sleep(1)
        stopped = trio.current_time()
    # The writer ends what it has in hand, which answers one of the editor's tasks; the other two are not waited for.
    assert ["answered", "answered"] == [event.fields["status"] for event in fleet.events_of("task_finished")]
    assert 5.0 > trio.current_time() - stopped


async def test_a_stop_opens_no_breaker(fleet_config: Config, autojump_clock: Clock):
    """What ends then has not failed, also where it does not end in time."""

    class Stubborn(Agent):
        async def handle(self, task: Task) -> Any:
            with trio.CancelScope(shield=True):
                await trio.sleep(100)

    async with newsroom(fleet_config, Stubborn) as fleet:
        await fleet.send("editor", 1)
        await trio.sleep(1)
        assert not fleet.fleet.is_stopping
        fleet.fleet.stop("over")
        assert fleet.fleet.is_stopping
        await fleet.fleet.wait()
    assert [] == fleet.events_of("breaker_opened") == fleet.events_of("agent_parked")


# The manager


@pytest.mark.parametrize("moment", [0.0, 0.01, 2.0, 2.99, 3.01, 10.0])
async def test_a_manager_that_crashes_starts_nothing_twice_and_forgets_nobody(
    moment: float, fleet_config: Config, autojump_clock: Clock
):
    """Not even an agent that was being started just then."""
    started: list[float] = []

    class Late(Good):
        async def on_start(self) -> None:
            await trio.sleep(3)
            started.append(trio.current_time())

    async with newsroom(fleet_config, Late) as fleet:
        await trio.sleep(moment)
        crash(fleet, "fleet/manager")
        assert ["editor", "writer"] == [await fleet.ask(agent, 1) for agent in ("editor", "writer")]
        await trio.sleep(60)
        assert 1 == len(started) == starts(fleet, "fleet/agents/writer")
        assert ["running", "running"] == [status.state for status in fleet.fleet.statuses()]
        assert [] == fleet.events_of("agent_parked")


async def test_an_agent_gives_up_while_the_manager_is_down_and_is_parked_all_the_same(
    fleet_config: Config, autojump_clock: Clock
):
    """What the manager knew outlives it."""
    async with newsroom(fleet_config) as fleet:
        await trio.sleep(1)
        fleet_ref = fleet.fleet.runtime.ref("fleet")
        await fleet_ref.call(TerminateChild("manager"))
        for _ in range(100):
            try:
                crash(fleet, "fleet/agents/editor/inbox")
            except NoSuchChild:
                break
            await trio.sleep(0.2)
        await fleet_ref.call(RestartChild("manager"))
        task = await fleet.send("editor", 1)
        assert "editor" == (await fleet.outcome(task)).answer


async def test_an_agent_parks_also_after_the_manager_was_restarted_by_an_operator(
    fleet_config: Config, autojump_clock: Clock
):
    """That stop was not the fleet's."""
    async with newsroom(fleet_config) as fleet:
        await trio.sleep(1)
        await fleet.fleet.runtime.ref("fleet").call(RestartChild("manager", stop_first=True))
        await trio.sleep(1)
        assert not fleet.fleet.is_stopping
        await crash_until_parked(fleet, "fleet/agents/editor/inbox")
        assert BreakerState.OPEN is fleet.fleet.members["editor"].breaker.state


async def test_rerouting_goes_on_under_the_next_manager(fleet_config: Config, autojump_clock: Clock):
    """An open breaker is enough for it to know."""
    async with newsroom(fleet_config, lines='fallback = "writer"') as fleet:
        await trio.sleep(1)
        await crash_until_parked(fleet, "fleet/agents/editor/inbox")
        crash(fleet, "fleet/manager")
        assert "writer" == await fleet.ask("editor", 1, timeout=60)


async def test_an_agent_that_an_operator_stops_has_not_failed(fleet_config: Config, autojump_clock: Clock):
    """It is started again, as the configuration says, and no breaker opens."""
    async with newsroom(fleet_config) as fleet:
        await trio.sleep(1)
        await fleet.fleet.runtime.ref("fleet/agents").call(TerminateChild("editor"))
        assert "editor" == await fleet.ask("editor", 1, timeout=10)
        assert 2 == starts(fleet, "fleet/agents/editor")
        assert [] == fleet.events_of("agent_parked") == fleet.events_of("breaker_opened")


async def test_an_agent_that_could_not_even_be_asked_to_start_is_tried_again(
    fleet_config: Config, autojump_clock: Clock
):
    """Its supervisor was away: that is told, and no failure of the agent."""
    async with newsroom(fleet_config) as fleet:
        await trio.sleep(1)
        root = fleet.fleet.runtime.ref("fleet")
        await root.call(TerminateChild("agents"))
        await trio.sleep(310)
        assert {"editor", "writer"} == {event.fields["agent"] for event in fleet.events_of("agent_not_started")}
        await root.call(RestartChild("agents"))
        assert "editor" == await fleet.ask("editor", 1, timeout=10)
        assert [] == fleet.events_of("breaker_opened")


async def test_a_start_that_died_with_its_manager_is_made_up_for(fleet_config: Config, autojump_clock: Clock):
    """The manager had asked for it, and nobody had taken that up yet."""
    async with newsroom(fleet_config) as fleet:
        await trio.sleep(1)
        root = fleet.fleet.runtime.ref("fleet")
        await root.call(TerminateChild("agents"))
        await trio.sleep(5)
        crash(fleet, "fleet/manager")
        await trio.sleep(0.01)
        await root.call(RestartChild("agents"))
        assert ["editor", "writer"] == [await fleet.ask(agent, 1, timeout=30) for agent in ("editor", "writer")]


async def test_a_fleet_whose_manager_gives_up_fails_as_a_whole(fleet_config: Config, autojump_clock: Clock):
    """Nobody would start agents any more: the process has to be started anew, by whoever started it."""
    with pytest.raises(TreeFailed, match="manager"):
        async with newsroom(fleet_config) as fleet:
            for _ in range(100):
                await trio.sleep(0.2)
                crash(fleet, "fleet/manager")


# What is to be seen


async def test_the_status_of_an_agent_in_a_line(fleet_config: Config, autojump_clock: Clock):
    """Tasks in hand and their age, what waits, restarts, and why it is not ready."""
    async with newsroom(fleet_config) as fleet:
        await trio.sleep(1)
        for number in range(3):
            await fleet.send("editor", number)
        await trio.sleep(3)
        crash(fleet, "fleet/agents/editor/memory-guard")
        await trio.sleep(1)
        editor, writer = fleet.fleet.statuses()
        assert ("running", True, "closed", 1, 1, 3) == (
            editor.state,
            editor.ready,
            editor.breaker,
            editor.tasks_in_hand,
            editor.restarts,
            editor.queue_depth,
        )
        assert 4.0 == pytest.approx(editor.task_age, abs=0.1)
        assert (None, 0, "") == (writer.task_age, writer.queue_depth, writer.why)
        async with fleet.chaos.disconnect("editor"):
            editor = fleet.fleet.statuses()[0]
            assert (False, True) == (editor.ready, "nats_connected: disconnected by a test" in editor.why)


async def test_a_queue_that_cannot_be_read_has_no_depth(fleet_config: Config, autojump_clock: Clock):
    """Unknown is not empty."""
    async with newsroom(fleet_config) as fleet:
        await trio.sleep(5)
        fleet.fleet.bus.disconnect()
        await trio.sleep(60)
        assert [None, None] == [status.queue_depth for status in fleet.fleet.statuses()]
        fleet.fleet.bus.reconnect()
        await trio.sleep(30)
        assert [0, 0] == [status.queue_depth for status in fleet.fleet.statuses()]


async def test_a_snapshot_says_what_health_and_metrics_need(fleet_config: Config, autojump_clock: Clock):
    """Every check by its name, with its reason, of the process and of each agent."""

    class Archive:
        async def search(self) -> None: ...

    more = '[mcp.global.archive]\ncommand = ["archive"]'
    async with newsroom(fleet_config, lines='mcp = ["archive"]', more=more, tools={"archive": Archive()}) as fleet:
        snapshot = snapshot_of(fleet.fleet, 7.0)
        assert (False, "its start hook has not returned") == next(
            (check.ok, check.reason) for check in snapshot.agents[0].checks if check.name == "started"
        )
        await trio.sleep(1)
        await fleet.send("editor", 1)
        await trio.sleep(3)
        snapshot = snapshot_of(fleet.fleet, 8.0)
        editor, writer = snapshot.agents
        assert ("newsroom", 8.0, False) == (snapshot.fleet, snapshot.taken_at, snapshot.stopping)
        assert ["nats_connected", "jetstream", "registry:nats"] == [check.name for check in snapshot.checks]
        assert [
            "nats_connected",
            "jetstream",
            "mcp:archive",
            "memory_below_limit",
            "workspace_writable",
            "breaker_not_open",
        ] == [check.name for check in editor.checks]
        assert all(check.ok for check in editor.checks)
        assert ("editor", "running", 1, "closed", 0) == (
            editor.name,
            editor.state,
            editor.tasks_in_hand,
            editor.breaker,
            editor.restarts,
        )
        assert 3.0 == pytest.approx(editor.seconds_since_progress, abs=0.1)
        assert (None, 0, None) == (writer.seconds_since_progress, editor.memory_bytes, writer.last_activity)
        assert editor.last_activity is not None
        fleet.fleet.members["editor"].breaker.escalated("for a test")
        breaker = snapshot_of(fleet.fleet, 9.0).agents[0].checks[-1]
        assert ("breaker_not_open", False, "for a test") == (breaker.name, breaker.ok, breaker.reason)


async def test_memory_of_an_agent_is_that_of_its_tool_servers(fleet_config: Config, autojump_clock: Clock):
    """The process serves all agents, so it counts for none."""

    class Archive:
        async def search(self) -> None: ...

    more = '[mcp.global.archive]\ncommand = ["archive"]'
    async with newsroom(fleet_config, lines='mcp = ["archive"]', more=more, tools={"archive": Archive()}) as fleet:
        member = fleet.fleet.members["editor"]
        member.memory.samples = {"process": 5, "archive": 7}
        assert 7 == member.memory_bytes


async def test_nothing_is_found_before_the_fleet_runs(fleet_config: Config, autojump_clock: Clock):
    """Said as what it is."""
    async with newsroom(fleet_config) as fleet:
        fleet.fleet.members["editor"]._shared.runtime = None
        with pytest.raises(NoSuchChild, match="the fleet does not run yet"):
            fleet.fleet.members["editor"]._work()


# Putting it together


def in_memory(**replaced: Any) -> Batteries:
    return Batteries(
        {"nats": MemoryConnection.sharing(), "nats-server": _NoServer, "memory-guard": _NoGuard, **replaced}
    )


def virtual(folder: Path) -> dict[str, Any]:
    """What is real otherwise: a thread that writes to a disk takes longer than virtual time waits."""
    return {"wall": trio.current_time, "workspace": _WritableWorkspace((folder,))}


class Bus:
    """A battery of buses that writes down what they are opened with."""

    def __init__(self) -> None:
        self._made = MemoryConnection.sharing()
        self.opened: list[dict[str, Any]] = []

    def open_handle(self, **settings: Any) -> Any:
        self.opened.append(settings)
        return self._made.open_handle(config=settings["config"])

    def __call__(self, handle: Any) -> Any:
        return self._made(handle)


async def test_a_fleet_with_a_bus_of_its_own_brings_no_server(
    fleet_config: Config, autojump_clock: Clock, tmp_path: Path
):
    """Every connection gets the URL, a name, and credentials that are read anew each time."""
    (tmp_path / "password").write_text("first")
    bus = Bus()
    more = '[bus]\nurl = "nats://example.org:4222"\nuser = "desk"\npassword = "file:password"'
    loaded = load(fleet_config(more, editor=""), {})
    classes = {"editor": Good}
    async with open_fleet(
        loaded, batteries=in_memory(nats=bus), environ={}, classes=classes, **virtual(tmp_path)
    ) as fleet:
        assert ["newsroom-fleet", "newsroom-editor"] == [one["name"] for one in bus.opened]
        assert {"nats://example.org:4222"} == {one["url"] for one in bus.opened}
        credentials = bus.opened[0]["credentials"]
        assert {"user": "desk", "password": "first"} == {key: value for key, value in credentials().items() if value}
        (tmp_path / "password").write_text("second")
        assert "second" == credentials()["password"]
        assert ("newsroom", "nats://example.org:4222", None) == (fleet.name, fleet.bus_url, fleet.bus_token)
        assert "editor" == await fleet.ask("editor", 1)


async def test_a_fleet_without_one_brings_a_server_and_logs_in_there(
    fleet_config: Config, autojump_clock: Clock, tmp_path: Path
):
    """Others reach the fleet through it."""
    bus = Bus()
    loaded = load(fleet_config(editor=""), {})
    async with open_fleet(
        loaded, batteries=in_memory(nats=bus), classes={"editor": Good}, **virtual(tmp_path)
    ) as fleet:
        assert ("memory://", "") == (fleet.bus_url, fleet.bus_token)
        assert ({}, "memory://") == (bus.opened[0]["credentials"](), bus.opened[0]["url"])
        assert "nats-server" in [node.name for node in fleet.runtime.tree().children]


async def test_the_configuration_names_the_class(fleet_config: Config, autojump_clock: Clock, tmp_path: Path):
    """It is found beside the configuration."""
    path = fleet_config(editor="")
    path.write_text(path.read_text().replace("made:Up", "desk_of_a_test:Editor"))
    (tmp_path / "desk_of_a_test.py").write_text(
        "from agentrt import Agent\nclass Editor(Agent):\n    async def handle(self, task):\n        return 'found'\n"
    )
    async with fleet_under_test(path) as fleet:
        assert "found" == await fleet.ask("editor", 1)


async def test_actors_take_the_restart_policy_that_is_named_for_them(fleet_config: Config, autojump_clock: Clock):
    """With no restart allowed, the first crash is one too many."""
    more = '[policies.restart.never]\nmax_restarts = 0\n[actors]\ninbox = "never"'
    async with newsroom(fleet_config, more=more) as fleet:
        await trio.sleep(1)
        crash(fleet, "fleet/agents/editor/inbox")
        await trio.sleep(1)
        assert ["editor"] == [event.fields["agent"] for event in fleet.events_of("agent_parked")]


async def test_a_task_actor_is_seen_while_it_works(fleet_config: Config, autojump_clock: Clock):
    """By the fleet, with the time that it has left."""
    async with newsroom(fleet_config) as fleet:
        await trio.sleep(1)
        client = fleet.fleet.client
        await client.send(client.new_task("editor", 1, timeout=100))
        await trio.sleep(1)
        (worker,) = fleet.fleet.members["editor"].workers()
        assert isinstance(worker, TaskActor)
        assert 99.0 == pytest.approx(worker.seconds_left(), abs=0.1)
