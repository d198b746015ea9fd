"""FastMCP's proxy: a server of its own, with a client behind it, over stdio both ways."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.mcp_links import StdioLink
from contenders.guarded import measure

PROXY = """
import sys
from fastmcp.client.transports import StdioTransport
from fastmcp.server import create_proxy
create_proxy(StdioTransport(sys.argv[1], sys.argv[2:])).run(show_banner=False)
"""


class Contender:
    """As its documentation has it."""

    def guard(self, **parameters: float) -> dict[str, float]:
        """Between a client and its server."""

        def through(server: Sequence[str]) -> StdioLink:
            return StdioLink([sys.executable, "-c", PROXY, *server])

        return measure(through, **parameters)
