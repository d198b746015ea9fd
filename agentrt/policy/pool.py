"""A pool of servers: in which order to try them, after what they did before."""

from __future__ import annotations

import math
from ipaddress import ip_address

import attrs
from attrs import validators


@attrs.frozen
class PoolServer:
    """One server of a cluster.

    Args:
        url: Where it is, with user and password where the configuration has them there; never printed.
        tls_name: The name on its certificate, where that is not the one in *url*.
    """

    url: str = attrs.field(repr=False)
    tls_name: str | None = None

    def __str__(self) -> str:
        return self.url.rpartition("://")[2].rpartition("@")[2]

    def neighbour(self, address: str) -> PoolServer:
        """Return a server of the same cluster that this one told of: reached in the same way, with the same login.

        Args:
            address: Its host and port.
        """
        scheme, _, rest = self.url.partition("://")
        login, at, own = rest.rpartition("@")
        name = self.tls_name or _host(own)
        # Where the cluster is configured by name, its certificates hardly have the addresses that it tells.
        needed = is_address(_host(address)) and not is_address(name)
        return PoolServer(f"{scheme}://{login}{at}{address}", name if needed else None)


def _host(address: str) -> str:
    host, colon, port = address.rpartition(":")
    return (host if colon and port.isdigit() else address).strip("[]")


def is_address(host: str) -> bool:
    """Whether it is a number, of IPv4 or IPv6, and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@attrs.define
class ServerPool:
    """Keep what is configured and what the servers told of each other, and say whom to try first.

    First come servers without trouble, from a place that chance decides, so that a fleet spreads over a cluster; then
    the others, the one whose trouble is longest ago first. Trouble is a failed attempt, a lost connection, or a
    server that announced its end. None is ever left out: what failed may be all that comes back.

    Pure: it never reads a clock. *now* is monotonic seconds.

    Args:
        configured: The servers of the configuration; at least one.
        max_told: Servers beyond those that are remembered.
    """

    configured: tuple[PoolServer, ...] = attrs.field(validator=validators.min_len(1))
    max_told: int = attrs.field(default=64, validator=validators.ge(0))
    _told: tuple[PoolServer, ...] = attrs.field(init=False, default=())
    _troubled_at: dict[str, float] = attrs.field(init=False, factory=dict)

    @property
    def servers(self) -> tuple[PoolServer, ...]:
        """All that are known, the configured ones first."""
        return (*self.configured, *self._told)

    def told(self, servers: tuple[PoolServer, ...]) -> None:
        """Take what the newest connection says about the cluster; what was told before is forgotten."""
        known = {str(server) for server in self.configured}
        fresh = {str(server): server for server in servers if str(server) not in known}
        self._told = tuple(fresh.values())[: self.max_told]
        keep = {str(server) for server in self.servers}
        self._troubled_at = {name: at for name, at in self._troubled_at.items() if name in keep}

    def troubled(self, server: PoolServer, now: float) -> None:
        """Record that it failed, was lost, or said that it ends."""
        if str(server) in {str(known) for known in self.servers}:
            self._troubled_at[str(server)] = now

    def served(self, server: PoolServer) -> None:
        """Record that it works; its trouble is forgotten."""
        self._troubled_at.pop(str(server), None)

    def order(self, jitter: float, *, without: PoolServer | None = None) -> tuple[PoolServer, ...]:
        """Return the servers in the order to try them.

        Args:
            jitter: A number from 0 to 1: where among the servers without trouble to begin.
            without: A server that is not wanted.

        Raises:
            ValueError: *jitter* is not between 0 and 1.
        """
        if not 0 <= jitter <= 1:
            msg = f"jitter must lie between 0 and 1, not {jitter}"
            raise ValueError(msg)
        wanted = [server for server in self.servers if without is None or str(server) != str(without)]
        good = [server for server in wanted if str(server) not in self._troubled_at]
        bad = [server for server in wanted if str(server) in self._troubled_at]
        start = min(math.floor(jitter * len(good)), max(0, len(good) - 1))
        return (*good[start:], *good[:start], *sorted(bad, key=lambda server: self._troubled_at[str(server)]))
