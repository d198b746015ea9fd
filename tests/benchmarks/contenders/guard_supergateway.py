"""supergateway, which serves a stdio server over HTTP: one server for each session, as its stateful mode has it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.mcp_links import HttpLink
from contenders.guarded import measure

PROGRAM = str(Path(sys.executable).parents[1] / "node_modules" / ".bin" / "supergateway")


class Contender:
    """Stateful, because a process for each request is no session."""

    def guard(self, **parameters: float) -> dict[str, float]:
        """Between a client and its server."""

        def through(server: Sequence[str]) -> HttpLink:
            options = ["--outputTransport", "streamableHttp", "--stateful", "--streamableHttpPath", "/mcp"]
            return HttpLink(lambda port: [PROGRAM, "--stdio", shlex.join(server), *options, "--port", str(port)])

        return measure(through, **parameters)
