"""What waits to be published: bounded in age, and what is given up is told."""

from __future__ import annotations

from collections.abc import Callable

from actors._nats_outbox import Outbox, Outgoing
from agentrt.ports import BusError


class Pipe:
    """A connection that takes all and confirms when it is told to."""

    def __init__(self) -> None:
        self.max_payload = 100
        self.written: list[bytes] = []
        self.pongs: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def ping(self, on_pong: Callable[[], None]) -> None:
        self.pongs.append(on_pong)


def outbox() -> tuple[Outbox, list[tuple[str, str]]]:
    dropped: list[tuple[str, str]] = []

    def on_drop(item: Outgoing, error: BusError) -> None:
        dropped.append((item.subject, type(error).__name__))

    return Outbox(on_drop, lambda: None), dropped


def test_what_waited_too_long_is_given_up_by_name() -> None:
    """The oldest first, exactly at the limit, and its bytes are free again."""
    box, dropped = outbox()
    for since in range(5):
        box.add(Outgoing(f"t.{since}", b"x" * 10, 10, float(since)))
    box.expire(2.0, 60.0)
    assert [(f"t.{since}", "MessageDropped") for since in range(3)] == dropped
    assert (2, 20) == (box.count, box.size)


def test_nothing_is_too_old_while_connected() -> None:
    """What is on its way arrives or comes back when the connection ends; only then does its age count."""
    box, dropped = outbox()
    pipe = Pipe()
    box.open(pipe)
    box.add(Outgoing("t.x", b"x", 1, 0.0))
    box.expire(1000.0, 60.0)
    assert [] == dropped
    box.close()
    box.expire(1000.0, 60.0)
    assert [("t.x", "MessageDropped")] == dropped
    assert (0, 0) == (box.count, box.size)


def test_what_outgrew_the_server_is_given_up_by_its_own_name() -> None:
    """It would end each new connection."""
    box, dropped = outbox()
    box.add(Outgoing("t.big", b"x", 101, 0.0))
    box.add(Outgoing("t.ok", b"y", 100, 0.0))
    pipe = Pipe()
    box.open(pipe)
    assert [("t.big", "PayloadTooLarge")] == dropped
    assert [b"y"] == pipe.written


def test_one_that_five_connections_died_of_is_given_up() -> None:
    """It is taken for their cause; what stands behind it goes out."""
    box, dropped = outbox()
    box.add(Outgoing("t.poison", b"x", 1, 0.0))
    for _ in range(5):
        box.open(Pipe())
        box.close()
    last = Pipe()
    box.add(Outgoing("t.ok", b"y", 1, 0.0))
    box.open(last)
    assert [("t.poison", "MessageDropped")] == dropped
    assert [b"y"] == last.written


def test_those_beside_one_that_connections_die_of_are_not_given_up_with_it() -> None:
    """After two deaths each goes alone, so that the next one shows which it was; and all others arrive, in order."""
    box, dropped = outbox()
    for number in range(6):
        box.add(Outgoing(f"t.{number}", b"%d" % number, 10, float(number)))
    arrived: list[bytes] = []
    for _ in range(6):
        pipe = Pipe()
        box.open(pipe)
        while pipe.pongs and b"2" not in pipe.written:
            arrived += pipe.written
            pipe.written.clear()
            pipe.pongs.pop(0)()
        box.close()
    assert [("t.2", "MessageDropped")] == dropped
    assert [b"0", b"1", b"3", b"4", b"5"] == arrived
    assert (0, 0) == (box.count, box.size)
