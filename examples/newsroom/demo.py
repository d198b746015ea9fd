"""The demo: starts the newsroom, gives it work, and breaks it in six ways while the work goes on.

Run it with ``python demo.py``. It needs ``agentrt[server]``, ``mcp-server-git``, ``mcp-server-time`` and the ``git``
program: no network, no keys, no containers. The exit status is 0 where every incident was noticed and healed and no
task was lost.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio
from history import TOPICS
from incidents import DRILLS
from stage import PATIENCE, Narrator, Stage, Watch

from agentrt import load, open_fleet
from agentrt.cli.stopping import StopSignals
from agentrt.config import Loaded, LogConfig
from agentrt.kernel import EventStream
from agentrt.ops import logs
from agentrt.ops.eventlog import EventLog

HERE = Path(__file__).parent
#: Seconds between two tasks of the steady load.
LOAD_INTERVAL = 0.15
START_LIMIT = 30.0
#: What the incidents are to leave behind; every other task is answered.
EXPECTED = {"dead_lettered": 1, "refused": 1}
OK, BROKEN, INTERRUPTED = 0, 1, 128 + signal.SIGINT


def main() -> int:
    """Run the demo in a folder of its own; return the exit status."""
    parser = argparse.ArgumentParser(description="Start a small fleet, break it in six ways, and see it heal.")
    parser.add_argument("--keep", action="store_true", help="keep the state directory, with the logs of all that ran")
    keep = parser.parse_args().keep
    if shutil.which("git") is None:
        print("the demo needs the git program: install it", file=sys.stderr)
        return BROKEN
    folder = Path(tempfile.mkdtemp(prefix="newsroom-"))
    code = BROKEN
    try:
        code = trio.run(run, folder)
    finally:
        if keep or code == BROKEN:
            print(f"logs and state are in {folder}")
        else:
            shutil.rmtree(folder)
    return code


async def run(folder: Path) -> int:
    """Run the demo until it is over, or until Ctrl-C, which ends it in order."""
    code = INTERRUPTED
    everything, scene = trio.CancelScope(), trio.CancelScope()
    signals = StopSignals(lambda _reason: scene.cancel(), everything.cancel)
    with signals.listening(), everything, recorded(folder) as events:
        watch, tell = Watch(events), Narrator()
        async with open_fleet(configured(folder), events=events) as fleet:
            with scene:
                async with trio.open_nursery() as nursery:
                    code = await play(Stage(fleet, watch, nursery, tell))
                    nursery.cancel_scope.cancel()
            tell.line("-- stopping", "dim", "the fleet, in order")
        tell.line("-- stopped", "dim", "")
    return code


def configured(folder: Path) -> Loaded:
    """Read the newsroom's configuration, and put what it writes into *folder*."""
    # Without the environment: NATS_URL would lead to somebody's real server.
    loaded = load(HERE / "config.toml", {})
    config = loaded.config
    archivist = attrs.evolve(config.agents["archivist"], options={"archive": str(folder / "archive")})
    config = attrs.evolve(
        config,
        fleet=attrs.evolve(config.fleet, state_dir=folder),
        agents={**config.agents, "archivist": archivist},
    )
    return attrs.evolve(loaded, config=config)


@contextmanager
def recorded(folder: Path) -> Iterator[EventStream]:
    """Make an event stream that is written down in *folder*, beside the log."""
    events, event_log = EventStream(), EventLog(folder / "events.jsonl")
    with (folder / "log.jsonl").open("w", encoding="utf-8") as log:
        logs.configure(LogConfig(), log)
        events.listen(event_log.append)
        events.listen(logs.log_event)
        try:
            yield events
        finally:
            event_log.close()


async def play(stage: Stage) -> int:
    """Give the fleet work, break it, and count; return the exit status."""
    if not await all_ready(stage):
        return BROKEN
    answer = (await stage.ask("editor", {"topic": "nats"})).answer
    stage.tell.line("-- answered", "dim", f"the editor's first task: {answer['text']!r}")
    working = trio.CancelScope()
    stage.nursery.start_soon(give_work, stage, working)
    for drill in DRILLS:
        await drill.play(stage)
    working.cancel()
    stored = await settled(stage)
    stage.tell.table(stage.incidents)
    stage.tell.tally(stored)
    problems = list(find_problems(stage, stored))
    for problem in problems:
        stage.tell.line("XX failed", "bold red", problem)
    if not problems:
        stage.tell.line("OK", "bold green", f"all {len(stage.incidents)} incidents were noticed and healed")
    return BROKEN if problems else OK


async def all_ready(stage: Stage) -> bool:
    """Wait until every agent has what it needs; say what is missing where that takes too long."""
    fleet = stage.fleet
    with trio.move_on_after(START_LIMIT):
        # A fleet is asked how it is; there is no one event that says so.
        while not all(status.ready for status in fleet.statuses()):  # noqa: ASYNC110
            await trio.sleep(0.02)
    unready = [status for status in fleet.statuses() if not status.ready]
    for status in unready:
        stage.tell.line("XX failed", "bold red", f"{status.name} is not ready within {START_LIMIT:g} s: {status.why}")
    if not unready:
        servers = sum(len(member.sessions) for member in fleet.members.values())
        what = f"{len(fleet.members)} agents, {servers} tool servers, nats-server (pid {fleet.servers.nodes[0].pid})"
        stage.tell.line("-- ready", "dim", what)
    return not unready


async def give_work(stage: Stage, working: trio.CancelScope) -> None:
    """Send the editor one task after the other, whatever happens meanwhile."""
    with working:
        for topic in itertools.cycle(TOPICS):
            stage.send("editor", {"topic": topic})
            await trio.sleep(LOAD_INTERVAL)


async def settled(stage: Stage) -> dict[str, str | None]:
    """Wait until the queues are empty and every task has its outcome; return what is stored of each."""
    # Lost, as long as nothing else is known.
    stored: dict[str, str | None] = dict.fromkeys(stage.tasks())
    with trio.move_on_after(PATIENCE):
        for sent in stage.sent:
            await sent.done.wait()
    with trio.move_on_after(PATIENCE):
        stored = await stage.stored_outcomes()
        while await stage.tasks_waiting() or stored != stage.watch.finished():
            await trio.sleep(0.1)
            stored = await stage.stored_outcomes()
    return stored


def find_problems(stage: Stage, stored: dict[str, str | None]) -> Iterator[str]:
    """Say what did not end as it has to."""
    for incident in stage.incidents:
        if incident.problem:
            yield f"{incident.title}: {incident.problem}"
    counts = Counter(status for status in stored.values() if status != "answered")
    if counts != EXPECTED:
        yield f"of the tasks that were not answered were expected {EXPECTED}, and found {dict(counts)}"
    if stored != stage.watch.finished():
        yield "what the agents said of their tasks is not what is stored"


if __name__ == "__main__":
    sys.exit(main())
