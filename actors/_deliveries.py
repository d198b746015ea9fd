"""JetStream's deliveries: what the subject says on which one is settled, and what is said there."""

from __future__ import annotations

import json
from typing import NamedTuple

_OLD_ACK_TOKENS = 9
_NANOSECONDS = 1_000_000_000


class Origin(NamedTuple):
    """What the reply subject of a delivery says about it; a tuple, because one is made for each that comes."""

    attempt: int
    sequence: int


def read_origin(reply: str) -> Origin | None:
    """Read ``$JS.ACK...``, in the old form and in the one with a domain; None where it is none."""
    if not reply.startswith("$JS.ACK."):
        return None
    tokens = reply.split(".")
    # $JS.ACK.[domain.account.]stream.consumer.delivered.sequence.consumer_sequence.time.pending[.token]
    start = 4 if len(tokens) == _OLD_ACK_TOKENS else 6
    return Origin(int(tokens[start]), int(tokens[start + 1]))


def delivery_number(reply: str) -> int:
    """Return which of its consumer's deliveries it is that is settled on *reply*; counts from 1."""
    tokens = reply.split(".")
    return int(tokens[(4 if len(tokens) == _OLD_ACK_TOKENS else 6) + 2])


def nak(delay: float) -> bytes:
    """Return the body that asks for a redelivery after *delay* seconds."""
    return b"-NAK " + json.dumps({"delay": round(delay * _NANOSECONDS)}).encode() if delay > 0 else b"-NAK"
