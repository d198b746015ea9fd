"""What a connection to the bus logs in with: read anew for each attempt, so that a rotated secret is picked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from agentrt.config.connection import ConnectionConfig
from agentrt.config.model import AgentBusConfig, BusConfig, Config
from agentrt.config.problems import Fault, KeyPath
from agentrt.config.scalars import Name
from agentrt.config.secret import resolve_secret
from agentrt.config.structure import Draft

#: Ways to log in, each by the key that says which it is.
_WAYS = ("user", "token", "nkey", "creds")
_SECRETS = ("password", "token", "nkey", "creds")
_IDENTITY = ("user", *_SECRETS)
_CERTIFICATE = ("tls_cert", "tls_key")
_FILES = ("tls_ca", "tls_cert", "tls_key")


def bus_login(bus: BusConfig, environ: Mapping[str, str], folder: Path) -> dict[str, str | None]:
    """Read the secrets of ``[bus]``, and say where its certificates are.

    Args:
        bus: The table.
        environ: The environment for ``env:NAME``.
        folder: Where relative paths begin: the configuration's folder.

    Returns:
        ``user``, ``password``, ``token``, ``nkey`` (a seed), ``creds`` (the text of a credentials file), the paths
        ``tls_ca``, ``tls_cert`` and ``tls_key``, and ``tls_name``; each may be None.

    Raises:
        SecretError: A secret cannot be read.
    """
    found: dict[str, str | None] = {"user": bus.user, "tls_name": bus.tls_name}
    for key in _SECRETS:
        secret = getattr(bus, key)
        found[key] = None if secret is None else resolve_secret(secret, environ, folder)
    for key in _FILES:
        path = getattr(bus, key)
        found[key] = None if path is None else str(folder / path)
    return found


def login_of(config: Config, agent: Name) -> BusConfig:
    """Return ``[bus]`` as it counts for one agent.

    A login of the agent's own counts whole: it does not log in as the fleet as well. Only a certificate that it has
    not is the fleet's, for a server that asks everybody for one.
    """
    own = config.agents[agent].bus
    if not own.is_given:
        return config.bus
    keys = (*_IDENTITY, *(_CERTIFICATE if own.tls_cert is not None else ()))
    given: dict[str, Any] = {key: getattr(own, key) for key in keys}
    return attrs.evolve(config.bus, **given)


def login_faults(draft: Draft) -> Iterator[Fault]:
    """Find two ways to log in at once, halves of what only works whole, and logins that nobody asks for."""
    yield from _faults_of(draft, ("bus",), draft.config.bus)
    for name, agent in draft.config.agents.items():
        path = ("agents", name, "bus")
        yield from _faults_of(draft, path, agent.bus)
        if agent.bus.is_given and draft.config.bus.url is None and not draft.is_damaged(("bus", "url")):
            message = "a login of its own is of no use on the server that the fleet brings along, which knows but one"
            yield Fault(path, message, "give [bus] url, or leave this out")


def _faults_of(draft: Draft, path: KeyPath, login: BusConfig | AgentBusConfig) -> Iterator[Fault]:
    if any(draft.is_damaged((*path, key)) for key in (*_IDENTITY, *_FILES)):
        return
    ways = [key for key in _WAYS if getattr(login, key) is not None]
    for way in ways[1:]:
        yield Fault((*path, way), f"there are two ways to log in: {ways[0]!r} and {way!r}", "leave one of them out")
    for pair in (("user", "password"), _CERTIFICATE):
        yield from half_of(path, login, *pair)


def half_of(
    path: KeyPath, table: BusConfig | AgentBusConfig | ConnectionConfig, one: str, other: str
) -> Iterator[Fault]:
    """Find one key without another that it means nothing without."""
    if (getattr(table, one) is None) != (getattr(table, other) is None):
        given, missing = (one, other) if getattr(table, other) is None else (other, one)
        message = f"{given!r} stands without {missing!r}"
        yield Fault((*path, given), message, f"add {missing}, or leave {given} out")
