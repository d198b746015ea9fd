"""Run the benchmarks: ``python tests/benchmarks/run.py --help``; what they say is in ``docs/performance.md``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import pstats
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from bench.environments import PEERS, contender_of, install
from bench.figures import CONTROL, OURS
from bench.ladder import LADDERS, climb
from bench.report import as_data, figures_table, goals_table, peers_table
from bench.rounds import Contender, environment_of, run_rounds, worker_command
from bench.shares import shares
from bench.workloads import ACTORS, WORKLOADS, Workload

#: Functions of a profile that are shown.
PROFILE_LINES = 25


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="run.py", description="agentrt against bare Trio and against its peers.")
    parser.add_argument("--only", default="", help=f"workloads, with commas: {', '.join(WORKLOADS)}")
    parser.add_argument("--peers", default="", help=f"'all', or with commas: {', '.join(PEERS)}")
    parser.add_argument("--install", action="store_true", help="first make the environments of --peers")
    parser.add_argument("--rounds", type=int, default=6, help="interleaved rounds (default: 6)")
    parser.add_argument("--seconds", type=float, help="how long each measures, where that is free (default: 1)")
    parser.add_argument("--quick", action="store_true", help="one round of almost nothing, to see that all of it runs")
    parser.add_argument("--json", action="store_true", help="plain data instead of tables")
    parser.add_argument("--profile", metavar="WORKLOAD", help="say where agentrt's time goes, and measure nothing else")
    return parser.parse_args(words)


def chosen(names: str, known: dict[str, object] | object, what: str) -> list[str]:
    """Read a list of names, and end with what there is where one is wrong."""
    found = [name for name in names.split(",") if name]
    if unknown := [name for name in found if name not in known]:
        sys.exit(f"no {what} {', '.join(unknown)}; there are {', '.join(known)}")
    return found


def machine() -> dict[str, object]:
    """Say what it ran on, and how busy that was."""
    return {
        "python": platform.python_version(),
        "trio": version("trio"),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load average": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)


def ours() -> Contender:
    """Agentrt, of this checkout."""
    return Contender(OURS, "agentrt_kernel", sys.executable)


def profile(workload: Workload, parameters: dict[str, float]) -> None:
    """Say where the time goes: by subtraction where there is a ladder, and by the profiler."""
    if workload.name in LADDERS:
        print(climb(workload.name))
        print()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "profile"
        command = [*worker_command(ours(), workload, parameters), str(file)]
        done = subprocess.run(command, env=environment_of(ours()), capture_output=True, text=True, check=False)
        if not file.exists():
            sys.exit(done.stderr)
        found = pstats.Stats(str(file))
    print(shares(found.stats))
    found.sort_stats("tottime").print_stats(PROFILE_LINES)


def main(words: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = arguments(words)
    names = chosen(options.only, WORKLOADS, "workload") or list(WORKLOADS)
    peers = list(PEERS) if options.peers == "all" else chosen(options.peers, PEERS, "peer")
    if options.profile:
        (name,) = chosen(options.profile, WORKLOADS, "workload")
        profile(WORKLOADS[name], WORKLOADS[name].parameters_for(options.seconds, quick=options.quick))
        return
    if options.install:
        for peer in peers:
            say(f"{peer}: {install(PEERS[peer]) or 'installed'}")
    contenders = [Contender(CONTROL, "control", sys.executable), ours()]
    contenders += [contender_of(PEERS[peer]) for peer in peers]
    workloads = [WORKLOADS[name] for name in names]
    where = machine()
    results = run_rounds(
        workloads,
        contenders,
        lambda workload: workload.parameters_for(options.seconds, quick=options.quick),
        1 if options.quick else options.rounds,
        say,
    )
    if options.json:
        everybody = [one.name for one in contenders]
        print(json.dumps({"machine": where, "figures": as_data(workloads, everybody, results)}, indent=1))
        return
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    print()
    print(goals_table(workloads, results))
    actors = [one for one in workloads if one.group == ACTORS]
    if actors and (names := [peer for peer in peers if PEERS[peer].group == ACTORS]):
        print(f"\n{peers_table(actors, names, results)}")
    for workload in workloads:
        if workload.group != ACTORS and (names := [peer for peer in peers if PEERS[peer].group == workload.group]):
            print(f"\n{figures_table(workload, [CONTROL, OURS, *names], results)}")


if __name__ == "__main__":
    main()
