"""An MCP server with a leak: it keeps every book that it read."""

from __future__ import annotations

import anyio
from mcp.server.mcpserver import MCPServer

server = MCPServer("shelf")
books: list[bytes] = []


@server.tool()
async def read(title: str, megabytes: int = 0, seconds: float = 0.0) -> str:
    """Read a book of this size, for so long."""
    books.append(title.encode().ljust(1024, b" ") * (1024 * megabytes))
    await anyio.sleep(seconds)
    return f"read {title!r}"


if __name__ == "__main__":
    server.run("stdio")
