"""The exit codes of the command line."""

from __future__ import annotations

import signal

from typer.testing import CliRunner

from agentrt.cli.exits import ExitCode, table
from agentrt.cli.main import app
from agentrt.cli.send import BY_STATUS
from agentrt.tasks import Status


def test_every_exit_code_is_in_the_help() -> None:
    """Scripts rely on them, so they are where a person looks first."""
    shown = CliRunner().invoke(app, ["--help"]).output
    for code in ExitCode:
        assert f"{code.value:>4}  {code.meaning}" in shown
    assert len(ExitCode) == len(table().splitlines())


def test_each_way_that_a_task_can_end_has_a_code_of_its_own() -> None:
    """A script can tell a refusal from a failure without reading a text."""
    assert set(Status) == set(BY_STATUS)
    assert len(Status) == len(set(BY_STATUS.values()))
    assert ExitCode.OK is BY_STATUS[Status.ANSWERED]


def test_a_second_signal_ends_with_the_number_that_shells_use() -> None:
    """128 and the signal's number."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    codes = (ExitCode.HUNG_UP, ExitCode.INTERRUPTED, ExitCode.TERMINATED)
    assert tuple(128 + number for number in numbers) == codes
