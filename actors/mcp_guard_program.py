"""``agentrt mcp guard`` itself: the guard between this program's stdin and stdout and a server.

Run as ``python -m actors.mcp_guard_program SETTINGS COMMAND...``. It stays as long as its client does, once for each
server, so it imports no more than it uses.
"""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from actors._guard_report import Reports
from actors.mcp_guard import CannotStart, Guard, GuardSettings, stream_of

if TYPE_CHECKING:
    from collections.abc import Iterator

#: As a shell says that a command is not there.
_NOT_FOUND = 127


def main(settings: str, *command: str) -> int:
    """Guard a server until the client is done or a signal comes; return the exit status.

    Args:
        settings: JSON: those of :class:`GuardSettings`; ``status_file``, where the status is kept, or null; and
            ``metrics_port``, where Prometheus finds metrics on loopback, 0 for any, or null.
        command: The server.
    """
    given = json.loads(settings)
    status_file, metrics_port = given.pop("status_file"), given.pop("metrics_port")
    guarded = GuardSettings(command=command, **given)
    reports = Reports(guarded.name, status_file=Path(status_file) if status_file else None)
    return trio.run(_main, guarded, reports, metrics_port)


async def _main(settings: GuardSettings, reports: Reports, metrics_port: int | None) -> int:
    status = 0
    async with trio.open_nursery() as around:
        around.start_soon(reports.run)
        reports.starting(" ".join(settings.command))
        if metrics_port is not None:
            _serve_metrics(reports, metrics_port)
        guard = Guard(settings, reports, _read_memory)
        # What is there now stays: collections would look at all of it again and again, in the middle of calls.
        gc.collect()
        gc.freeze()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_signal, nursery.cancel_scope)
                async with stream_of(0) as reads, stream_of(1) as writes:
                    await guard.run(reads, writes)
                nursery.cancel_scope.cancel()
        except* CannotStart as group:
            reports.say(str(_first(group)))
            status = _NOT_FOUND
        except* OSError as group:
            reports.say(str(_first(group)))
            status = 1
        reports.refresh(guard.session)
        reports.stopped()
    return status


async def _until_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            scope.cancel()


async def _read_memory(pid: int) -> int | None:
    # Only where a limit is set, since the guard is meant to be small.
    from actors.memory_guard import read_tree  # noqa: PLC0415

    return await trio.to_thread.run_sync(read_tree, pid, abandon_on_cancel=True)


def _serve_metrics(reports: Reports, port: int) -> None:
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - as above.
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

    class Collector:
        def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
            status = reports.status
            for field in ("restarts", "answered", "resent", "unknown", "refused"):
                text = f"As {field!r} in the status file."
                counter = CounterMetricFamily(f"agentrt_guard_{field}", text, labels=("server",))
                counter.add_metric((status.name,), getattr(status, field))
                yield counter
            gauges = {
                "up": status.state == "ready",
                "in_flight": status.in_flight,
                "waiting": status.waiting,
                "memory_bytes": status.memory or math.nan,
            }
            for field, value in gauges.items():
                gauge = GaugeMetricFamily(
                    f"agentrt_guard_{field}", f"Of the guarded server: {field}.", labels=("server",)
                )
                gauge.add_metric((status.name,), float(value))
                yield gauge

    registry = CollectorRegistry()
    registry.register(Collector())
    try:
        server, _ = start_http_server(port, "127.0.0.1", registry)
    except OSError as error:
        # A client that starts the same command twice has two guards: the session is worth more than its figures.
        reports.say(f"cannot serve metrics on 127.0.0.1:{port}, and goes on without: {error.strerror}; 0 is any port")
        return
    reports.say(f"metrics on http://127.0.0.1:{server.server_port}/metrics (pid {os.getpid()})")


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
