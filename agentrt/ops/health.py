"""The HTTP server for health and metrics: threads of its own, which tell the truth also when the event loop stands."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import structlog

from agentrt.ops.metrics import CONTENT_TYPE
from agentrt.ops.snapshot import liveness, progress, readiness

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrt.ops.board import SnapshotBoard
    from agentrt.ops.metrics import Metrics
    from agentrt.ops.snapshot import Report

_log = structlog.get_logger()

#: Requests at once. One more ends the oldest: whoever asks slowly must not keep a probe waiting.
MAX_CONNECTIONS = 16
MAX_PORT = 65_535
_POLL = 0.1


class HealthListenError(Exception):
    """The health server cannot listen where it was told to."""


class HealthServer:
    """Answers ``/health/live``, ``/health/ready`` (also ``/ready``), ``/health/progress`` and ``/metrics``.

    It reads the board and never waits for the event loop. A health answer is 200 or 503, in JSON, with every check by
    name, result and reason. Each request has *request_limit* seconds in all, each on a thread, up to
    :data:`MAX_CONNECTIONS` of them.

    Args:
        listen: ``host:port``; port 0 takes a free one, an empty host is every address, an IPv6 host is in brackets.
        board: Where the event loop publishes.
        metrics: What ``/metrics`` shows.
        stall_limit: Seconds after which a silent event loop or an old snapshot is a 503.
        progress_limit: Seconds after which a task in hand that does not move is a 503.
        request_limit: Seconds that one request may take from its first byte to the last of its answer.
    """

    def __init__(
        self,
        listen: str,
        board: SnapshotBoard,
        metrics: Metrics,
        *,
        stall_limit: float = 30.0,
        progress_limit: float = 600.0,
        request_limit: float = 5.0,
    ) -> None:
        self._listen = listen
        self._request_limit = request_limit
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

        def ready() -> Report:
            return readiness(board.read(), board.now(), stall_limit)

        reports: dict[str, Callable[[], Report]] = {
            "/health/live": lambda: liveness(board.last_beat, board.now(), stall_limit),
            "/health/ready": ready,
            "/ready": ready,
            "/health/progress": lambda: progress(board.read(), board.now(), stall_limit, progress_limit),
        }
        self._answers: dict[str, Callable[[], _Answer]] = {
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE, metrics.exposition()),
            **{path: _answering(report) for path, report in reports.items()},
        }

    def __repr__(self) -> str:
        return f"<HealthServer {self.address if self._server else self._listen + ' (not started)'}>"

    @property
    def address(self) -> str:
        """Where it really listens, as ``host:port``.

        Raises:
            RuntimeError: It is not started.
        """
        if self._server is None:
            message = "the health server is not started"
            raise RuntimeError(message)
        host, port = self._server.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self) -> None:
        """Listen, and serve from a daemon thread.

        Raises:
            HealthListenError: The address is taken, or is none.
        """
        family, address = _resolve(self._listen)
        try:
            server = _Server(family, address, self._answers, self._request_limit)
        except OSError as error:
            raise _cannot_listen(self._listen, error) from error
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(_POLL,), name="agentrt-health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, end open requests and wait for the thread; it takes up to a tenth of a second.

        Nothing happens where it is not started.
        """
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.shutdown()
            server.server_close()
            server.end_requests(older_than=0.0)
            thread.join()


_Answer = tuple[HTTPStatus, str, bytes]


def _answering(report: Callable[[], Report]) -> Callable[[], _Answer]:
    def answer() -> _Answer:
        found = report()
        return _json(HTTPStatus.OK if found.ok else HTTPStatus.SERVICE_UNAVAILABLE, found.as_json())

    return answer


def _json(status: HTTPStatus, value: Any) -> _Answer:
    return status, "application/json", json.dumps(value, indent=1).encode() + b"\n"


def _resolve(listen: str) -> tuple[int, tuple[Any, ...]]:
    host, colon, port = listen.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    # An IPv6 host without brackets leaves open where it ends.
    if not colon or not (port.isascii() and port.isdigit()) or (":" in bare and bare == host):
        raise _cannot_listen(listen, ValueError('that is not "host:port"'))
    # Asked for a greater one, the resolver takes what is left of it in 16 bits.
    if int(port) > MAX_PORT:
        raise _cannot_listen(listen, ValueError(f"{port} is not a port, the greatest is {MAX_PORT}"))
    try:
        found = socket.getaddrinfo(bare or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _cannot_listen(listen, error) from error
    # An empty host means every address: the IPv4 one is what the other side of a probe uses everywhere.
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    return family, address


def _cannot_listen(listen: str, error: Exception) -> HealthListenError:
    reason = getattr(error, "strerror", None) or str(error)
    return HealthListenError(
        f'the health server cannot listen on "{listen}": {reason}. '
        'Set listen in [health] to another address, such as "127.0.0.1:8180", or with port 0 to any free port'
    )


class _Server(ThreadingHTTPServer):
    """Threads for requests, bounded in number and in time."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, family: int, address: tuple[Any, ...], answers: dict[str, Callable[[], _Answer]], request_limit: float
    ) -> None:
        self.address_family = family
        self.answers = answers
        self._request_limit = request_limit
        self._lock = threading.Lock()
        # Oldest first, with the time that each was accepted.
        self._open: dict[socket.socket, float] = {}
        super().__init__(address[:2], _Handler)

    def server_bind(self) -> None:
        """Bind without asking the DNS for our own name, as the base class does: that can take many seconds."""
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept, and breathe where the process has no file descriptor left: the loop would ask again at once."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_POLL)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a new connection to a thread; the oldest has to go where there are too many."""
        with self._lock:
            oldest = next(iter(self._open)) if len(self._open) >= MAX_CONNECTIONS else None
            if oldest is not None:
                del self._open[oldest]
            self._open[request] = time.monotonic()
        if oldest is not None:
            _end(oldest)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that is done."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End what took too long; called several times a second."""
        self.end_requests(self._request_limit)

    def end_requests(self, older_than: float) -> None:
        """End every connection that was accepted so many seconds ago or earlier."""
        with self._lock:
            now = time.monotonic()
            ended = [request for request, since in self._open.items() if now - since >= older_than]
            for request in ended:
                del self._open[request]
        for request in ended:
            _end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log what went wrong with a request, unless the client just went away."""
        error = sys.exception()
        if not isinstance(error, OSError):
            _log.error("health_request_failed", error=repr(error))


def _end(request: socket.socket) -> None:
    # The thread that reads or writes it wakes up at once, and closes it.
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer, and the connection is closed (HTTP/1.0)."""

    server: _Server

    def do_GET(self) -> None:
        """Answer with what the path stands for."""
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            paths = sorted(self.server.answers)
            self._send(_json(HTTPStatus.NOT_FOUND, {"error": f"there is no {self.path}", "paths": paths}))
            return
        try:
            found = answer()
        except Exception as error:  # noqa: BLE001 - whoever asks has to hear that it is not well.
            _log.error("health_request_failed", path=self.path, error=repr(error))
            found = _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "the answer could not be made, see the log"})
        self._send(found)

    do_HEAD = do_GET  # noqa: N815 - the base class's name.

    def _refuse(self) -> None:
        error = {"error": f"{self.command} is not allowed here, only GET and HEAD"}
        self._send(_json(HTTPStatus.METHOD_NOT_ALLOWED, error))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer in JSON also what the base class finds wrong with a request."""
        self.close_connection = True
        self._send(_json(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase}))

    def version_string(self) -> str:
        """Name the program, and no versions."""
        return "agentrt"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet: probes come every few seconds."""

    def _send(self, answer: _Answer) -> None:
        status, content_type, body = answer
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
