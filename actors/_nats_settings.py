"""Settings of a NATS bus, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import attrs


def _split(url: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in url.split(",") if part.strip())


Login: TypeAlias = Mapping[str, str | None]
Credentials: TypeAlias = Callable[[], Login]


def _no_credentials() -> Login:
    return {}


def no_trouble() -> str:
    """Say nothing: what is wrong with somebody else's server is not known."""
    return ""


def ignore(_why: str) -> None:
    """Do nothing: somebody else's server is started anew by somebody else."""


def _hide_logins(url: str) -> str:
    """Write URLs without the users and passwords that may stand in them."""
    schemes = ((server.partition("://")[0], server.rpartition("@")[2].rpartition("://")[2]) for server in _split(url))
    return repr(",".join(f"{scheme}://{place}" for scheme, place in schemes))


@attrs.frozen(kw_only=True)
class NatsSettings:
    """Where to connect and how patient to be; seconds and bytes.

    Args:
        url: ``nats://`` or ``tls://``; several are separated by commas.
        credentials: Returns what to log in with, as :func:`agentrt.config.bus_login` does; called at each attempt.
        name: What the server calls this connection.
        inbox: What the subjects begin with on which it is answered.
        store_trouble: Says why the server stores nothing, where whoever runs it knows; else nothing.
        on_broken: Told, over and over while it is so, why the server stores nothing until it is started anew.
        connect_timeout: For one attempt.
        probe_interval: Between two probes.
        probe_limit: Without an answered probe for so long, the connection is thrown away.
        publish_buffer: Bytes published that may wait for a connection.
        publish_age: Seconds that they may.
        is_public: Use nats-py's public methods only, as with a release whose private parts are not known.
    """

    url: str = attrs.field(repr=_hide_logins)
    credentials: Credentials = _no_credentials
    name: str = "agentrt"
    inbox: str = "_INBOX"
    store_trouble: Callable[[], str] = no_trouble
    on_broken: Callable[[str], None] = ignore
    connect_timeout: float = 15.0
    probe_interval: float = 2.0
    probe_limit: float = 5.0
    publish_buffer: int = 64 * 1024 * 1024
    publish_age: float = 600.0
    is_public: bool = False

    @url.validator
    def _check_url(self, _attribute: object, url: str) -> None:
        for server in _split(url) or ("",):
            if not server.startswith(("nats://", "tls://")):
                # Never the whole URL: it may hold a password.
                scheme = server.partition("://")[0] if "://" in server else "nothing"
                msg = f"a bus URL must begin with nats:// or tls://, not with {scheme!r}; correct [bus] url"
                raise ValueError(msg)

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs, one each."""
        return _split(self.url)


@attrs.frozen(kw_only=True)
class NatsStatistics:
    """How a bus is, and what happened so far.

    Args:
        server: Whom it is connected to; None while it is not.
        round_trip: Seconds that the last probe took.
        disconnections: Connections that were lost.
        reconnections: Connections that were made again.
        attempts_failed: Attempts to connect that did not work.
        waiting_messages: Published messages that are not known to have reached the server.
        waiting_bytes: Their bytes.
        subscriptions: Open subscriptions, those of watches included.
        consumers: Open pulls.
        problems: How often what went wrong, by the error's class.
        dropped: Messages given up, by the error's class.
    """

    server: str | None
    round_trip: float | None
    disconnections: int
    reconnections: int
    attempts_failed: int
    waiting_messages: int
    waiting_bytes: int
    subscriptions: int
    consumers: int
    problems: Mapping[str, int]
    dropped: Mapping[str, int]
