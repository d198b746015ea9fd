"""The memory guard over a real server that leaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import trio

from actors._reaped import reaper
from actors.mcp_session import McpSession, McpToolSession
from actors.memory_guard import MemoryGuard, MemoryWatch, read_process, read_share, read_tree
from agentrt.config.model import McpServerConfig, MemoryConfig
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime

PARTNER = (sys.executable, str(Path(__file__).parent / "servers" / "partner.py"))
MIB = 1024 * 1024


async def test_a_leaking_server_is_replaced_and_its_call_in_hand_finishes():
    """The call that ran when the limit was passed is answered, and the next one by a server that is small again."""
    session = McpToolSession("partner", McpServerConfig(command=PARTNER))
    config = MemoryConfig(interval=0.2, settle=0.1, server_warn=200 * MIB, server_limit=300 * MIB)
    watch = MemoryWatch(config, [session])
    events: list[Event] = []
    stream = EventStream()
    stream.listen(events.append)
    children = (
        ChildSpec(id="mcp", factory=lambda: McpSession(session), shutdown=12.0),
        ChildSpec(id="memory-guard", factory=lambda: MemoryGuard(watch)),
    )
    answers: list[object] = []

    async def slow_call() -> None:
        answers.append(await session.call("sleep", {"seconds": 3}))

    with trio.fail_after(60):
        async with open_runtime(SupervisorSpec(id="agent", children=children), events=stream):
            await session.wait_ready()
            first = session.pid
            async with trio.open_nursery() as nursery:
                nursery.start_soon(slow_call)
                await trio.sleep(0.1)
                assert await session.call("leak", {"megabytes": 300}) == {"result": 300 * MIB}
                # The guard looks every 0.2 s; until then the large server answers.
                while await session.call("pid") == {"result": first}:  # noqa: ASYNC110 - what is asked, is polled.
                    await trio.sleep(0.05)
            assert answers == [{"result": "awake"}]
            while watch.samples.get("partner", 300 * MIB) >= 200 * MIB:  # noqa: ASYNC110 - what is read, is polled.
                await trio.sleep(0.05)
            assert watch.samples["process"] > 0
            assert watch.check()[0]
    exceeded = next(event for event in events if event.kind == "memory_limit_exceeded")
    assert (exceeded.fields["server"], exceeded.fields["pid"]) == ("partner", first)
    exited = next(event for event in events if event.kind == "mcp_server_exited")
    assert exited.fields["reason"].startswith("restarted on request: holds ")


def test_a_tree_is_more_than_its_top():
    """What a server starts counts as the server's."""
    holder = "x = bytearray(50 * 2**20); print(flush=True); input()"
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}])"
    with subprocess.Popen([sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as top:
        assert top.stdout is not None
        top.stdout.readline()
        resident, share = read_tree(top.pid) or 0, read_share(top.pid)
        assert resident > 50 * MIB
        # What both have of the interpreter counts once; where the kernel does not tell, nothing does.
        assert share is None or 50 * MIB < share < resident
        top.kill()
    assert read_tree(top.pid) is None


async def test_a_daemon_of_a_server_is_the_server_s():
    """It has left its parent, its group and its session, and what it holds counts all the same."""
    code = (
        "import os, sys, time\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        f"    hoard = bytearray(b'x' * {50 * MIB})\n"
        "    print('up', flush=True)\n"
        "    time.sleep(600)\n"
        "os.wait()\n"
        "time.sleep(600)\n"
    )
    with trio.fail_after(60):
        process = await reaper.spawn([sys.executable, "-c", code], env=dict(os.environ), cwd=None)
        try:
            assert b"up" in await process.stdout.receive_some()
            while psutil.Process(process.pid).children():  # noqa: ASYNC110 - as below.
                await trio.sleep(0.02)
            # For a moment after it was forked, a process may be its parent's copy.
            while (read_tree(process.pid) or 0) < 50 * MIB:  # noqa: ASYNC110 - what is read, is polled.
                await trio.sleep(0.1)
        finally:
            process.signal(signal.SIGKILL)
            await process.wait()
            await process.aclose()
    assert read_tree(process.pid) is None


def test_who_was_killed_for_want_of_memory_is_told_from_who_was_killed():
    """In a control group of its own, where one may be made."""
    script = Path(__file__).parent / "servers" / "short_of_memory.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=120)
    if done.stdout == "no group\n":
        pytest.skip("no control group with a limit can be made here")
    assert ["was killed by the kernel, out of memory (SIGKILL)", "was killed by SIGKILL"] == done.stdout.splitlines()


def test_a_server_that_starts_programs_does_not_look_twice_its_size():
    """Between fork and exec a child shows its parent's memory; counted twice, a healthy server would be replaced."""
    code = (
        "import subprocess, sys\nhoard = bytearray(b'x' * (100 * 2**20))\nprint(flush=True)\n"
        "while True: subprocess.run(['true'])"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as top:
        assert top.stdout is not None
        top.stdout.readline()
        samples = [read_tree(top.pid) or 0 for _ in range(1000)]
        top.kill()
    assert 100 * MIB < max(samples) < 200 * MIB


def test_the_process_itself_is_read():
    """Whichever limit holds here, the figures fit together."""
    memory = read_process()
    assert memory.source in {"cgroup", "machine"}
    assert 0 < memory.used <= memory.limit
    assert (read_tree(os.getpid()) or 0) >= memory.rss // 2
