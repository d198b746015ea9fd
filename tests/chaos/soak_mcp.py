"""Kill real MCP servers under load, each as often as is asked for: ``python tests/chaos/soak_mcp.py --kills 200``."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import trio
from mcp_kills import KEEPERS, Account, kills
from mcp_servers import SUBJECTS, install, pages


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each server, in each way (default: 200)")
    parser.add_argument("--only", default=",".join(SUBJECTS), help=f"with commas, of {', '.join(SUBJECTS)}")
    parser.add_argument("--ways", default=",".join(KEEPERS), help=f"with commas, of {', '.join(KEEPERS)}")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    return parser.parse_args()


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)


def soak(name: str, way: str, times: int, seed: int) -> Account:
    """Kill one server, kept in one way, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        tell = partial(_tell, f"{name}, {way}")
        return trio.run(partial(kills, way, SUBJECTS[name], Path(folder), times, seed=seed, tell=tell))


def _tell(what: str, line: str) -> None:
    say(f"{what}: {line}")


def main() -> None:
    """Install the servers, kill them, and tell; exit 1 where something is wrong."""
    options = arguments()
    say(f"seed {options.seed}")
    install()
    # What a fleet logs of each kill would hide what is told here.
    logging.disable(logging.CRITICAL)
    problems = []
    with pages():
        for name in options.only.split(","):
            for way in options.ways.split(","):
                began = time.monotonic()
                account = soak(name, way, options.kills, options.seed)
                print(f"{name}, {way}: {account}; {time.monotonic() - began:.0f} s", flush=True)
                problems += [f"{name}, {way}: {problem}" for problem in account.problems]
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
