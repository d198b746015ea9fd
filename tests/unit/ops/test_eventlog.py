"""The events of a fleet as JSON lines in a file."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import trio
import trio.testing

from agentrt.kernel.events import Event, EventStream
from agentrt.ops.eventlog import EventLog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def event(number: int = 1, **fields: Any) -> Event:
    return Event(number, "actor_restarted", "fleet/editor/inbox", 12.5, None, fields)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_a_line_that_is_there_at_once(path: Path) -> None:
    """Without a close: after a crash the last event is what one wants to know."""
    EventLog(path).append(Event(2, "actor_restarted", "fleet/editor/inbox", 12.5, 1, {"attempt": 3}))
    (record,) = records(path)
    assert record.pop("wall").endswith("+00:00")
    assert len(record.pop("run")) == 8
    expected = {"id": 2, "kind": "actor_restarted", "path": "fleet/editor/inbox", "time": 12.5, "cause": 1}
    assert {**expected, "fields": {"attempt": 3}} == record


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    """Also where it was there before with other rights."""
    path.touch(mode=0o644)
    EventLog(path).append(event())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_runs_are_told_apart(path: Path) -> None:
    """Ids count anew in each run, so a cause is an id of the same run."""
    EventLog(path).append(event())
    EventLog(path).append(event())
    first, second = records(path)
    assert first["id"] == second["id"]
    assert first["run"] != second["run"]


def test_secrets_are_not_written_and_odd_values_are_no_error(path: Path) -> None:
    """An event's fields should be plain; where they are not, the log does not suffer."""
    EventLog(path).append(event(url="nats://me:hunter2@host", token="abc", odd=object, bad="\ud800"))
    (record,) = records(path)
    assert record["fields"]["url"] == "nats://***@host"
    assert record["fields"]["token"] == "***"
    assert "object" in record["fields"]["odd"]


def test_the_file_is_put_aside_before_it_grows_beyond_its_limit(path: Path) -> None:
    """One older file is kept, and no event is in neither or in both."""
    log = EventLog(path, max_bytes=1000)
    for number in range(1, 21):
        log.append(event(number))
        assert path.stat().st_size <= 1000
    older = path.with_name("events.jsonl.1")
    kept = [record["id"] for record in records(older) + records(path)]
    assert list(range(kept[0], 21)) == kept
    assert len(records(older)) > 1
    assert sorted(path.parent.iterdir()) == [path, older]


def test_a_file_that_is_full_from_the_start_is_put_aside(path: Path) -> None:
    """What an earlier run left counts as well."""
    path.write_text('{"id": 1}\n' * 100)
    EventLog(path, max_bytes=1000).append(event(7))
    assert [record["id"] for record in records(path)] == [7]


def test_an_event_larger_than_the_limit_is_written_all_the_same(path: Path) -> None:
    """Rather that than nothing."""
    log = EventLog(path, max_bytes=10)
    log.append(event(1))
    log.append(event(2))
    assert [record["id"] for record in records(path)] == [2]
    assert log.lost == 0


def test_a_line_that_an_earlier_run_left_unfinished_spoils_no_other(path: Path) -> None:
    """The machine may have died in the middle of it."""
    path.write_text('{"id": 1, "ki')
    EventLog(path).append(event(2))
    cut, whole = path.read_text().splitlines()
    assert cut == '{"id": 1, "ki'
    assert json.loads(whole)["id"] == 2


@pytest.fixture
def small_files() -> Iterator[int]:
    """Let this process write files of 600 bytes at most: the nearest to a full disk that needs no rights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
        yield 600
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_said_once_and_counted(path: Path) -> None:
    """It never raises into the fleet."""
    log = EventLog(path)
    with structlog.testing.capture_logs() as logs:
        for number in range(20):
            log.append(event(number))
    assert [entry["event"] for entry in logs] == ["event_log_unwritable"]
    assert os.strerror(errno.EFBIG) in logs[0]["error"] or "bytes were written" in logs[0]["error"]
    assert log.lost + sum(_is_json(line) for line in path.read_text().splitlines()) == 20
    assert 0 < log.lost < 20


def test_what_comes_after_a_full_disk_is_written_whole(path: Path) -> None:
    """The line that was cut off is ended first, and the log says how many are missing."""
    log = EventLog(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        log.append(event(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 30, before[1]))
        with structlog.testing.capture_logs() as logs:
            log.append(event(2))
            log.append(event(3))
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            log.append(event(4))
            log.append(event(5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    lines = [line for line in path.read_text().splitlines() if line]
    assert [_is_json(line) for line in lines] == [True, False, True, True]
    assert [entry["event"] for entry in logs] == ["event_log_unwritable", "event_log_writable_again"]
    assert logs[1]["lost"] == log.lost == 2


def test_a_folder_that_is_gone_is_no_error(tmp_path: Path) -> None:
    """It is counted; where it comes back, the log does so too."""
    path = tmp_path / "state" / "events.jsonl"
    log = EventLog(path)
    log.append(event(1))
    assert log.lost == 1
    path.parent.mkdir()
    log.append(event(2))
    assert [record["id"] for record in records(path)] == [2]


def test_a_closed_log_opens_again_for_what_comes_late(path: Path) -> None:
    """The last events of a fleet are those of its stop."""
    log = EventLog(path)
    log.append(event(1))
    log.close()
    log.close()
    log.append(event(2))
    assert [record["id"] for record in records(path)] == [1, 2]


async def test_it_listens_to_a_stream(path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """Causes arrive as ids."""
    stream, log = EventStream(), EventLog(path)
    stream.listen(log.append)
    lost = stream.emit("nats_connection_lost", "fleet/editor/connection", reason="EOF")
    await trio.sleep(1)
    stream.emit("nats_connection_rebuilt", "fleet/editor/connection", lost, attempt=1)
    first, second = records(path)
    assert first["id"] == second["cause"]
    assert second["time"] - first["time"] == 1.0


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
