"""Any client library under supervision: a handle that outlives every client object, and the actor that makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
import trio
from attrs import validators

from actors._client_driver import ClientDriver
from actors._flag import Flag
from agentrt.config import ConnectionConfig, load_class
from agentrt.kernel import Actor
from agentrt.policy import ReconnectPace
from agentrt.ports import AdapterSetup, ClientAdapter, Connection, ConnectionUnavailable

__all__ = ["ClientActor", "ClientSettings", "ClientStatistics", "ManagedClient"]

C = TypeVar("C")


@attrs.frozen(kw_only=True)
class ClientSettings:
    """How patient to be with a client; seconds.

    Args:
        connect_timeout: For one attempt: to connect and to restore.
        probe_interval: Between two probes; less than *probe_limit*.
        probe_timeout: For one probe; it is never longer than what is left of *probe_limit*.
        probe_limit: Without an answered probe for so long, the client is thrown away.
        close_timeout: For throwing a client away.
        pace: Between attempts.
    """

    connect_timeout: float = attrs.field(default=15.0, validator=validators.gt(0))
    probe_interval: float = attrs.field(default=2.0, validator=validators.gt(0))
    probe_timeout: float = attrs.field(default=2.0, validator=validators.gt(0))
    probe_limit: float = attrs.field(default=5.0, validator=validators.gt(0))
    close_timeout: float = attrs.field(default=2.0, validator=validators.gt(0))
    pace: ReconnectPace = attrs.field(factory=ReconnectPace)

    def __attrs_post_init__(self) -> None:
        """Refuse what would have each client thrown away that nobody asked in time.

        Raises:
            ValueError: Probes are further apart than a client may be silent.
        """
        if self.probe_interval >= self.probe_limit:
            raise ValueError("probe_interval must be less than probe_limit, or each client is thrown away unasked")


@attrs.define
class Counted:
    """What happened so far."""

    clients: int = 0
    losses: int = 0
    rebuilds: int = 0
    attempts_failed: int = 0
    probes_failed: int = 0


@attrs.frozen(kw_only=True)
class ClientStatistics:
    """How a managed client is, and what happened so far.

    Args:
        is_ready: Whether there is a client that answered its last probe.
        round_trip: Seconds that the last probe took; None without a client.
        clients: Clients that were made and restored.
        losses: Those of them that were lost.
        rebuilds: Clients that took the place of a lost one.
        attempts_failed: Attempts that made none.
        probes_failed: Probes without an answer.
        waiting: Tasks that wait for a client.
    """

    is_ready: bool
    round_trip: float | None
    clients: int
    losses: int
    rebuilds: int
    attempts_failed: int
    probes_failed: int
    waiting: int


class ManagedClient(Generic[C]):
    """Gives the client that lives now; a :class:`ClientActor` makes one after the other.

    Ask it for the client each time, and do not keep what it gave: the next one is another object.

    Args:
        name: For events and errors.
        adapter: How clients of this kind are made, probed and thrown away.
        settings: How patient to be.
    """

    def __init__(self, name: str, adapter: ClientAdapter[C], settings: ClientSettings | None = None) -> None:
        self.name = name
        self.adapter = adapter
        self.settings = settings or ClientSettings()
        self.counted = Counted()
        self.round_trip: float | None = None
        self.suspicion = ""
        self._client: tuple[C] | None = None
        self._trouble = "not started"
        self._ready = Flag()
        self._request: str | None = None
        self._requested = trio.Event()
        self._waiting = 0

    @property
    def is_ready(self) -> bool:
        """Whether there is a client, restored, that answered its last probe."""
        return self._ready.is_set

    @property
    def has_client(self) -> bool:
        """Whether there is a client, restored, whether it answers or not."""
        return self._client is not None

    @property
    def reason(self) -> str:
        """Why it is ready or not, for people."""
        return self._trouble or (f"does not answer: {self.suspicion}" if self.suspicion else "connected")

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""
        await self._ready.wait()

    def client_nowait(self) -> C:
        """Give the client that lives now.

        Raises:
            ConnectionUnavailable: There is none that answers.
        """
        if self._client is None or not self.is_ready:
            raise ConnectionUnavailable(f"connection {self.name!r}: no client now ({self.reason})")
        return self._client[0]

    async def client(self, timeout: float = 30.0) -> C:
        """Give the client that lives now; wait for one where there is none.

        Raises:
            ConnectionUnavailable: There was none within *timeout* seconds.
        """
        self._waiting += 1
        try:
            with trio.move_on_after(timeout):
                await self.wait_ready()
                return self.client_nowait()
        finally:
            self._waiting -= 1
        raise ConnectionUnavailable(f"connection {self.name!r}: no client within {timeout:g} s ({self.reason})")

    def replace(self, reason: str) -> None:
        """Have the client that lives now thrown away and a new one made; nothing happens where there is none."""
        if self._client is not None:
            self._request = reason
            self._requested.set()

    def statistics(self) -> ClientStatistics:
        """Return how it is and what happened so far."""
        return ClientStatistics(
            is_ready=self.is_ready,
            round_trip=self.round_trip if self.has_client else None,
            waiting=self._waiting,
            **attrs.asdict(self.counted),
        )

    def __repr__(self) -> str:
        """Name and reason."""
        return f"<{type(self).__name__} {self.name!r}: {self.reason}>"

    # What the driver does

    def given(self, client: C) -> None:
        """Take a client that is connected and restored."""
        self._client = (client,)
        self._trouble = self.suspicion = ""
        self._requested = trio.Event()
        self.counted.clients += 1
        self._ready.turn(on=True)

    def taken(self, reason: str) -> None:
        """Let go of the client, or say why there is still none."""
        self._client = None
        self._trouble = reason
        self._ready.turn(on=False)

    def suspect(self, trouble: str) -> None:
        """Say that it does not answer, or, with nothing, that it does again."""
        self.suspicion = trouble
        self._ready.turn(on=not trouble)

    async def wait_request(self) -> str:
        """Wait until the client is to be replaced; return why."""
        await self._requested.wait()
        return self._request or ""


class ClientActor(Actor):
    """Drives a :class:`ManagedClient`: connects it, probes it, and makes a new one in place of one that is lost.

    Started means that it runs; ready is the handle's to say.
    """

    def __init__(self, client: ManagedClient[Any]) -> None:
        self._client = client

    @staticmethod
    def open_handle(name: str, config: ConnectionConfig, folder: Path) -> Connection:
        """Make the handle of one connection of a configuration, whose kind is the adapter's class.

        Raises:
            Invalid: The class cannot be used.
        """
        adapter = load_class(config.kind, folder, ClientAdapter)
        setup = AdapterSetup(name=name, options=dict(config.options), folder=folder)
        return ManagedClient(name, adapter(setup), client_settings(config))

    async def run(self) -> None:
        """Keep the client connected until a stop is asked for."""
        await ClientDriver(self._client, self.emit, self.progress, self.random.random).run()


def client_settings(config: ConnectionConfig) -> ClientSettings:
    """Read how patient to be from ``[connections.NAME]``."""
    return ClientSettings(
        connect_timeout=config.connect_timeout,
        probe_interval=config.probe_interval,
        probe_timeout=min(config.probe_timeout, config.probe_limit),
        probe_limit=config.probe_limit,
        close_timeout=config.close_timeout,
    )
