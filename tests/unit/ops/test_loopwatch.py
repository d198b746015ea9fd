"""The judgement on an event loop: blocked, turning again, or suspended with the whole process."""

from __future__ import annotations

import attrs
import pytest

from agentrt.ops.board import SnapshotBoard
from agentrt.ops.loopwatch import Blocked, Finding, Judge, LoopWatch, Suspended, Unblocked


@attrs.define
class Scene:
    """A judge with limits of 1 s and 30 s who looks every 0.25 s, and the clocks that he is told of."""

    now: float = 100.0
    beat: float = 100.0
    cpu: float = 5.0
    judge: Judge = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.judge = Judge((1.0, 30.0), 0.25, self.now, self.beat, self.cpu)

    def look(self, *, after: float = 0.25, beats: bool = False, cpu: float = 0.0) -> list[Finding]:
        self.now += after
        self.cpu += cpu
        if beats:
            self.beat = self.now
        return self.judge.look(self.now, self.beat, self.cpu)

    def blocked_for(self, seconds: float) -> list[Finding]:
        return [finding for _ in range(int(seconds / 0.25)) for finding in self.look()]


def test_a_loop_that_turns_is_not_reported() -> None:
    """An hour of beats says nothing."""
    scene = Scene()
    assert [finding for _ in range(4 * 3600) for finding in scene.look(beats=True)] == []


def test_a_block_is_reported_once_early_and_once_at_the_stall_limit() -> None:
    """Twice in all, however long it lasts."""
    assert [Blocked(1.0), Blocked(30.0)] == Scene().blocked_for(300.0)


def test_the_end_of_a_reported_block_is_reported_with_its_length() -> None:
    """Then the next block is reported anew."""
    scene = Scene()
    scene.blocked_for(4.75)
    assert [Unblocked(5.0)] == scene.look(beats=True)
    assert scene.look(beats=True) == []
    assert [Blocked(1.0)] == scene.blocked_for(2.0)


def test_a_pause_below_the_first_limit_is_not_reported() -> None:
    """Neither its begin nor its end."""
    scene = Scene()
    assert scene.blocked_for(0.75) == []
    assert scene.look(after=0.2, beats=True) == []


def test_a_suspended_process_is_not_a_block() -> None:
    """Neither the watcher nor the loop ran, and no processor time was used: the loop's silence counts from now."""
    scene = Scene()
    assert [Suspended(3600.0)] == scene.look(after=3600.25)
    assert scene.blocked_for(0.5) == []
    assert scene.look(beats=True) == []


def test_a_loop_that_stays_silent_after_a_suspension_is_blocked() -> None:
    """The suspension excuses what lies before it only."""
    scene = Scene()
    scene.look(after=3600.25)
    assert [Blocked(1.0)] == scene.blocked_for(2.0)


def test_a_suspension_in_the_middle_of_a_block_does_not_hide_its_end() -> None:
    """Every block that was reported is reported as over."""
    scene = Scene()
    scene.blocked_for(2.0)
    assert [Suspended(60.0)] == scene.look(after=60.25)
    assert [Unblocked(62.5)] == scene.look(beats=True)


def test_code_that_holds_the_interpreter_is_a_block() -> None:
    """The watcher was late as well, but the process was busy: that is the loop's doing."""
    scene = Scene()
    assert [Blocked(5.25)] == scene.look(after=5.25, cpu=5.2)


def test_a_block_that_nobody_could_look_at_is_reported_afterwards() -> None:
    """Where the loop turned again before the watcher got the interpreter back, both are told at once."""
    scene = Scene()
    assert [Blocked(5.25, over=True), Unblocked(5.25)] == scene.look(after=5.25, cpu=5.2, beats=True)


def test_the_first_report_comes_at_half_a_short_stall_limit() -> None:
    """So that there is one before the health server calls the process dead."""
    assert "limits=(0.25, 0.5)" in repr(LoopWatch(SnapshotBoard(beat_interval=0.05), stall_limit=0.5))


def test_a_limit_within_the_rhythm_of_the_beat_is_refused() -> None:
    """It would report a block between any two beats."""
    with pytest.raises(ValueError, match=r"beats every 0\.25 s, so a block of 0\.1 s cannot be told"):
        LoopWatch(SnapshotBoard(), stall_limit=0.2)


def test_a_watch_that_was_never_started_can_be_stopped() -> None:
    """A start that failed half-way cleans up without asking how far it came."""
    watch = LoopWatch(SnapshotBoard(), stall_limit=30.0)
    watch.stop()
    watch.stop()
