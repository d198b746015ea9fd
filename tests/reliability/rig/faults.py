"""The matrix: each fault, done to a stage; it returns the moment from which the server can be used again."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import attrs
import trio

from rig.node import Node, led
from rig.stage import BUCKET, DURABLE, STREAM, TASKS, Stage

# What lies in the sockets' buffers is read well within this time.
_UNDER_WAY = 0.1

Do = Callable[[Stage], Awaitable[float]]


@attrs.frozen
class Fault:
    """A row of the matrix.

    Args:
        name: For the command line and the tests.
        title: For people.
        do: Does it, and returns when the server can be used again.
        clustered: Three servers in place of one.
        proxied: Through the proxy.
        settings: Of the server.
        soaks: Whether it can happen again and again on one stage.
        long: Whether it takes a minute: the tests play it by a flag only.
    """

    name: str
    title: str
    do: Do
    clustered: bool = False
    proxied: bool = False
    settings: Mapping[str, object] = attrs.field(factory=dict)
    soaks: bool = True
    long: bool = False


async def felt() -> float:
    """Return now, a moment later: what the client reads in between was under way when it happened."""
    now = time.monotonic()
    await trio.sleep(_UNDER_WAY)
    return now


async def reject(stage: Stage) -> float:
    """Take the password away for 5 s; then the client is told the new one."""
    stage.node.password = f"rotated-{time.monotonic_ns()}"
    stage.node.reload()
    await trio.sleep(5)
    stage.tell("password", stage.node.password)
    return await stage.usable()


async def kill(stage: Stage, seconds: float) -> float:
    """Kill it by -9, and start it again on the same store."""
    stage.node.kill()
    await trio.sleep(seconds)
    await stage.start(stage.node)
    return await stage.usable()


async def down_for_two(stage: Stage) -> float:
    """Kill it for the two seconds of the headline."""
    return await kill(stage, 2)


async def pause(stage: Stage) -> float:
    """Stop the process for longer than any probe waits: connections stay open and pass nothing."""
    await trio.to_thread.run_sync(stage.node.pause)
    await trio.sleep(8)
    stage.node.resume()
    return await stage.usable()


async def swallow(stage: Stage) -> float:
    """Swallow all bytes for 8 s, those of new connections too; what was connected stays dead for good."""
    stage.proxy.swallow()
    await trio.sleep(8)
    stage.proxy.heal()
    return time.monotonic()


async def reset(stage: Stage) -> float:
    """End the connection by RST."""
    stage.proxy.reset()
    return await felt()


async def cut(stage: Stage) -> float:
    """End the connection by FIN."""
    await stage.proxy.cut()
    return await felt()


async def lame_duck(stage: Stage) -> float:
    """Send the server into lame-duck mode; when it has ended, start it again."""
    stage.node.lame_duck()
    while stage.node.is_running:
        await trio.sleep(0.02)
    await stage.start(stage.node)
    return await stage.usable()


async def crowd(stage: Stage) -> float:
    """Lower max_connections to one while others are connected, until the client was among those thrown out."""
    async with trio.open_nursery() as nursery:
        thrown_out = False
        while not thrown_out:
            strangers = [await _stranger(stage.node) for _ in range(20)]
            stage.node.reload(max_connections=1)
            gone = 0

            async def count(stream: trio.SocketStream) -> None:
                nonlocal gone
                async with stream:
                    while await stream.receive_some(4096):
                        pass
                gone += 1

            with trio.move_on_after(2):
                async with trio.open_nursery() as counting:
                    for stream in strangers:
                        counting.start_soon(_bearing, count, stream)
            # One stayed: a stranger, so the client was thrown out.
            thrown_out = gone < len(strangers)
            stage.node.reload()
        nursery.cancel_scope.cancel()
    return await stage.usable()


async def _bearing(count: Callable[[trio.SocketStream], Awaitable[None]], stream: trio.SocketStream) -> None:
    try:
        await count(stream)
    except trio.BrokenResourceError:
        await count(stream)


async def _stranger(node: Node) -> trio.SocketStream:
    """Connect; a reload that makes room again may take effect a moment late, and until then nobody is let in."""
    while True:
        stream = await trio.open_tcp_stream("127.0.0.1", node.port)
        try:
            await stream.send_all(b'CONNECT {"verbose":false,"user":"warden","pass":"warden"}\r\nPING\r\n')
            while data := await stream.receive_some(65536):
                if b"PONG" in data:
                    return stream
        except trio.BrokenResourceError:
            pass
        await stream.aclose()
        await trio.sleep(0.02)


async def delete_stream(stage: Stage) -> float:
    """Delete the stream by hand, and nothing else."""
    await stage.node.ask(f"$JS.API.STREAM.DELETE.{STREAM}")
    stage.ledger.destroy()
    return await felt()


async def wipe(stage: Stage) -> float:
    """Kill it, remove its store, and start it: stream, consumer and bucket are gone."""
    stage.node.kill()
    # What the client heard of it lies in a pipe still.
    await trio.sleep(0.5)
    stage.ledger.destroy()
    stage.node.wipe()
    await stage.start(stage.node)
    return await stage.usable()


async def slow_consumer(stage: Stage) -> float:
    """Stop the client and flood its subscription, until the server throws it out; then let it go on."""
    stage.process.send_signal(signal.SIGSTOP)
    try:
        await _flood(stage.node)
    finally:
        stage.process.send_signal(signal.SIGCONT)
    return await felt()


async def _flood(node: Node) -> None:
    body = b"x" * 60_000
    frame = b"PUB t.core %d\r\n%s\r\n" % (len(body), body)
    # More than the kernel holds on both sides and the server's own bound on top.
    with trio.move_on_after(10):
        async with await _stranger(node) as stream:
            for _ in range(400):
                await stream.send_all(frame)
            await stream.send_all(b"PING\r\n")
            while b"PONG" not in await stream.receive_some(65536):
                pass


async def broken_callbacks(stage: Stage) -> float:
    """While the server is away for 2 s, whatever the client calls of its application raises."""
    stage.tell("vault_down")
    stage.node.kill()
    await trio.sleep(1)
    await stage.start(stage.node)
    await trio.sleep(1)
    stage.untell("vault_down")
    return await stage.usable()


async def command(stage: Stage, name: str) -> float:
    """Have the client send what the server refuses."""
    stage.tell(name)
    await stage.said(name)
    return await felt()


async def deny(stage: Stage) -> float:
    """Forbid the feed's own subject for 3 s."""
    stage.node.denied = "t.tasks"
    stage.node.reload()
    await trio.sleep(3)
    stage.node.denied = "t.denied"
    stage.node.reload()
    return await stage.usable()


async def lose_leader(stage: Stage) -> float:
    """Kill the leader of the stream: two of three are a quorum, and it can be used as soon as they have a leader."""
    leader, *others = await _leader_first(stage)
    leader.kill()
    return await _all_led(others[0])


async def lose_one_by_one(stage: Stage) -> float:
    """Kill the leader, and another one as soon as there is a new leader; after 3 s both come back."""
    *lost, last = await _leader_first(stage)
    for node in lost:
        node.kill()
        if node is lost[0]:
            await _all_led(last)
    await trio.sleep(3)
    async with trio.open_nursery() as nursery:
        for node in lost:
            nursery.start_soon(stage.start, node)
    return await _all_led(last)


async def part_from_others(stage: Stage) -> float:
    """Part the client's node from the others, for good: they can be used as soon as they have leaders of their own."""
    assert stage.cluster is not None
    lonely = stage.clients_node
    stage.cluster.part(lonely)
    await felt()
    return await _all_led(next(node for node in stage.nodes if node is not lonely))


async def _leader_first(stage: Stage) -> list[Node]:
    answer = await stage.node.ask(f"$JS.API.STREAM.INFO.{STREAM}")
    leader = answer["cluster"]["leader"]
    return sorted(stage.nodes, key=lambda node: f"n{node.port}" != leader)


async def _all_led(node: Node) -> float:
    """Wait until everything that is stored has a leader that lives; return when that was."""
    await led(node, stream=f"KV_{BUCKET}", subject=f"$KV.{BUCKET}.rig")
    return await led(node, stream=STREAM, subject=TASKS, consumer=DURABLE)


async def late_dns(stage: Stage) -> float:
    """Kill it; it is back at once, and the name is answered only 4 s later."""
    stage.tell("late_dns")
    await kill(stage, 0)
    await trio.sleep(4)
    stage.untell("late_dns")
    return time.monotonic()


def _row(name: str, title: str, do: Do, **options: object) -> Fault:
    return Fault(name, title, do, **options)  # type: ignore[arg-type]


_ROWS = (
    _row("rejected", "password rejected for 5 s, then rotated", reject),
    _row("killed-1", "server killed for 1 s", partial(kill, seconds=1)),
    _row("killed-10", "server killed for 10 s", partial(kill, seconds=10)),
    _row("killed-60", "server killed for 60 s", partial(kill, seconds=60), soaks=False, long=True),
    _row("stopped", "SIGSTOP for 8 s", pause),
    _row("black-hole", "black hole for 8 s", swallow, proxied=True),
    _row("reset", "connection reset", reset, proxied=True),
    _row("cut", "connection closed by a middlebox", cut, proxied=True),
    _row("lame-duck", "lame duck, then restarted", lame_duck),
    _row("max-connections", "max_connections lowered for 2 s", crowd),
    _row("stream-deleted", "stream deleted by hand", delete_stream),
    _row("store-wiped", "store wiped while down", wipe),
    _row("slow-consumer", "thrown out as a slow consumer", slow_consumer, settings={"max_pending": "1MB"}),
    _row("callbacks", "the application's callbacks raise for 2 s", broken_callbacks),
    _row("too-large", "headers over max_payload", partial(command, name="oversize")),
    _row("denied", "publish to a forbidden subject", partial(command, name="denied")),
    _row("forbidden", "the feed's subject forbidden for 3 s", deny),
    _row("cluster-1", "cluster of three: the leader killed", lose_leader, clustered=True, soaks=False),
    _row("cluster-2", "cluster of three: one killed, then two, for 3 s", lose_one_by_one, clustered=True, soaks=False),
    _row(
        "parted",
        "cluster of three: the client's node cut off from the others",
        part_from_others,
        clustered=True,
        soaks=False,
    ),
    _row("late-dns", "killed, and DNS answers 4 s late", late_dns),
)

FAULTS = {row.name: row for row in _ROWS}
