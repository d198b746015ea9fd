"""An operator, an account and users of a decentralised NATS login, made on the spot."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from typing import Any

import nkeys


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _pair(prefix: int) -> Any:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefix)))


def _public(pair: Any) -> str:
    return bytes(pair.public_key).decode()


def _jwt(signer: Any, subject: Any, kind: str, more: dict[str, Any], expires: float | None = None) -> str:
    claims: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": _public(signer),
        "name": kind,
        "sub": _public(subject),
        "nats": {"type": kind, "version": 2, **more},
    }
    if expires is not None:
        claims["exp"] = int(expires)
    claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
    head = _base64(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    signed = f"{head}.{_base64(json.dumps(claims).encode())}"
    return f"{signed}.{_base64(signer.sign(signed.encode()))}"


class Operator:
    """Signs one account and any number of users of it."""

    def __init__(self) -> None:
        self._operator = _pair(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = _pair(nkeys.PREFIX_BYTE_ACCOUNT)

    def settings(self) -> dict[str, str]:
        """What a server needs in its configuration."""
        limits = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1}
        account = _jwt(self._operator, self._account, "account", {"limits": limits})
        return {
            "operator": f'"{_jwt(self._operator, self._operator, "operator", {})}"',
            "resolver": "MEMORY",
            "resolver_preload": f'{{ {_public(self._account)}: "{account}" }}',
        }

    def credentials(self, expires: float) -> str:
        """Return a credentials file of a new user, good until *expires*, in Unix time."""
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        user = nkeys.from_seed(bytearray(seed))
        more = {"subs": -1, "data": -1, "payload": -1}
        jwt = _jwt(self._account, user, "user", more, expires)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{bytes(seed).decode()}\n------END USER NKEY SEED------\n"
        )
