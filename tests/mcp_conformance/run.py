"""Play the official MCP conformance suite against agentrt: ``python tests/mcp_conformance/run.py --help``."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import trio
from mcpsuite.bridge import bridged
from mcpsuite.report import Guarded, Table, document, reason_of
from mcpsuite.suite import ROOT, Scenario, client_command, everything, install, play, scenarios

SERVER = [sys.executable, str(Path(__file__).with_name("server.py"))]
GUARD = [str(Path(sys.executable).with_name("agentrt")), "mcp", "guard", "--"]
DOCUMENT = ROOT / "docs" / "mcp-conformance.md"

Work = Callable[[], Awaitable[None]]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("--leg", choices=("client", "server"), help="the session alone, or the guard alone")
    parser.add_argument("--only", default="*", help="scenarios, as a pattern: 'auth/*'")
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at the same time (default: 2)")
    parser.add_argument("--write", action="store_true", help="write docs/mcp-conformance.md in place of printing it")
    return parser.parse_args()


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)


async def client(table: Table, scenario: Scenario, era: str) -> None:
    """Play one scenario with the session actor."""
    result = await play("client", scenario.name, era, "--command", client_command())
    table.sessions[scenario.name, era] = result
    say(f"session, {scenario.name}, {era}: {'passed' if result.is_passed else 'failed'}")
    for check in result.judged:
        if check.status != "SUCCESS":
            say(f"    {check.name}: {check.status} {check.error}")


async def server(table: Table, scenario: Scenario, era: str, name: str, command: Sequence[str]) -> None:
    """Play one scenario with a server, and again with the guard before it."""
    results = []
    for wrapped in (command, [*GUARD, *command]):
        async with bridged(wrapped) as url:
            results.append(await play("server", scenario.name, era, "--url", url))
    found = table.servers[scenario.name, name, era] = Guarded(*results)
    say(f"guard, {scenario.name}, {name} {era}: {', '.join(found.differences) or 'the same'}")


def plan(table: Table, leg: str | None, only: str) -> Iterator[Work]:
    """Say what is to be played."""
    if leg != "server":
        for scenario in scenarios("client"):
            if fnmatch.fnmatch(scenario.name, only):
                yield from (partial(client, table, scenario, era) for era in scenario.eras)
    if leg != "client":
        for scenario in scenarios("server"):
            if fnmatch.fnmatch(scenario.name, only):
                yield from (partial(server, table, scenario, era, "fixture", SERVER) for era in scenario.eras)
                if "2025-11-25" in scenario.eras:
                    yield partial(server, table, scenario, "2025-11-25", "everything", everything())


async def main(table: Table, work: Sequence[Work], jobs: int) -> None:
    """Do all of it, so many at a time."""
    limit = trio.CapacityLimiter(jobs)

    async def one(task: Work) -> None:
        async with limit:
            await task()

    async with trio.open_nursery() as nursery:
        for task in work:
            nursery.start_soon(one, task)


if __name__ == "__main__":
    options = arguments()
    install()
    table = Table()
    trio.run(main, table, list(plan(table, options.leg, options.only)), options.jobs)
    text = document(table)
    if options.write:
        DOCUMENT.write_text(text)
    else:
        print(text)
    sys.exit(reason_of(table))
