"""Frames of the NATS protocol: what is written is what the library writes, and what is read is what was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.protocol import command

from actors._nats_frames import STATUS, decode, encode, read_headers

WORDS = st.text("abcXYZ019-_", min_size=1, max_size=8)
VALUES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n"), max_size=8)


@given(WORDS, st.binary(max_size=40), st.dictionaries(WORDS, VALUES, max_size=3), WORDS | st.just(""))
def test_a_frame_says_what_was_to_be_published(subject: str, body: bytes, headers: dict[str, str], reply: str):
    """Whatever is in the body, but for blanks around a header; one without headers is written as the library does."""
    frame = encode(subject, body, headers, reply)
    assert (subject, reply, body, {name: value.strip() for name, value in headers.items()}) == decode(frame)
    assert command.pub_cmd(subject, reply, body) == encode(subject, body, None, reply)


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        (b"", {}),
        (b"NATS/1.0\r\n\r\n", {}),
        (b"NATS/1.0\r\nA: b\r\nC:d\r\n\r\n", {"A": "b", "C": "d"}),
        (b"NATS/1.0\r\nA: b: c\r\n\r\n", {"A": "b: c"}),
        (b"NATS/1.0\r\nA:  b \r\n\r\n", {"A": "b"}),
        (b"NATS/1.0 503\r\n\r\n", {STATUS: "503"}),
        (b"NATS/1.0 409 Consumer Deleted\r\n\r\n", {STATUS: "409"}),
        (b"NATS/1.0 100 Idle\r\nNats-Last: 7\r\n\r\n", {STATUS: "100", "Nats-Last": "7"}),
        (b"NATS/1.0\r\nStatus: 503\r\n:status: 503\r\n\r\n", {"Status": "503"}),
        (b"NATS/1.0\r\na b: c\r\nno header\r\n\xc3\xa4: d\r\n\r\n", {}),
        (b"NATS/1.0\r\nA: \xff\r\n\r\n", {"A": "�"}),
    ],
)
def test_a_block_of_headers_is_read_as_it_is_meant(block: bytes, headers: dict[str, str]):
    """An inline status among them; a name that is none is left out."""
    assert headers == read_headers(block)


def test_what_is_no_block_of_headers_is_refused():
    """The connection cannot be understood any more."""
    with pytest.raises(ValueError, match="no block of headers"):
        read_headers(b"xx")
