"""Play the failure matrix with agentrt and its peers side by side: ``python tests/reliability/run.py --help``."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("support", "benchmarks")]

import attrs
import trio
from bench.environments import Peer, contender_of, install
from rig.faults import FAULTS, Fault, down_for_two
from rig.play import Result, play
from rig.report import Row, document
from rig.stage import ROOT, Client

PEERS = {
    one.name: one
    for one in (
        Peer("nats-py", "nats_py", ("nats-py[nkeys]==2.16.0",)),
        Peer("FastStream", "faststream_broker", ("faststream[nats]==0.7.8", "nats-py==2.16.0")),
        Peer("natsio", "natsio_client", ("natsio==1.0.1",), oldest=(3, 13)),
    )
}
OURS = Client("agentrt", "agentrt_bus", sys.executable)
#: A headline of its own: two seconds down, many times.
HEADLINE = Fault("down-2", "server killed for 2 s", down_for_two)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("--only", default="", help=f"faults, with commas: {', '.join(FAULTS)}")
    parser.add_argument("--peers", default="all", help=f"'all', 'none', or with commas: {', '.join(PEERS)}")
    parser.add_argument("--install", action="store_true", help="first make the environments of the peers")
    parser.add_argument("--limit", type=float, default=15.0, help="seconds after which it is 'never' (default: 15)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of the two seconds down (default: 5)")
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md in place of printing it")
    return parser.parse_args()


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)


async def one(fault: Fault, client: Client, limit: float) -> Result | str:
    """Play one fault in a folder of its own; a rig that failed is told as such and stops nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = await play(fault, client, Path(folder), limit=limit)
        except Exception as failure:
            why = _first(failure)
            say(f"{client.name}, {fault.name}: {why!r}")
            return f"not played: {type(why).__name__}"
    say(f"{client.name}, {fault.name}: {result.back}, {result.lost} lost")
    return result


def _first(failure: BaseException) -> BaseException:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure


@attrs.define
class Match:
    """The contenders play side by side, each against servers of its own; so what the machine does meets all of them."""

    clients: list[Client]
    limit: float
    rows: list[Row] = attrs.field(factory=list)

    async def play(self, faults: list[Fault]) -> None:
        """Play *faults* one after the other, all clients at once."""
        for fault in faults:
            row = Row(fault)
            async with trio.open_nursery() as nursery:
                for client in self.clients:
                    nursery.start_soon(self._enter, row, client)
            self.rows.append(row)

    async def _enter(self, row: Row, client: Client) -> None:
        row.results[client.name] = await one(row.fault, client, self.limit)


def versions(clients: list[Client]) -> dict[str, str]:
    """Ask each client's interpreter for the versions of what it uses."""
    code = (
        "import sys, importlib.metadata as m; n = {d.name.lower(): d.version for d in m.distributions()};"
        "print('Python %d.%d.%d' % sys.version_info[:3], *(f'{k} {n[k]}' for k in"
        " ('nats-py', 'faststream', 'natsio', 'trio') if k in n), sep=', ')"
    )
    return {
        client.name: subprocess.run(
            [client.python, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        for client in clients
    }


def server_version() -> str:
    """Return the version of the nats-server."""
    binary = Path(sys.executable).parent / "nats-server"
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Play what the command line asks for, and tell it."""
    options = arguments()
    names = [] if options.peers == "none" else list(PEERS) if options.peers == "all" else options.peers.split(",")
    clients = [OURS]
    for name in names:
        if options.install:
            say(f"{name}: {install(PEERS[name]) or 'installed'}")
        found = contender_of(PEERS[name])
        if found.python is None:
            say(f"{name} does not take part: {found.why_not}")
        else:
            clients.append(Client(name, found.module, found.python))
    faults = [FAULTS[name] for name in options.only.split(",") if name] or list(FAULTS.values())
    match, headline = Match(clients, options.limit), Match(clients, options.limit)
    load = os.getloadavg()[0]
    trio.run(match.play, faults)
    trio.run(headline.play, [HEADLINE] * options.repeats)
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load average {load:.1f} at the start"
    text = document(
        [client.name for client in clients],
        match.rows,
        headline.rows,
        versions=versions(clients) | {"server": server_version()},
        machine=where,
        limit=options.limit,
    )
    if options.write:
        (ROOT / "docs" / "reliability.md").write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
