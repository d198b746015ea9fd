"""``agentrt mcp proxy``, composed: its configuration, its log, and the signals that end it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from agentrt.cli.common import config_failure, run_async
from agentrt.cli.exits import ExitCode, Failure
from agentrt.cli.stopping import StopSignals
from agentrt.config import ConfigError, Invalid, Problem
from agentrt.config.lines import line_numbers
from agentrt.config.model import LogConfig
from agentrt.config.problems import KeyPath, dotted
from agentrt.config.proxy import ProxyFile, backend_of, put, read_proxy
from agentrt.kernel import EventStream
from agentrt.ops import logs

_LEVELS = ("debug", "info", "warning", "error")


def serve_proxy(program: Any, config: Path | None, options: dict[str, str], backends: Sequence[str], level: str) -> int:
    """Run the proxy until it is asked to stop; return the exit status.

    Args:
        program: Opens the proxy.
        config: Its file, where there is one.
        options: Keys of ``[proxy]`` that win over the file's.
        backends: Backends that win over the file's, as on the command line.
        level: What is logged.

    Raises:
        Failure: It could not start, for a reason that a person can mend.
    """
    if level not in _LEVELS:
        raise typer.BadParameter(f"--log-level is one of {', '.join(_LEVELS)}")
    file = read(config, options, backends)
    made: Any = level
    logs.configure(LogConfig(level=made))
    return run_async(_serve, program, file)


def read(config: Path | None, options: dict[str, str], backends: Sequence[str]) -> ProxyFile:
    """Read the configuration of a proxy.

    Raises:
        Failure: It is wrong; the message has every problem.
    """
    document, lines = _parse(config) if config is not None else ({}, {})
    given: set[KeyPath] = set()
    for option in backends:
        try:
            path, table = backend_of(option)
        except Invalid as error:
            raise typer.BadParameter(f"{error}; {error.hint}", param_hint="--backend") from None
        put(document, path, table)
        given.add(path)
    if options:
        put(document, ("proxy",), {**document.get("proxy", {}), **options})
        given.update(("proxy", key) for key in options)
    file, faults = read_proxy(document)
    if faults:
        where = str(config) if config is not None else "command line"
        raise config_failure(ConfigError(_problem(fault, where, lines, given) for fault in faults))
    return file


def _problem(fault: Any, file: str, lines: dict[KeyPath, int], given: set[KeyPath]) -> Problem:
    around = [fault.path[:length] for length in range(len(fault.path), 0, -1)]
    if any(path in given for path in around):
        return Problem("command line", None, dotted(fault.path), fault.message, fault.hint)
    line = next((lines[path] for path in around if path in lines), None)
    return Problem(file, line, dotted(fault.path), fault.message, fault.hint)


def _parse(path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    try:
        text = path.read_text("utf-8-sig")
        return tomllib.loads(text), line_numbers(text)
    except OSError as error:
        raise Failure(f"{path}: cannot be read: {error.strerror or error}", ExitCode.CONFIG) from error
    except ValueError as error:
        raise Failure(f"{path}: not valid TOML: {error}", ExitCode.CONFIG) from error


async def _serve(program: Any, file: ProxyFile) -> int:
    events = EventStream()
    events.listen(logs.log_event)
    try:
        async with program(file, events=events) as proxy:
            signals = StopSignals(proxy.stop, proxy.cancel)
            with signals.listening():
                typer.echo(f"agentrt mcp proxy: listening on {proxy.url}", err=True)
                for backend in proxy.desk.backends:
                    typer.echo(f"  {backend.path}  {', '.join(backend.config.url)}", err=True)
                await proxy.wait()
    except OSError as error:
        raise Failure(str(error), ExitCode.SYSTEM) from error
    return signals.exit_code
