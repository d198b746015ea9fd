"""The kit for tests: fakes that behave as the real parts do, faults to order, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from agentrt import Agent, NoOutcome, Status, Task, TaskFailed, ToolError, load
from agentrt.ports import BusRefused, PermissionDenied
from agentrt.testing import InProcessSession, fleet_under_test

Config = Callable[..., Path]
Acting = Callable[..., type[Agent]]
Clock = trio.testing.MockClock
ARCHIVE = '[mcp.global.archive]\ncommand = ["archive"]'


class Archive:
    def __init__(self) -> None:
        self.calls: list[str] = []

    async def search(self, query: str, *, seconds: float = 1.0) -> list[str]:
        self.calls.append(query)
        await trio.sleep(seconds)
        if query == "broken":
            raise ValueError("no such shelf")
        if query == "silent":
            raise ValueError
        return [query]

    async def _private(self) -> None: ...

    def no_coroutine(self) -> None: ...


def search(agent: Agent, task: Task) -> Any:
    return agent.tools.call("archive", "search", {"query": task.payload})


@pytest.fixture
def config(fleet_config: Config) -> Path:
    return fleet_config(ARCHIVE, editor='mcp = ["archive"]')


@pytest.fixture
def editor(acting: Acting) -> dict[str, type[Agent]]:
    return {"editor": acting(search)}


# The fleet


async def test_a_task_that_nobody_took_says_who_was_not_ready(config: Path, editor: Any, autojump_clock: Clock):
    """As while a fault is on: an hour without an outcome, and no word of why, is a riddle."""
    async with fleet_under_test(config, tools={"archive": Archive()}, classes=editor) as fleet:
        async with fleet.chaos.disconnect("editor"):
            with pytest.raises(NoOutcome) as caught:
                await fleet.ask("editor", "a", timeout=60)
            assert any(note.startswith("editor is not ready: nats_connected: ") for note in caught.value.__notes__)
        assert ["a"] == await fleet.ask("editor", "a")


async def test_a_fleet_lives_in_a_test(config: Path, editor: Any, autojump_clock: Clock):
    """From a path or from what was loaded; the hour that is waited for takes no time."""
    for given in (config, str(config), load(config, {})):
        async with fleet_under_test(given, tools={"archive": Archive()}, classes=editor) as fleet:
            assert ["nats"] == await fleet.ask("editor", "nats", priority="high")
            assert [status.name for status in fleet.fleet.statuses()] == ["editor"]


async def test_an_agent_survives_its_archive(config: Path, editor: Any, autojump_clock: Clock):
    """The call waits until the server is back."""
    async with fleet_under_test(config, tools={"archive": Archive()}, classes=editor) as fleet:
        async with fleet.chaos.crash("editor/tools/archive", restart_after=20):
            began = trio.current_time()
            assert ["nats"] == await fleet.ask("editor", "nats")
            assert 21.0 == pytest.approx(trio.current_time() - began, abs=0.5)
        assert {Status.ANSWERED} == set((await fleet.assert_outcomes_complete()).values())


async def test_a_fault_is_over_when_its_block_is(config: Path, editor: Any, autojump_clock: Clock):
    """However it ends; and what was raised inside it comes out as it is."""
    async with fleet_under_test(config, tools={"archive": Archive()}, classes=editor) as fleet:
        with pytest.raises(KeyError):
            async with fleet.chaos.crash("editor/tools/archive", restart_after=3600):
                raise KeyError
        with pytest.raises(KeyError):
            async with fleet.chaos.disconnect("editor"):
                raise KeyError
        assert ["nats"] == await fleet.ask("editor", "nats", timeout=5)
        with trio.move_on_after(1):
            async with fleet.chaos.crash("editor/tools/archive", restart_after=3600):
                await trio.sleep_forever()
        assert ["nats"] == await fleet.ask("editor", "nats", timeout=5)


async def test_a_fault_of_something_that_is_not_there_names_what_is(config: Path, editor: Any, autojump_clock: Clock):
    """A misspelt path would otherwise be a test that tests nothing."""
    async with fleet_under_test(config, tools={"archive": Archive()}, classes=editor) as fleet:
        with pytest.raises(LookupError, match="no tool server at 'editor/archive'; there are: editor/tools/archive"):
            async with fleet.chaos.crash("editor/archive"):
                pass


async def test_a_server_without_a_stand_in_is_named(config: Path, editor: Any, autojump_clock: Clock):
    """With what to pass; a command cannot run in virtual time."""
    with pytest.raises(LookupError, match=r"without a stand-in: archive; .* pass tools={'archive': SomeObject"):
        await fleet_under_test(config, classes=editor).__aenter__()


async def test_a_task_that_was_not_answered_raises(config: Path, editor: Any, autojump_clock: Clock):
    """As asking does anywhere; its outcome is complete all the same."""
    async with fleet_under_test(config, tools={"archive": Archive()}, classes=editor) as fleet:
        with pytest.raises(TaskFailed, match="no such shelf"):
            await fleet.ask("editor", "broken")
        assert {Status.DEAD_LETTERED} == set((await fleet.assert_outcomes_complete()).values())


async def test_a_task_without_an_outcome_is_said_to_be_lost(config: Path, editor: Any, autojump_clock: Clock):
    """The assertion that stands at the end of a test about faults can fail."""
    async with fleet_under_test(config, tools={"archive": Archive()}, classes=editor) as fleet:
        task = await fleet.send("editor", "nats")
        fleet.bus.broker.streams["newsroom-tasks"].remove(1)
        with pytest.raises(AssertionError, match=f"task {task} was lost: no outcome within 60 s"):
            await fleet.assert_outcomes_complete(timeout=60)


async def test_events_are_at_hand_by_kind(config: Path, editor: Any, autojump_clock: Clock):
    """Oldest first."""
    async with fleet_under_test(config, tools={"archive": Archive()}, classes=editor) as fleet:
        tasks = [await fleet.send("editor", query) for query in ("a", "b")]
        await fleet.assert_outcomes_complete()
        await trio.sleep(1)
        assert tasks == [event.fields["task"] for event in fleet.events_of("task_finished")]


async def test_the_next_fleet_finds_what_the_last_one_left(config: Path, editor: Any, autojump_clock: Clock):
    """For a test of what survives a restart."""
    async with (
        fleet_under_test(config, tools={"archive": Archive()}, classes=editor) as first,
        first.chaos.disconnect("editor"),
    ):
        task = await first.send("editor", "nats")
        await trio.sleep(1)
        first.fleet.stop("over")
        await first.fleet.wait()
    async with fleet_under_test(config, tools={"archive": Archive()}, classes=editor, bus=first.bus) as second:
        assert ["nats"] == (await second.outcome(task)).answer


async def test_two_runs_with_one_seed_draw_the_same(config: Path, editor: Any, autojump_clock: Clock):
    """Chance is seeded."""
    drawn = []
    for seed in (7, 7, 8):
        async with fleet_under_test(config, seed=seed, tools={"archive": Archive()}, classes=editor) as fleet:
            drawn.append(fleet.fleet.runtime.random.random())
    assert drawn[0] == drawn[1] != drawn[2]


# The session in process


async def test_the_public_coroutines_of_an_object_are_its_tools(autojump_clock: Clock):
    """By name, with keyword arguments."""
    session = InProcessSession(Archive(), name="archive")
    assert (("search",), True, "ready", None) == (session.tools, session.is_ready, session.reason, session.pid)
    await session.wait_ready()
    assert ["x"] == await session.call("search", {"query": "x"})
    (definition,) = session.definitions
    assert ("search", {"query": {}, "seconds": {}}) == (definition.name, definition.input_schema["properties"])
    assert ["query"] == definition.input_schema["required"]


@pytest.mark.parametrize(
    ("tool", "arguments", "kind", "says", "happened"),
    [
        ("find", {}, "permanent", "no such tool; the server offers search", False),
        ("search", {"qwery": 1}, "permanent", "wrong arguments", False),
        ("search", {"query": "broken"}, "tool", "no such shelf", True),
        ("search", {"query": "silent"}, "tool", "ValueError", True),
        ("search", {"query": "x", "seconds": 99}, "timeout", "no answer within 60 s", True),
    ],
)
async def test_a_call_fails_as_with_a_real_server(
    tool: str, arguments: dict[str, Any], kind: str, says: str, happened: Any, autojump_clock: Clock
):
    """The error says what kind of failure it was, and whether it may have happened."""
    with pytest.raises(ToolError, match=says) as caught:
        await InProcessSession(Archive(), name="archive").call(tool, arguments)
    error = caught.value
    assert (kind, "archive", tool, 1, happened) == (
        error.kind,
        error.server,
        error.tool,
        error.attempt,
        error.may_have_happened,
    )


async def test_a_call_that_the_server_dies_over_is_repeated_only_where_it_is_idempotent(autojump_clock: Clock):
    """It may have happened."""
    archive = Archive()
    session = InProcessSession(archive, name="archive")
    answers: list[Any] = []

    async def call(*, idempotent: bool) -> None:
        try:
            answers.append(await session.call("search", {"query": f"{idempotent}"}, idempotent=idempotent))
        except ToolError as error:
            answers.append((error.kind, error.may_have_happened))

    async with trio.open_nursery() as nursery:
        for idempotent in (True, False):
            nursery.start_soon(lambda idempotent=idempotent: call(idempotent=idempotent))
        await trio.sleep(0.5)
        session.crash()
        session.crash()
        assert (False, "crashed by a test") == (session.is_ready, session.reason)
        await trio.sleep(5)
        session.restore()
    assert [("transient", True), ["True"]] == answers
    assert 3 == len(archive.calls)


async def test_a_call_waits_for_its_server_until_its_deadline(autojump_clock: Clock):
    """Nothing happened then."""
    session = InProcessSession(Archive(), name="archive", call_timeout=10)
    session.crash()
    with pytest.raises(ToolError, match="no server within 10 s") as caught:
        await session.call("search", {"query": "x"})
    assert ("transient", False, 10.0) == (caught.value.kind, caught.value.may_have_happened, trio.current_time())
    with pytest.raises(ToolError, match="no server within 3 s"):
        await session.call("search", {"query": "x"}, timeout=3)


# Faults of the bus


def finish(agent: Agent, task: Task) -> Any:
    return _finish(task)


async def _finish(task: Task) -> Any:
    await trio.sleep(30)
    return task.payload


@pytest.fixture
def plain(fleet_config: Config) -> Path:
    return fleet_config(editor="")


@pytest.fixture
def finisher(acting: Acting) -> dict[str, type[Agent]]:
    return {"editor": acting(finish)}


@pytest.mark.parametrize("fault", ["slow", "delay_deliveries", "jetstream_away", "disconnect"])
async def test_a_task_is_answered_through_a_fault_that_lasts(
    plain: Path, finisher: Any, autojump_clock: Clock, fault: str
):
    """It takes longer, and is done once; after the block nothing is left of the fault."""
    arguments = {"slow": ("editor", 5.0), "delay_deliveries": ("editor", 20.0), "disconnect": ("editor",)}
    done: list[Any] = []
    async with fleet_under_test(plain, classes=finisher) as fleet:
        async with getattr(fleet.chaos, fault)(*arguments.get(fault, ())):
            with trio.move_on_after(20):
                done.append(await fleet.ask("editor", "a"))
        done.append(await fleet.ask("editor", "b"))
        assert "b" == done[-1]
        assert fleet.fleet.members["editor"].bus.is_ready
        assert {Status.ANSWERED} == set((await fleet.assert_outcomes_complete()).values())


@pytest.mark.parametrize("fault", ["lose_ack", "duplicate", "redeliver"])
async def test_a_task_that_comes_again_is_done_once(plain: Path, acting: Acting, autojump_clock: Clock, fault: str):
    """A delivery more is no task more: it is in hand, or has an outcome."""
    began: list[Any] = []

    def count(agent: Agent, task: Task) -> Any:
        began.append(task.payload)
        return _finish(task)

    async with fleet_under_test(plain, classes={"editor": acting(count)}) as fleet:
        if fault != "redeliver":
            getattr(fleet.chaos, fault)("editor")
        task = await fleet.send("editor", "a")
        await trio.sleep(10)
        if fault == "redeliver":
            fleet.chaos.redeliver("editor")
        assert "a" == (await fleet.outcome(task)).answer
        await trio.sleep(3600)
        assert ["a"] == began
        assert 0 == sum([await fleet.fleet.bus.depth(*key) for key in fleet.bus.broker.consumers])


async def test_what_is_deleted_under_a_fleet_is_made_again(plain: Path, finisher: Any, autojump_clock: Clock):
    """Streams, consumers and buckets; the fleet goes on, and what was lost is told."""
    async with fleet_under_test(plain, classes=finisher) as fleet:
        broker = fleet.bus.broker
        assert "a" == await fleet.ask("editor", "a")
        stream, durable = next(iter(broker.consumers))
        fleet.chaos.delete_consumer(stream, durable)
        for name in tuple(broker.streams):
            fleet.chaos.delete_stream(name)
        for name in tuple(broker.buckets):
            fleet.chaos.delete_bucket(name)
        assert "b" == await fleet.ask("editor", "b")
        assert {"stream", "bucket", "consumer"} <= {
            event.fields["what"].split()[0] for event in fleet.events_of("jetstream_asset_lost")
        }


async def test_a_stream_that_refuses_tells_who_sends(plain: Path, finisher: Any, autojump_clock: Clock):
    """And takes again what comes after the block."""
    async with fleet_under_test(plain, classes=finisher) as fleet:
        tasks = next(stream for stream, _ in fleet.bus.broker.consumers)
        async with fleet.chaos.refuse(tasks, "maximum messages exceeded"):
            with pytest.raises(BusRefused, match="maximum messages exceeded"):
                await fleet.send("editor", "a")
        assert "b" == await fleet.ask("editor", "b")
        with pytest.raises(LookupError, match=f"no stream 'nothing'; there are: .*{tasks}"):
            async with fleet.chaos.refuse("nothing"):
                pass


async def test_an_agent_that_may_not_publish_is_told(plain: Path, finisher: Any, autojump_clock: Clock):
    """By what the server would say; the fleet's own connection is not concerned."""
    async with fleet_under_test(plain, classes=finisher) as fleet:
        bus = fleet.fleet.members["editor"].bus
        subject = next(iter(fleet.bus.broker.consumers.values())).spec.filter_subject
        async with fleet.chaos.deny("editor", publish=["newsroom.tasks.>"]):
            with pytest.raises(PermissionDenied, match=r"newsroom\.tasks\.editor"):
                await bus.store(subject, b"", msg_id="1")
            assert "a" == await fleet.ask("editor", "a")
        with pytest.raises(LookupError, match="no agent 'nobody'; there are: editor"):
            fleet.chaos.lose_ack("nobody")
