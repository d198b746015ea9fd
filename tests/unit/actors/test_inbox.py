"""The inbox: each task has one outcome, stored before the task is acknowledged, whatever happens meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from actors import _memory_broker
from actors._memory_consumer import MemoryDelivery
from actors.registry import Registrar
from agentrt import Agent, Status, Task, TaskFailed, TaskRefused
from agentrt.agent import NoOutcome
from agentrt.kernel import Actor, ChildSpec, Refusal, Restart, RestartChild, StartChild, TerminateChild
from agentrt.ports import BusMessage, BusRefused, BusUnavailable
from agentrt.testing import FleetUnderTest, fleet_under_test

Config = Callable[..., Path]
Acting = Callable[..., type[Agent]]
Clock = trio.testing.MockClock

INBOX = "fleet/agents/editor/inbox"
HOUR = 3600.0


@attrs.define
class Desk:
    """An editor who takes *seconds* for a task and writes down when each began."""

    seconds: float = 0.0
    began: list[tuple[str, float]] = attrs.field(factory=list)

    async def handle(self, _agent: Agent, task: Task) -> Any:
        self.began.append((task.id, trio.current_time()))
        await trio.sleep(self.seconds)
        return {"done": task.payload}


@asynccontextmanager
async def editing(
    config: Config, acting: Acting, handle: Any, *, lines: str = "", more: str = "", **options: Any
) -> AsyncIterator[FleetUnderTest]:
    """Run a fleet of one agent, the editor, until the block ends; it is up when the block begins."""
    # A bound method would not be bound to the agent.
    made = acting(lambda agent, task: handle(agent, task))  # noqa: PLW0108
    async with fleet_under_test(config(more, editor=lines), classes={"editor": made}, **options) as fleet:
        await trio.sleep(1)
        yield fleet


def crash_inbox(fleet: FleetUnderTest) -> None:
    """Let something in the inbox raise."""

    async def fail() -> None:
        raise RuntimeError("told to by a test")

    actor = fleet.fleet.runtime.ref(INBOX).actor
    if actor is not None:
        actor.spawn(fail)


def book(fleet: FleetUnderTest) -> Any:
    return fleet.fleet.members["editor"].book


def assert_idle(fleet: FleetUnderTest, most: int = 1) -> None:
    """Nothing is left behind: no task in hand, no slot taken, nothing in the queue."""
    assert ({}, most) == (book(fleet).in_hand, book(fleet).slots.free)
    assert 0 == sum(consumer.depth() for consumer in fleet.bus.broker.consumers.values())


async def dead_letters(fleet: FleetUnderTest) -> list[BusMessage]:
    return list(await fleet.fleet.bus.browse("newsroom-dlq", "newsroom.dlq.editor"))


def finished(fleet: FleetUnderTest) -> list[tuple[str, str]]:
    return [(event.fields["task"], event.fields["status"]) for event in fleet.events_of("task_finished")]


# One outcome


async def test_a_task_is_answered_once(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """One delivery, one outcome, nothing left in the queue."""
    desk = Desk(seconds=5)
    async with editing(fleet_config, acting, desk.handle) as fleet:
        task = await fleet.send("editor", 1)
        outcome = await fleet.outcome(task)
        await trio.sleep(1)
        assert (Status.ANSWERED, {"done": 1}, 1) == (outcome.status, outcome.answer, outcome.attempts)
        assert [(task, "answered")] == finished(fleet)
        assert_idle(fleet)


@pytest.mark.parametrize("ends", ["answered", "refused", "dead_lettered"])
async def test_an_outcome_is_stored_before_its_task_is_acknowledged(
    ends: str, fleet_config: Config, acting: Acting, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """Else a process that dies between the two has lost the task."""
    stored: list[bool] = []
    settle = _memory_broker.DurableConsumer.settle

    def watched(consumer: Any, sequence: int) -> None:
        stored.append(any(bucket.get(tasks[0]) is not None for bucket in fleet.bus.broker.buckets.values()))
        settle(consumer, sequence)

    async def handle(_agent: Agent, _task: Task) -> None:
        if ends == "refused":
            raise TaskRefused("not mine")
        if ends == "dead_lettered":
            raise ValueError("no")

    monkeypatch.setattr(_memory_broker.DurableConsumer, "settle", watched)
    async with editing(fleet_config, acting, handle, more="[inbox]\nmax_deliveries = 1") as fleet:
        tasks = [await fleet.send("editor", 1)]
        assert ends == (await fleet.outcome(tasks[0])).status
        await trio.sleep(1)
    assert [True] == stored


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.05, 0.5, 4.999, 5.0, 5.05, 5.5])
async def test_a_task_goes_on_while_its_inbox_crashes(
    moment: float, fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """The next inbox sees it through: it is begun once, and ends once."""
    desk = Desk(seconds=5)
    async with editing(fleet_config, acting, desk.handle) as fleet:
        task = await fleet.send("editor", 1)
        await trio.sleep(moment)
        crash_inbox(fleet)
        assert Status.ANSWERED is (await fleet.outcome(task)).status
        await trio.sleep(120)
        assert 1 == len(desk.began)
        assert [(task, "answered")] == finished(fleet)
        assert_idle(fleet)


@pytest.mark.parametrize("method", ["get", "create", "publish"])
async def test_an_inbox_that_crashes_over_a_bus_that_does_not_answer_leaves_nothing_behind(
    method: str, fleet_config: Config, acting: Acting, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """No slot is lost: the agent takes tasks afterwards as before."""
    desk = Desk()

    async def hang(*_: Any, **__: Any) -> Any:
        await trio.sleep_forever()

    async with editing(fleet_config, acting, desk.handle) as fleet:
        with monkeypatch.context() as patch:
            patch.setattr(fleet.fleet.members["editor"].bus, method, hang)
            first = await fleet.send("editor", 1)
            await trio.sleep(5)
            crash_inbox(fleet)
            await trio.sleep(0.01)
        assert Status.ANSWERED is (await fleet.outcome(first)).status
        assert {"done": 2} == await fleet.ask("editor", 2)
        await trio.sleep(120)
        assert 2 == len(desk.began)
        assert_idle(fleet)


@pytest.mark.parametrize("moment", [0.0, 0.01, 2.0, 4.999, 5.0, 5.01])
@pytest.mark.parametrize("away", [0.1, 20.0, 100.0, 600.0])
async def test_a_cut_of_the_bus_costs_no_task(
    moment: float, away: float, fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Not the outcome either, and the work is not done again by the agent that did it."""
    desk = Desk(seconds=5)
    async with editing(fleet_config, acting, desk.handle) as fleet:
        task = await fleet.send("editor", 1)
        await trio.sleep(moment)
        async with fleet.chaos.disconnect("editor"):
            await trio.sleep(away)
        assert Status.ANSWERED is (await fleet.outcome(task)).status
        await trio.sleep(300)
        assert 1 == len(desk.began)
        assert [(task, "answered")] == finished(fleet)
        assert_idle(fleet)


async def test_a_message_that_is_delivered_again_while_its_task_is_in_hand_is_not_a_second_task(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """The newest delivery is the one that is acknowledged in the end."""
    desk = Desk(seconds=100)
    more = '[inbox]\nkeepalive = "5m"\nack_wait = "10m"'
    lines = "max_concurrent_tasks = 2"
    async with editing(fleet_config, acting, desk.handle, lines=lines, more=more) as fleet:
        task = await fleet.send("editor", 1)
        await trio.sleep(1)
        first = book(fleet).in_hand[task].delivery
        consumer = fleet.bus.broker.consumers["newsroom-tasks", "editor-normal"]
        # As after an acknowledgement wait that the keepalive missed.
        consumer.defer(1, 0.0)
        await trio.sleep(1)
        assert (1, 2) == (first.attempt, book(fleet).in_hand[task].delivery.attempt)
        assert 1 == book(fleet).slots.free
        assert Status.ANSWERED is (await fleet.outcome(task)).status
        await trio.sleep(1200)
        assert 1 == len(desk.began)
        assert_idle(fleet, 2)


async def test_a_breaker_that_opens_while_a_task_is_taken_keeps_it_out(
    fleet_config: Config, acting: Acting, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """The task goes back, and is done when the agent is let try again; a bus that stutters meanwhile harms nothing."""
    desk, tries = Desk(), iter(range(1))
    async with editing(fleet_config, acting, desk.handle) as fleet:
        member = fleet.fleet.members["editor"]
        get = member.bus.get

        async def slow(*args: Any, **options: Any) -> Any:
            await trio.sleep(5)
            if next(tries, None) is not None:
                raise BusUnavailable("stutters")
            return await get(*args, **options)

        monkeypatch.setattr(member.bus, "get", slow)
        task = await fleet.send("editor", 1)
        await trio.sleep(7)
        member.breaker.escalated("for a test")
        await trio.sleep(200)
        assert [] == desk.began
        outcome = await fleet.outcome(task)
        assert (Status.ANSWERED, 2) == (outcome.status, outcome.attempts)
        await trio.sleep(1)
        assert_idle(fleet)


async def test_an_actor_that_has_the_name_of_a_task_makes_way(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """What is left of an attempt before does not keep the next one from being made."""
    desk = Desk()
    async with editing(fleet_config, acting, desk.handle) as fleet:
        task = fleet.fleet.client.new_task("editor", 1)
        spec = ChildSpec(id=task.id, factory=Actor, restart=Restart.TEMPORARY)
        await fleet.fleet.runtime.ref("fleet/agents/editor/work").call(StartChild(spec))
        assert {"done": 1} == await fleet.fleet.client.ask(task, 10)
        assert [] == fleet.events_of("task_not_begun")


@pytest.mark.parametrize("route", [0, 1])
async def test_a_task_that_has_its_outcome_is_not_done_again(
    route: int, fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Whether the stream repeats the message or somebody sent it on: its id is known."""
    desk = Desk()
    async with editing(fleet_config, acting, desk.handle) as fleet:
        client = fleet.fleet.client
        task = client.new_task("editor", 1)
        await client.ask(task, 10)
        # The window in which the stream itself knows a repetition is over.
        await trio.sleep(200)
        await client.send(attrs.evolve(task, route=route))
        await trio.sleep(10)
        assert 1 == len(desk.began)
        assert_idle(fleet)


async def test_a_task_whose_outcome_was_taken_back_is_done_again_when_it_is_replayed(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Who replays a dead letter deletes its outcome and stores it with the next route."""
    desk = Desk()
    async with editing(fleet_config, acting, desk.handle) as fleet:
        client = fleet.fleet.client
        task = client.new_task("editor", 1)
        await client.ask(task, 10)
        await fleet.fleet.bus.delete("newsroom-outcomes", task.id)
        await client.ask(attrs.evolve(task, route=1), 10)
        assert 2 == len(desk.began)


# Attempts


async def test_a_task_that_fails_comes_again_after_1_5_and_15_minutes_and_is_then_a_dead_letter(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Four deliveries in all; the dead letter keeps the message and says why."""
    began = []

    async def handle(_agent: Agent, task: Task) -> None:
        began.append((task.attempt, trio.current_time()))
        raise ValueError("bad topic\nand a second line")

    async with editing(fleet_config, acting, handle) as fleet:
        task = await fleet.send("editor", {"topic": "ü"})
        outcome = await fleet.outcome(task)
        (letter,) = await dead_letters(fleet)
        assert [1, 2, 3, 4] == [attempt for attempt, _ in began]
        assert [60, 300, 900] == pytest.approx([b - a for (_, a), (_, b) in pairwise(began)], abs=1)
        assert (Status.DEAD_LETTERED, 4) == (outcome.status, outcome.attempts)
        assert "bad topic" in outcome.reason
        assert {"topic": "ü"} == json.loads(letter.body)
        assert "attempt 4 crashed: ValueError: bad topic and a second line" == letter.headers["Agentrt-Reason"]
        assert (task, "4") == (letter.headers["Agentrt-Id"], letter.headers["Agentrt-Attempts"])
        assert task == Task.read("editor", letter.body, letter.headers).id
        assert_idle(fleet)


@pytest.mark.parametrize(
    ("lines", "ends"),
    [
        ('progress_timeout = "10s"\ntask_timeout = "60s"', ("stuck", 10.0)),
        ('progress_timeout = "50s"\ntask_timeout = "60s"', ("stuck", 50.0)),
    ],
)
async def test_a_task_that_does_not_move_is_ended_as_stuck(
    lines: str, ends: tuple[str, float], fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """No step within the progress limit."""

    async def handle(_agent: Agent, _task: Task) -> None:
        await trio.sleep_forever()

    async with editing(fleet_config, acting, handle, lines=lines) as fleet:
        began = trio.current_time()
        await fleet.send("editor", 1)
        await trio.sleep(59)
        (failed,) = fleet.events_of("task_attempt_failed")
        assert ends[0] == failed.fields["exit"]
        assert ends[1] == pytest.approx(failed.time - began, abs=1)


async def test_a_task_that_moves_for_ever_is_ended_as_timed_out(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Progress does not lift the total limit, which is another error."""

    async def handle(agent: Agent, _task: Task) -> None:
        while True:
            agent.progress("still at it")
            await trio.sleep(1)

    lines = 'progress_timeout = "10s"\ntask_timeout = "60s"'
    async with editing(fleet_config, acting, handle, lines=lines, more="[inbox]\nmax_deliveries = 1") as fleet:
        outcome = await fleet.outcome(await fleet.send("editor", 1))
        assert Status.DEAD_LETTERED is outcome.status
        assert "timed_out" in outcome.reason
        assert 60.0 == pytest.approx(fleet.events_of("task_attempt_failed")[0].time, abs=2)


async def test_a_refusal_is_final(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """One attempt; the outcome has the reason; nothing failed."""

    async def handle(_agent: Agent, _task: Task) -> None:
        async with trio.open_nursery():
            raise TaskRefused("not my beat")

    async with editing(fleet_config, acting, handle) as fleet:
        outcome = await fleet.outcome(await fleet.send("editor", 1))
        assert (Status.REFUSED, "not my beat", 1) == (outcome.status, outcome.reason, outcome.attempts)
        assert [] == fleet.events_of("task_attempt_failed")
        await trio.sleep(1)
        assert_idle(fleet)


async def test_a_task_past_its_deadline_is_expired_and_not_begun(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Nobody wants it any more; it counts, and says why."""
    desk = Desk(seconds=30)
    async with editing(fleet_config, acting, desk.handle) as fleet:
        client = fleet.fleet.client
        await fleet.send("editor", 1)
        late = client.new_task("editor", 2, timeout=10)
        await client.send(late)
        outcome = await fleet.outcome(late.id)
        assert (Status.EXPIRED, 1) == (outcome.status, len(desk.began))
        assert "deadline" in outcome.reason


async def test_a_task_is_ended_at_its_deadline(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """And not delivered again after it, since no other attempt would be in time."""
    desk = Desk(seconds=300)
    async with editing(fleet_config, acting, desk.handle) as fleet:
        client = fleet.fleet.client
        task = client.new_task("editor", 1, timeout=10)
        await client.send(task)
        outcome = await fleet.outcome(task.id)
        assert Status.DEAD_LETTERED is outcome.status
        assert "its deadline leaves no time for another" in outcome.reason
        assert 11.0 == pytest.approx(trio.current_time(), abs=1)


async def test_a_task_whose_process_died_each_time_is_a_dead_letter(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Nobody was left to count its attempts, but the stream did."""
    desk = Desk()
    async with editing(fleet_config, acting, desk.handle) as fleet:
        agent = fleet.fleet.runtime.ref("fleet/agents/editor")
        await agent.call(TerminateChild("inbox"))
        task = await fleet.send("editor", 1)
        consumer = fleet.bus.broker.consumers["newsroom-tasks", "editor-normal"]
        for attempt in range(1, 5):
            assert attempt == consumer.take().attempt
            await trio.sleep(61)
        await agent.call(RestartChild("inbox"))
        outcome = await fleet.outcome(task)
        assert (Status.DEAD_LETTERED, []) == (outcome.status, desk.began)
        assert "delivered 4 times" in outcome.reason
        assert 1 == len(await dead_letters(fleet))


# What comes in and what goes out


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {"Agentrt-Id": "1"}),
        (b"1", {}),
        (b"1", {"Agentrt-Id": "a/b"}),
        (b"1", {"Agentrt-Id": "a b"}),
        (b"1", {"Agentrt-Id": "1", "Agentrt-Hops": "x" * 10_000}),
        (b"[" * 50_000, {"Agentrt-Id": "1"}),
        (b"x" * (1024 * 1024 - 200), {"Agentrt-Id": "1", "Agentrt-Sent-At": "1767225600.000", "Agentrt-Auto": "no"}),
    ],
    ids=["no JSON", "no id", "id is a path", "id has a space", "long header", "deep", "as large as the bus takes"],
)
async def test_what_is_no_task_goes_to_the_dead_letters_with_the_reason(
    body: bytes, headers: dict[str, str], fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """It harms nobody: the inbox does not crash over it, and takes the next task."""
    async with editing(fleet_config, acting, Desk().handle) as fleet:
        await fleet.fleet.bus.store("newsroom.tasks.editor.normal", body, headers, msg_id="x")
        assert {"done": 1} == await fleet.ask("editor", 1)
        (letter,) = await dead_letters(fleet)
        assert body == letter.body
        assert letter.headers["Agentrt-Reason"].isprintable()
        assert [] == fleet.events_of("actor_crashed")
        assert_idle(fleet)


@pytest.mark.parametrize("payload", ["\\ud800", "1e999", "[" * 400 + "]" * 400])
async def test_a_payload_that_could_not_be_written_again_is_kept_as_it_came(
    payload: str, fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """A dead letter has the very bytes of the message, whatever another program put into them."""

    async def handle(_agent: Agent, _task: Task) -> None:
        raise ValueError("half a pair: \ud800")

    body = (f'"{payload}"' if payload.startswith("\\") else payload).encode()
    async with editing(fleet_config, acting, handle, more="[inbox]\nmax_deliveries = 1") as fleet:
        await fleet.fleet.bus.store("newsroom.tasks.editor.normal", body, {"Agentrt-Id": "1"}, msg_id="1.0")
        assert Status.DEAD_LETTERED is (await fleet.outcome("1")).status
        assert [body] == [letter.body for letter in await dead_letters(fleet)]


async def test_a_task_as_large_as_the_bus_takes_can_be_a_dead_letter(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """There is no room for a long reason beside it; the outcome has it."""

    async def handle(_agent: Agent, _task: Task) -> None:
        raise ValueError("no" * 500)

    async with editing(fleet_config, acting, handle, more="[inbox]\nmax_deliveries = 1") as fleet:
        client = fleet.fleet.client
        task = client.new_task("editor", "x" * (1024 * 1024 - 400))
        room = 400 - 2 - sum(len(f"{k}: {v}\r\n") for k, v in task.headers().items()) - len("NATS/1.0\r\n\r\n")
        fitting = attrs.evolve(task, payload=task.payload + "x" * (room - len(f"Nats-Msg-Id: {task.msg_id}\r\n")))
        await client.send(fitting)
        assert Status.DEAD_LETTERED is (await fleet.outcome(task.id)).status
        (letter,) = await dead_letters(fleet)
        assert (fitting.body(), "see outcome") == (letter.body, letter.headers["Agentrt-Reason"])


@pytest.mark.parametrize(
    "answer",
    [object(), {1, 2}, float("nan"), [float("inf")], {("a", "b"): 1}],
    ids=["object", "set", "nan", "inf", "key"],
)
async def test_an_answer_that_is_no_json_is_a_failed_attempt(
    answer: Any, fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """The error names the class and says what to return."""

    async def handle(_agent: Agent, _task: Task) -> Any:
        return answer

    async with editing(fleet_config, acting, handle, more="[inbox]\nmax_deliveries = 1") as fleet:
        outcome = await fleet.outcome(await fleet.send("editor", 1))
        assert Status.DEAD_LETTERED is outcome.status
        assert "Acting.handle returned what is no JSON" in outcome.reason


async def test_a_handler_that_raises_what_only_trio_may_is_a_failed_attempt(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """GeneratorExit would close the task's coroutine, and with it the fleet."""

    async def handle(_agent: Agent, _task: Task) -> Any:
        raise GeneratorExit

    async with editing(fleet_config, acting, handle, more="[inbox]\nmax_deliveries = 1") as fleet:
        outcome = await fleet.outcome(await fleet.send("editor", 1))
        assert Status.DEAD_LETTERED is outcome.status
        assert "handle raised GeneratorExit" in outcome.reason


async def test_an_answer_in_a_circle_or_too_deep_is_a_failed_attempt(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Not a crash of the inbox, which would take the agent down with it."""
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    # How deep JSON may be differs between versions of Python; this is too deep for each.
    for _ in range(200_000):
        deep = [deep]

    async def handle(_agent: Agent, task: Task) -> Any:
        return circle if task.payload == "circle" else deep

    async with editing(fleet_config, acting, handle, more="[inbox]\nmax_deliveries = 1") as fleet:
        for payload in ("circle", "deep"):
            outcome = await fleet.outcome(await fleet.send("editor", payload))
            assert "is no JSON" in outcome.reason
        assert not [event for event in fleet.events_of("actor_crashed") if event.path == INBOX]


async def test_an_answer_with_half_a_surrogate_pair_is_an_answer(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Models write such; it is stored as an escape."""

    async def handle(_agent: Agent, _task: Task) -> Any:
        return "half: \ud83d"

    async with editing(fleet_config, acting, handle) as fleet:
        assert "half: \ud83d" == await fleet.ask("editor", 1)


async def test_an_answer_too_large_for_the_bus_is_a_failure_with_the_reason(
    fleet_config: Config, acting: Acting, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """Nobody could read it, and another attempt would not make it smaller."""

    async def handle(_agent: Agent, task: Task) -> Any:
        return "x" * task.payload

    async with editing(fleet_config, acting, handle) as fleet:
        bus = fleet.fleet.members["editor"].bus
        create = bus.create

        async def bounded(bucket: str, key: str, value: bytes, **options: Any) -> int:
            if len(value) > 1024 * 1024:
                raise BusRefused("maximum payload exceeded")
            return await create(bucket, key, value, **options)

        monkeypatch.setattr(bus, "create", bounded)
        with pytest.raises(TaskFailed, match="its answer could not be stored: maximum payload exceeded") as caught:
            await fleet.ask("editor", 2 * 1024 * 1024)
        assert Status.FAILED is caught.value.outcome.status
        await trio.sleep(1)
        assert "failed" == fleet.events_of("task_finished")[-1].fields["status"]
        assert_idle(fleet)


async def test_a_reason_of_any_length_is_stored_in_short(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """An exception may hold all that a model wrote; the outcome of its task does not get lost over that."""

    async def handle(_agent: Agent, _task: Task) -> Any:
        raise ValueError("x" * 3_000_000)

    async with editing(fleet_config, acting, handle, more="[inbox]\nmax_deliveries = 1") as fleet:
        outcome = await fleet.outcome(await fleet.send("editor", 1))
        assert Status.DEAD_LETTERED is outcome.status
        assert len(outcome.reason) <= 2000


async def test_an_answer_that_changes_after_it_was_given_is_stored_as_it_was(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """An agent may go on with the list that it returned, while the bus is away."""
    kept: list[int] = []
    begun = trio.Event()

    async def handle(_agent: Agent, task: Task) -> Any:
        begun.set()
        kept.append(task.payload)
        return kept

    async with editing(fleet_config, acting, handle) as fleet:
        first = await fleet.send("editor", 1)
        await begun.wait()
        async with fleet.chaos.disconnect("editor"):
            await trio.sleep(5)
            kept.append(99)
        assert [1] == (await fleet.outcome(first)).answer


async def test_a_bus_that_refuses_to_store_an_end_is_asked_again_later(
    fleet_config: Config, acting: Acting, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """A full store crashes nobody, is told of, and costs no task."""
    async with editing(fleet_config, acting, Desk().handle) as fleet:
        bus = fleet.fleet.members["editor"].bus

        async def full(*_: Any, **__: Any) -> int:
            raise BusRefused("the store is full")

        with monkeypatch.context() as patch:
            patch.setattr(bus, "create", full)
            patch.setattr(bus, "store", full)
            answered = await fleet.send("editor", 1)
            await fleet.fleet.bus.store("newsroom.tasks.editor.high", b"{", {}, msg_id="malformed")
            await trio.sleep(30)
            assert ["the store is full"] * 2 == [e.fields["reason"] for e in fleet.events_of("task_not_settled")]
            assert [] == fleet.events_of("actor_crashed")
        assert Status.ANSWERED is (await fleet.outcome(answered)).status
        await trio.sleep(120)
        assert 1 == len(await dead_letters(fleet))
        assert_idle(fleet)


async def test_an_acknowledgement_that_is_lost_is_made_up_for(
    fleet_config: Config, acting: Acting, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """The message comes again, and is acknowledged then, because its task has an outcome."""
    desk = Desk()

    async def away() -> None:
        raise BusUnavailable("settling a delivery: not done within 30 s")

    async with editing(fleet_config, acting, desk.handle) as fleet:
        with monkeypatch.context() as patch:
            patch.setattr(fleet.fleet.members["editor"].bus, "confirm", away)
            assert {"done": 1} == await fleet.ask("editor", 1)
            await trio.sleep(1)
            assert 1 == len(fleet.events_of("task_not_acknowledged"))
        await trio.sleep(120)
        assert 1 == len(desk.began)
        assert_idle(fleet)


# Order and number


@pytest.mark.parametrize("attempt", range(6))
async def test_the_highest_priority_goes_first(
    attempt: int, fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Whatever was sent first, and whatever order Trio runs its tasks in."""
    order: list[Any] = []

    async def handle(_agent: Agent, task: Task) -> None:
        order.append(task.payload)
        await trio.sleep(10)

    async with editing(fleet_config, acting, handle) as fleet:
        await fleet.send("editor", "first")
        await trio.sleep(1)
        for number in range(2):
            for priority in ("low", "normal", "high"):
                await fleet.send("editor", f"{priority} {number}", priority=priority)
        await fleet.assert_outcomes_complete()
    assert ["first", "high 0", "high 1", "normal 0", "normal 1", "low 0", "low 1"] == order


@pytest.mark.parametrize("most", [1, 3])
async def test_no_more_tasks_run_at_once_than_allowed(
    most: int, fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """And no fewer, where there is work."""
    running, peak = 0, 0

    async def handle(_agent: Agent, task: Task) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await trio.sleep(task.payload)
        running -= 1

    lines = f"max_concurrent_tasks = {most}"
    async with editing(fleet_config, acting, handle, lines=lines) as fleet:
        for number in range(20):
            await fleet.send("editor", 1 + number % 3)
        await fleet.assert_outcomes_complete()
        await trio.sleep(1)
        assert most == peak
        assert_idle(fleet, most)


async def test_a_task_that_is_over_makes_room_at_once(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """Work that waits begins when the one before it ended, and not some time later."""
    desk = Desk(seconds=10)
    async with editing(fleet_config, acting, desk.handle) as fleet:
        for number in range(5):
            await fleet.send("editor", number)
        await fleet.assert_outcomes_complete()
    starts = [began for _, began in desk.began]
    assert [10.0] * 4 == pytest.approx([b - a for a, b in pairwise(starts)], abs=0.001)


async def test_what_is_remembered_of_tasks_is_bounded(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """After two thousand tasks there are as many actors as before, and no more ids than are kept."""
    lines = "max_concurrent_tasks = 8"
    async with editing(fleet_config, acting, Desk().handle, lines=lines) as fleet:
        before = len(list(fleet.fleet.runtime.tree().walk()))
        for number in range(2000):
            await fleet.send("editor", number)
        await fleet.assert_outcomes_complete()
        await trio.sleep(1)
        assert before == len(list(fleet.fleet.runtime.tree().walk()))
        assert 2000 == len(finished(fleet))
        assert 1024 == len(book(fleet)._finished)
        assert_idle(fleet, 8)


# When tasks are taken, and how they are given back


class Archive:
    async def search(self, query: str) -> str:
        return query


ARCHIVE = '[mcp.global.archive]\ncommand = ["archive"]'


@pytest.mark.parametrize("idle", [0.0, 500.0])
async def test_no_task_is_taken_while_a_need_is_not_ready(
    idle: float, fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Also by an inbox that waited for a task when the need failed."""
    desk = Desk()
    options = {"lines": 'mcp = ["archive"]', "more": ARCHIVE, "tools": {"archive": Archive()}}
    async with editing(fleet_config, acting, desk.handle, **options) as fleet:
        await trio.sleep(idle)
        async with fleet.chaos.crash("editor/tools/archive", restart_after=HOUR):
            task = await fleet.send("editor", 1)
            await trio.sleep(100)
            assert [] == desk.began
        assert Status.ANSWERED is (await fleet.outcome(task)).status


async def test_a_message_is_not_kept_from_others_while_a_need_is_not_ready_for_long(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Another replica may be ready: after half a minute it goes back to the queue."""
    options = {"lines": 'mcp = ["archive"]', "more": ARCHIVE, "tools": {"archive": Archive()}}
    async with editing(fleet_config, acting, Desk().handle, **options) as fleet:
        async with fleet.chaos.crash("editor/tools/archive", restart_after=HOUR):
            task = await fleet.send("editor", 1)
            await trio.sleep(40)
            assert 2 == fleet.bus.broker.consumers["newsroom-tasks", "editor-normal"].take().attempt
            await trio.sleep(100)
        assert Status.ANSWERED is (await fleet.outcome(task)).status


async def test_no_task_is_taken_while_a_check_of_the_agent_fails(fleet_config: Config, autojump_clock: Clock):
    """What an agent reports by itself counts as much as what is seen from outside."""
    made: list[Agent] = []

    class Editor(Agent):
        async def on_start(self) -> None:
            made.append(self)
            self.check("model_available", ok=False, reason="no key")

        async def handle(self, task: Task) -> Any:
            return task.payload

    async with fleet_under_test(fleet_config(editor=""), classes={"editor": Editor}) as fleet:
        task = await fleet.send("editor", 1)
        with pytest.raises(NoOutcome):
            await fleet.outcome(task, timeout=60)
        (status,) = fleet.fleet.statuses()
        assert (False, "model_available: no key") == (status.ready, status.why)
        made[0].check("model_available", ok=True)
        assert 1 == (await fleet.outcome(task)).answer


async def test_tasks_in_hand_end_within_the_drain(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """A stop waits for them, and they have their outcome when it is over."""
    desk = Desk(seconds=9)
    async with editing(fleet_config, acting, desk.handle) as fleet:
        task = await fleet.send("editor", 1)
        await trio.sleep(1)
    assert [(task, "answered")] == finished(fleet)


async def test_what_does_not_end_within_the_drain_is_given_back_for_the_next_run(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """At once, with all that was not begun; and the next run does it."""
    desk = Desk(seconds=40)
    async with editing(fleet_config, acting, desk.handle) as fleet:
        tasks = [await fleet.send("editor", number) for number in range(2)]
        low = await fleet.send("editor", 2, priority="low")
        await trio.sleep(1)
        stopped = trio.current_time()
    assert [] == finished(fleet)
    assert 13.0 > trio.current_time() - stopped
    async with editing(fleet_config, acting, desk.handle, bus=fleet.bus) as second:
        for task in (*tasks, low):
            assert Status.ANSWERED is (await second.outcome(task)).status
        assert {tasks[0]: 2, tasks[1]: 1, low: 1} == Counter(task for task, _ in desk.began)
        await trio.sleep(1)
        assert_idle(second)


async def test_ordered_stops_spend_none_of_a_task_s_deliveries(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Nothing failed: however often it is cut off, the task is as new, and done in the end."""
    attempts: list[int] = []

    async def handle(_agent: Agent, task: Task) -> Any:
        attempts.append(task.attempt)
        await trio.sleep(60)
        return "done"

    bus, task = None, ""
    for _ in range(6):
        async with editing(fleet_config, acting, handle, bus=bus) as fleet:
            bus = fleet.bus
            task = task or await fleet.send("editor", 1)
            await trio.sleep(5)
    async with editing(fleet_config, acting, handle, bus=bus) as fleet:
        assert Status.ANSWERED is (await fleet.outcome(task)).status
        assert [] == fleet.events_of("task_dead_lettered")
    assert [1] * 7 == attempts


async def test_a_task_that_is_cut_off_for_ever_is_a_dead_letter_in_the_end(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """It may be what brings its agent down: after 16 routes its deliveries count, four of them here."""

    async def handle(_agent: Agent, _task: Task) -> Any:
        await trio.sleep(60)

    bus, task, runs = None, "", 0
    dead: list[Any] = []
    while not dead and runs < 30:
        async with editing(fleet_config, acting, handle, bus=bus) as fleet:
            bus = fleet.bus
            task = task or await fleet.send("editor", 1)
            await trio.sleep(5)
        dead, runs = fleet.events_of("task_dead_lettered"), runs + 1
    assert [(task, "process_died")] == [(event.fields["task"], event.fields["why"]) for event in dead]
    assert 16 + 4 + 1 == runs


async def test_a_task_that_ends_the_run_is_left_to_the_next_one(
    fleet_config: Config, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """Given back once; taken again while others stop first, it would be refused as one that goes in circles."""
    began: list[float] = []

    class Editor(Agent):
        async def handle(self, task: Task) -> Any:
            began.append(trio.current_time())
            raise KeyboardInterrupt

    async def stop_slowly(_registrar: Registrar) -> None:
        await trio.sleep(3)

    monkeypatch.setattr(Registrar, "on_stop", stop_slowly)
    events: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        async with fleet_under_test(fleet_config(editor=""), classes={"editor": Editor}) as fleet:
            events = fleet.events
            await trio.sleep(1)
            await fleet.send("editor", 1)
            await trio.sleep_forever()
    assert ["fleet/agents/editor/inbox"] == [event.path for event in events if event.kind == "task_handed_on"]
    assert 1 == len(began)


async def test_a_delivery_that_the_bus_has_forgotten_does_not_hold_up_the_inbox(
    fleet_config: Config, acting: Acting, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """A server that was killed may never confirm a settlement again, although it is ready: tell it and go on."""

    async def forgotten(*_: Any) -> None:
        await trio.sleep(4)
        raise BusUnavailable("not confirmed")

    async with editing(fleet_config, acting, Desk().handle) as fleet:
        first = await fleet.send("editor", 1)
        await fleet.outcome(first)
        with monkeypatch.context() as patched:
            patched.setattr(MemoryDelivery, "ack", forgotten)
            patched.setattr(MemoryDelivery, "term", forgotten)
            await fleet.fleet.bus.store("newsroom.tasks.editor.normal", b"{", {}, msg_id="malformed")
            await trio.sleep(30)
        assert 1 <= len(fleet.events_of("task_not_acknowledged"))
        assert {"done": 2} == await fleet.ask("editor", 2, timeout=60)


async def test_a_message_that_was_only_held_is_given_back_at_a_stop(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """It does not wait for its acknowledgement to run out."""
    async with editing(fleet_config, acting, Desk(seconds=5).handle) as fleet:
        # The pulls of all lanes are open: one of each priority is taken from the stream, and one of them is begun.
        tasks = [await fleet.send("editor", lane, priority=lane) for lane in ("high", "normal", "low")]
        await trio.sleep(1)
    stopped = trio.current_time()
    async with editing(fleet_config, acting, Desk().handle, bus=fleet.bus) as second:
        for task in tasks:
            assert Status.ANSWERED is (await second.outcome(task)).status
        assert 5.0 > trio.current_time() - stopped


@pytest.mark.parametrize("away", [5, 45])
async def test_a_task_that_cannot_be_begun_is_tried_again(
    away: float, fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """In hand at first, which costs it none of its deliveries; given back where that takes long."""
    desk = Desk()
    async with editing(fleet_config, acting, desk.handle) as fleet:
        inbox: Any = fleet.fleet.runtime.ref(INBOX).actor

        async def unwilling(_entry: Any) -> Any:
            raise Refusal("for a test")

        inbox._begin = unwilling
        task = await fleet.send("editor", 1)
        await trio.sleep(away)
        del inbox._begin
        outcome = await fleet.outcome(task)
        assert (Status.ANSWERED, 1 if away < 30 else 2) == (outcome.status, outcome.attempts)
        assert {"for a test"} == {event.fields["reason"] for event in fleet.events_of("task_not_begun")}
        await trio.sleep(1)
        assert_idle(fleet)


async def test_tasks_wait_while_the_supervisor_of_their_actors_is_away(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """They are begun when it is back."""
    desk = Desk()
    async with editing(fleet_config, acting, desk.handle) as fleet:
        agent = fleet.fleet.runtime.ref("fleet/agents/editor")
        await agent.call(TerminateChild("work"))
        task = await fleet.send("editor", 1)
        await trio.sleep(10)
        await agent.call(RestartChild("work"))
        outcome = await fleet.outcome(task)
        assert (Status.ANSWERED, 1, 1) == (outcome.status, outcome.attempts, len(desk.began))


async def test_a_task_that_an_operator_ends_is_done_again(fleet_config: Config, acting: Acting, autojump_clock: Clock):
    """Being stopped is no failure of the task."""
    desk = Desk(seconds=10)
    async with editing(fleet_config, acting, desk.handle) as fleet:
        task = await fleet.send("editor", 1)
        await trio.sleep(1)
        await fleet.fleet.runtime.ref("fleet/agents/editor/work").call(TerminateChild(task))
        assert Status.ANSWERED is (await fleet.outcome(task)).status
        assert ([], 2) == (fleet.events_of("task_attempt_failed"), len(desk.began))


async def test_a_task_that_does_not_even_stop_is_a_failed_attempt_and_can_be_begun_again(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """What is left of the attempt before does not keep its name from the next one."""
    attempts: list[int] = []
    release = trio.Event()

    async def handle(_agent: Agent, task: Task) -> Any:
        attempts.append(task.attempt)
        if task.attempt == 1:
            with trio.CancelScope(shield=True):
                await release.wait()
        return "second"

    lines = 'task_timeout = "20s"\nprogress_timeout = "10s"'
    async with editing(fleet_config, acting, handle, lines=lines) as fleet:
        assert "second" == await fleet.ask("editor", 1)
        release.set()
        assert [1, 2] == attempts


async def test_the_stream_keeps_a_long_task_for_the_inbox_that_works_on_it(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """Twenty minutes are twenty times the ack wait: it is kept alive, and delivered once."""
    desk = Desk(seconds=1200)
    lines = 'progress_timeout = "25m"'
    async with editing(fleet_config, acting, desk.handle, lines=lines) as fleet:
        outcome = await fleet.outcome(await fleet.send("editor", 1))
        assert (Status.ANSWERED, 1) == (outcome.status, len(desk.began))
        assert 1 == len(fleet.events_of("message_received"))


async def test_a_keepalive_that_does_not_get_through_is_no_crash(
    fleet_config: Config, acting: Acting, autojump_clock: Clock
):
    """The bus is away for longer than one sign may take; the task goes on."""
    desk = Desk(seconds=200)
    async with editing(fleet_config, acting, desk.handle) as fleet:
        task = await fleet.send("editor", 1)
        await trio.sleep(1)
        async with fleet.chaos.disconnect("editor"):
            await trio.sleep(150)
        assert Status.ANSWERED is (await fleet.outcome(task)).status
        assert ([], 1) == (fleet.events_of("actor_crashed"), len(desk.began))
