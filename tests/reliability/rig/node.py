"""nats-servers of the rig: a single one, or a cluster of three, with a user whose password and permissions change."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trio
from nats_process import RealServer

USER = "agent"
#: The rig's own user, which no fault touches.
WARDEN = "warden"
_ANOTHER_STREAM = 10060
# A port that nobody listens on.
_NOBODY = 1


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Node(RealServer):
    """A server that the client knows by its user and password.

    Args:
        folder: For its store, configuration and log.
        route: Its port for the others of its cluster; 0 where it stands alone.
        settings: In its configuration at any time: a reload that changes what can only be read at a start is refused
            whole, and without a word to whoever asked for it.
    """

    def __init__(self, folder: Path, route: int = 0, settings: Mapping[str, object] = MappingProxyType({})) -> None:
        super().__init__(folder)
        self._settings = settings
        folder.mkdir(parents=True, exist_ok=True)
        self.password = "first"
        self.denied = "t.denied"
        self.route = route
        #: Where it reaches others of the cluster.
        self.links: list[int] = []
        #: By which a stream can be placed on it.
        self.tags: tuple[str, ...] = ()

    def configure(self, **settings: Any) -> None:
        """Write the configuration."""
        deny = f'{{ publish: {{ deny: ["{self.denied}"] }} }}'
        users = f'{{ user: {USER}, password: "{self.password}", permissions: {deny} }}, '
        users += f'{{ user: {WARDEN}, password: "{WARDEN}" }}'
        lines = [
            'host: "127.0.0.1"',
            f"port: {self.port}",
            f'server_name: "n{self.port}"',
            f"server_tags: {json.dumps(self.tags)}",
            f"authorization {{ users: [ {users} ] }}",
            f'jetstream {{ store_dir: "{self.folder / "store"}", max_file_store: 1GB }}',
            "lame_duck_grace_period: 1s",
        ]
        if self.route:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.links)
            # What they would tell of each other leads nowhere, so that nothing goes around the links.
            nowhere = f'advertise: "127.0.0.1:{_NOBODY}", no_advertise: true'
            lines.append(f'cluster {{ name: rig, listen: "127.0.0.1:{self.route}", routes: [ {routes} ], {nowhere} }}')
        lines += [f"{key}: {value}" for key, value in {**self._settings, **settings}.items()]
        (self.folder / "nats.conf").write_text("\n".join(lines), encoding="utf-8")

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def lame_duck(self) -> None:
        """Send it into lame-duck mode, which ends it."""
        os.kill(self.pid, signal.SIGUSR2)

    async def ask(
        self, subject: str, body: str = "", *, header: str = "", user: str = WARDEN, password: str = WARDEN
    ) -> dict[str, Any]:
        """Ask over a connection of its own, with no client library; return the answer, read from JSON.

        Raises:
            OSError: It cannot be reached, or refuses.
        """
        greeting = {"verbose": False, "user": user, "pass": password, "headers": True, "no_responders": True}
        head = f"NATS/1.0\r\n{header}\r\n\r\n"
        wire = f"CONNECT {json.dumps(greeting)}\r\nSUB answer 1\r\n"
        wire += f"HPUB {subject} answer {len(head)} {len(head) + len(body)}\r\n{head}{body}\r\n"
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(wire.encode())
            buffer = b""
            while not (found := _payload(buffer)):
                if b"-ERR" in buffer or b"HMSG" in buffer:
                    raise ConnectionRefusedError(buffer.decode())
                data = await stream.receive_some(65536)
                if not data:
                    raise ConnectionResetError(f"{self.port} closed")
                buffer += data
            answer: dict[str, Any] = json.loads(found)
            return answer


def _payload(buffer: bytes) -> bytes:
    head, marker, rest = buffer.rpartition(b"\r\nMSG answer 1 ")
    if not marker:
        return b""
    size, _, body = rest.partition(b"\r\n")
    return body[: int(size)] if len(body) >= int(size.split()[-1]) + 2 and head is not None else b""


async def usable(node: Node, *, user: str = WARDEN, password: str = WARDEN) -> float:
    """Wait until *node* serves JetStream to the user; return when that was."""
    while True:
        answer = await _answer(node, "$JS.API.INFO", user=user, password=password)
        if "error" not in answer:
            return time.monotonic()
        await trio.sleep(0.005)


async def led(node: Node, *, stream: str, subject: str, consumer: str = "") -> float:
    """Wait until *stream*, and its consumer, have a leader that answers; return when that was.

    What ``STREAM.INFO`` says of a leader may be old. A publish that names another stream is refused by the leader
    itself, once it has a quorum, and stores nothing.
    """
    while True:
        answer = await _answer(node, subject, header="Nats-Expected-Stream: another")
        if answer["error"].get("err_code") == _ANOTHER_STREAM:
            break
        await trio.sleep(0.005)
    while consumer:
        answer = await _answer(node, f"$JS.API.CONSUMER.INFO.{stream}.{consumer}")
        if answer.get("cluster", {}).get("leader"):
            break
        await trio.sleep(0.005)
    return time.monotonic()


async def _answer(node: Node, subject: str, **options: str) -> dict[str, Any]:
    try:
        with trio.fail_after(1):
            return await node.ask(subject, **options)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
        return {"error": {"description": repr(error)}}
