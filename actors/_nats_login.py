"""How a login is said to nats-py: its names, and a TLS context from the files as they are now."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

import nkeys

from actors._tls import BadTls, client_context

#: What nats-py calls each kind of login.
_NAMES = {"user": "user", "password": "password", "token": "token", "nkey": "nkeys_seed_str"}


class BadLogin(ValueError):
    """What is to be logged in with cannot be used; says which part, and never its value."""


def options(login: Mapping[str, str | None], raw_credentials: Callable[[str], Any]) -> dict[str, Any]:
    """Return the options of nats-py's connect.

    Args:
        login: As :func:`agentrt.config.login.bus_login` returns it.
        raw_credentials: Makes of a credentials file's text what nats-py takes.

    Raises:
        BadLogin: A key or a certificate is none, or cannot be read.
    """
    found: dict[str, Any] = {name: login[key] for key, name in _NAMES.items() if login.get(key)}
    if seed := login.get("nkey"):
        _check_seed(seed)
    if creds := login.get("creds"):
        if "BEGIN NATS USER JWT" not in creds or "NKEY SEED" not in creds:
            raise BadLogin("creds is not a credentials file: it has to hold a user JWT and its seed")
        found["user_credentials"] = raw_credentials(creds)
    if any(login.get(key) for key in ("tls_ca", "tls_cert", "tls_key")):
        found["tls"] = _context(login)
    if name := login.get("tls_name"):
        found["tls_hostname"] = name
    return found


def public_nkey(seed: str) -> str:
    """Return what a server's configuration names the user of an nkey by.

    Raises:
        BadLogin: It is not the seed of a user.
    """
    _check_seed(seed)
    try:
        return bytes(nkeys.from_seed(bytearray(seed.strip().encode())).public_key).decode()
    except nkeys.NkeysError as error:
        raise BadLogin(f"nkey is not the seed of a user: {error}") from None


def _check_seed(seed: str) -> None:
    if not seed.strip().startswith("SU"):
        raise BadLogin("nkey is not the seed of a user: such a seed begins with SU")


def _context(login: Mapping[str, str | None]) -> ssl.SSLContext:
    try:
        return client_context(login.get("tls_ca"), login.get("tls_cert"), login.get("tls_key"))
    except BadTls as error:
        raise BadLogin(str(error)) from error
