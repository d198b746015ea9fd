"""Processes of a test, found by a mark in their environment, wherever they went."""

from __future__ import annotations

import psutil

#: The variable that carries the mark.
MARK = "AGENTRT_TEST"


def processes(mark: str) -> list[psutil.Process]:
    """Find the processes that carry *mark*, zombies aside."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
