"""The board between the event loop and the threads that watch it."""

from __future__ import annotations

import pytest

from agentrt.ops.board import LAG_WINDOW, SnapshotBoard
from agentrt.ops.snapshot import FleetSnapshot


class Clock:
    """Seconds that stand until they are moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> SnapshotBoard:
    return SnapshotBoard(beat_interval=0.25, clock=clock)


def test_the_latest_snapshot_is_read(board: SnapshotBoard) -> None:
    """Nothing before the first, then the last one only."""
    assert board.read() is None
    first, second = (FleetSnapshot(fleet="newsroom", taken_at=at) for at in (1000.0, 1001.0))
    board.publish(first)
    board.publish(second)
    assert second is board.read()


def test_publishing_is_no_beat(board: SnapshotBoard, clock: Clock) -> None:
    """Only the loop's own beat says that it turns."""
    clock.seconds += 5
    board.publish(FleetSnapshot(fleet="newsroom", taken_at=1005.0))
    assert board.last_beat == 1000.0
    board.beat()
    assert board.last_beat == 1005.0


def test_a_beat_in_time_is_no_lag(board: SnapshotBoard, clock: Clock) -> None:
    """The interval itself is not counted."""
    for _ in range(10):
        clock.seconds += 0.25
        board.beat()
    assert board.lag == 0.0


def test_lag_grows_while_the_loop_stands(board: SnapshotBoard, clock: Clock) -> None:
    """It is true also when no beat comes any more."""
    clock.seconds += 7.25
    assert board.lag == 7.0


def test_the_worst_lag_is_remembered_for_a_while_and_then_forgotten(board: SnapshotBoard, clock: Clock) -> None:
    """A scrape every 15 seconds sees a block of two; a minute later it is history."""
    clock.seconds += 2.25
    board.beat()
    seen = []
    for _ in range(int(2 * LAG_WINDOW / 0.25)):
        clock.seconds += 0.25
        board.beat()
        seen.append(board.lag)
    assert [2.0] * int(LAG_WINDOW / 0.25) == seen[: int(LAG_WINDOW / 0.25)]
    assert seen[-1] == 0.0


def test_a_block_of_many_windows_leaves_nothing_of_before(board: SnapshotBoard, clock: Clock) -> None:
    """What was worse before a silence that long is history."""
    clock.seconds += 5 * LAG_WINDOW + 0.25
    board.beat()
    assert board.lag == 5 * LAG_WINDOW
    clock.seconds += 2 * LAG_WINDOW + 0.25
    board.beat()
    assert board.lag == 2 * LAG_WINDOW
