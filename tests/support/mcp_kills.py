"""A server that is killed again and again under load, behind a fleet's session or the guard, and what came of it."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
import mcp
import psutil
import trio
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from mcp_servers import Job, Subject
from processes import MARK, processes

from agentrt import Agent, Task, ToolError, load, open_fleet
from agentrt.kernel import EventStream

AGENTRT = str(Path(sys.executable).with_name("agentrt"))
WORKERS = 4
#: Seconds between two calls of a worker.
PAUSE = 0.01
#: Seconds until the next kill, after an answer, at most; and of a kill in ten, while the next server starts.
SPREAD, EARLY = 0.1, 0.1
START = 0.4
#: An answer that comes so soon after a kill was on its way already.
ON_ITS_WAY = 0.005
#: Seconds without an answer after which a session is lost.
PATIENCE = 90.0
#: Seconds until all are gone.
GONE = 10.0


class Fate(StrEnum):
    """What came of a call."""

    NONE = "without an outcome"
    DONE = "answered"
    FAILED = "answered by an error of the tool"
    NOT_DONE = "not sent"
    UNKNOWN = "outcome unknown"


Call = Callable[[Job], Awaitable[Fate]]


@attrs.define
class Load:
    """Calls without an end, and what came of each."""

    subject: Subject
    jobs: dict[str, Job] = attrs.field(factory=dict)
    fates: dict[str, Fate] = attrs.field(factory=dict)
    is_over: bool = False
    _answered: trio.Event = attrs.field(factory=trio.Event)

    async def work(self, worker: int, call: Call) -> int:
        """Call until it is over."""
        count = 0
        while not self.is_over:
            count += 1
            text = f"{worker}-{count}"
            self.jobs[text], self.fates[text] = job, _ = self.subject.job(text, count), Fate.NONE
            self.fates[text] = await call(job)
            if self.fates[text] in (Fate.DONE, Fate.FAILED):
                self._answered.set()
                self._answered = trio.Event()
            await trio.sleep(PAUSE)
        return count

    async def answer(self) -> None:
        """Wait for the next answer."""
        with trio.move_on_after(PATIENCE) as scope:
            await self._answered.wait()
        assert not scope.cancelled_caught, f"the session is lost: no answer within {PATIENCE:g} s"

    def problems(self) -> list[str]:
        """Say what is wrong: a call without an outcome, or one whose effect is not what its outcome says."""
        found = [f"{text}: {fate}" for text, fate in self.fates.items() if fate is Fate.NONE]
        done = self.subject.effects()
        for text, job in self.jobs.items():
            times, fate = done[job.effect], self.fates[text]
            # An error may be that of the second time.
            least, most = {Fate.DONE: (1, 1), Fate.UNKNOWN: (0, 1)}.get(fate, (0, 0))
            if job.effect and not least <= times <= most:
                found.append(f"{text}: {fate}, and was done {times} times")
        return found


class Keeper(Protocol):
    """What keeps the server, as its user sees it."""

    def pid(self) -> int | None: ...
    async def work(self, load: Load) -> None: ...
    def counts(self) -> Mapping[str, int]: ...


class FleetKeeper:
    """The session of an agent in a fleet; each worker is a task of that agent."""

    def __init__(self, folder: Path, mark: str) -> None:
        self._folder = folder
        self._mark = mark
        self._load: Load | None = None
        self._fleet: Any = None
        self._events: Counter[str] = Counter()

    @asynccontextmanager
    async def open(self, subject: Subject) -> AsyncIterator[FleetKeeper]:
        env = json.dumps({MARK: self._mark, **subject.env}).replace('": "', '" = "')
        config = self._folder / "config.toml"
        config.write_text(f"""
schema = 1
[fleet]
name = "kills"
[agents.caller]
class = "caller:Caller"
mcp = ["server"]
max_concurrent_tasks = {WORKERS}
task_timeout = "1d"
progress_timeout = "10m"
[mcp.global.server]
command = {json.dumps([*subject.command])}
env = {env}
""")
        stream = EventStream()
        stream.listen(lambda event: self._events.update([event.kind]))
        async with open_fleet(load(config, {}), classes={"caller": self._agent()}, events=stream) as self._fleet:
            await self._session.wait_ready()
            yield self

    @property
    def _session(self) -> Any:
        return self._fleet.members["caller"].sessions["server"]

    def _agent(self) -> type[Agent]:
        keeper = self

        class Caller(Agent):
            async def handle(self, task: Task) -> int:
                assert keeper._load is not None
                return await keeper._load.work(task.payload["worker"], self.call)

            async def call(self, job: Job) -> Fate:
                try:
                    await self.tools.call("server", job.tool, job.arguments, timeout=PATIENCE)
                except ToolError as error:
                    if error.kind == "tool":
                        return Fate.FAILED
                    return Fate.UNKNOWN if error.may_have_happened else Fate.NOT_DONE
                return Fate.DONE

        return Caller

    def pid(self) -> int | None:
        pid: int | None = self._session.pid
        return pid

    async def work(self, load: Load) -> None:
        self._load = load
        tasks = [await self._fleet.send("caller", {"worker": worker}) for worker in range(WORKERS)]
        for task in tasks:
            outcome = await self._fleet.client.outcome(task, 86400.0)
            assert outcome.status == "answered", outcome

    def counts(self) -> Mapping[str, int]:
        kinds = {"mcp_server_started": "started", "tool_call_retried": "sent again"}
        return {told: self._events[kind] for kind, told in kinds.items()}


class GuardKeeper:
    """The guard, and the SDK's client as its client."""

    def __init__(self, folder: Path, mark: str) -> None:
        self._folder = folder
        self._mark = mark
        self._client: Any = None
        self._guard: psutil.Process | None = None

    @asynccontextmanager
    async def open(self, subject: Subject) -> AsyncIterator[GuardKeeper]:
        options = ("--status-file", str(self._folder / "status.json"), "--wait", "60s")
        parameters = StdioServerParameters(
            command=AGENTRT,
            args=["mcp", "guard", *options, "--", *subject.command],
            env={**os.environ, MARK: self._mark, **subject.env},
        )
        with (self._folder / "stderr").open("w") as stderr:
            async with mcp.Client(stdio_client(parameters, errlog=stderr)) as self._client:
                (self._guard,) = (one for one in processes(self._mark) if one.ppid() == os.getpid())
                # As a client does, and only then the guard knows which tools do no harm twice.
                await self._client.list_tools()
                yield self
                assert self._guard.is_running(), "the guard itself ended"
                await self._client.list_tools()

    def pid(self) -> int | None:
        """The youngest that a keeper of the guard's has started; it may still be starting."""
        assert self._guard is not None
        with suppress(psutil.NoSuchProcess):
            reapers = self._guard.children()
            servers = [server for reaper in reapers for keeper in reaper.children() for server in keeper.children()]
            return max(servers, key=psutil.Process.create_time).pid if servers else None
        return None

    async def work(self, load: Load) -> None:
        async with trio.open_nursery() as nursery:
            for worker in range(WORKERS):
                nursery.start_soon(load.work, worker, self._call)

    async def _call(self, job: Job) -> Fate:
        try:
            result = await self._client.call_tool(job.tool, job.arguments)
        except MCPError as error:
            kind = error.data.get("kind") if isinstance(error.data, dict) else None
            return Fate.NOT_DONE if kind == "unavailable" else Fate.UNKNOWN if kind is not None else Fate.FAILED
        return Fate.FAILED if result.is_error else Fate.DONE

    def counts(self) -> Mapping[str, int]:
        status = json.loads((self._folder / "status.json").read_text())
        return {"started": status["restarts"] + 1, "sent again": status["resent"]}


KEEPERS = {"fleet": FleetKeeper, "guard": GuardKeeper}


@attrs.define
class Account:
    """What became of one server that was killed."""

    kills: int = 0
    fates: Counter[Fate] = attrs.field(factory=Counter)
    counts: Mapping[str, int] = attrs.field(factory=dict)
    #: Seconds from a kill to the next answer.
    pauses: list[float] = attrs.field(factory=list)
    problems: list[str] = attrs.field(factory=list)

    def __str__(self) -> str:
        pauses = sorted(self.pauses)
        told = ", ".join(f"{fate} {count}" for fate, count in sorted(self.fates.items()))
        counts = ", ".join(f"{what} {count}" for what, count in self.counts.items())
        median, worst = statistics.median(pauses), pauses[-1]
        return (
            f"{self.kills} kills, {self.fates.total()} calls: {told}; {counts}; "
            f"next answer after {1000 * median:.0f} ms, {1000 * worst:.0f} ms at worst; {len(self.problems)} problems"
        )


async def kill_again_and_again(
    keeper: Keeper, load: Load, account: Account, times: int, chance: random.Random, tell: Callable[[str], object]
) -> None:
    """Kill the server *times* times: while it works, and now and then while it starts."""
    try:
        await load.answer()
        while account.kills < times:
            await trio.sleep(chance.uniform(0.0, SPREAD))
            killed_at = _kill(keeper, load, account)
            if chance.random() < EARLY and account.kills < times:
                await trio.sleep(chance.uniform(0.0, START))
                killed_at = _kill(keeper, load, account) or killed_at
            await trio.sleep(ON_ITS_WAY)
            await load.answer()
            if killed_at is not None:
                account.pauses.append(trio.current_time() - killed_at)
            if account.kills % 20 == 0:
                tell(f"{account.kills} kills, {len(load.fates)} calls")
    finally:
        load.is_over = True


def _kill(keeper: Keeper, load: Load, account: Account) -> float | None:
    pid = keeper.pid()
    if pid is None:
        return None
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    account.kills += 1
    return trio.current_time()


async def kills(
    way: str,
    make: Callable[[Path], Subject],
    folder: Path,
    times: int,
    *,
    seed: int = 7,
    tell: Callable[[str], object] = lambda _: None,
) -> Account:
    """Keep one server in one *way*, kill it *times* times under load, and account for every call.

    Raises:
        AssertionError: A session, a task or the guard was lost.
    """
    mark, account = uuid.uuid4().hex, Account()
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    (folder / "data").mkdir()
    subject = make(folder / "data")
    load, chance = Load(subject), random.Random(seed)
    async with KEEPERS[way](folder, mark).open(subject) as keeper:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(kill_again_and_again, keeper, load, account, times, chance, tell))
            await keeper.work(load)
        account.counts = keeper.counts()
    account.fates = Counter(load.fates.values())
    account.problems = load.problems()
    account.problems += [f"left: {one}" for one in await _left(mark, before)]
    return account


async def _left(mark: str, before: set[int]) -> list[psutil.Process]:
    """Find what runs on, although all is over: started by the server, or by this process."""
    with trio.move_on_after(GONE):
        while True:
            started = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
            left = [*processes(mark), *(one for one in started if _runs(one))]
            if not left:
                return []
            await trio.sleep(0.05)
    return left


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
