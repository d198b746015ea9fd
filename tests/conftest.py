"""What every test needs: logging as it is before anybody configured it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    """Logging is configured per process: what one test sets up would filter what another one looks for."""
    handlers = list(logging.getLogger().handlers)
    yield
    structlog.reset_defaults()
    for handler in list(logging.getLogger().handlers):
        if handler not in handlers:
            logging.getLogger().removeHandler(handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first, so that it does not run alone in the end."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell the times to notice and to recover that tests recorded: they are reported and never asserted."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    rows = [(report.nodeid, dict(report.user_properties)) for report in reports if report.when == "call"]
    noticed = [(name, told["noticed"]) for name, told in rows if "noticed" in told]
    if noticed:
        terminalreporter.section("time to notice")
    for name, seconds in noticed:
        terminalreporter.write_line(f"{name.rpartition('::')[2]}: {seconds:8.3f} s")
    rows = [(name, told) for name, told in rows if "recovered" in told or "soak" in told]
    if rows:
        terminalreporter.section("time to recover")
    for name, told in rows:
        seconds = ", ".join(f"{sign} {value}" for sign, value in told.items() if sign not in ("recovered", "soak"))
        text = told.get("soak") or f"{told['recovered']:8.3f} s ({seconds})"
        terminalreporter.write_line(f"{name.rpartition('::')[2]}: {text}")
