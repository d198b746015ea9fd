"""What the settings are checked by: fields with their bounds, and the validators of single values."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import attrs
from attrs import validators

from agentrt.config.problems import Invalid, did_you_mean, shown

_MAX_PORT = 65535
# The name of a header or of a subprotocol.
_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"


def positive(default: Any) -> Any:
    """Declare a number above 0."""
    return attrs.field(default=default, validator=validators.gt(0))


def not_negative(default: Any) -> Any:
    """Declare a number from 0 on."""
    return attrs.field(default=default, validator=validators.ge(0))


def positive_or_none() -> Any:
    """Declare a number above 0 that may be left out."""
    return attrs.field(default=None, validator=validators.optional(validators.gt(0)))


def share(default: float) -> Any:
    """Declare a share, 0 to 1."""
    return attrs.field(default=default, validator=[validators.ge(0), validators.le(1)])


def count(default: int, least: int = 1) -> Any:
    """Declare a whole number of at least *least*."""
    return attrs.field(default=default, validator=validators.ge(least))


def required(example: Any, *, key: str | None = None, validator: Any = None) -> Any:
    """Declare a key without a default; *example*, as in TOML, is what the error about its absence shows."""
    metadata = {"example": example} if key is None else {"example": example, "key": key}
    return attrs.field(metadata=metadata, validator=validator)


def not_empty(_instance: object, _attribute: object, value: Any) -> None:
    """Check that something stands there."""
    if not value:
        raise Invalid("must not be empty")


def program(_instance: object, _attribute: object, value: tuple[str, ...] | None) -> None:
    """Check that a command names a program."""
    if value is not None and (not value or not value[0]):
        raise Invalid("must name a program", 'write it as a list, like ["python", "-m", "archive_server"]')


def endpoint(_instance: object, _attribute: object, value: str | None) -> None:
    """Check that it is the URL of a tool server, without a secret in it."""
    _http_url(value, "not the URL of a tool server", 'write "http://host:8000/mcp" or "https://host/mcp"')


def issuer(_instance: object, _attribute: object, value: str | None) -> None:
    """Check that it is the URL of an authorization server, without a secret in it."""
    _http_url(value, "not the URL of an authorization server", 'write "https://auth.example.org"')


def registry_url(_instance: object, _attribute: object, value: str | None) -> None:
    """Check that it is the URL of a registry, without a secret in it, and without anything behind its path."""
    _http_url(value, "not the URL of a registry", 'write "http://host:8500/agents"')
    if value is not None and ("?" in value or "#" in value):
        raise Invalid("the key of an entry is put behind the URL of a registry", "leave out what begins with ? or #")


def _http_url(value: str | None, message: str, hint: str) -> None:
    if value is None:
        return
    try:
        parts = urlsplit(value)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        # The value is not repeated: it may hold a password.
        raise Invalid(message, hint)
    if parts.username is not None or parts.password is not None:
        raise Invalid("a secret is given by reference only", 'take it out of the URL, and write token = "env:NAME"')


#: Headers that are there to hold a secret.
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})


def headers(_instance: object, _attribute: object, value: dict[str, str]) -> None:
    """Check headers: names that are valid, and secrets by reference only."""
    for name, text in value.items():
        if not re.fullmatch(_WORD, name):
            raise Invalid(f"not the name of a header: {shown(name)}")
        if "\n" in text or "\r" in text:
            raise Invalid(f"the header {shown(name)} must be one line")
        if name.lower() in _SECRET_HEADERS and not text.startswith(("env:", "file:")):
            raise Invalid(
                f"the header {shown(name)} holds a secret, which is given by reference only",
                'write "env:NAME" or "file:PATH"; for a bearer token, token = "env:NAME"',
            )


_IN_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def class_path(_instance: object, _attribute: object, value: str) -> None:
    """Check that it looks like ``module:Class``."""
    if not _IN_MODULE.fullmatch(value):
        raise Invalid(f'must look like "module:Class", got {shown(value)}', 'for example "newsroom:Editor"')


def function_path(_instance: object, _attribute: object, value: str | None) -> None:
    """Check that it looks like ``module:function``."""
    if value is not None and not _IN_MODULE.fullmatch(value):
        raise Invalid(f'must look like "module:function", got {shown(value)}', 'for example "trading:subscribe"')


#: The kind of connection that needs no code.
WEBSOCKET = "websocket"


def connection_kind(_instance: object, _attribute: object, value: str) -> None:
    """Check that it is a kind of connection: a known one, or a class."""
    if value == WEBSOCKET:
        return
    if ":" not in value:
        hint = did_you_mean(value, [WEBSOCKET]) or f'write "{WEBSOCKET}", or "module:Class" for a client of your own'
        raise Invalid(f"there is no kind of connection {shown(value)}", hint)
    class_path(_instance, _attribute, value)


def websocket_url(_instance: object, _attribute: object, value: str | None) -> None:
    """Check that it is the URL of a WebSocket, without a password in it."""
    if value is None:
        return
    try:
        parts = urlsplit(value)
        good = parts.scheme in {"ws", "wss"} and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:
        good = False
    if not good or not value.isascii() or not value.isprintable() or " " in value:
        # The value is not repeated: it may hold a secret.
        raise Invalid("not the URL of a WebSocket", 'write "wss://host/path" or "ws://host:8000/path"')
    if parts.username is not None or parts.password is not None:
        raise Invalid("a secret is given by reference only", 'take it out of the URL, and write token = "env:NAME"')


def subprotocols(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    """Check the names of subprotocols."""
    for name in value:
        if not re.fullmatch(_WORD, name):
            raise Invalid(f"not the name of a subprotocol: {shown(name)}")


def address(_instance: object, _attribute: object, value: str) -> None:
    """Check that it is ``host:port``."""
    match = re.fullmatch(r"(?:[^\s:\[\]]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", value)
    if match is None or int(match[1]) > _MAX_PORT:
        raise Invalid(
            f"must be host:port with a port up to {_MAX_PORT}, got {shown(value)}",
            'write "127.0.0.1:8080" for this machine only, "0.0.0.0:8080" for all addresses',
        )


def bus_url(_instance: object, _attribute: object, value: str | None) -> None:
    """Check that it is one URL of a NATS server, or several."""
    if value is None:
        return
    for server in value.split(","):
        if not _is_server(server.strip()):
            # The value is not repeated: it may hold a password.
            raise Invalid(
                "not the URL of a NATS server",
                'write "nats://host:4222" or "tls://host:4222", several of them with commas between',
            )


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"nats", "tls"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
