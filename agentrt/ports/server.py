"""What a fleet uses of the bus servers that it brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs


@attrs.frozen
class ServerStatus:
    """How one server is.

    Args:
        name: What it is called in the tree of actors.
        url: Where it listens, without a secret.
        pid: Its process, while there is one.
        is_running: Whether it runs and can store.
        reason: Why it does not; else how full it is.
    """

    name: str
    url: str
    pid: int | None
    is_running: bool
    reason: str


class ServerNode(Protocol):
    """The handle of one server."""

    @property
    def name(self) -> str:
        """What it is called in the tree of actors."""
        ...


class Servers(Protocol):
    """The handle of all servers that a fleet brings along."""

    @property
    def nodes(self) -> Sequence[ServerNode]:
        """Each of them, driven by an actor of its own."""
        ...

    @property
    def url(self) -> str:
        """Where they listen, with commas between; without the token."""
        ...

    @property
    def token(self) -> str:
        """What clients log in with."""
        ...

    def credentials(self) -> Mapping[str, str]:
        """What a connection logs in with."""
        ...

    def statuses(self) -> Sequence[ServerStatus]:
        """Say of each how it is."""
        ...

    def store_trouble(self) -> str:
        """Say why nothing can be stored, where that is known; else nothing."""
        ...

    def report_broken(self, why: str) -> None:
        """Say why one of them stores nothing until it is started anew, so that it is."""
        ...

    def checks(self) -> Mapping[str, tuple[bool, str]]:
        """Named checks, each with a reason."""
        ...
