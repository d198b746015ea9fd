"""The HTTP server of the proxy: hypercorn's Trio worker on a socket of ours."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from hypercorn.config import Config, Sockets
from hypercorn.trio import serve

from actors._tls import why_unusable

_BACKLOG = 1024
#: Seconds that an idle connection is kept: longer than clients keep theirs, so that it is they who close.
_KEEP_ALIVE = 75.0
#: Milliseconds that a client may take nothing of what was sent to it.
_USER_TIMEOUT = 30_000


class CannotListen(OSError):
    """The address cannot be used."""


def bind(listen: str) -> socket.socket:
    """Take an address, ``host:port``.

    Raises:
        CannotListen: It is taken, or not of this machine.
    """
    host, _, port = listen.rpartition(":")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                # Connections inherit it; the worker waits for a client to take what it sends, also when it ends.
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT)
            made.bind(address)
            # Nobody is turned away while the server starts, or starts again.
            made.listen(_BACKLOG)
        except BaseException:
            made.close()
            raise
    except OSError as error:
        said = error.strerror or str(error)
        raise CannotListen(f"cannot listen on {listen}: {said}; choose another address with --listen") from error
    return made


def address_of(made: socket.socket) -> str:
    """The address that a socket listens on, as ``host:port``."""
    host, port = made.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@attrs.frozen
class Certificate:
    """What the server shows for itself, where it speaks TLS.

    Args:
        chain: A PEM file: its certificate, and those up to its authority.
        key: The key of the first.

    Raises:
        CannotListen: They cannot be used.
    """

    chain: str
    key: str

    def __attrs_post_init__(self) -> None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.chain, self.key)
        except OSError as error:
            raise CannotListen(f"tls_cert {self.chain} with tls_key {self.key}: {why_unusable(error)}") from error


async def serve_app(
    app: Callable[..., Any],
    listening: socket.socket,
    until: Callable[[], Awaitable[None]],
    grace: float,
    certificate: Certificate | None = None,
) -> None:
    """Serve *app* until *until* returns; then requests in hand may finish within *grace* seconds."""
    config = _Config(listening)
    if certificate is not None:
        config.certfile, config.keyfile = certificate.chain, certificate.key
        # As without TLS.
        config.alpn_protocols = ["http/1.1"]
    config.graceful_timeout = grace
    config.keep_alive_timeout = _KEEP_ALIVE
    config.include_server_header = config.include_date_header = False
    # Through the log of the process; what it says at its start says somebody else.
    config.errorlog = logging.getLogger("hypercorn.error")
    config.loglevel = "WARNING"
    await serve(app, config, shutdown_trigger=until, mode="asgi")


class _Config(Config):
    """Listens on a socket that was made before; a copy, so that the next server finds it open."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__()
        self._listening = listening

    def create_sockets(self) -> Sockets:
        made = [self._listening.dup()]
        return Sockets(made, [], []) if self.ssl_enabled else Sockets([], made, [])
