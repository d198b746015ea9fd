"""The pool of servers: whom to try first."""

from __future__ import annotations

import pytest

from agentrt.policy import PoolServer, ServerPool

A, B, C = (PoolServer(f"nats://{name}:4222") for name in "abc")


def names(servers: tuple[PoolServer, ...]) -> list[str]:
    return [str(server) for server in servers]


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, "abc"), (0.5, "bca"), (0.99, "cab"), (1.0, "cab")])
def test_chance_decides_where_to_begin(jitter: float, expected: str) -> None:
    """All of them in turn, from another place for each member of a fleet."""
    pool = ServerPool((A, B, C))
    assert [f"{name}:4222" for name in expected] == names(pool.order(jitter))


def test_whoever_was_in_trouble_comes_last_and_the_longest_ago_of_those_first() -> None:
    """A server that works is tried before one that failed, and none is ever left out."""
    pool = ServerPool((A, B, C))
    pool.troubled(A, 1.0)
    pool.troubled(B, 2.0)
    assert ["c:4222", "a:4222", "b:4222"] == names(pool.order(0.0))
    pool.troubled(C, 3.0)
    assert ["a:4222", "b:4222", "c:4222"] == names(pool.order(0.9))
    pool.served(B)
    assert ["b:4222", "a:4222", "c:4222"] == names(pool.order(0.0))


def test_what_the_newest_connection_tells_replaces_what_was_told_before() -> None:
    """The configured servers stay; a node that left the cluster does not."""
    pool = ServerPool((A,))
    pool.told((A, B))
    assert ["a:4222", "b:4222"] == names(pool.servers)
    pool.troubled(B, 1.0)
    pool.told((C,))
    assert ["a:4222", "c:4222"] == names(pool.servers)
    pool.told((B,))
    assert ["b:4222", "a:4222"] == names(pool.order(1.0))


def test_what_is_told_is_bounded() -> None:
    """A server cannot fill the memory with names."""
    pool = ServerPool((A,), max_told=3)
    pool.told(tuple(PoolServer(f"nats://10.0.0.{number}:4222") for number in range(100)))
    assert 4 == len(pool.servers)


def test_a_server_can_be_left_out() -> None:
    """One that shuts down is not where to move to; nowhere is an answer too."""
    assert ["b:4222"] == names(ServerPool((A, B)).order(0.0, without=A))
    assert () == ServerPool((A,)).order(0.0, without=A)


def test_jitter_out_of_bounds_is_an_error() -> None:
    """It says what it must be."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        ServerPool((A,)).order(1.5)


@pytest.mark.parametrize(
    ("own", "told", "url", "tls_name"),
    [
        ("nats://bus:4222", "10.0.0.2:4222", "nats://10.0.0.2:4222", "bus"),
        ("tls://u:p@bus:4222", "10.0.0.2:4222", "tls://u:p@10.0.0.2:4222", "bus"),
        ("tls://bus", "other:4222", "tls://other:4222", None),
        ("tls://10.0.0.1:4222", "10.0.0.2:4222", "tls://10.0.0.2:4222", None),
        ("tls://bus:4222", "[::1]:4222", "tls://[::1]:4222", "bus"),
    ],
)
def test_a_neighbour_is_reached_in_the_same_way(own: str, told: str, url: str, tls_name: str | None) -> None:
    """The same scheme and login; where an address is told, its certificate is held to the configured name."""
    neighbour = PoolServer(own).neighbour(told)
    assert (url, tls_name) == (neighbour.url, neighbour.tls_name)


def test_a_server_s_login_is_never_shown() -> None:
    """Neither by str nor by repr."""
    server = PoolServer("nats://user:secret@bus:4222")
    assert "bus:4222" == str(server)
    assert "secret" not in repr(server)
