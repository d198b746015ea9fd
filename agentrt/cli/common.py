"""What several commands share: their options, reading the configuration, and printing."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar, TypeVarTuple, Unpack

import trio
import typer

from agentrt.cli.exits import ExitCode, Failure
from agentrt.cli.statedir import RunInfo, find_run
from agentrt.config import ConfigError, Invalid, Loaded, SecretError, load, parse_duration
from agentrt.kernel import TreeFailed
from agentrt.ports import BatteryMissing, Json

_Args = TypeVarTuple("_Args")
_Result = TypeVar("_Result")

ConfigOption = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The fleet's configuration.", show_default=True)
]
ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="The fleet's configuration, a TOML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text for people.")]
DEFAULT_CONFIG = Path("config.toml")


def duration(text: str) -> float:
    """Read an option that is a duration.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        return parse_duration(text)
    except Invalid as error:
        message = f"{error}; {error.hint}" if error.hint else str(error)
        raise typer.BadParameter(message) from None


def read_config(path: Path) -> Loaded:
    """Read the configuration, without importing the agents' classes.

    Raises:
        Failure: It is wrong; the message has every problem.
    """
    try:
        return load(path, os.environ)
    except ConfigError as error:
        raise config_failure(error) from error


def config_failure(error: ConfigError) -> Failure:
    """Say what is wrong with a configuration, one problem a line."""
    count = len(error.problems)
    heading = "the configuration cannot be used" + (f" ({count} problems)" if count > 1 else "")
    return Failure(f"{heading}:\n{error}", ExitCode.CONFIG)


def state_dir(loaded: Loaded) -> Path:
    """Return the fleet's state directory."""
    return loaded.folder / loaded.config.fleet.state_dir


def running(loaded: Loaded) -> RunInfo:
    """Find the running fleet.

    Raises:
        Failure: None runs here, or it cannot be reached.
    """
    info = find_run(state_dir(loaded))
    if info is None:
        raise no_fleet(loaded)
    return info


def no_fleet(loaded: Loaded) -> Failure:
    """Say that no fleet runs."""
    return Failure(
        f"no fleet runs on {state_dir(loaded)}; start it with: agentrt run {loaded.file}",
        ExitCode.UNAVAILABLE,
    )


def print_json(value: Json) -> None:
    """Print a value as JSON on standard output."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair is JSON and no text.
        text = json.dumps(value, indent=2)
    typer.echo(text)


def run_async(function: Callable[[Unpack[_Args]], Awaitable[_Result]], *args: *_Args) -> _Result:
    """Run an async function, and raise what a person can understand without a traceback as a :class:`Failure`."""
    try:
        return trio.run(function, *args)
    except BaseException as error:  # noqa: BLE001 - raised again, said better.
        # Without the groups around it: a traceback shows the error once, with all of its own frames.
        raise _told(_single(error)) from None  # noqa: ASYNC104 - outside the run there is no cancellation.


def _single(error: BaseException) -> BaseException:
    """Take an error out of the groups that nurseries put around it; several stay a group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _told(error: BaseException) -> BaseException:
    match error:
        case TreeFailed():
            return Failure(f"the fleet failed:\n{error.exit.report(2)}", ExitCode.BROKEN)
        case SecretError():
            return Failure(str(error), ExitCode.CONFIG)
        case BatteryMissing():
            return Failure(str(error), ExitCode.SYSTEM)
    return error
