"""Sets up structlog, brings the libraries' logging into it, and logs the fleet's events."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from agentrt.ops.redact import plain

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from agentrt.config.model import LogConfig
    from agentrt.kernel.events import Event

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# What a kind of event is logged at, by the words in it; the first that fits counts, and info where none does.
_KIND_LEVELS: tuple[tuple[int, tuple[str, ...]], ...] = (
    # One or more per message: the metrics count them, and a log that is silent while all works can be read. A task is
    # an actor of its own, so its start and its ordinary end are among them.
    (
        logging.DEBUG,
        (
            *("message_sent", "message_received", "task_received", "task_progressed", "task_finished"),
            *("actor_started", "actor_exited"),
        ),
    ),
    (logging.ERROR, ("gave_up", "escalated", "zombie", "failing", "disk_full")),
    (
        logging.WARNING,
        (
            *("lost", "exited", "crashed", "refused", "dead_lettered", "dropped", "failed", "killed", "stuck"),
            *(
                "timed_out",
                "quarantined",
                "parked",
                "blocked",
                "missed",
                "missing",
                "undelivered",
                "pierced",
                "masked",
                "problem",
                "breaker_opened",
                "unresponsive",
                "retried",
                "doubt",
            ),
        ),
    ),
)
# Names that structlog or this module gives a meaning; a field of an event that has one gets a "_" behind it.
_RESERVED = frozenset(
    (
        *("event", "level", "timestamp", "exc_info", "exception", "stack", "stack_info", "log_lines_lost"),
        *("path", "event_id", "cause", "self", "method_name"),
    )
)


def configure(config: LogConfig, stream: TextIO | None = None) -> None:
    """Set logging up for this process: console on a terminal, JSON lines otherwise.

    Times are ISO in UTC. Secrets are hidden. What other libraries log from warning on comes in as ``library_logged``.
    Called again, it replaces what it did before.

    Args:
        config: Level and format.
        stream: Where to; standard error by default.
    """
    out = stream if stream is not None else sys.stderr
    # Without a console Python has no standard error at all.
    terminal = out is not None and out.isatty()
    sink = Sink(out)
    console = config.format == "console" or (config.format == "auto" and terminal)
    colors = terminal and "NO_COLOR" not in os.environ
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            sink.tell_lost,
            _hide_secrets,
            _console(colors=colors) if console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[config.level]),
        logger_factory=structlog.WriteLoggerFactory(file=sink),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryHandler(max(logging.WARNING, _LEVELS[config.level])))


def log_event(event: Event) -> None:
    """Log *event* by its kind; a listener for :class:`~agentrt.kernel.events.EventStream`."""
    fields = {f"{name}_" if name in _RESERVED else name: value for name, value in event.fields.items()}
    cause = {} if event.cause is None else {"cause": event.cause}
    structlog.get_logger().log(level_of(event.kind), event.kind, path=event.path, event_id=event.id, **cause, **fields)


def level_of(kind: str) -> int:
    """Return the level that events of *kind* are logged at."""
    for level, words in _KIND_LEVELS:
        if any(f"_{word}_" in f"_{kind}_" for word in words):
            return level
    return logging.INFO


class Sink:
    """Writes lines where they can be written, and counts the others; it neither raises nor waits for a reader.

    A closed pipe, a full disk or a reader that does not read (a stopped pager, a terminal with its output held) costs
    lines, not the fleet: a loop that waits for its log is blocked. The next line that gets through says how many.
    """

    #: Seconds that a reader which kept up so far may take to make room.
    patience = 0.05
    # A pipe that says it is writable takes at least this much without waiting (PIPE_BUF).
    _chunk = 4096 if sys.platform == "linux" else 512

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._lock = threading.Lock()
        self._torn = False
        self._behind = False
        self._told = 0
        self.lost = 0

    def write(self, text: str) -> None:
        """Write one line, or count it as lost."""
        with self._lock:
            try:
                self._put(text)
            except (OSError, ValueError):
                # ValueError: the stream was closed.
                self.lost += 1
                self._behind = True
            else:
                self._told = self.lost
                self._behind = False

    def flush(self) -> None:
        """Do nothing: each line is out when :meth:`write` returns."""

    def tell_lost(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Add the number of lines lost so far, until a line got through with it; a structlog processor."""
        if self.lost > self._told:
            entry["log_lines_lost"] = self.lost
        return entry

    def _put(self, text: str) -> None:
        if self._stream is None:
            return
        if self._descriptor is None:
            self._stream.write(text)
            self._stream.flush()
            return
        # After a line that got out in part only, the next one must not be glued to it.
        data = memoryview((f"\n{text}" if self._torn else text).encode("utf-8", "backslashreplace"))
        length = len(data)
        while data:
            self._await_room(self._descriptor)
            data = data[os.write(self._descriptor, data[: self._chunk]) :]
            self._torn = 0 < len(data) < length

    def _await_room(self, descriptor: int) -> None:
        _, writable, _ = select.select((), (descriptor,), (), 0.0 if self._behind else self.patience)
        if not writable:
            message = "nobody reads the log"
            raise BlockingIOError(message)


class _LibraryHandler(logging.Handler):
    """Hands what libraries log by the standard library on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log *record* with its library's name."""
        try:
            structlog.get_logger().log(
                # Libraries may have levels of their own in between; structlog knows the five.
                min(logging.CRITICAL, record.levelno // 10 * 10),
                "library_logged",
                library=record.name,
                message=record.getMessage(),
                exc_info=record.exc_info[1] if record.exc_info else None,
            )
        except Exception:  # noqa: BLE001 - as every handler of the standard library does.
            self.handleError(record)


def _console(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _hide_secrets(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> dict[str, Any]:
    # Whatever it was, it is plain now, so no renderer can fail on it.
    hidden: dict[str, Any] = plain(entry)
    return hidden


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
