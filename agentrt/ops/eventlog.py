"""The events of a fleet as JSON lines in a file, for whoever comes after a crash."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from agentrt.ops.redact import plain

if TYPE_CHECKING:
    from pathlib import Path

    from agentrt.kernel.events import Event

_log = structlog.get_logger()


class EventLog:
    """Appends each event as one line, at once, readable by its owner only.

    A line has ``run`` (ids and causes count anew in each run), ``id``, ``kind``, ``path``, ``time`` (monotonic),
    ``wall`` (ISO, UTC), ``cause`` and ``fields``. A disk that is full loses lines, counted and said once; it never
    raises into the fleet. A line that was cut off by that is followed by a line break, so it spoils no other.

    Args:
        path: The file; its folder has to exist. The one before it is kept beside it, as ``.1``.
        max_bytes: The file is put aside before it grows beyond this.
    """

    def __init__(self, path: Path, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._run = secrets.token_hex(4)
        self._file: int | None = None
        self._size = 0
        self._torn = False
        self._failing = False
        self.lost = 0

    def __repr__(self) -> str:
        return f"<EventLog {self._path} lost={self.lost}>"

    def append(self, event: Event) -> None:
        """Write *event* down; a listener for :class:`~agentrt.kernel.events.EventStream`."""
        line = self._line(event)
        try:
            self._write(line)
        except OSError as error:
            self.lost += 1
            if not self._failing:
                self._failing = True
                _log.error("event_log_unwritable", file=str(self._path), error=str(error))
            return
        if self._failing:
            self._failing = False
            _log.warning("event_log_writable_again", file=str(self._path), lost=self.lost)

    def close(self) -> None:
        """Close the file; an event that comes after it opens it again."""
        if self._file is not None:
            descriptor, self._file = self._file, None
            # A disk may say only now that it is full; every line that it took was counted when it was written.
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _line(self, event: Event) -> bytes:
        record = {
            "run": self._run,
            "id": event.id,
            "kind": event.kind,
            "path": event.path,
            "time": event.time,
            "wall": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "cause": event.cause,
            "fields": plain(event.fields),
        }
        return json.dumps(record).encode() + b"\n"

    def _write(self, line: bytes) -> None:
        descriptor = self._open() if self._file is None else self._file
        if self._size and self._size + len(line) > self._max_bytes:
            self.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            descriptor = self._open()
        data = b"\n" + line if self._torn else line
        written = os.write(descriptor, data)
        self._size += written
        # Nothing written tears nothing; a part does, and what follows must not be glued to it.
        self._torn = 0 < written < len(data)
        if written < len(data):
            message = f"only {written} of {len(data)} bytes were written"
            raise OSError(message)

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._file = descriptor
        # Also where the file was there before, made by a run with another umask.
        os.fchmod(descriptor, 0o600)
        self._size = os.fstat(descriptor).st_size
        # A run before this one may have ended in the middle of a line.
        self._torn = self._size > 0 and os.pread(descriptor, 1, self._size - 1) != b"\n"
        return descriptor
