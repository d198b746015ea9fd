"""What exceptions say about the call that raised them."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import httpx2
import pytest
import trio

from agentrt.policy import SendState
from agentrt.ports import BusRefused, BusUnavailable, KeyExists, ToolError
from agentrt.resilience import BreakerOpen, BulkheadFull, classify

REQUEST = httpx2.Request("POST", "http://archive/mcp")


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def status_error(status: int, **headers: str) -> httpx2.HTTPStatusError:
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    return httpx2.HTTPStatusError("no", request=REQUEST, response=response)


@pytest.mark.parametrize(
    ("error", "kind", "sent"),
    [
        (os_error(errno.ECONNREFUSED), "transient", "not_sent"),
        (os_error(errno.EHOSTUNREACH), "transient", "not_sent"),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), "transient", "not_sent"),
        (os_error(errno.ECONNRESET), "transient", "unknown"),
        (os_error(errno.EPIPE), "transient", "unknown"),
        (trio.BrokenResourceError(), "transient", "unknown"),
        (TimeoutError(), "timeout", "unknown"),
        (trio.TooSlowError(), "timeout", "unknown"),
        (httpx2.ConnectError("refused"), "transient", "not_sent"),
        (httpx2.ConnectTimeout("slow"), "timeout", "not_sent"),
        (httpx2.PoolTimeout("busy"), "timeout", "not_sent"),
        (httpx2.WriteError("reset"), "transient", "unknown"),
        (httpx2.ReadError("reset"), "transient", "sent"),
        (httpx2.ReadTimeout("slow"), "timeout", "sent"),
        (httpx2.RemoteProtocolError("gone"), "transient", "sent"),
        (status_error(503), "transient", "unknown"),
        (status_error(401), "auth", "not_sent"),
        (status_error(400), "permanent", "not_sent"),
        (BusUnavailable("away"), "transient", "unknown"),
        (BusRefused("no"), "permanent", "not_sent"),
        (KeyExists("there"), "permanent", "not_sent"),
        (BreakerOpen("archive", "resets", 3.0), "transient", "not_sent"),
        (BulkheadFull("too many"), "throttled", "not_sent"),
        (ToolError("no", kind="tool", server="s", tool="t", sent=SendState.SENT), "tool", "sent"),
    ],
)
def test_known_errors_have_a_kind(error: Exception, kind: str, sent: str):
    """Of the system, of Trio, of HTTP clients by their names, of the bus and of tools."""
    failure = classify(error)
    assert failure is not None
    assert (kind, sent) == (failure.kind, failure.sent)
    assert failure.reason


def test_a_status_keeps_what_the_server_asked_for():
    """Its Retry-After header."""
    failure = classify(status_error(429, **{"Retry-After": "7"}))
    assert failure is not None
    assert ("throttled", 7.0) == (failure.kind, failure.retry_after)


@pytest.mark.parametrize(
    "error", [ValueError("bug"), KeyError("bug"), os_error(errno.ENOENT), PermissionError(13, "no")]
)
def test_mistakes_are_no_failures_of_a_call(error: Any):
    """They pass as they are, and are not tried again."""
    assert classify(error) is None


async def test_a_connection_that_all_addresses_refuse_is_known():
    """Trio raises one error for several, and names what each did as its cause."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="all attempts to connect") as caught:
        await trio.open_tcp_stream("127.0.0.1", port)
    failure = classify(caught.value)
    assert failure is not None
    assert ("transient", "not_sent") == (failure.kind, failure.sent)
