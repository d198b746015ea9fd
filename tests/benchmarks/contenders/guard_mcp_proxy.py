"""mcp-proxy, which serves a stdio server over HTTP: the client speaks HTTP, which spares it a second hop."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.mcp_links import HttpLink
from contenders.guarded import measure

PROGRAM = str(Path(sys.executable).with_name("mcp-proxy"))


class Contender:
    """With what it does by default."""

    def guard(self, **parameters: float) -> dict[str, float]:
        """Between a client and its server."""

        def through(server: Sequence[str]) -> HttpLink:
            return HttpLink(lambda port: [PROGRAM, "--port", str(port), "--", *server])

        return measure(through, **parameters)
