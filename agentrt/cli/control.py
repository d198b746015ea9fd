"""The control socket: JSON lines over a Unix socket, by which other commands ask a running fleet."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import structlog
import trio

from agentrt.cli.exits import ExitCode, Failure
from agentrt.cli.statedir import unusable
from agentrt.ports import Json

_log = structlog.get_logger()

NAME = "control.sock"
#: Bytes of one request.
MAX_REQUEST = 64 * 1024
#: Seconds that a connection may last, and of that, the handler.
REQUEST_LIMIT, HANDLER_LIMIT = 5.0, 4.0
#: Connections at once; one more waits until another one ends.
MAX_CONNECTIONS = 16
#: Seconds after which a fleet that did not answer counts as blocked.
ANSWER_LIMIT = 5.0
# sun_path has 104 bytes on macOS and 108 on Linux, with the zero at its end.
_MAX_PATH = 103

#: Answers one kind of request.
Handler = Callable[[Mapping[str, Any]], Awaitable[Json]]


class BadRequest(Exception):
    """A request is not one that the control socket takes."""


@asynccontextmanager
async def open_control(folder: Path, handlers: Mapping[str, Handler]) -> AsyncIterator[Path]:
    """Serve the control socket until the block is left; yields the socket's path.

    A request is one line, ``{"do": NAME, ...}``, and so is its answer, ``{"answer": ...}`` or ``{"error": "..."}``; one
    of each per connection. Whatever is wrong with a request is answered, and never raised into the fleet.

    Args:
        folder: Where the socket is put. Where its path is too long for a socket, a private temporary folder is used.
        handlers: By the request's ``do``.

    Raises:
        Failure: The socket cannot be made.
    """
    path = folder / NAME
    spare = None
    if len(os.fsencode(path)) > _MAX_PATH:
        spare = Path(tempfile.mkdtemp(prefix="agentrt-"))
        path = spare / NAME
    try:
        # One that a killed run left behind is in the way.
        path.unlink(missing_ok=True)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(_listen(path)))
        async with trio.open_nursery() as nursery:
            server = _Server(handlers)
            await nursery.start(trio.serve_listeners, server.serve, [listener])
            yield path
            nursery.cancel_scope.cancel(reason="agentrt: the control socket closes")
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if spare is not None:
            shutil.rmtree(spare, ignore_errors=True)


def _listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
        # The folder is private already; this is for whoever copies or mounts it.
        path.chmod(0o600)
        sock.listen(MAX_CONNECTIONS)
    except OSError as error:
        sock.close()
        raise unusable(path, error) from error
    return sock


class _Server:
    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._limiter = trio.CapacityLimiter(MAX_CONNECTIONS)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection; it never raises for what the other side does."""
        async with self._limiter, stream:
            with trio.move_on_after(REQUEST_LIMIT), contextlib.suppress(trio.BrokenResourceError):
                line = await _read_line(stream)
                answer = await self._answer(line)
                await stream.send_all(json.dumps(answer).encode() + b"\n")

    async def _answer(self, line: bytes) -> dict[str, Json]:
        try:
            request = _parse(line)
            handler = self._handlers.get(request["do"])
            if handler is None:
                raise BadRequest(f"there is no request {request['do']!r}, only {', '.join(self._handlers)}")
            with trio.fail_after(HANDLER_LIMIT):
                return {"answer": await handler(request)}
        except BadRequest as error:
            return {"error": str(error)}
        except trio.TooSlowError:
            return {"error": f"it took longer than {HANDLER_LIMIT:g} s"}
        except Exception as error:  # noqa: BLE001 - logged; a request never breaks the fleet.
            _log.exception("control_request_failed")
            return {"error": f"{type(error).__name__}: {error}"}


def _parse(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_REQUEST:
        raise BadRequest(f"a request has at most {MAX_REQUEST} bytes")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"not a JSON object: {error}") from error
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        raise BadRequest('a request is an object such as {"do": "ps"}')
    return request


async def _read_line(stream: trio.SocketStream) -> bytes:
    """Read up to a line break, the end, or one byte more than a request may have."""
    buffer = bytearray()
    while b"\n" not in buffer and len(buffer) <= MAX_REQUEST:
        chunk = await stream.receive_some(MAX_REQUEST)
        if not chunk:
            break
        buffer += chunk
    line, _, _ = bytes(buffer).partition(b"\n")
    return line


def ask(path: str, what: str, *, health: str, pid: int, limit: float = ANSWER_LIMIT) -> Any:
    """Ask a running fleet, from another process, and return its answer.

    Args:
        path: The control socket.
        what: The request's ``do``.
        health: The health server's address, which answers also when the fleet does not.
        pid: The fleet's process.
        limit: Seconds to wait.

    Raises:
        Failure: Nobody listens, nobody answers, or the answer is an error.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(limit)
            sock.connect(path)
            sock.sendall(json.dumps({"do": what}).encode() + b"\n")
            with sock.makefile("rb") as file:
                line = file.readline()
    except TimeoutError:
        raise Failure(
            f"the fleet did not answer within {limit:g} s: {_why_silent(pid, health)}", ExitCode.NO_ANSWER
        ) from None
    except OSError as error:
        raise _nobody(path, (error.strerror or str(error)).lower()) from error
    if not line:
        raise _nobody(path, "it closed the connection")
    found = json.loads(line)
    if "error" in found:
        raise Failure(f"the fleet refused: {found['error']}", ExitCode.BROKEN)
    return found["answer"]


def _why_silent(pid: int, health: str) -> str:
    with contextlib.suppress(psutil.Error):
        if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            return f"its process is stopped (SIGSTOP, or a terminal's Ctrl-Z); it goes on with: kill -CONT {pid}"
    return (
        f"something blocks its event loop. http://{health}/health/live is served beside it, and its log names what "
        "blocks (event_loop_blocked)"
    )


def _nobody(path: str, reason: str) -> Failure:
    return Failure(f"the fleet cannot be asked at {path}: {reason}; it may be stopping", ExitCode.TRY_LATER)
