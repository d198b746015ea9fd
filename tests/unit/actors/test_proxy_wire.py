"""What the proxy reads and writes on the wire."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors._proxy_wire import EventRelay, end_to_end, events_of, for_backend, parse, request_of, rpc_error

ENDS = ["\n\n", "\r\n\r\n", "\r\r"]
lines = st.sampled_from(["data: x", "data: {}", "event: message", "id: 7", ": a comment", "retry: 5", "data:"])


@st.composite
def streams(draw):
    """A stream of events, whole, each with one kind of line ends."""
    made = []
    for _ in range(draw(st.integers(0, 5))):
        end = draw(st.sampled_from(ENDS))
        made.append((end[: len(end) // 2].join(draw(st.lists(lines, min_size=1, max_size=3))) + end).encode())
    return made


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


@given(streams(), st.lists(st.integers(0, 10_000), max_size=8))
@example([b"event: message\n\n", b": a comment\r\n\r\n", b"data: {}\n\n"], [28, 32])
def test_events_pass_whole_and_at_once(events, places):
    """However the bytes come: what was passed on ends with an event, or a comment, and none that is whole waits."""
    whole = b"".join(events)
    relay, passed, came = EventRelay(), b"", b""
    ends = {len(b"".join(events[:count])) for count in range(len(events) + 1)}
    for piece in cut(whole, places):
        came += piece
        passed += relay.feed(piece)
        assert whole.startswith(passed)
        latest = max(end for end in ends if end <= len(came))
        rest = passed[latest:]
        assert len(passed) >= latest - 1
        assert rest.strip(b"\r\n") == b"" or rest.startswith(b":")
    assert whole == passed + relay.end()


@pytest.mark.parametrize("first", [-1, -2, -3])
def test_a_long_event_never_waits_for_its_last_byte(first):
    """What is too long to hold back is passed on as it comes, and its end at once, wherever it is split."""
    event = b"data: " + b"x" * 200_000 + b"\r\n\r\n"
    relay = EventRelay(7)
    passed = relay.feed(event[:first])
    assert len(passed) > 199_000
    assert None is relay.cut("reset")
    assert event == passed + relay.feed(event[first:])
    assert b"" == relay.end()


def answer(identity: object, **more: object) -> bytes:
    return b"data: " + json.dumps({"jsonrpc": "2.0", "id": identity, **more}).encode() + b"\n\n"


def test_a_cut_stream_ends_with_an_error_where_that_helps():
    """Not where the answer came, where its events have ids, or where it answers nobody; then it just ends."""
    said = {}
    for name, identity, events in (
        ("nothing", 7, b""),
        ("another's answer", 7, answer(8, result={})),
        ("a request of the server's", 7, answer(7, method="ping")),
        ("half an answer", 7, answer(7, result={})[:-5]),
        ("its answer", 7, answer(7, result={})),
        ("its error", 7, answer(7, error={})),
        ("an id", 7, b"id: 3\ndata: {}\n\n"),
        ("nobody", None, b""),
    ):
        relay = EventRelay(identity)
        relay.feed(events)
        said[name] = bool(relay.cut("reset"))
    wanted = {"nothing", "another's answer", "a request of the server's", "half an answer"}
    assert wanted == {name for name, is_error in said.items() if is_error}


@given(st.text())
@example("\ud800")
def test_an_error_of_the_proxy_s_is_an_event(reason):
    """Whatever a server's reason has in it."""
    error = events_of(b"data: " + rpc_error(7, reason, kind="outcome_unknown") + b"\n\n")
    assert [(7, reason)] == [(one["id"], one["error"]["message"]) for one in error]


def test_headers_of_one_hop_end_here():
    """Also those that Connection names, in whatever case."""
    headers = [
        (b"Connection", b"keep-alive, X-Mine ,close"),
        (b"x-mine", b"1"),
        (b"TE", b"trailers"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Authorization", b"Bearer x"),
    ]
    assert [(b"authorization", b"Bearer x")] == end_to_end(headers)


def test_a_request_gets_a_via_beside_the_one_that_it_has():
    headers = [(b"host", b"here"), (b"content-length", b"5"), (b"via", b"1.0 other"), (b"x", b"y")]
    assert [(b"x", b"y"), (b"accept-encoding", b"identity"), (b"via", b"1.0 other, 1.1 mine")] == for_backend(
        headers, "mine"
    )


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 10_000])
def test_what_is_no_message_is_none(body):
    """Neither does it break anything."""
    assert ("", {}, None) == request_of(parse(body))
