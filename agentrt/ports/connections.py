"""Connections of an agent to other services: what adapts a client library, what holds it, and the errors of both."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import attrs
import trio

from agentrt.policy import Setback

C = TypeVar("C")


class ConnectionUnavailable(Exception):
    """There is no client that works now, or the buffer for what is sent is full; says why and for how long."""


class MessageRefused(Exception):
    """A message cannot be sent on this connection, now or later: it is too large, or not text or bytes."""


class ConnectionEnded(Exception):
    """Raised by an adapter: this client has come to its end, and that means so much for the next one.

    Args:
        reason: For people; without secrets.
        setback: What it means for the next attempt.
    """

    def __init__(self, reason: str, setback: Setback | None = None) -> None:
        super().__init__(reason)
        self.setback = setback or Setback()


@attrs.frozen(kw_only=True)
class AdapterSetup:
    """What an adapter that a configuration names is made from.

    Args:
        name: The connection's name.
        options: ``[connections.NAME.options]``, as it stands there.
        folder: The folder of the configuration, where relative paths begin.
    """

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    folder: Path = Path()


class ClientAdapter(Generic[C]):
    """Says how one client library is connected, probed, seen to be closed, restored and thrown away.

    Subclass it and override :meth:`connect` and :meth:`probe`, and the others where the library has them. Whoever
    drives it owns the recovery: while the library reconnects by itself nothing interferes, until the client is closed
    or its probes have failed for too long. Then it is thrown away and a new one is made, for ever. An exception of any
    method is a reason and never a crash; one that ends the client for good is :class:`ConnectionEnded`.

    Args:
        setup: From the configuration; what is made in Python may ignore it.
    """

    #: Seconds between two looks at :meth:`is_closed`.
    poll_interval = 0.25

    def __init__(self, setup: AdapterSetup | None = None) -> None:
        self.setup = setup or AdapterSetup(name="client")

    @abstractmethod
    async def connect(self, nursery: trio.Nursery) -> C:
        """Make a new client and connect it; read secrets here, so that rotated ones are picked up.

        It is cancelled at its deadline and has to leave nothing behind then.

        Args:
            nursery: For the client's own tasks. They are cancelled when it is thrown away; one that fails ends it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no connect()")

    @abstractmethod
    async def probe(self, client: C) -> None:
        """Prove that *client* works, by a round trip; an exception says that it does not. It has a deadline."""
        raise NotImplementedError(f"{type(self).__name__} has no probe()")

    def is_closed(self, client: C) -> str | None:  # noqa: ARG002 - for subclasses.
        """Say why *client* is closed for good; None where it is not. One that reconnects by itself is not."""
        return None

    async def closed(self, client: C) -> str:
        """Wait until *client* is closed for good and say why; by default :meth:`is_closed` is asked now and then."""
        # A library that has no event to wait for can only be asked.
        while (reason := self.is_closed(client)) is None:  # noqa: ASYNC110
            await trio.sleep(self.poll_interval)
        return reason

    async def restore(self, client: C) -> None:
        """Subscribe again, and whatever else a new client needs before it can be used; part of the attempt."""

    async def close(self, client: C) -> None:
        """Throw *client* away, whatever its state; has a deadline, after which its tasks are cancelled."""


class Connection(Protocol):
    """A connection as an agent holds it: it stays the same however often the client behind it is made anew."""

    @property
    def is_ready(self) -> bool:
        """Whether there is a client, restored, that answered its last probe."""
        ...

    @property
    def reason(self) -> str:
        """Why it is ready or not, for people."""
        ...

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""
