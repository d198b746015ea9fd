"""What is told of a server's starts and ends: one event for each, and one line in a file for each restart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from actors import _restart_log
from actors._mcp_watch import Reporter
from agentrt.policy import RestartDelay

if TYPE_CHECKING:
    from actors._mcp_desk import Peer
    from agentrt.kernel import Event


class History:
    """Reports each start and each end of one server.

    Args:
        name: The server's name.
        log: The file for restarts, where one is configured.
        reporter: The actor that speaks for it.
    """

    def __init__(self, name: str, log: Path | None, reporter: Reporter) -> None:
        self._name = name
        self._log = log
        self._reporter = reporter
        self._exit: Event | None = None
        self._exit_code: int | None = None
        self._exited_at = 0.0
        self._last = RestartDelay(0.0, 0, extended=False, probably_permanent=False)

    def started(self, peer: Peer, began: float, tools: int, result: str) -> None:
        """Tell of a start that worked; *result* is what it is now, ready or not."""
        now = trio.current_time()
        event = self._reporter.emit(
            "mcp_server_started",
            server=self._name,
            pid=peer.pid,
            ms=round((now - began) * 1000),
            attempt=self._last.attempt + 1,
            tools=tools,
        )
        if self._exit is not None:
            ms = round((now - self._exited_at) * 1000)
            self._restarted("mcp_server_restarted", result, pid=peer.pid, ms=ms, started=event.id)

    def ended(
        self,
        peer: Peer | None,
        reason: str,
        verdict: RestartDelay,
        *,
        uptime: float,
        was_ready: bool,
        cause: Event | None,
    ) -> None:
        """Tell of an end, and of what comes next."""
        if self._exit is not None and not was_ready:
            self._restarted("mcp_server_restart_failed", reason, pid=peer.pid if peer is not None else None)
        self._exited_at = trio.current_time()
        self._last = verdict
        self._exit_code = peer.returncode if peer is not None else None
        ended = {
            "server": self._name,
            "reason": reason,
            "exit_code": self._exit_code,
            "signal": peer.signal if peer is not None else None,
            "stderr": peer.last_words if peer is not None else "",
            "attempt": verdict.attempt,
            "backoff": round(verdict.delay, 3),
        }
        self._exit = self._reporter.emit("mcp_server_exited", cause=cause, uptime=round(uptime, 3), **ended)
        if verdict.extended:
            self._reporter.emit(
                "mcp_server_failing",
                cause=self._exit,
                **ended | {"reason": _told(ended, verdict)},
                probably_permanent=verdict.probably_permanent,
            )

    def _restarted(self, kind: str, result: str, **more: Any) -> None:
        fields = {
            "server": self._name,
            "exit_code": self._exit_code,
            "attempt": self._last.attempt,
            "backoff": round(self._last.delay, 3),
            "result": result,
            **more,
        }
        self._reporter.emit(kind, cause=self._exit, **fields)
        if self._log is None:
            return
        try:
            _restart_log.append(self._log, fields)
        except OSError as error:
            self._reporter.emit("mcp_restart_log_failed", server=self._name, file=str(self._log), error=str(error))
            # Once is enough; the log has them all.
            self._log = None


def _told(ended: dict[str, Any], verdict: RestartDelay) -> str:
    """Say in one sentence what a person has to know who is woken by it."""
    what = "probably permanent" if verdict.probably_permanent else f"{verdict.attempt} failures in a row"
    code = f", exit code {ended['exit_code']}" if ended["exit_code"] is not None else ""
    words = f", stderr: {ended['stderr']}" if ended["stderr"] else ""
    return f"{what}: {ended['reason']}{code}; tried again every {verdict.delay / 60:.0f} minutes{words}"
