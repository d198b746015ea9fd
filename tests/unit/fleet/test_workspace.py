"""The workspace check: looks by writing, and outlives a disk that hangs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import trio

from agentrt.fleet import workspace as module
from agentrt.fleet.workspace import Workspace


async def test_a_folder_that_can_be_written_to_is_left_as_it_was(tmp_path: Path):
    """The probe is gone afterwards."""
    workspace = Workspace((tmp_path,))
    assert workspace.check() == (True, "not looked at yet")
    await workspace.look()
    assert (True, str(tmp_path)) == workspace.check()
    assert [] == os.listdir(tmp_path)  # noqa: PTH208 - the other is refused in async code


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    """With the reason of the system; the first that fails is enough."""
    gone = tmp_path / "gone"
    workspace = Workspace((tmp_path, gone))
    await workspace.look()
    assert (False, f"{gone}: No such file or directory") == workspace.check()


async def test_a_disk_that_hangs_costs_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each look is over in time and says so; those after the first do not begin another write."""
    release, calls = threading.Event(), []

    def hang(_folders: object) -> tuple[bool, str]:
        calls.append(1)
        release.wait()
        return True, "late"

    monkeypatch.setattr(module, "_is_writable", hang)
    monkeypatch.setattr(module, "LIMIT", 0.05)
    workspace = Workspace((tmp_path,))
    try:
        with trio.fail_after(30):
            for _ in range(3):
                await workspace.look()
                assert (False, f"{tmp_path}: writing took longer than 0.05 s") == workspace.check()
        assert 1 == len(calls)
    finally:
        release.set()


async def test_it_is_looked_at_again_and_again(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    """Every few seconds."""
    looks: list[float] = []

    class Watched(Workspace):
        async def look(self) -> None:
            looks.append(trio.current_time())
            await trio.lowlevel.checkpoint()

    with trio.move_on_after(12):
        await Watched((tmp_path,)).watch()
    assert [0.0, 5.0, 10.0] == looks
