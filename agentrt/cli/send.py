"""``agentrt send`` and ``agentrt outcome``: giving a fleet a task from outside, and asking how it ended."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import attrs
import trio
import typer

from agentrt.agent import NoOutcome, TaskClient
from agentrt.cli.bus import open_bus
from agentrt.cli.check import public_url
from agentrt.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    duration,
    no_fleet,
    print_json,
    read_config,
    run_async,
    state_dir,
)
from agentrt.cli.control import ask
from agentrt.cli.exits import ExitCode, Failure
from agentrt.cli.lately import said_lately
from agentrt.cli.statedir import RunInfo, find_run
from agentrt.config import Loaded, format_duration
from agentrt.config.problems import did_you_mean
from agentrt.ops import logs
from agentrt.ports import BusRefused, BusUnavailable, Json
from agentrt.tasks import Names, Outcome, Priority, Status

#: Who a task comes from that was sent from outside the fleet.
SENDER = "cli"
_LOOK_AGAIN = 0.1
#: What a task's end means for the command that waited for it.
BY_STATUS = {
    Status.ANSWERED: ExitCode.OK,
    Status.FAILED: ExitCode.FAILED,
    Status.EXPIRED: ExitCode.EXPIRED,
    Status.REFUSED: ExitCode.REFUSED,
    Status.DEAD_LETTERED: ExitCode.DEAD_LETTERED,
}


def send(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Who is to do it.")],
    payload: Annotated[
        str, typer.Argument(metavar="JSON", help="What is to be done; - reads standard input, @FILE a file.")
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the outcome, and print the answer.")] = False,  # noqa: FBT002
    timeout: Annotated[
        float, typer.Option(parser=duration, metavar="DURATION", help="How long to try, and to wait.")
    ] = "30s",  # type: ignore[assignment]
    config: ConfigOption = DEFAULT_CONFIG,
    type_: Annotated[str, typer.Option("--type", metavar="WORD", help="The kind of work, for the metrics.")] = "task",
    priority: Annotated[Priority, typer.Option(help="Which tasks the agent takes first.")] = "normal",
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Give an agent of a running fleet a task.

    Prints the task's id once the task is stored, or with --wait the agent's answer. A task that is stored is not lost:
    it goes on also when nobody waits for it any more.
    """
    loaded = read_config(config)
    _check_agent(loaded, agent)
    content = read_payload(payload)

    async def deliver(client: TaskClient, left: Callable[[], float]) -> None:
        task = client.new_task(agent, content, type=type_, priority=priority)
        await client.send(task, left())
        stored = {"task": task.id, "agent": agent, "status": "stored"}
        if not wait:
            _print(stored, task.id, as_json=as_json)
            return
        try:
            outcome = await client.outcome(task.id, left())
        except NoOutcome as error:
            if as_json:
                print_json(stored)
            told = f"task {task.id} is stored and goes on, and has no outcome after {format_duration(timeout)}"
            raise _no_outcome(told, task.id, loaded, agent) from error
        _show(outcome, as_json=as_json)

    run_async(_with_client, loaded, timeout, deliver)


def outcome(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's id, as send printed it.")],
    timeout: Annotated[
        float, typer.Option(parser=duration, metavar="DURATION", help="How long to wait for it.")
    ] = "5s",  # type: ignore[assignment]
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Say how a task ended, and print its answer."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", task):
        raise typer.BadParameter("a task's id has letters and digits only", param_hint="TASK")

    loaded = read_config(config)

    async def look(client: TaskClient, left: Callable[[], float]) -> None:
        try:
            found = await client.outcome(task, left())
        except NoOutcome as error:
            if not client.bus.is_ready:
                raise BusUnavailable("; ".join(why for ok, why in client.bus.checks().values() if not ok)) from error
            told = f"task {task} has no outcome: it waits, it is in hand, or there is no such task"
            raise _no_outcome(told, task, loaded) from error
        _show(found, as_json=as_json)

    run_async(_with_client, loaded, timeout, look)


def read_payload(text: str) -> Json:
    """Read the payload as it stands on the command line, in a file or on standard input.

    Raises:
        Failure: It cannot be read, or is not JSON; says where.
    """
    where = "the payload"
    try:
        if text == "-":
            where, text = "standard input", sys.stdin.buffer.read().decode()
        elif text.startswith("@"):
            where = text[1:]
            text = Path(where).read_bytes().decode()
        found: Json = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise Failure(f"{where} is not JSON: {place}: {error.msg}{_hint(text)}", ExitCode.BAD_DATA) from None
    except (ValueError, RecursionError) as error:
        raise Failure(f"{where} is not JSON in UTF-8: {error}", ExitCode.BAD_DATA) from None
    except OSError as error:
        raise Failure(f"{where} cannot be read: {(error.strerror or str(error)).lower()}", ExitCode.BAD_DATA) from None
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"there is no {name} in JSON")


def _hint(text: str) -> str:
    bare = re.fullmatch(r"[\w .,!?-]+", text)
    return f"; a text is written with its quotes: '\"{text}\"'" if bare else ""


def _check_agent(loaded: Loaded, agent: str) -> None:
    agents = loaded.config.agents
    if agent not in agents:
        hint = did_you_mean(agent, agents) or f"there are: {', '.join(agents)}"
        raise Failure(f"there is no agent {agent!r} in {loaded.file}; {hint}", ExitCode.NO_SUCH_AGENT)


async def _with_client(
    loaded: Loaded, timeout: float, use: Callable[[TaskClient, Callable[[], float]], Awaitable[None]]
) -> None:
    # What libraries log has no place between the answer and whoever reads it.
    logs.configure(attrs.evolve(loaded.config.log, level="error"))
    deadline = trio.current_time() + timeout

    def left() -> float:
        return max(0.0, deadline - trio.current_time())

    info = await _reach(loaded, deadline)
    async with _open_client(loaded, info) as client:
        try:
            await use(client, left)
        except BusUnavailable as error:
            told = f"the bus at {_public_urls(loaded, info)} did not do it within {format_duration(timeout)}"
            raise Failure(f"{told}: {error}{_server_troubles(info)}", ExitCode.UNAVAILABLE) from error
        except BusRefused as error:
            raise Failure(f"the bus refused it: {error}", ExitCode.REFUSED) from error


async def _reach(loaded: Loaded, deadline: float) -> RunInfo | None:
    """Find the running fleet, and wait for one that is just starting; None where only the bus is known."""
    while True:
        try:
            info = find_run(state_dir(loaded))
        except Failure as failure:
            if failure.code is not ExitCode.TRY_LATER or trio.current_time() > deadline:
                raise
            await trio.sleep(_LOOK_AGAIN)
            continue
        if info is None and loaded.config.bus.url is None:
            raise no_fleet(loaded)
        await trio.lowlevel.checkpoint()
        return info


def _url(loaded: Loaded, info: RunInfo | None) -> str:
    return info.bus_url if info is not None else loaded.config.bus.url or ""


def _public_urls(loaded: Loaded, info: RunInfo | None) -> str:
    return ", ".join(public_url(url.strip()) for url in _url(loaded, info).split(","))


def _server_troubles(info: RunInfo | None) -> str:
    """Give what the fleet knows to be wrong with the servers that it brings along."""
    if info is None:
        return ""
    try:
        servers = ask(info.control, "ps", health=info.health, pid=info.pid)["servers"]
    except Failure:
        # What is known already has to do.
        return ""
    return "".join(f"; {server['name']}: {server['reason']}" for server in servers if not server["is_running"])


@asynccontextmanager
async def _open_client(loaded: Loaded, info: RunInfo | None) -> AsyncIterator[TaskClient]:
    token = info.bus_token if info is not None else None
    async with open_bus(loaded, url=_url(loaded, info), token=token, name=SENDER) as bus:
        yield TaskClient(bus, Names(str(loaded.config.fleet.name)), SENDER)


def _show(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print_json(attrs.asdict(outcome))
    elif outcome.status is Status.ANSWERED:
        print_json(outcome.answer)
    if outcome.status is not Status.ANSWERED:
        raise Failure(_sentence(outcome), BY_STATUS[outcome.status])


def _no_outcome(told: str, task: str, loaded: Loaded, agent: str | None = None) -> Failure:
    known = said_lately(state_dir(loaded), task, agent)
    again = f"ask again with: agentrt outcome {task} --config {loaded.file}"
    return Failure(f"{told}{known}; {again}", ExitCode.NO_OUTCOME)


def _sentence(outcome: Outcome) -> str:
    words = {
        Status.FAILED: "failed",
        Status.EXPIRED: "expired before it was done",
        Status.REFUSED: "was refused",
        Status.DEAD_LETTERED: "is with the dead letters",
    }
    tries = "1 attempt" if outcome.attempts == 1 else f"{outcome.attempts} attempts"
    reason = outcome.reason or "no reason was given"
    return f"task {outcome.task} for {outcome.agent} {words[outcome.status]} ({tries}): {reason}"


def _print(record: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(record)
    else:
        typer.echo(text)
