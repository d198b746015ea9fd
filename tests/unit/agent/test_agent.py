"""Agents: what user code gets without asking for it, and what it can ask for."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from agentrt import Agent, BusUnavailable, Status, Task, TaskFailed, TaskRefused, ToolError
from agentrt.agent import NoOutcome
from agentrt.testing import FleetUnderTest, fleet_under_test

Config = Callable[..., Path]
Acting = Callable[..., type[Agent]]
Clock = trio.testing.MockClock
ONE_ATTEMPT = "[inbox]\nmax_deliveries = 1"


@pytest.fixture
def newsroom(fleet_config: Config, acting: Acting) -> Callable[..., Any]:
    """Run a fleet whose agents are given as functions; with their lines of configuration in *lines*."""

    @asynccontextmanager
    async def run(
        more: str = "", lines: dict[str, str] | None = None, tools: Any = None, **handles: Any
    ) -> AsyncIterator[FleetUnderTest]:
        tables = {name: (lines or {}).get(name, "") for name in handles}
        classes = {name: acting(handle) for name, handle in handles.items()}
        async with fleet_under_test(fleet_config(more, **tables), classes=classes, tools=tools) as fleet:
            await trio.sleep(1)
            yield fleet

    return run


def free(fleet: FleetUnderTest, agent: str) -> int:
    return fleet.fleet.members[agent].book.slots.free


# What follows from the task in hand


async def test_what_a_task_sends_carries_on_its_conversation(newsroom: Any, autojump_clock: Clock):
    """Without any user code: conversation, cause, hops, path, deadline, priority and trace."""
    seen: dict[str, Task] = {}

    async def editor(agent: Agent, task: Task) -> Any:
        seen["editor"] = task
        await agent.send("archive", "keep this")
        return await agent.ask("writer", "write this")

    async def writer(_agent: Agent, task: Task) -> Any:
        seen["writer"] = task
        return "written"

    async def archive(_agent: Agent, task: Task) -> Any:
        seen["archive"] = task

    async with newsroom(editor=editor, writer=writer, archive=archive) as fleet:
        client = fleet.fleet.client
        root = client.new_task("editor", 1, priority="high", timeout=100)
        headers = {**root.headers(), "traceparent": "00-1-2-01"}
        subject = "newsroom.tasks.editor.high"
        await fleet.fleet.bus.store(subject, root.body(), headers, msg_id=root.msg_id)
        assert "written" == (await fleet.outcome(root.id)).answer
        await trio.sleep(1)
        for name in ("writer", "archive"):
            task = seen[name]
            assert (root.id, root.id, 1, ("editor",)) == (task.conversation, task.causation, task.hops, task.path)
            assert ("editor", "high", "00-1-2-01") == (task.sender, task.priority, task.traceparent)
        assert root.deadline == pytest.approx(seen["writer"].deadline, abs=0.01)
        assert seen["archive"].deadline is None
        sent = [(event.path, event.fields["destination"]) for event in fleet.events_of("message_sent")]
        assert {("fleet/agents/editor/host", "writer"), ("fleet/agents/editor/host", "archive")} == set(sent)


async def test_an_agent_that_sends_on_its_own_begins_a_conversation(fleet_config: Config, autojump_clock: Clock):
    """In its start hook there is no task in hand; it has itself in the path all the same."""
    seen: list[Task] = []

    class Editor(Agent):
        async def on_start(self) -> None:
            await self.send("writer", "sent")

    class Writer(Agent):
        async def handle(self, task: Task) -> Any:
            seen.append(task)

    config = fleet_config(editor="", writer="")
    async with fleet_under_test(config, classes={"editor": Editor, "writer": Writer}):
        await trio.sleep(10)
    (task,) = seen
    assert (task.id, "", 0, ("editor",)) == (task.conversation, task.causation, task.hops, task.path)


async def test_an_agent_may_ask_others_in_its_start_hook(fleet_config: Config, autojump_clock: Clock):
    """Tools and other agents can be reached there."""
    answers: list[Any] = []

    class Editor(Agent):
        async def on_start(self) -> None:
            answers.append(await self.ask("writer", "hello"))

    class Writer(Agent):
        async def handle(self, task: Task) -> Any:
            return task.payload

    config = fleet_config(editor="", writer="")
    async with fleet_under_test(config, classes={"editor": Editor, "writer": Writer}):
        await trio.sleep(10)
    assert ["hello"] == answers


# Waiting for others


async def test_agents_that_ask_each_other_get_on(newsroom: Any, autojump_clock: Clock):
    """Each may do one task at once, and each waits for the other in a conversation of its own."""

    async def editor(agent: Agent, task: Task) -> Any:
        return await agent.ask("writer", "nested") if task.payload == "root" else "editor's"

    async def writer(agent: Agent, task: Task) -> Any:
        return await agent.ask("editor", "nested") if task.payload == "root" else "writer's"

    async with newsroom(editor=editor, writer=writer) as fleet:
        tasks = [await fleet.send(agent, "root") for agent in ("editor", "writer") * 5]
        answers = [(await fleet.outcome(task, timeout=60)).answer for task in tasks]
        assert ["writer's", "editor's"] * 5 == answers
        await trio.sleep(1)
        assert [1, 1] == [free(fleet, agent) for agent in ("editor", "writer")]


async def test_an_agent_may_ask_itself(newsroom: Any, autojump_clock: Clock):
    """It has given its slot back while it waits."""

    async def editor(agent: Agent, task: Task) -> Any:
        return await agent.ask("editor", task.payload - 1) + 1 if task.payload else 0

    async with newsroom(editor=editor) as fleet:
        assert 2 == await fleet.ask("editor", 2)
        assert 1 == free(fleet, "editor")


async def test_an_agent_may_ask_several_at_once(newsroom: Any, autojump_clock: Clock):
    """Its slot is given back once and taken once, however many it waits for."""
    order: list[str] = []

    async def editor(agent: Agent, task: Task) -> Any:
        answers: list[Any] = []

        async def ask(name: str, seconds: float) -> None:
            answers.append(await agent.ask(name, seconds))

        if task.payload == "short":
            order.append("short")
            return 0
        async with trio.open_nursery() as nursery:
            for name, seconds in (("writer", 5), ("critic", 10), ("writer", 20)):
                nursery.start_soon(ask, name, seconds)
        order.append("long")
        return sorted(answers)

    async def slow(_agent: Agent, task: Task) -> Any:
        await trio.sleep(task.payload)
        return task.payload

    async with newsroom(editor=editor, writer=slow, critic=slow) as fleet:
        asked = await fleet.send("editor", "long")
        await trio.sleep(7)
        # One has answered already, and the slot is free all the same.
        await fleet.ask("editor", "short", timeout=2)
        assert [5, 10, 20] == (await fleet.outcome(asked)).answer
        assert ["short", "long"] == order
        await trio.sleep(1)
        assert 1 == free(fleet, "editor")


@pytest.mark.parametrize("seconds", [0.0, 0.5, 5.0])
async def test_a_task_may_stop_waiting_and_go_on(seconds: float, newsroom: Any, autojump_clock: Clock):
    """It has its slot again, and its progress limit runs again."""
    running, peak = 0, 0

    async def editor(agent: Agent, task: Task) -> Any:
        nonlocal running, peak
        with trio.move_on_after(seconds):
            await agent.ask("writer", "never answered")
        running += 1
        peak = max(peak, running)
        await trio.sleep(10 if task.payload == "goes on" else 1000)
        running -= 1
        return "went on"

    async def writer(_agent: Agent, _task: Task) -> Any:
        await trio.sleep_forever()

    lines = {"editor": 'progress_timeout = "30s"'}
    async with newsroom(ONE_ATTEMPT, lines, editor=editor, writer=writer) as fleet:
        assert "went on" == await fleet.ask("editor", "goes on")
        tasks = [await fleet.send("editor", "goes on") for _ in range(3)]
        assert ["went on"] * 3 == [(await fleet.outcome(task)).answer for task in tasks]
        assert "stuck" in (await fleet.outcome(await fleet.send("editor", "hangs"))).reason
        await trio.sleep(1)
        assert 1 == free(fleet, "editor")
    # Those that went on without waiting for a slot were counted: at most as many as stopped waiting at once.
    assert peak <= 3


async def test_a_task_that_stopped_waiting_counts_again(newsroom: Any, autojump_clock: Clock):
    """The next one begins when it is over, as if it had never waited."""
    began: dict[Any, float] = {}

    async def editor(agent: Agent, task: Task) -> Any:
        began[task.payload] = trio.current_time()
        if task.payload == "first":
            with trio.move_on_after(1):
                await agent.ask("writer", 1)
            await trio.sleep(20)

    async def writer(_agent: Agent, _task: Task) -> Any:
        await trio.sleep_forever()

    async with newsroom(editor=editor, writer=writer) as fleet:
        await fleet.send("editor", "first")
        await trio.sleep(5)
        await fleet.ask("editor", "second")
        assert 21.0 == pytest.approx(began["second"] - began["first"], abs=0.1)


async def test_slots_stay_bounded_while_tasks_wait_for_others(newsroom: Any, autojump_clock: Clock):
    """A task that has its answer waits for its slot: no more work at once than is allowed."""
    working, peak = 0, 0

    async def editor(agent: Agent, _task: Task) -> Any:
        nonlocal working, peak
        await agent.ask("writer", 1)
        working += 1
        peak = max(peak, working)
        await trio.sleep(5)
        working -= 1

    async def writer(_agent: Agent, _task: Task) -> Any:
        await trio.sleep(1)

    lines = {"editor": "max_concurrent_tasks = 2", "writer": "max_concurrent_tasks = 20"}
    async with newsroom(lines=lines, editor=editor, writer=writer) as fleet:
        for _ in range(12):
            await fleet.send("editor", 1)
        await fleet.assert_outcomes_complete()
        await trio.sleep(1)
        assert (2, 2) == (peak, free(fleet, "editor"))


async def test_the_progress_limit_stands_still_while_a_task_waits_for_another_agent(
    newsroom: Any, autojump_clock: Clock
):
    """The other has limits of its own; and nothing counts as silent meanwhile."""

    async def editor(agent: Agent, _task: Task) -> Any:
        answer = await agent.ask("writer", 1)
        await trio.sleep(20)
        return answer

    async def writer(_agent: Agent, _task: Task) -> Any:
        await trio.sleep(200)
        return "late"

    lines = {"editor": 'progress_timeout = "30s"'}
    async with newsroom(lines=lines, editor=editor, writer=writer) as fleet:
        task = await fleet.send("editor", 1)
        await trio.sleep(100)
        member = fleet.fleet.members["editor"]
        assert (None, ["writer"]) == (member.seconds_since_progress(), [one.waits_for for one in member.workers()])
        await trio.sleep(105)
        assert 5.0 == pytest.approx(member.seconds_since_progress(), abs=2)
        assert "late" == (await fleet.outcome(task)).answer


async def test_what_a_task_left_running_takes_no_slot(fleet_config: Config, autojump_clock: Clock):
    """A background task of the agent that asks when the task that began it is over."""
    asked = trio.Event()

    class Editor(Agent):
        nursery: trio.Nursery

        async def handle(self, _task: Task) -> Any:
            self.nursery.start_soon(self.later)

        async def later(self) -> None:
            await trio.sleep(5)
            await self.ask("writer", 1)
            asked.set()

    class Writer(Agent):
        async def handle(self, _task: Task) -> Any:
            return None

    config = fleet_config(editor="", writer="")
    async with fleet_under_test(config, classes={"editor": Editor, "writer": Writer}) as fleet:
        async with trio.open_nursery() as Editor.nursery:
            await fleet.ask("editor", 1)
            await asked.wait()
        assert 1 == free(fleet, "editor")


async def test_a_question_that_failed_for_good_is_not_asked_again(newsroom: Any, autojump_clock: Clock):
    """The agent that was asked has had all its attempts; also where a nursery wrapped the error."""
    attempts: list[str] = []

    async def editor(agent: Agent, task: Task) -> Any:
        attempts.append("editor")
        if task.payload == "alone":
            return await agent.ask("writer", 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.ask, "writer", 1)
        return None

    async def writer(_agent: Agent, _task: Task) -> Any:
        raise TaskRefused("no")

    async with newsroom(editor=editor, writer=writer) as fleet:
        for number, payload in enumerate(("alone", "in a nursery"), start=1):
            outcome = await fleet.outcome(await fleet.send("editor", payload))
            assert (Status.DEAD_LETTERED, number) == (outcome.status, len(attempts))
            assert "was refused: no" in outcome.reason


async def test_an_agent_can_live_with_a_failure_of_the_one_it_asked(newsroom: Any, autojump_clock: Clock):
    """The error has the outcome."""

    async def editor(agent: Agent, _task: Task) -> Any:
        try:
            await agent.ask("writer", 1)
        except TaskFailed as failure:
            return [failure.outcome.status.value, failure.outcome.reason]

    async def writer(_agent: Agent, _task: Task) -> Any:
        raise TaskRefused("no")

    async with newsroom(editor=editor, writer=writer) as fleet:
        assert ["refused", "no"] == await fleet.ask("editor", 1)


async def test_two_errors_at_once_are_a_failed_attempt(newsroom: Any, autojump_clock: Clock):
    """A refusal beside a crash is not a refusal: another attempt may do better."""

    async def refuse() -> None:
        raise TaskRefused("no")

    async def crash() -> None:
        raise ValueError("broken")

    async def editor(_agent: Agent, _task: Task) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse)
            nursery.start_soon(crash)

    async with newsroom(ONE_ATTEMPT, editor=editor) as fleet:
        outcome = await fleet.outcome(await fleet.send("editor", 1))
        assert (Status.DEAD_LETTERED, 1) == (outcome.status, len(fleet.events_of("task_attempt_failed")))


async def test_a_question_that_is_not_answered_in_time_says_so(newsroom: Any, autojump_clock: Clock):
    """Within the time that was given; the task is stored and goes on."""
    errors: list[tuple[float, str]] = []

    async def editor(agent: Agent, _task: Task) -> Any:
        began = trio.current_time()
        with pytest.raises(NoOutcome) as caught:
            await agent.ask("writer", 1, timeout=5)
        errors.append((trio.current_time() - began, str(caught.value)))
        return caught.value.task

    async def writer(_agent: Agent, _task: Task) -> Any:
        return "late"

    async with newsroom(editor=editor, writer=writer) as fleet:
        async with fleet.chaos.disconnect("writer"):
            task = await fleet.ask("editor", 1)
        outcome = await fleet.outcome(task)
    assert 5.0 == pytest.approx(errors[0][0], abs=0.01)
    assert "within 5 s; it is stored and goes on" in errors[0][1]
    assert Status.EXPIRED is outcome.status


async def test_a_store_that_takes_all_the_time_leaves_none_to_wait(
    newsroom: Any, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """The task is stored, and who asked hears that there is no outcome yet."""

    async def editor(_agent: Agent, _task: Task) -> Any:
        return "answer"

    async with newsroom(editor=editor) as fleet:
        store = fleet.fleet.bus.store

        async def slow(*args: Any, **options: Any) -> bool:
            stored = await store(*args, **options)
            await trio.sleep(7)
            return stored

        monkeypatch.setattr(fleet.fleet.bus, "store", slow)
        with pytest.raises(NoOutcome):
            await fleet.fleet.ask("editor", 1, timeout=5)


async def test_an_outcome_is_found_also_where_its_hint_was_lost(
    newsroom: Any, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """And where the bus is away when it is looked for: that costs seconds and nothing else."""

    async def editor(_agent: Agent, _task: Task) -> Any:
        await trio.sleep(2)
        return "answer"

    async def lost(*_: Any, **__: Any) -> None:
        raise BusUnavailable("the buffer is full")

    async with newsroom(editor=editor) as fleet:
        monkeypatch.setattr(fleet.fleet.members["editor"].bus, "publish", lost)
        get, tries = fleet.fleet.bus.get, iter(range(3))

        async def away_at_first(*args: Any, **options: Any) -> Any:
            if next(tries, None) is not None:
                raise BusUnavailable("away")
            return await get(*args, **options)

        monkeypatch.setattr(fleet.fleet.bus, "get", away_at_first)
        assert "answer" == await fleet.ask("editor", 1, timeout=20)


async def test_an_unknown_agent_is_named_with_those_that_there_are(newsroom: Any, autojump_clock: Clock):
    """By whoever asks, inside the fleet and outside."""

    async def editor(agent: Agent, _task: Task) -> Any:
        with pytest.raises(LookupError, match="no agent 'writter' in this fleet; there are: editor, writer"):
            await agent.send("writter", 1)
        return "named"

    async with newsroom(editor=editor, writer=editor) as fleet:
        assert "named" == await fleet.ask("editor", 1)
        with pytest.raises(LookupError, match="there are: editor, writer"):
            await fleet.fleet.ask("writter", 1)
        assert "named" == await fleet.fleet.ask("editor", 1)


# Loops


@pytest.mark.parametrize("agents", [1, 2, 3], ids=["self-loop", "ping-pong", "cycle of three"])
@pytest.mark.parametrize("way", ["ask", "send"])
async def test_a_loop_of_messages_is_stopped(agents: int, way: str, newsroom: Any, autojump_clock: Clock):
    """And named, with the conversation; the one that stops it goes to the dead letters, and nothing else does."""
    names = ["editor", "writer", "critic"][:agents]
    handled = 0

    def passing(to: str) -> Any:
        async def handle(agent: Agent, task: Task) -> Any:
            nonlocal handled
            handled += 1
            await getattr(agent, way)(to, {"number": handled})

        return handle

    handles = {name: passing(names[(index + 1) % agents]) for index, name in enumerate(names)}
    async with newsroom(**handles) as fleet:
        root = await fleet.send("editor", 0)
        await fleet.assert_outcomes_complete()
        await trio.sleep(100)
        (refused,) = fleet.events_of("flood_gate_refused")
        assert ("self_loop" if agents == 1 else "cycle") == refused.fields["reason"]
        assert root == refused.fields["conversation"]
        assert 3 * agents >= handled
        done = handled
        await trio.sleep(4000)
        assert done == handled


async def test_a_chain_longer_than_the_hop_limit_is_stopped(newsroom: Any, autojump_clock: Clock):
    """Agents that were not visited before do not make an endless chain a sensible one."""
    names = [f"agent{number}" for number in range(8)]

    def passing(index: int) -> Any:
        async def handle(agent: Agent, task: Task) -> Any:
            if index + 1 < len(names):
                await agent.ask(names[index + 1], index)

        return handle

    handles = {name: passing(index) for index, name in enumerate(names)}
    async with newsroom("[flood_gate]\nmax_hops = 4", **handles) as fleet:
        await fleet.outcome(await fleet.send(names[0], 0))
        (refused,) = fleet.events_of("flood_gate_refused")
        assert ("hop_limit", "fleet/agents/agent5/inbox") == (refused.fields["reason"], refused.path)


async def test_a_long_conversation_that_gets_on_is_not_stopped(newsroom: Any, autojump_clock: Clock):
    """Fifty drafts with fifty reviews, each of them asked back once."""
    drafts = 50

    async def editor(agent: Agent, task: Task) -> Any:
        if task.payload != "begin":
            return f"yes: {task.payload}"
        for number in range(drafts):
            draft = await agent.ask("writer", {"draft": number})
            await agent.ask("critic", draft)
        return "done"

    async def writer(agent: Agent, task: Task) -> Any:
        return {"text": await agent.ask("editor", {"may I": task.payload})}

    async def critic(_agent: Agent, task: Task) -> Any:
        return "good"

    async with newsroom(editor=editor, writer=writer, critic=critic) as fleet:
        assert "done" == await fleet.ask("editor", "begin")
        assert [] == fleet.events_of("flood_gate_refused")


# Tools, hooks and reports


class Archive:
    async def search(self, query: str) -> list[str]:
        await trio.sleep(1)
        return [query]


ARCHIVE = '[mcp.global.archive]\ncommand = ["archive"]'


async def test_a_tool_call_is_progress(newsroom: Any, autojump_clock: Clock):
    """Each answer of a tool, and each step that the agent names, is published and resets the watchdog."""

    async def editor(agent: Agent, task: Task) -> Any:
        for _ in range(20):
            await agent.tools.call("archive", "search", {"query": "x"})
        agent.progress("summed up")
        return list(agent.tools)

    lines = {"editor": 'mcp = ["archive"]\nprogress_timeout = "5s"'}
    async with newsroom(ARCHIVE, lines, {"archive": Archive()}, editor=editor) as fleet:
        assert ["archive"] == await fleet.ask("editor", 1)
        assert ["archive.search"] * 20 + ["summed up"] == [e.fields["what"] for e in fleet.events_of("task_progressed")]


async def test_a_server_that_the_agent_does_not_have_is_named(newsroom: Any, autojump_clock: Clock):
    """With those that it has, and where to add one."""

    async def editor(agent: Agent, _task: Task) -> Any:
        with pytest.raises(ToolError, match=r"no tool server 'web' \(it has: none\); add it to its") as caught:
            await agent.tools.call("web", "get")
        return caught.value.kind

    async with newsroom(editor=editor) as fleet:
        assert "permanent" == await fleet.ask("editor", 1)


async def test_the_hooks_frame_the_tasks_and_what_is_reported_is_seen(fleet_config: Config, autojump_clock: Clock):
    """One instance does all tasks; it is stopped after the last of them."""
    said: list[str] = []

    class Editor(Agent):
        async def on_start(self) -> None:
            said.append(f"start {self.name} {self.options['tone']}")
            # No task is in hand: nothing to report, and no error.
            self.progress("nothing")
            self.context_usage(140)

        async def handle(self, task: Task) -> Any:
            self.log.debug("handling")
            self.context_usage(12.5)
            self.emit("page_printed", page=task.payload)
            return id(self)

        async def on_stop(self) -> None:
            said.append("stop")

    async with fleet_under_test(fleet_config(editor='options = { tone = "dry" }'), classes={"editor": Editor}) as fleet:
        await trio.sleep(1)
        member = fleet.fleet.members["editor"]
        assert 100.0 == member.context_usage
        assert await fleet.ask("editor", 1) == await fleet.ask("editor", 2)
        assert 12.5 == member.context_usage
        assert [1, 2] == [event.fields["page"] for event in fleet.events_of("page_printed")]
        assert repr(member.host.agent).startswith("<Editor 'editor' at ")
    assert ["start editor dry", "stop"] == said


async def test_an_agent_with_an_init_of_its_own_has_what_every_agent_has(fleet_config: Config, autojump_clock: Clock):
    """Also where it does not call ours: else whoever looks at the fleet fails, and not only that agent."""

    class Editor(Agent):
        def __init__(self, _setup: Any) -> None:
            self.pages = 7

        async def handle(self, task: Task) -> Any:
            self.context_usage(30)
            return [self.name, self.pages, self.options, list(self.tools), list(self.connections)]

    async with fleet_under_test(fleet_config(editor=""), classes={"editor": Editor}) as fleet:
        assert ["editor", 7, {}, [], []] == await fleet.ask("editor", 1)
        assert 30.0 == fleet.fleet.members["editor"].context_usage
        assert () == fleet.fleet.members["editor"].unready()


@pytest.mark.parametrize(("where", "said"), [("itself", "sys.exit(4)"), ("a nursery", "sys.exit in a task of its own")])
async def test_an_agent_that_calls_sys_exit_fails_an_attempt(
    newsroom: Any, autojump_clock: Clock, where: str, said: str
):
    """It ends neither the fleet nor the attempts of its task, which would be poison to each next run of the fleet."""

    async def leave() -> None:
        await trio.lowlevel.checkpoint()
        sys.exit(4)

    async def editor(_agent: Agent, _task: Task) -> Any:
        if where == "itself":
            await leave()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)

    async with newsroom("[inbox]\nmax_deliveries = 2", editor=editor) as fleet:
        outcome = await fleet.outcome(await fleet.send("editor", 1))
    assert (Status.DEAD_LETTERED, f"attempt 2 crashed: ExitRefused: Acting.handle called {said}") == (
        outcome.status,
        outcome.reason,
    )


async def test_a_start_hook_that_calls_sys_exit_fails_the_start_of_that_agent(
    fleet_config: Config, autojump_clock: Clock
):
    """The others go on."""

    class Leaver(Agent):
        async def on_start(self) -> None:
            sys.exit("no key")

        async def handle(self, task: Task) -> Any:
            return task.payload

    class Editor(Agent):
        async def handle(self, task: Task) -> Any:
            return task.payload

    classes = {"leaver": Leaver, "editor": Editor}
    async with fleet_under_test(fleet_config(leaver="", editor=""), classes=classes) as fleet:
        assert 1 == await fleet.ask("editor", 1)
        await trio.sleep(60)
        why = {status.name: status.why for status in fleet.fleet.statuses()}
    assert "Leaver.on_start called sys.exit('no key')" in why["leaver"]
    assert "" == why["editor"]


async def test_an_agent_without_handle_says_what_is_missing(fleet_config: Config, autojump_clock: Clock):
    """By name, in the outcome."""

    class Editor(Agent):
        pass

    async with fleet_under_test(fleet_config(ONE_ATTEMPT, editor=""), classes={"editor": Editor}) as fleet:
        outcome = await fleet.outcome(await fleet.send("editor", 1))
        assert "Editor has no handle()" in outcome.reason
