"""Precedence: which of several scopes configures a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

import attrs

K = TypeVar("K", bound=str)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class NotConfigured(LookupError):
    """No scope configures the server.

    Attributes:
        server: The server's name.
        searched: The scopes that were searched, the most specific first.
    """

    def __init__(self, server: str, searched: tuple[str, ...]) -> None:
        super().__init__(f"no configuration of {server!r} in any of {', '.join(searched)}: add it to one of them")
        self.server = server
        self.searched = searched


class Scopes(Protocol[K, T_co]):
    """Configurations by scope; each scope maps a server's name to its configuration."""

    @property
    def agents(self) -> Mapping[K, Mapping[K, T_co]]:
        """By agent: the most specific."""
        ...

    @property
    def roles(self) -> Mapping[K, Mapping[K, T_co]]:
        """By role."""
        ...

    @property
    def global_(self) -> Mapping[K, T_co]:
        """For every agent: the least specific."""
        ...


@attrs.frozen
class Resolved(Generic[T]):
    """The configuration that counts.

    Args:
        scope: Where it stands: ``agents.NAME``, ``roles.NAME`` or ``global``.
        value: The configuration, whole.
        hidden: Less specific scopes that configure the same server and do not count, the most specific first.
    """

    scope: str
    value: T
    hidden: tuple[str, ...]


def resolve(server: K, agent: K, role: K | None, scopes: Scopes[K, T]) -> Resolved[T]:
    """Return the configuration of *server* for *agent*: its own, else its role's, else the global one.

    The most specific wins whole: nothing is merged, and what it leaves out is not taken from another scope.

    Args:
        server: The server's name.
        agent: The agent's name.
        role: The agent's role; None where it has none.
        scopes: The configurations.

    Raises:
        NotConfigured: No scope has it.
    """
    nothing: Mapping[K, T] = {}
    candidates = [(f"agents.{agent}", scopes.agents.get(agent, nothing))]
    if role is not None:
        candidates.append((f"roles.{role}", scopes.roles.get(role, nothing)))
    candidates.append(("global", scopes.global_))
    found = [(scope, servers[server]) for scope, servers in candidates if server in servers]
    if not found:
        raise NotConfigured(server, tuple(scope for scope, _ in candidates))
    (scope, value), *hidden = found
    return Resolved(scope, value, tuple(scope for scope, _ in hidden))
