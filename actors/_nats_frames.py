"""Messages as they stand on a NATS connection: written, and read."""

from __future__ import annotations

from typing import NamedTuple

from agentrt.ports import Headers

_VERSION = b"NATS/1.0"

#: Where the server's inline status stands among headers: no header can be called that, so nobody else can say it.
STATUS = ":status"


class Message(NamedTuple):
    """A message as it came from the server; a tuple, because one is made for each that comes."""

    subject: str
    reply: str
    body: bytes
    headers: Headers

    @property
    def status(self) -> str:
        """The server's inline status, such as ``503`` (nobody is there to answer); empty for a real message."""
        return "" if self.body else self.headers.get(STATUS, "")


class Publish(NamedTuple):
    """What a frame publishes."""

    subject: str
    reply: str
    body: bytes
    headers: Headers


def encode(subject: str, body: bytes, headers: Headers | None = None, reply: str = "") -> bytes:
    """Return the bytes that publish a message."""
    if not headers:
        return b"%b%b\r\n" % (f"PUB {subject} {reply} {len(body)}\r\n".encode(), body)
    lines = "".join([f"{key}: {value}\r\n" for key, value in headers.items()])
    block = f"NATS/1.0\r\n{lines}\r\n".encode()
    size = len(block)
    return b"%b%b%b\r\n" % (f"HPUB {subject} {reply} {size} {size + len(body)}\r\n".encode(), block, body)


def decode(frame: bytes) -> Publish:
    """Return what :func:`encode` was given."""
    line, _, rest = frame.partition(b"\r\n")
    operation, subject, reply, *sizes = line.decode().split(" ")
    headers = int(sizes[0]) if operation == "HPUB" else 0
    return Publish(subject, reply, rest[headers:-2], read_headers(rest[:headers]))


def read_headers(block: bytes) -> dict[str, str]:
    """Read a block of headers, an inline status under :data:`STATUS` among them.

    A name that is no ASCII word is left out, and what is no UTF-8 in a value is replaced. Blanks around a value are
    nobody's: not every client keeps them.

    Raises:
        ValueError: It is none.
    """
    found: dict[str, str] = {}
    if not block:
        return found
    if not block.startswith(_VERSION):
        msg = f"{block[:40]!r} is no block of headers"
        raise ValueError(msg)
    first, *lines = block.decode("utf-8", "replace").split("\r\n")
    if status := first[len(_VERSION) :].strip().partition(" ")[0]:
        found[STATUS] = status
    for line in lines:
        name, is_header, value = line.partition(":")
        name = name.strip()
        if is_header and name and name.isascii() and not any(c.isspace() for c in name):
            found[name] = value.strip()
    return found
