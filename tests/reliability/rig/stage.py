"""A stage: servers, a proxy before them, and one client under a steady feed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import psutil
import trio
from tcp_proxy import TcpProxy

from rig.cluster import Cluster
from rig.ledger import SIGNS, Ledger
from rig.node import Node, led, usable

#: From this code on, as in HTTP, and by this number of the server's own, a cluster says that it is not together yet.
_NOT_NOW, _PEER_OFFLINE = 500, 10005
HERE = Path(__file__).parents[1]
ROOT = HERE.parents[1]
HOST = "bus.test"
STREAM, DURABLE, BUCKET, TASKS = "FEED", "worker", "state", "t.tasks"
_QUIET = 0.05
# The server's default.
_MAX_PAYLOAD = 1024 * 1024


@attrs.frozen
class Client:
    """A contender: which file of ``contenders``, and the interpreter that has its library."""

    name: str
    module: str
    python: str


@attrs.define
class Stage:
    """What a fault can touch.

    Args:
        nodes: The servers; one, or those of the cluster.
        proxy: Between the client and the first server.
        process: The client.
        ledger: Its account.
        folder: Where files tell the client what to do.
        cluster: What links the servers, where there are several.
    """

    nodes: Sequence[Node]
    proxy: TcpProxy
    process: trio.Process
    ledger: Ledger
    folder: Path
    cluster: Cluster | None = None

    @property
    def clients_node(self) -> Node:
        """The server that the client is connected to."""
        connections = psutil.Process(self.process.pid).net_connections("tcp")
        ports = {one.raddr.port for one in connections if one.raddr and one.status == psutil.CONN_ESTABLISHED}
        (found,) = (node for node in self.nodes if node.port in ports)
        return found

    @property
    def node(self) -> Node:
        """The server, where there is one."""
        return self.nodes[0]

    def tell(self, name: str, text: str = "") -> None:
        """Put a file where the client looks."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def untell(self, name: str) -> None:
        """Take it away."""
        (self.folder / name).unlink(missing_ok=True)

    async def start(self, node: Node) -> None:
        """Start *node* in a thread, since that waits."""
        await trio.to_thread.run_sync(node.start)

    async def usable(self) -> float:
        """Wait until the server takes the client's user; return when that was."""
        return await usable(self.node, user="agent", password=self.node.password)

    async def recovered(self, since: float, limit: float) -> dict[str, float]:
        """Wait for every sign of life from now on, *limit* seconds at most; return the time from *since* to each."""
        felt = time.monotonic()
        with trio.move_on_after(limit):
            while set(self.ledger.back(since, felt)) != set(SIGNS):
                await self._next_line()
        return self.ledger.back(since, felt)

    async def flows(self, limit: float) -> bool:
        """Return whether, within *limit* seconds, every sign of life comes and 50 more messages are done."""
        since, enough = time.monotonic(), len(self.ledger.done) + 50
        await self.recovered(since, limit)
        with trio.move_on_after(limit):
            while len(self.ledger.done) < enough:
                await self._next_line()
        return set(self.ledger.back(since)) == set(SIGNS) and len(self.ledger.done) >= enough

    async def said(self, kind: str) -> None:
        """Wait until the client said *kind* once more than now."""
        before = self.ledger.said[kind]
        while self.ledger.said[kind] == before:
            await self._next_line()

    async def settle(self, limit: float) -> None:
        """End the feed, and give what was stored *limit* seconds to be done."""
        self.tell("stop")
        with trio.move_on_after(limit):
            # Twice, with a pause: what is on its way when the feed ends is stored a moment later.
            for _ in range(2):
                await trio.sleep(0.3)
                while self.ledger.lost():
                    await self._next_line()

    def memory(self) -> int:
        """Bytes of the client that are resident."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Files and sockets that the client has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    async def _next_line(self) -> None:
        with trio.move_on_after(_QUIET):
            await self.ledger.changed()


@asynccontextmanager
async def stage(
    client: Client, folder: Path, *, clustered: bool = False, proxied: bool = False, **settings: object
) -> AsyncIterator[Stage]:
    """Set the stage and let the feed run; everything is taken down in the end."""
    cluster = Cluster(folder, settings) if clustered else None
    nodes = cluster.nodes if cluster is not None else (Node(folder, settings=settings),)
    signals = folder / "signals"
    signals.mkdir(parents=True)
    (signals / "password").write_text(nodes[0].password)
    (signals / "max_payload").write_text(str(_MAX_PAYLOAD))
    if clustered:
        (signals / "declared").touch()
    proxy = TcpProxy(nodes[0].port)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.run)
            await (nursery.start(cluster.run) if cluster is not None else trio.to_thread.run_sync(nodes[0].start))
            await usable(nodes[0])
            if cluster is not None:
                await _replicate(nodes)
            urls = [f"nats://{HOST}:{proxy.port if proxied else node.port}" for node in nodes]
            with (folder / "client.log").open("wb") as log:
                process = await trio.lowlevel.open_process(
                    [client.python, str(HERE / "contenders" / f"{client.module}.py"), ",".join(urls), str(signals)],
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
            try:
                here = Stage(nodes, proxy, process, Ledger(), signals, cluster)
                nursery.start_soon(_read, process, here.ledger)
                await _warm(here, folder)
                yield here
            finally:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
            nursery.cancel_scope.cancel()
    finally:
        for node in nodes:
            node.kill()


async def _replicate(nodes: Sequence[Node]) -> None:
    """Make the stream and the bucket with three replicas, as an operator would; a client's declaration keeps that."""
    stream = {"name": STREAM, "subjects": [TASKS], "num_replicas": 3}
    bucket = {
        "name": f"KV_{BUCKET}",
        "subjects": [f"$KV.{BUCKET}.>"],
        "num_replicas": 3,
        "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "discard": "new",
    }
    for config in (stream, bucket):
        body = json.dumps(config)
        while "error" in (answer := await _ask_patiently(nodes[0], f"$JS.API.STREAM.CREATE.{config['name']}", body)):
            is_early = answer["error"]["code"] >= _NOT_NOW or answer["error"].get("err_code") == _PEER_OFFLINE
            assert is_early, answer
            await trio.sleep(0.1)
    await led(nodes[0], stream=STREAM, subject=TASKS)
    await led(nodes[0], stream=f"KV_{BUCKET}", subject=f"$KV.{BUCKET}.rig")


async def _ask_patiently(node: Node, subject: str, body: str) -> dict[str, dict[str, int]]:
    try:
        with trio.fail_after(3):
            return await node.ask(subject, body)
    except (OSError, trio.TooSlowError):
        return {"error": {"code": 503}}


async def _read(process: trio.Process, ledger: Ledger) -> None:
    assert process.stdout is not None
    rest = b""
    async with process.stdout:
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                ledger.take(json.loads(line))


async def _warm(here: Stage, folder: Path) -> None:
    with trio.move_on_after(30):
        while not here.ledger.said["ready"] or set(here.ledger.back(0.0)) != set(SIGNS):
            if here.process.poll() is not None:
                break
            await trio.sleep(_QUIET)
        # A feed that flows, not one that begins.
        if await here.flows(20):
            return
    log = (folder / "client.log").read_text()[-3000:]
    msg = f"the client never began: {here.ledger.back(0.0)}, {here.ledger.failures}\n{log}"
    raise RuntimeError(msg)
