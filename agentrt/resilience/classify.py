"""What an exception says about the call that raised it: for sockets, HTTP clients, the bus and tools."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Mapping
from typing import Any

import trio

from agentrt.policy import Failure, FailureKind, SendState
from agentrt.policy.failures import Phase, classify_network, classify_status, parse_retry_after
from agentrt.ports import BusError, BusRefused, BusUnavailable, KeyExists, ToolError, WrongRevision
from agentrt.resilience.errors import CallFailed

#: The errors of httpx, httpx2 and httpcore, by the names of their classes: none of them needs to be installed.
_BY_NAME: Mapping[str, tuple[Phase, bool]] = {
    "ConnectError": (Phase.CONNECTING, False),
    "ConnectTimeout": (Phase.CONNECTING, True),
    "PoolTimeout": (Phase.CONNECTING, True),
    "ProxyError": (Phase.CONNECTING, False),
    "WriteError": (Phase.WRITING, False),
    "WriteTimeout": (Phase.WRITING, True),
    "ReadError": (Phase.WAITING, False),
    "ReadTimeout": (Phase.WAITING, True),
    "RemoteProtocolError": (Phase.WAITING, False),
    "CloseError": (Phase.WAITING, False),
}
#: Nothing of it got anywhere.
_UNREACHABLE = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL}
)
_BROKEN = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN, errno.ESHUTDOWN})


def classify(error: Exception) -> Failure | None:
    """Say how a call failed, by what it raised; None where that is no failure of a call, such as a mistake in the code.

    Knows what this package raises; Python's and Trio's errors of the network, of name resolution and of time; and by
    their names the errors of httpx, httpx2 and httpcore, ``HTTPStatusError`` with its status and ``Retry-After``.
    """
    match error:
        case CallFailed():
            return error.failure
        case ToolError():
            return Failure(FailureKind(error.kind), error.sent, str(error), error.retry_after)
        case BusUnavailable():
            return Failure(FailureKind.TRANSIENT, SendState.UNKNOWN, _said(error))
        case BusRefused() | KeyExists() | WrongRevision() | BusError():
            return Failure(FailureKind.PERMANENT, SendState.NOT_SENT, _said(error))
        case socket.gaierror():
            return classify_network(Phase.CONNECTING, _said(error))
        case TimeoutError() | trio.TooSlowError():
            return classify_network(Phase.WRITING, _said(error), is_timeout=True)
        case trio.BrokenResourceError():
            return classify_network(Phase.WRITING, _said(error))
    return _of_client(error) or _of_system(error)


def network_failure(error: Exception) -> Failure | None:
    """Classify an error of an HTTP client by its class's name; None where it is none."""
    for cls in type(error).__mro__:
        if cls.__name__ in _BY_NAME:
            phase, is_timeout = _BY_NAME[cls.__name__]
            return classify_network(phase, _said(error), is_timeout=is_timeout)
    return None


def _of_client(error: Exception) -> Failure | None:
    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(status, int):
        retry_after = parse_retry_after(response.headers.get("retry-after"), time.time())
        return classify_status(status, retry_after=retry_after)
    return network_failure(error)


def _of_system(error: Exception) -> Failure | None:
    if not isinstance(error, OSError):
        return None
    # Trio raises one error for several addresses that all refused, and names what each did as its cause.
    causes = [error, *getattr(error.__cause__, "exceptions", ())]
    numbers = {cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno is not None}
    if numbers & _BROKEN:
        return classify_network(Phase.WRITING, _said(error))
    return classify_network(Phase.CONNECTING, _said(error)) if numbers & _UNREACHABLE else None


def _said(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
