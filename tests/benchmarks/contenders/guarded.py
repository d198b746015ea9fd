"""What stands between a client and its server: what that costs, and what the client sees when the server is killed."""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bench.measure import Latencies, now
from bench.mcp_links import (
    HttpLink,
    NoAnswer,
    StdioLink,
    call,
    descendants,
    greet,
    kill,
    resident_mb,
    server_command,
)

#: Makes a session with the server of a command, through what is measured.
Open = Callable[[Sequence[str]], StdioLink | HttpLink]

#: Seconds after the start, for what is done once; between two calls that failed; and for an answer after a kill.
_SETTLE, _AGAIN, _NEVER = 0.5, 0.005, 10.0
_SPAWNS_WITHIN = 5.0


def measure(through: Open, seconds: float, kills: int, loop: float = _SPAWNS_WITHIN) -> dict[str, float]:
    """Say what a client sees of one that stands between."""
    with tempfile.TemporaryDirectory() as folder:
        starts = Path(folder) / "starts"
        began = now()
        link = through(server_command(starts))
        try:
            greet(link)
            found = {"start_us": 1e6 * (now() - began)}
            found |= _latencies(link, starts, seconds) | _memory(link) | {"back_us": _back(link, kills)}
        finally:
            link.close()
        return found | {"spawns": _spawns(through, Path(folder) / "crashes", loop)}


def with_the_guard(**parameters: float) -> dict[str, float]:
    """Say it of the guard of this checkout, as a client starts it."""
    return measure(
        lambda server: StdioLink([sys.executable, "-m", "agentrt", "mcp", "guard", "--", *server]), **parameters
    )


def measure_nothing(seconds: float, kills: int, loop: float = _SPAWNS_WITHIN) -> dict[str, float]:
    """Say what the server itself takes: the control, where a client starts the next server by hand."""
    with tempfile.TemporaryDirectory() as folder:
        starts, took = Path(folder) / "starts", []
        for _ in range(kills + 1):
            began = now()
            link = StdioLink(server_command(starts))
            try:
                greet(link)
                call(link)
                took.append(1e6 * (now() - began))
                if len(took) == 1:
                    found = _latencies(link, starts, seconds)
            finally:
                link.close()
    back = statistics.median(took[1:])
    return {**found, "start_us": took[0], "rss_mb": 0.0, "helpers_mb": 0.0, "back_us": back, "spawns": 1.0}


def _latencies(link: StdioLink | HttpLink, starts: Path, seconds: float) -> dict[str, float]:
    """Take turns with a server that nothing stands before, so that both meet the machine in the same mood."""
    direct = StdioLink(server_command(starts))
    try:
        greet(direct)
        times = {one: Latencies(seconds) for one in (direct, link)}
        while times[link]:
            for one, latencies in times.items():
                began = now()
                call(one)
                latencies.add(now() - began)
    finally:
        direct.close()
    bare, between = (latencies.figures() for latencies in times.values())
    added = {f"added_{key}": between[key] - bare[key] for key in ("p50_us", "p99_us")}
    return {**added, "p50_us": between["p50_us"], "p99_us": between["p99_us"]}


def _memory(link: StdioLink | HttpLink) -> dict[str, float]:
    """Say what is resident in it, and in what it started beside the server."""
    time.sleep(_SETTLE)
    assert link.pid is not None
    server = call(link)
    helpers = [pid for pid in descendants(link.pid) if pid != server]
    return {"rss_mb": resident_mb(link.pid), "helpers_mb": sum(map(resident_mb, helpers))}


def _back(link: StdioLink | HttpLink, kills: int) -> float:
    """Kill the server and ask for the next; microseconds until an answer was good, infinite where none is."""
    took = []
    for _ in range(kills):
        server = call(link)
        assert server is not None
        began = now()
        kill(server)
        while (answer := _call_or_none(link, began)) is None or answer == server:
            if now() - began >= _NEVER:
                return math.inf
            time.sleep(_AGAIN)
        took.append(1e6 * (now() - began))
        # Two deaths in a row are held back; one after an answer is none.
        time.sleep(_SETTLE)
    return statistics.median(took)


def _call_or_none(link: StdioLink | HttpLink, began: float) -> int | None:
    try:
        return call(link, max(0.1, began + _NEVER - now()))
    except NoAnswer:
        return None


def _spawns(through: Open, starts: Path, seconds: float) -> float:
    """Have a server that dies of every call, call it all the time, and count its starts."""
    link = through(server_command(starts, "--crash"))
    try:
        with suppress(NoAnswer):
            greet(link)
            until = now() + seconds
            while now() < until:
                with suppress(NoAnswer):
                    call(link, until - now())
                time.sleep(_AGAIN)
    finally:
        link.close()
    return float(len(starts.read_text(encoding="ascii")))
