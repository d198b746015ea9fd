"""The state directory: its lock, and the file that says where a fleet can be reached."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agentrt.cli.exits import ExitCode, Failure
from agentrt.cli.statedir import RunInfo, find_run, hold, is_held

if TYPE_CHECKING:
    from pathlib import Path

INFO = RunInfo(
    pid=4711,
    fleet="newsroom",
    bus_url="nats://127.0.0.1:4222",
    bus_token="s3cret",
    health="127.0.0.1:8080",
    control="/tmp/control.sock",
    started_at="2026-01-01T00:00:00+00:00",
    version="0.1.0",
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_directory_and_its_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """They hold tokens; also where the directory was there before with another mode."""
    path = tmp_path / "state"
    path.mkdir(mode=0o755)
    with hold(path) as state:
        state.write_run(INFO)
        assert mode(path) == 0o700
        assert {0o600} == {mode(file) for file in path.iterdir()}


def test_a_second_run_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    """Two fleets on one store would work against each other."""
    with hold(tmp_path), pytest.raises(Failure, match=rf"\(pid {os.getpid()}\)") as caught, hold(tmp_path):
        pass
    assert ExitCode.TRY_LATER is caught.value.code


def test_a_directory_that_nothing_can_be_written_to_is_named(tmp_path: Path) -> None:
    """As where its disk is full: the lock is taken, and the pid beside it is the first thing that is stored."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(Failure, match=f"cannot be used: {tmp_path}: file too large") as caught, hold(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ExitCode.SYSTEM is caught.value.code
    assert not is_held(tmp_path)


def test_the_directory_can_be_held_again_after_its_holder_let_go(tmp_path: Path) -> None:
    """An ordered end leaves nothing in the way."""
    with hold(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)
    with hold(tmp_path):
        assert is_held(tmp_path)


def test_a_fleet_is_found_by_what_it_wrote(tmp_path: Path) -> None:
    """What is read is what was written, the token included."""
    with hold(tmp_path) as state:
        state.write_run(INFO)
        assert find_run(tmp_path) == INFO


def test_nothing_is_found_where_no_fleet_ever_ran(tmp_path: Path) -> None:
    """And looking makes nothing."""
    assert find_run(tmp_path / "state") is None
    assert list(tmp_path.iterdir()) == []


def test_an_ordered_end_removes_what_the_run_wrote(tmp_path: Path) -> None:
    """The token of a bus that is gone is nobody's business."""
    with hold(tmp_path) as state:
        state.write_run(INFO)
    assert not (tmp_path / "run.json").exists()
    assert find_run(tmp_path) is None


def test_what_a_killed_run_left_behind_does_not_count(tmp_path: Path) -> None:
    """A lock is let go by the system, however its holder ended; the file is not."""
    code = (
        "import os, sys; from pathlib import Path; from agentrt.cli.statedir import hold\n"
        "with hold(Path(sys.argv[1])):\n"
        "    (Path(sys.argv[1]) / 'run.json').write_text('{}'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    assert (tmp_path / "run.json").exists()
    assert find_run(tmp_path) is None
    with hold(tmp_path):
        assert not (tmp_path / "run.json").exists()


def test_a_fleet_that_is_still_starting_is_told_from_one_that_does_not_run(tmp_path: Path) -> None:
    """Somebody holds the directory and cannot be reached yet."""
    with hold(tmp_path), pytest.raises(Failure, match="starting or stopping") as caught:
        find_run(tmp_path)
    assert ExitCode.TRY_LATER is caught.value.code


def test_a_run_file_of_another_version_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Not a traceback about a missing key."""
    with hold(tmp_path):
        (tmp_path / "run.json").write_text(json.dumps({"pid": 1}))
        with pytest.raises(Failure, match="restart the fleet"):
            find_run(tmp_path)


def test_a_state_directory_that_is_a_file_is_said_in_words(tmp_path: Path) -> None:
    """A mistake in the configuration is no traceback."""
    (tmp_path / "state").touch()
    with pytest.raises(Failure, match=r"cannot be used: .*state: file exists") as caught, hold(tmp_path / "state"):
        pass
    assert ExitCode.SYSTEM is caught.value.code


def test_the_token_is_not_in_the_representation() -> None:
    """A representation ends up in logs."""
    assert "s3cret" not in repr(INFO)
