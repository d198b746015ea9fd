"""What a connection to the bus logs in with: read anew for each attempt, so that a rotated secret is picked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from agentrt.config.model import BusConfig
from agentrt.config.problems import Fault
from agentrt.config.secret import resolve_secret
from agentrt.config.structure import Draft

#: Ways to log in, each by the key that says which it is.
_WAYS = ("user", "token", "nkey", "creds")
_SECRETS = ("password", "token", "nkey", "creds")
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


def login_faults(draft: Draft) -> Iterator[Fault]:
    """Find two ways to log in at once, and halves of what only works whole."""
    bus = draft.config.bus
    if any(draft.is_damaged(("bus", key)) for key in (*_WAYS, *_SECRETS, *_FILES)):
        return
    ways = [key for key in _WAYS if getattr(bus, key) is not None]
    for way in ways[1:]:
        yield Fault(("bus", way), f"there are two ways to log in: {ways[0]!r} and {way!r}", "leave one of them out")
    if (bus.user is None) != (bus.password is None):
        given, missing = ("user", "password") if bus.password is None else ("password", "user")
        yield Fault(("bus", given), f"{given!r} stands without {missing!r}", f"add {missing}, or leave {given} out")
    if (bus.tls_cert is None) != (bus.tls_key is None):
        given, missing = ("tls_cert", "tls_key") if bus.tls_key is None else ("tls_key", "tls_cert")
        yield Fault(("bus", given), f"{given!r} stands without {missing!r}", f"add {missing}, or leave {given} out")
