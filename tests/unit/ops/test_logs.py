"""Logging: formats, levels, libraries, secrets, and sinks that cannot be written."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from agentrt.config.model import LogConfig
from agentrt.kernel.events import Event, EventStream
from agentrt.ops.logs import Sink, configure, level_of, log_event

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Put back what the process had: logging is its, not the test's."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def entries(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def event(kind: str, **fields: Any) -> Event:
    return Event(7, kind, "fleet/editor/inbox", 0.0, 3, fields)


def test_without_a_terminal_a_line_is_json(out: io.StringIO) -> None:
    """With the level and a time in UTC, as ISO."""
    configure(LogConfig(), out)
    structlog.get_logger().info("fleet_started", agents=2)
    (entry,) = entries(out)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "fleet_started", "level": "info", "agents": 2}


def test_on_a_terminal_a_line_is_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coloured, unless the user does not want that."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in _said_on_a_terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    said = _said_on_a_terminal()
    assert "\x1b[" not in said
    assert "fleet_started" in said
    assert not said.startswith("{")


def _said_on_a_terminal() -> str:
    ours, theirs = pty.openpty()
    try:
        with os.fdopen(theirs, "w", closefd=False) as stream:
            configure(LogConfig(), stream)
            structlog.get_logger().info("fleet_started")
        return os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_format_that_was_asked_for_wins(out: io.StringIO) -> None:
    """Console into a file, for instance; without colours there."""
    configure(LogConfig(format="console"), out)
    structlog.get_logger().info("fleet_started")
    assert "fleet_started" in out.getvalue()
    assert not out.getvalue().startswith("{")
    assert "\x1b[" not in out.getvalue()


def test_what_is_below_the_level_is_not_logged(out: io.StringIO) -> None:
    """From the level on, all is."""
    configure(LogConfig(level="warning"), out)
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), name)(f"{name}_said")
    assert [entry["event"] for entry in entries(out)] == ["warning_said", "error_said"]


def test_secrets_are_hidden_everywhere_in_a_line(out: io.StringIO) -> None:
    """In fields, in texts and in tracebacks."""
    configure(LogConfig(), out)
    try:
        message = "cannot reach nats://me:hunter2@host"
        raise OSError(message)
    except OSError:
        structlog.get_logger().exception("connect_failed", password="hunter2", url="nats://hunter2@host")
    (entry,) = entries(out)
    assert "hunter2" not in out.getvalue()
    assert "OSError" in entry["exception"]
    assert entry["url"] == "nats://***@host"


def test_a_value_that_cannot_be_shown_does_not_break_its_logger(out: io.StringIO) -> None:
    """The line comes out all the same."""

    class Unshowable:
        def __repr__(self) -> str:
            raise RuntimeError

    configure(LogConfig(), out)
    structlog.get_logger().info("odd", value=Unshowable())
    assert entries(out)[0]["value"] == "<Unshowable that cannot be shown: RuntimeError>"


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("nats_connection_lost", "warning"),
        ("mcp_server_exited", "warning"),
        ("actor_crashed", "warning"),
        ("flood_gate_refused", "warning"),
        ("task_dead_lettered", "warning"),
        ("breaker_opened", "warning"),
        ("event_listener_dropped", "warning"),
        ("supervisor_gave_up", "error"),
        ("nats_server_disk_full", "error"),
        ("failure_escalated", "error"),
        ("actor_zombie", "error"),
        ("actor_pierced", "warning"),
        ("crash_suspected_masked", "warning"),
        ("mcp_tools_missing", "warning"),
        ("nats_problem", "warning"),
        ("nats_connection_rebuilt", "info"),
        ("breaker_closed", "info"),
        # A word, not a part of one.
        ("floodlost_found", "info"),
        ("task_received", "debug"),
        ("message_sent", "debug"),
        ("task_progressed", "debug"),
        ("actor_started", "debug"),
        ("actor_exited", "debug"),
    ],
)
def test_an_event_is_logged_by_its_kind(kind: str, level: str) -> None:
    """Silent when it works, loud when it does not."""
    assert level == logging.getLevelName(level_of(kind)).lower()


def test_an_event_carries_its_place_and_its_cause(out: io.StringIO) -> None:
    """With its fields; one that has the name of ours is kept under another."""
    configure(LogConfig(), out)
    log_event(event("degradation_changed", level=2, event="x", path="/tmp", self=1, method_name="m", reason="nats"))
    (entry,) = entries(out)
    del entry["timestamp"]
    ours = {"event": "degradation_changed", "level": "info", "path": "fleet/editor/inbox", "event_id": 7, "cause": 3}
    theirs = {"level_": 2, "event_": "x", "path_": "/tmp", "self_": 1, "method_name_": "m", "reason": "nats"}
    assert ours | theirs == entry


async def test_it_listens_to_a_stream(out: io.StringIO) -> None:
    """An event without a cause has none."""
    configure(LogConfig(), out)
    stream = EventStream()
    stream.listen(log_event)
    stream.emit("actor_crashed", "fleet/editor/inbox", error="ValueError('bad')")
    (entry,) = entries(out)
    assert entry["level"] == "warning"
    assert "cause" not in entry


def test_libraries_are_heard_from_warning_on(out: io.StringIO) -> None:
    """With their name, their text and their traceback, in our format; levels of their own fit in."""
    configure(LogConfig(level="debug"), out)
    library = logging.getLogger("nats.aio.client")
    library.setLevel(logging.DEBUG)
    library.info("quiet")
    library.warning("%s is slow", "consumer")
    library.log(35, "between")
    try:
        raise ValueError
    except ValueError:
        library.exception("failed")
    library.error("nothing raised", exc_info=True)
    shown = [(entry["level"], entry["library"], entry["message"], "exception" in entry) for entry in entries(out)]
    name = "nats.aio.client"
    assert [
        ("warning", name, "consumer is slow", False),
        ("warning", name, "between", False),
        ("error", name, "failed", True),
        ("error", name, "nothing raised", False),
    ] == shown


def test_setting_up_again_replaces_what_was(out: io.StringIO) -> None:
    """A library's line comes once, at the new place."""
    old = io.StringIO()
    configure(LogConfig(), old)
    configure(LogConfig(), out)
    logging.getLogger("mcp").warning("once")
    assert old.getvalue() == ""
    assert len(entries(out)) == 1


def test_a_line_from_a_library_that_makes_no_sense_is_no_error(
    out: io.StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said as the standard library says it, on standard error."""
    # pytest's own handler raises on such a line.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    configure(LogConfig(), out)
    logging.getLogger("mcp").warning("%d", "not a number")
    assert entries(out) == []
    assert "not a number" in capsys.readouterr().err


def test_a_closed_pipe_costs_lines_only() -> None:
    """The reader is gone for good, and the fleet works on."""
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as stream:
        configure(LogConfig(), stream)
        structlog.get_logger().error("nobody_hears")
        logging.getLogger("mcp").error("nobody hears")


def test_a_closed_stream_costs_lines_only(out: io.StringIO) -> None:
    """At the end of a process standard error may be closed before we are."""
    sink = Sink(out)
    out.close()
    sink.write("x\n")
    assert sink.lost == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_lines_only() -> None:
    """Each is counted."""
    with Path("/dev/full").open("w") as stream:
        sink = Sink(stream)
        sink.write("x\n")
        sink.write("x\n")
    assert sink.lost == 2


def test_no_standard_error_at_all_is_no_error() -> None:
    """A process that was detached from everything has none."""
    sink = Sink(None)
    sink.write("x\n")
    assert sink.lost == 0


@pytest.mark.parametrize("length", [500, 10_000])
def test_a_reader_that_does_not_read_costs_lines_and_no_time(length: int) -> None:
    """A blocked write would block the event loop; when the reader comes back, it hears how many lines are missing."""
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "w") as stream, os.fdopen(ours, "rb", buffering=0) as reader:
        configure(LogConfig(), stream)
        log = structlog.get_logger()
        writer = threading.Thread(target=lambda: [log.info("line", number=n, pad="x" * length) for n in range(1000)])
        writer.daemon = True
        writer.start()
        writer.join(timeout=60)
        assert not writer.is_alive()
        first = reader.read(1 << 20)
        log.info("back")
        last = reader.read(1 << 20)
    whole = [json.loads(line) for line in first.splitlines() if line.endswith(b"}")]
    assert list(range(len(whole))) == [entry["number"] for entry in whole]
    # A line that got out in part stays apart from this one.
    back = json.loads((first + last).splitlines()[-1])
    assert back["event"] == "back"
    assert back["log_lines_lost"] == 1000 - len(whole)
