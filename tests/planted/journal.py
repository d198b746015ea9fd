"""A plugin of pytest that writes down at once how a run goes, since a run with a bug in it may never end by itself."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

import pytest

#: The environment's names of the project that is to be imported, and of the file that is written.
ROOT, FILE = "PLANTED_ROOT", "PLANTED_JOURNAL"
#: Bytes that a run may take: a loop without end must not take what others need.
MEMORY = 4 << 30

_began: dict[str, float] = {}


def _write(event: str, node: str = "", cpu: float = 0.0) -> None:
    with Path(os.environ[FILE]).open("a") as file:
        file.write(json.dumps({"event": event, "node": node, "cpu": cpu}) + "\n")


def pytest_configure() -> None:
    """Make sure that it is the copy that is tested, and not what is installed."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    import agentrt  # noqa: PLC0415 - what does not even import is told as that.

    assert agentrt.__file__ is not None
    assert Path(agentrt.__file__).is_relative_to(os.environ[ROOT]), agentrt.__file__
    _write("imported")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Tell of a module that does not import."""
    if report.failed:
        _write("not collected", report.nodeid)


def pytest_runtest_logstart(nodeid: str) -> None:
    """Tell which test begins: it may be the last one."""
    _began[nodeid] = time.process_time()
    _write("began", nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell of a failure."""
    if report.failed:
        _write("failed", report.nodeid)


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Tell how much of the processor's time a test took, which does not depend on who else needs it."""
    _write("ended", nodeid, time.process_time() - _began.pop(nodeid))
