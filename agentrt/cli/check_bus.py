"""``agentrt check --bus``: is on the bus what the configuration declares?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from agentrt.cli.bus import open_bus
from agentrt.cli.common import run_async, state_dir
from agentrt.cli.exits import ExitCode, Failure
from agentrt.cli.statedir import find_run
from agentrt.config import Loaded
from agentrt.fleet import topology_of
from agentrt.ports import BusError, BusUnavailable, Difference, Finding

_WHAT_RUN_DOES = "agentrt run sets it right"
_WHAT_TO_DO = "cannot be changed: delete it on the bus, with what it holds, or change what declares it"


def compare_bus(loaded: Loaded, timeout: float) -> Sequence[Finding]:
    """Compare what the fleet declares with what its bus has, and change nothing.

    Raises:
        Failure: The bus cannot be reached; says why.
    """
    url, token = loaded.config.bus.url, None
    if url is None:
        # Of a server that the fleet brings along only the running fleet knows where it is.
        running = find_run(state_dir(loaded))
        if running is None:
            raise Failure(
                "the bus cannot be looked at: no [bus] url is given, and the fleet, which brings its own nats-server,"
                f" does not run on {state_dir(loaded)}; start it with: agentrt run {loaded.file}",
                ExitCode.UNAVAILABLE,
            )
        url, token = running.bus_url, running.bus_token
    return run_async(_compare, loaded, url, token, timeout)


async def _compare(loaded: Loaded, url: str, token: str | None, timeout: float) -> Sequence[Finding]:
    async with open_bus(loaded, url=url, token=token, name="check") as bus:
        try:
            return await bus.compare(topology_of(loaded.config), timeout=timeout)
        except BusUnavailable as error:
            raise Failure(f"the bus cannot be reached: {error}", ExitCode.UNAVAILABLE) from error
        except BusError as error:
            raise Failure(f"the bus does not let itself be looked at: {error}", ExitCode.UNAVAILABLE) from error


def agrees(findings: Sequence[Finding]) -> bool:
    """Whether all that is declared is there as declared."""
    return all(finding.state == "ok" for finding in findings)


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Write the findings for a script."""
    return [attrs.asdict(finding) for finding in findings]


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Write the findings for people, one thing a line and each difference below it."""
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        yield f"{finding.kind:<8} {finding.name:<{width}}  {_state(finding)}"
        for difference in finding.differences:
            yield f"{'':<8} {'':<{width}}    {_difference(difference)}"


def _state(finding: Finding) -> str:
    if finding.state == "missing":
        return "missing: agentrt run makes it"
    return f"{finding.state}: {finding.reason}" if finding.reason else finding.state


def _difference(difference: Difference) -> str:
    advice = _WHAT_RUN_DOES if difference.fixable else _WHAT_TO_DO
    return f"{difference.field}: declared {difference.declared}, is {difference.actual} ({advice})"
