"""What is read and written below a WebSocket until its handshake is answered."""

from __future__ import annotations

import ssl
from email.utils import formatdate

import pytest
import trio
import trio.testing

from actors._websocket_stream import Signs, WatchedStream, tls_failure
from agentrt.policy import Pace
from agentrt.ports import ConnectionEnded

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def pair() -> tuple[WatchedStream, trio.StapledStream]:
    ours, theirs = trio.testing.memory_stream_pair()
    return WatchedStream(ours, Signs()), theirs


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_what_comes_before_the_answer_is_not_passed_on(size: int):
    """A library that knows one answer only would take it for a refusal; what comes behind the answer is kept."""
    stream, server = pair()
    sent = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ANSWER + b"\x81\x02hi"
    received = b""
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            for start in range(0, len(sent), size):
                await server.send_all(sent[start : start + size])
                await trio.testing.wait_all_tasks_blocked()

        nursery.start_soon(serve)
        with trio.fail_after(10):
            while len(received) < len(ANSWER) + 4:
                received += await stream.receive_some()
    assert ANSWER + b"\x81\x02hi" == received


async def test_a_connection_that_breaks_before_the_request_is_sent_ends_the_attempt():
    """The library's reader ends over it without a word, and whoever waits for an answer waits until the deadline."""
    stream, server = pair()
    await server.aclose()
    with pytest.raises(ConnectionEnded, match="closed the connection before it had answered"):
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": formatdate(1000, usegmt=True), "Date": formatdate(988, usegmt=True)}, 12.0),
        ({"Retry-After": formatdate(900, usegmt=True), "Date": formatdate(988, usegmt=True)}, 0.0),
        ({"Retry-After": formatdate(1000, usegmt=True)}, 0.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:16:40", "Date": formatdate(988, usegmt=True)}, 0.0),
        ({"Retry-After": "soon", "Date": formatdate(988, usegmt=True)}, 0.0),
    ],
)
async def test_a_server_says_in_seconds_or_by_its_own_clock_when_to_come_back(headers: dict[str, str], seconds: float):
    """A date means nothing without its own one; what cannot be read was not said."""
    stream, server = pair()
    lines = ["HTTP/1.1 503 Service Unavailable", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    await server.send_all("\r\n".join(lines).encode())
    with pytest.raises(ConnectionEnded, match="HTTP 503") as ended:
        await stream.receive_some()
    assert seconds == ended.value.setback.after


def test_a_certificate_that_the_server_does_not_take_is_for_a_person_to_correct():
    """TLS says so in words of its own."""
    refused = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    refused.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    ended = tls_failure(refused)
    assert "the server refused the TLS handshake: tlsv13 alert certificate required" == str(ended)
    assert (Pace.RARELY, True) == (ended.setback.pace, "tls_cert" in ended.setback.advice)
