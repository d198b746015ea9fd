"""The handles of the nats-servers that a fleet brings along: one, or a cluster on loopback."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs
import psutil
import trio

from actors._nats_binary import NAME, find_binary
from actors._nats_room import Room
from agentrt.ports import ServerStatus

HOST = "127.0.0.1"
_POLL = 0.02
# Who finds that a server is broken says so twice a second.
_BROKEN_FOR = 5.0


class StoreMismatch(RuntimeError):
    """What is stored is from another number of nodes, and would not be seen; says what to do."""


@attrs.frozen
class Cluster:
    """What the nodes of a cluster know of each other.

    Args:
        ports: Where each listens for the others, in the order of the nodes.
        password: What they log in with there.
    """

    ports: tuple[int, ...]
    password: str = attrs.field(repr=False)

    def settings(self, index: int) -> dict[str, object]:
        """Return the ``cluster`` block of one node's configuration; it knows itself among the routes."""
        login = f"route:{self.password}"
        return {
            "name": "agentrt",
            "host": HOST,
            "port": self.ports[index],
            "authorization": {"user": "route", "password": self.password, "timeout": 5},
            "routes": [f"nats-route://{login}@{HOST}:{port}" for port in self.ports],
        }


class EmbeddedServer:
    """The handle of one server: where it listens and how to log in. The same for the whole run, over all restarts.

    Args:
        folder: Where it keeps its store, log and configuration.
        port: Where it listens.
        token: What clients log in with.
        max_store: Bytes that JetStream may store.
        index: Which of the cluster's nodes it is, from 0.
        cluster: The cluster that it belongs to; None where it is alone.

    Raises:
        BatteryMissing: There is no server to start.
    """

    def __init__(
        self, folder: Path, *, port: int, token: str, max_store: int, index: int = 0, cluster: Cluster | None = None
    ) -> None:
        self.binary = find_binary()
        self.folder = folder
        self.port = port
        self.token = token
        self.max_store = max_store
        self.pid: int | None = None
        #: Whether it was ever up in this run.
        self.has_answered = False
        #: Why it does not run now; empty where it does.
        self.trouble = "not started"
        self._broken, self._broken_at = "", 0.0
        #: How full it was when that was last looked at.
        self.room: Room | None = None
        self._index = index
        self._cluster = cluster

    @property
    def name(self) -> str:
        """What it is called in the tree of actors."""
        return NAME if self._cluster is None else f"{NAME}-{self._index + 1}"

    @property
    def url(self) -> str:
        """Where it listens; without the token."""
        return f"nats://{HOST}:{self.port}"

    @property
    def store(self) -> Path:
        """Where JetStream stores."""
        return self.folder / "store"

    @property
    def config_path(self) -> Path:
        """Its configuration file, which also tells our server from others."""
        return self.folder / "nats-server.conf"

    @property
    def pid_path(self) -> Path:
        """Where it writes its process id."""
        return self.folder / "nats-server.pid"

    @property
    def log_path(self) -> Path:
        """Where it logs."""
        return self.folder / "nats-server.log"

    def credentials(self) -> Mapping[str, str]:
        """What a connection logs in with."""
        return {"token": self.token}

    @property
    def store_trouble(self) -> str:
        """Why it cannot store, where its disk is full; else nothing."""
        return self.room.trouble if self.room is not None else ""

    @property
    def broken(self) -> str:
        """Why it stores nothing until it is started anew, as who uses it goes on finding; else nothing."""
        return self._broken if time.monotonic() - self._broken_at < _BROKEN_FOR else ""

    @broken.setter
    def broken(self, why: str) -> None:
        self._broken, self._broken_at = why, time.monotonic()

    def status(self) -> ServerStatus:
        """Say how it is."""
        reason = self.trouble or self.store_trouble or self.broken
        told = reason or f"pid {self.pid}" + (f", {self.room}" if self.room is not None else "")
        return ServerStatus(self.name, self.url, self.pid, not reason, told)

    async def wait_ready(self, pid: int | None = None) -> None:
        """Wait until it answers on its port.

        Args:
            pid: The process that has to be the one that listens there, and not another one that took the port.
        """
        # There is no event to wait for: only the port tells.
        while not await self.answers() or not (pid is None or self._is_held_by(pid)):  # noqa: ASYNC110
            await trio.sleep(_POLL)

    def _is_held_by(self, pid: int) -> bool:
        try:
            return any(
                one.status == psutil.CONN_LISTEN and one.laddr.port == self.port
                for one in psutil.Process(pid).net_connections("tcp")
            )
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            # A system that does not say; then its answer has to do.
            return True

    async def answers(self) -> bool:
        """Ask whether it answers on its port, for a second at most."""
        with trio.move_on_after(1.0):
            try:
                async with await trio.open_tcp_stream(HOST, self.port) as stream:
                    return (await stream.receive_some(64)).startswith(b"INFO")
            except OSError:
                return False
        return False

    def last_words(self) -> str:
        """Give the last line of its log."""
        try:
            lines = self.log_path.read_text(errors="replace").strip().splitlines()
        except OSError as error:
            return str(error)
        return lines[-1] if lines else "it said nothing"

    def is_started_by(self, command: Sequence[str]) -> bool:
        """Whether a process with this command line is this server, of this run or an earlier one.

        Args:
            command: Its words; none at all is what the system tells of a process that is just being executed.
        """
        return bool(command) and Path(command[0]).name == NAME and str(self.config_path) in command

    def prepare(self) -> None:
        """Write the configuration, readable by this user alone.

        Raises:
            StoreMismatch: There is a store of another number of nodes.
        """
        self._check_strangers()
        self.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        # What it says when it cannot even log is written there, too.
        self.log_path.open("ab").close()
        # Made with its mode, so that the token is at no moment readable by others.
        self.config_path.unlink(missing_ok=True)
        descriptor = os.open(self.config_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(self._config())

    def _check_strangers(self) -> None:
        alone = self._cluster is None
        top, stores = (self.folder, "node-*/store") if alone else (self.folder.parent, "store")
        if next(top.glob(stores), None) is not None:
            raise StoreMismatch(
                "what a run with another [bus] embedded_nodes stored would not be seen; set that as it was, or delete"
                f" {top / stores}"
            )

    def _config(self) -> str:
        # The server reads a superset of JSON, but for \u: what is not ASCII stands as it is, in UTF-8.
        settings = {
            "host": HOST,
            "port": self.port,
            # JetStream's cluster knows its nodes by their names, so they are the same in each run.
            "server_name": "agentrt" if self._cluster is None else f"agentrt-{self._index + 1}",
            "pid_file": str(self.pid_path),
            "log_file": str(self.log_path),
            "logfile_size_limit": 10_000_000,
            "logfile_max_num": 3,
            "authorization": {"token": self.token},
            "jetstream": {"store_dir": str(self.store), "max_file_store": self.max_store},
        }
        if self._cluster is not None:
            settings["cluster"] = self._cluster.settings(self._index)
        return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


class EmbeddedServers:
    """The handle of all that a fleet brings along, of which each is an actor of its own.

    Args:
        state_dir: The fleet's state directory; they keep theirs in ``nats/`` below it.
        max_store: Bytes that each may store.
        nodes: How many; from two on they are a cluster.

    Raises:
        BatteryMissing: There is no server to start.
    """

    def __init__(self, state_dir: Path, max_store: int, nodes: int = 1) -> None:
        self.token = secrets.token_hex(16)
        top = state_dir.resolve() / "nats"
        ports = free_ports(nodes if nodes == 1 else 2 * nodes)
        cluster = Cluster(ports[nodes:], secrets.token_hex(16)) if nodes > 1 else None
        self.nodes = tuple(
            EmbeddedServer(
                top if cluster is None else top / f"node-{index + 1}",
                port=port,
                token=self.token,
                max_store=max_store,
                index=index,
                cluster=cluster,
            )
            for index, port in enumerate(ports[:nodes])
        )

    @property
    def url(self) -> str:
        """Where they listen, with commas between; without the token."""
        return ",".join(node.url for node in self.nodes)

    def credentials(self) -> Mapping[str, str]:
        """What a connection logs in with."""
        return {"token": self.token}

    def statuses(self) -> tuple[ServerStatus, ...]:
        """Say of each how it is."""
        return tuple(node.status() for node in self.nodes)

    def store_trouble(self) -> str:
        """Say why nothing can be stored, where a disk is full; else nothing."""
        return next((node.store_trouble for node in self.nodes if node.store_trouble), "")

    def report_broken(self, why: str) -> None:
        """Have the server that stores nothing any more started anew.

        Args:
            why: What a server said of that; of several it is the one whose files it names.
        """
        for node in self.nodes:
            if len(self.nodes) == 1 or str(node.store) in why:
                node.broken = why

    def checks(self) -> Mapping[str, tuple[bool, str]]:
        """Named checks: one for each server, bad where too few are left to store anything."""
        found = self.statuses()
        running = sum(one.is_running for one in found)
        enough = running > len(found) // 2
        checks = {}
        for one in found:
            reason = one.reason
            if not one.is_running and len(found) > 1:
                reason = f"{one.reason}; {running} of {len(found)} nodes run"
            checks[one.name.replace("-", "_", 1).replace("-", ":")] = (one.is_running or enough, reason)
        return checks


def free_ports(count: int) -> tuple[int, ...]:
    """Return so many different ports of loopback that are free now."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind((HOST, 0))
        return tuple(int(listener.getsockname()[1]) for listener in listeners)
