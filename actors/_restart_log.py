"""A file with one line of JSON per restart of a tool server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_MAX_BYTES = 1024 * 1024


def append(path: Path, fields: dict[str, Any]) -> None:
    """Write one restart down; past 1 MiB the file becomes ``NAME.1`` and a new one begins.

    Raises:
        OSError: It cannot be written.
    """
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="replace") as file:
        file.write(line + "\n")
        is_full = file.tell() > _MAX_BYTES
    if is_full:
        path.replace(path.with_name(path.name + ".1"))
