"""What is known of the room to store, without trying."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors._nats_fullness import Fullness
from actors._nats_room import FULL, Room, look_at_room


def test_a_refusal_is_known_until_something_is_stored_or_for_a_few_seconds() -> None:
    """Where nobody tries again, it is not known any more."""
    fullness = Fullness(lambda: "")
    assert "" == fullness.trouble
    fullness.refused("127.0.0.1:4222", "insufficient resources (10023)", 100.0)
    assert fullness.trouble.startswith(
        "the store of the server at 127.0.0.1:4222 is full: insufficient resources (10023)"
    )
    fullness.expire(105.0)
    assert fullness.trouble
    fullness.stored()
    assert "" == fullness.trouble
    fullness.refused("127.0.0.1:4222", "full", 200.0)
    fullness.expire(205.1)
    assert "" == fullness.trouble


def test_what_whoever_runs_the_server_knows_goes_first() -> None:
    """A full disk is told of without anybody having tried."""
    fullness = Fullness(lambda: "the disk is full")
    fullness.refused("a", "b", 0.0)
    fullness.stored()
    assert "the disk is full" == fullness.trouble


@pytest.mark.parametrize(
    ("free", "was_full", "expected"),
    [(FULL, False, False), (FULL - 1, False, True), (4 * FULL - 1, True, True), (4 * FULL, True, False)],
)
def test_a_full_disk_takes_some_room_to_be_one_no_more(free, was_full, expected) -> None:
    """Else each file that comes and goes would be a restart of the server."""
    room = Room(Path("/s"), used=3 * 2**20, most=2**30, free=free, was_full=was_full)
    assert expected == room.is_full
    assert expected == bool(room.trouble)


def test_a_store_says_where_it_is_and_how_full() -> None:
    """In units that people read."""
    room = Room(Path("/s"), used=3 * 2**20, most=2**30, free=0)
    assert "the disk is full: 0.0 MiB free at /s, which holds 3.0 MiB; make room there, and it goes on by itself" == (
        room.trouble
    )
    assert "holds 3.0 MiB of 1.0 GiB (max_store), 0.0 MiB free on its disk" == str(room)


def test_a_look_counts_all_files_below(tmp_path: Path) -> None:
    """Also where there are none yet."""
    assert 0 == look_at_room(tmp_path, 10, was_full=False).used
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(b"123")
    (tmp_path / "d").write_bytes(b"45")
    found = look_at_room(tmp_path, 10, was_full=False)
    assert (5, 10, tmp_path) == (found.used, found.most, found.store)
    assert found.free > 0
