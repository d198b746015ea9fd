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


def _jwt(
    signer: Any, subject: str, kind: str, more: dict[str, Any], expires: float | None = None, audience: str = ""
) -> str:
    claims: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": _public(signer),
        "name": kind,
        "sub": subject,
        "nats": {"type": kind, "version": 2, **more},
    }
    if audience:
        claims["aud"] = audience
    if expires is not None:
        claims["exp"] = int(expires)
    claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
    head = _base64(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    signed = f"{head}.{_base64(json.dumps(claims).encode())}"
    return f"{signed}.{_base64(signer.sign(signed.encode()))}"


_UNBOUNDED = {"subs": -1, "data": -1, "payload": -1}


class Issuer:
    """Signs what an auth callout answers, for users of one account."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._key = _pair(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def public(self) -> str:
        """What a server trusts it by."""
        return _public(self._key)

    def admit(self, request: bytes, expires: float | None = None) -> bytes:
        """Answer a server that the user may come in, until *expires* in Unix time."""
        asked = read_claims(request)["nats"]
        user = _jwt(self._key, asked["user_nkey"], "user", _UNBOUNDED, expires, self._account)
        return self._answer(asked, {"jwt": user})

    def deny(self, request: bytes) -> bytes:
        """Answer a server that the user may not."""
        return self._answer(read_claims(request)["nats"], {"error": "not you"})

    def _answer(self, asked: dict[str, Any], what: dict[str, str]) -> bytes:
        return _jwt(
            self._key, asked["user_nkey"], "authorization_response", what, audience=asked["server_id"]["id"]
        ).encode()


def read_claims(jwt: bytes) -> dict[str, Any]:
    """Read what a JWT says, and believe it."""
    body = jwt.split(b".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
    return claims


class Operator:
    """Signs one account and any number of users of it."""

    def __init__(self) -> None:
        self._operator = _pair(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = _pair(nkeys.PREFIX_BYTE_ACCOUNT)

    def settings(self) -> dict[str, str]:
        """What a server needs in its configuration."""
        limits = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1}
        account = _jwt(self._operator, _public(self._account), "account", {"limits": limits})
        return {
            "operator": f'"{_jwt(self._operator, _public(self._operator), "operator", {})}"',
            "resolver": "MEMORY",
            "resolver_preload": f'{{ {_public(self._account)}: "{account}" }}',
        }

    def credentials(self, expires: float) -> str:
        """Return a credentials file of a new user, good until *expires*, in Unix time."""
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        user = nkeys.from_seed(bytearray(seed))
        jwt = _jwt(self._account, _public(user), "user", _UNBOUNDED, expires)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{bytes(seed).decode()}\n------END USER NKEY SEED------\n"
        )
