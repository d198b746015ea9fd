"""Enters a control group with little memory, starts a server that wants more, and says how that ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from actors._stdio import ServerProcess

GREEDY = "x = [bytearray(b'x' * 2**20) for _ in range(1000)]"
KILLED = "import os; os.kill(os.getpid(), 9)"


def enter(limit: int) -> Path | None:
    """Make a group with a limit and enter it; None where that is not allowed."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            group, name = Path("/sys/fs/cgroup/memory") / path.lstrip("/"), "memory.limit_in_bytes"
        elif not controllers:
            group, name = Path("/sys/fs/cgroup") / path.lstrip("/"), "memory.max"
        else:
            continue
        group = group / f"agentrt-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(limit))
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            group.rmdir()
        else:
            return group
    return None


async def ending(code: str) -> str:
    """Say how a server ended."""
    process = await ServerProcess.spawn(
        [sys.executable, "-c", code], env={}, cwd=None, log=None, grace=6.0, report=lambda _kind, **_: None
    )
    await process.run()
    return process.ending


async def main() -> None:
    """Try both: who wants too much, and who is killed by somebody."""
    group = enter(200 * 2**20)
    if group is None:
        sys.stdout.write("no group\n")
        return
    try:
        for code in (GREEDY, KILLED):
            sys.stdout.write(f"{await ending(code)}\n")
    finally:
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        for _ in range(100):
            try:
                group.rmdir()
            except OSError:
                await trio.sleep(0.05)
            else:
                break


trio.run(main)
