"""The incidents: each breaks something for real, waits until the fleet noticed, and checks that it is well again."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import psutil
import trio
from stage import NotHealed, Sent, Stage

from agentrt import Status
from agentrt.ports import BusMessage

_MIB = 1024 * 1024
#: Seconds: between two looks whether a call began, for a server to read it, and for an answer on its way to arrive.
_LOOK_AGAIN, _READ, _ON_ITS_WAY = 0.001, 0.003, 0.02


async def kill_tool_server(stage: Stage) -> None:
    """SIGKILL the git server while it works on a call."""
    git = stage.fleet.members["archivist"].sessions["git"]
    path = "archivist/tools/git"
    sent = await _freeze_in_call(stage, git)
    pid = git.pid
    os.kill(pid, signal.SIGKILL)
    stage.injected(f"SIGKILL to the git server (pid {pid}) with a call in hand")
    await stage.noticed("mcp_server_exited", path=path, say=lambda event: event.fields["reason"])
    await stage.seen("tool_call_retried", path=path)
    restarted = await stage.seen("mcp_server_restarted", path=path)
    await stage.seen("tool_call_recovered", path=path)
    await sent.ended()
    await stage.ask("archivist", {"topic": "trio"})
    _check_ready(stage, "archivist")
    stage.healed(f"a new server after {restarted.fields['ms']} ms; the call that was cut off was answered")


async def kill_nats(stage: Stage) -> None:
    """SIGKILL the nats-server that all agents are connected to."""
    pid = stage.fleet.servers.nodes[0].pid
    os.kill(pid, signal.SIGKILL)
    stage.injected(f"SIGKILL to nats-server (pid {pid}); a task is sent while it is down")
    sent = stage.send("editor", {"topic": "supervision"})
    await stage.noticed("nats_connection_lost", "nats_server_exited", say=lambda event: event.kind.replace("_", " "))
    started = await stage.seen("nats_server_started")
    buses = [stage.fleet.bus, *(member.bus for member in stage.fleet.members.values())]
    for bus in buses:
        await bus.wait_ready()
    await sent.ended()
    back = stage.incident.after(started.time)
    stage.healed(f"up again after {back}, {len(buses)} connections rebuilt, the task was answered")


async def hang_agent(stage: Stage) -> None:
    """Let the writer wait for ever for its language model."""
    writer = stage.fleet.members["writer"].host.instance()
    hanging = trio.Event()
    answering = writer.model

    async def hang_once(prompt: str) -> str:
        if "silence" in prompt and not hanging.is_set():
            hanging.set()
            await trio.sleep_forever()
        return await answering(prompt)

    writer.model = hang_once
    sent = stage.send("writer", {"topic": "silence", "sources": []})
    await hanging.wait()
    limit = stage.fleet.config.agents["writer"].progress_timeout
    stage.injected(f"the writer's language model does not answer (progress limit {limit:g} s)")
    stuck = await stage.noticed(
        "task_attempt_failed", task=sent.task.id, say=lambda event: f"the task is {event.fields['exit']}"
    )
    if stuck.fields["exit"] != "stuck":
        raise NotHealed(f"the attempt ended as {stuck.fields['exit']}")
    outcome = await sent.ended()
    writer.model = answering
    await stage.ask("editor", {"topic": "backoff"})
    stage.healed(f"ended, delivered again, and answered at attempt {outcome.attempts}")


async def answer_for_ever(stage: Stage) -> None:
    """Let two agents answer each other for ever."""
    sent = stage.send("gossip-a", {"rumour": "the printer is on fire"})
    stage.injected("a rumour: gossip-a and gossip-b each answer the other")
    refused = await stage.noticed(
        "flood_gate_refused", conversation=sent.task.id, say=lambda event: f"a {event.fields['reason']} of messages"
    )
    task = refused.fields["task"]
    await stage.seen("task_finished", task=task, status="refused")
    letter = await _dead_letter(stage, refused.path.split("/")[2], task)
    await sent.ended()
    for gossip in ("gossip-a", "gossip-b"):
        await stage.ask(gossip, {"rumour": "the cake is in the kitchen", "secret": True})
    messages = stage.watch.count("task_received", since=stage.incident.since, path="gossip-") - 2
    stage.healed(f"over after {messages} messages; the last one is a dead letter: {letter.headers['Agentrt-Reason']!r}")


async def leak_memory(stage: Stage) -> None:
    """Let a tool server take memory and keep it, with a call in hand when that is too much."""
    librarian = stage.fleet.members["librarian"]
    shelf = librarian.sessions["shelf"]
    old, path = shelf.pid, "librarian/tools/shelf"
    first = stage.send("librarian", {"title": "an atlas", "megabytes": 90})
    stage.injected(f"the shelf server (pid {old}) keeps 90 MiB, and then 90 more with a call in hand")
    guard = "librarian/memory-guard"
    await stage.noticed(
        "memory_warning", say=lambda event: f"a warning at {event.fields['rss'] // _MIB} MiB", path=guard
    )
    await first.ended()
    slow = stage.send("librarian", {"title": "all of Proust", "megabytes": 90, "seconds": 1.0})
    over = await stage.seen("memory_limit_exceeded", path=guard)
    await stage.seen("mcp_server_restarted", path=path)
    await slow.ended()
    if stage.watch.count("tool_call_retried", since=stage.incident.since, path=path):
        raise NotHealed("the call in hand was cut off")
    await stage.ask("librarian", {"title": "a leaflet"})
    _check_ready(stage, "librarian")
    rss = psutil.Process(shelf.pid).memory_info().rss
    stage.healed(
        f"replaced at {over.fields['rss'] // _MIB} MiB, after the call in hand was answered; now {rss // _MIB} MiB"
    )


async def poison_task(stage: Stage) -> None:
    """Send a task that no attempt can do: it has no topic."""
    sent = stage.send("writer", {"text": "no topic"})
    stage.injected("a task that raises in the writer on each delivery")
    await stage.noticed(
        "task_attempt_failed", task=sent.task.id, say=lambda event: f"attempt 1 failed: {event.fields['reason']}"
    )
    outcome = await sent.ended(Status.DEAD_LETTERED)
    letter = await _dead_letter(stage, "writer", sent.task.id)
    await stage.ask("writer", {"topic": "poison", "sources": []})
    stage.healed(f"a dead letter after {outcome.attempts} attempts: {letter.headers['Agentrt-Reason']!r}")


async def _freeze_in_call(stage: Stage, git: Any) -> Sent:
    """Stop the git server while it works on a call, so that the call cannot end before the kill."""
    while True:
        sent = stage.send("archivist", {"topic": "nats"})
        # Nothing tells that a call begins, since nobody but a demo has to know.
        while not git.desk.calls:  # noqa: ASYNC110
            await trio.sleep(_LOOK_AGAIN)
        await trio.sleep(_READ)
        os.kill(git.pid, signal.SIGSTOP)
        await trio.sleep(_ON_ITS_WAY)
        if git.desk.calls:
            return sent
        os.kill(git.pid, signal.SIGCONT)
        await sent.ended()


def _check_ready(stage: Stage, agent: str) -> None:
    unready = stage.fleet.members[agent].unready()
    if unready:
        raise NotHealed(f"{agent} is not ready: {', '.join(unready)}")


async def _dead_letter(stage: Stage, agent: str, task: str) -> BusMessage:
    client = stage.fleet.client
    for letter in await client.bus.browse(client.names.dead_letters, client.names.dead_letter_subject(agent)):
        if letter.headers["Agentrt-Id"] == task:
            return letter
    raise NotHealed(f"task {task} is not among the dead letters of {agent}")


@attrs.frozen
class Drill:
    """An incident to come.

    Args:
        title: What it is called.
        run: Breaks something and sees it heal.
        limit: Seconds that all of it may take.
    """

    title: str
    run: Callable[[Stage], Awaitable[None]]
    limit: float

    async def play(self, stage: Stage) -> None:
        """Carry it out, and note how it went."""
        incident = stage.begin(self.title)
        try:
            with trio.fail_after(self.limit):
                await self.run(stage)
        except NotHealed as problem:
            stage.failed(str(problem))
        except trio.TooSlowError:
            phase = "noticed" if math.isnan(incident.noticed) else "healed"
            stage.failed(f"not {phase} within {self.limit:g} s")


DRILLS = (
    Drill("a tool server is killed in the middle of a call", kill_tool_server, 15.0),
    Drill("nats-server is killed", kill_nats, 15.0),
    Drill("an agent hangs", hang_agent, 40.0),
    Drill("two agents answer each other for ever", answer_for_ever, 10.0),
    Drill("a tool server leaks memory", leak_memory, 20.0),
    Drill("a task raises on each delivery", poison_task, 30.0),
)
