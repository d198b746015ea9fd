"""No process is left, whichever dies first: a server, its keeper, the reaper, or the fleet."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import trio
from processes import MARK, processes

from actors._reaped import ReapedProcess, Reaper

PARENT = (sys.executable, str(Path(__file__).parent / "servers" / "parent.py"))
#: The program, one child in its group, one in a session of its own, and one without a parent.
FAMILY = 4
HANDLED = "import signal; print([signal.getsignal(n) for n in (2, 15, 1)] == [signal.default_int_handler, 0, 0])"


@asynccontextmanager
async def family(reaper: Reaper, mark: str, *, seconds: float = 600) -> AsyncIterator[ReapedProcess]:
    """Start a program that leaves processes everywhere, and wait until it has."""
    with trio.fail_after(60):
        process = await reaper.spawn((*PARENT, str(seconds)), env={**os.environ, MARK: mark}, cwd=None)
        try:
            assert await line(process.stdout) == b"up"
            await until(lambda: len(processes(mark)) == FAMILY)
            yield process
        finally:
            await process.aclose()
            await until(lambda: not processes(mark))


async def line(stream: trio.abc.ReceiveStream) -> bytes:
    """Read one line, which may come in parts."""
    read = b""
    while not read.endswith(b"\n"):
        chunk = await stream.receive_some()
        assert chunk, f"ended after {read!r}"
        read += chunk
    return read[:-1]


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the conditions are about other processes.
        await trio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_whoever_a_dead_server_left_is_gone_when_its_end_is_told(mark, number):
    """Its own group, a session of its own or no parent at all: it makes no difference."""
    async with family(Reaper(), mark) as process:
        os.kill(process.pid, number)
        assert await process.wait() == -number
        await until(lambda: not processes(mark))


async def test_a_server_that_ends_by_itself_leaves_nobody(mark):
    async with family(Reaper(), mark, seconds=1) as process:
        assert await process.wait() == 0
        await until(lambda: not processes(mark))


async def test_a_kill_reaches_who_left_the_group(mark):
    async with family(Reaper(), mark) as process:
        process.signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL


async def test_who_is_let_go_of_is_ended(mark):
    """What leaves the block without having waited leaves no process."""
    async with family(Reaper(), mark):
        pass


@pytest.mark.skipif(not Path("/sys/fs/cgroup").exists(), reason="needs control groups")
async def test_who_starts_others_for_ever_is_ended_too(mark):
    """Where there is a control group of its own, the kernel ends it as a whole."""
    reaper = Reaper()
    with trio.fail_after(60):
        process = await reaper.spawn((*PARENT, "600", "--endless"), env={**os.environ, MARK: mark}, cwd=None)
        assert await line(process.stdout) == b"up"
        process.signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        await process.aclose()
        await until(lambda: not processes(mark))


FLEET = """
import os, signal, sys, trio
from actors._reaped import Reaper

# A shell starts what runs in its background with SIGINT ignored, and that is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    process = await Reaper().spawn(sys.argv[1:], env=dict(os.environ), cwd=None)
    await process.stdout.receive_some()
    print("up", flush=True)
    await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_nobody_outlives_a_fleet_that_is_killed(mark, number):
    """Nothing runs in a fleet that is killed: its end is seen by a socket that the kernel closes."""
    command = (sys.executable, "-c", FLEET, *PARENT, "600")
    with trio.fail_after(60):
        fleet = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, env={**os.environ, MARK: mark})
        assert fleet.stdout is not None
        assert await line(fleet.stdout) == b"up"
        assert len(processes(mark)) >= FAMILY + 1
        fleet.send_signal(number)
        await fleet.wait()
        await until(lambda: not processes(mark))
        await fleet.stdout.aclose()


async def test_a_server_whose_keeper_is_killed_is_ended_and_that_is_told(mark):
    """What falls to the reaper is nobody's."""
    reaper = Reaper()
    with reaper.held():
        async with family(reaper, mark) as process:
            psutil.Process(process.pid).parent().kill()
            assert await process.wait() == -signal.SIGKILL
            await until(lambda: not processes(mark))


async def test_a_reaper_that_is_killed_is_replaced_and_its_servers_live_on(mark):
    reaper = Reaper()
    with reaper.held():
        async with family(reaper, mark) as first:
            reaper._process.kill()
            reaper._process.wait()
            second = await reaper.spawn(("cat",), env={MARK: mark}, cwd=None)
            await second.stdin.send_all(b"hello")
            assert await second.stdout.receive_some() == b"hello"
            assert len(processes(mark)) == FAMILY + 1
            for process in (first, second):
                process.signal(signal.SIGKILL)
                assert await process.wait() == -signal.SIGKILL
            await second.aclose()


@pytest.mark.parametrize(
    ("command", "cwd", "error"),
    [
        (("/no/such/program",), None, FileNotFoundError),
        (("cat",), Path("/no/such/folder"), FileNotFoundError),
        (("/etc",), None, PermissionError),
        (("cat", "a\0b"), None, OSError),
    ],
)
async def test_what_cannot_be_started_says_why(command, cwd, error):
    with pytest.raises(error) as caught:
        await Reaper().spawn(command, env={}, cwd=cwd)
    assert str(caught.value.strerror or caught.value)


async def test_a_server_begins_with_the_usual_signals():
    """What its keeper does about them is the keeper's."""
    process = await Reaper().spawn((sys.executable, "-c", HANDLED), env={**os.environ}, cwd=None)
    assert await line(process.stdout) == b"True"
    assert await process.wait() == 0
    await process.aclose()


async def test_a_large_environment_arrives(mark):
    """More than a socket holds at once."""
    value = "x" * 100_000
    env = {f"LARGE_{number}": value for number in range(10)}
    process = await Reaper().spawn(
        ("printenv", "LARGE_9"), env={**env, "PATH": os.environ["PATH"], MARK: mark}, cwd=None
    )
    found = b""
    while chunk := await process.stdout.receive_some():
        found += chunk
    assert found == value.encode() + b"\n"
    assert await process.wait() == 0
    await process.aclose()


async def test_a_cancellation_at_any_moment_loses_no_process(mark):
    """Start, use and end, cut off at random."""
    chance, reaper = random.Random(7), Reaper()
    with trio.fail_after(120), reaper.held():
        for _ in range(40):
            with trio.move_on_after(chance.random() * 0.1):
                process = await reaper.spawn((*PARENT, "600"), env={**os.environ, MARK: mark}, cwd=None)
                try:
                    await process.wait()
                finally:
                    with trio.CancelScope(shield=True):
                        await process.aclose()
        await until(lambda: not processes(mark))


async def test_nothing_of_the_reaper_is_left_when_nobody_holds_it(mark):
    """Neither itself, nor the keeper that it has ready."""
    reaper = Reaper()
    with reaper.held():
        process = await reaper.spawn(("cat",), env={MARK: mark}, cwd=None)
        top = psutil.Process(reaper._process.pid)
        with trio.fail_after(30):
            # The keeper of the child, and the next one's.
            await until(lambda: len(top.children()) == 2)
        family = [top, *top.children()]
        process.signal(signal.SIGKILL)
        await process.wait()
        await process.aclose()
    with trio.fail_after(30):
        await until(lambda: not any(is_alive(one) for one in family))


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
