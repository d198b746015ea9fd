"""A real MCP server with tools that do what servers do on bad days; its arguments add trouble at the start."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ImageContent, TextContent

server = MCPServer("partner")
hoard: list[bytearray] = []


@server.tool()
def pid() -> int:
    """Return the server's process id."""
    return os.getpid()


@server.tool(structured_output=False)
def echo(text: str) -> str:
    """Return *text*."""
    return text


@server.tool(structured_output=False)
def picture() -> list[TextContent | ImageContent]:
    """Return more than text."""
    return [TextContent(type="text", text="look"), ImageContent(type="image", data="aGk=", mime_type="image/png")]


@server.tool()
def fail(reason: str) -> str:
    """Report an error, as a tool does."""
    raise ValueError(reason)


@server.tool()
async def sleep(seconds: float) -> str:
    """Wait, and stay able to answer meanwhile."""
    await anyio.sleep(seconds)
    return "awake"


@server.tool()
async def hang(seconds: float) -> str:
    """Block the whole server."""
    time.sleep(seconds)  # noqa: ASYNC251 - that is the point.
    return "unblocked"


@server.tool()
def crash(code: int) -> str:
    """Exit without an answer."""
    sys.stderr.write("about to crash\n")
    sys.stderr.flush()
    os._exit(code)


@server.tool()
def crash_once(marker: str) -> str:
    """Die by SIGKILL on the first call, and answer the next."""
    if Path(marker).exists():
        return "second time lucky"
    Path(marker).write_text("died here\n")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@server.tool()
def leak(megabytes: int) -> int:
    """Take memory and keep it; return what is held."""
    hoard.append(bytearray(os.urandom(1024) * (megabytes * 1024)))
    return sum(len(one) for one in hoard)


@server.tool()
def leave_child() -> int:
    """Start a child that inherits stdout and outlives this server, and return its pid."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


@server.tool()
async def learn(name: str, ctx: Context) -> str:
    """Offer one tool more, and say so to whoever listens."""
    server.add_tool(echo, name=name)
    await ctx.notify_tools_changed()
    return name


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fail-at-start", type=int, help="exit with this code, before anything else")
    parser.add_argument("--start-delay", type=float, default=0.0)
    parser.add_argument("--noise", action="store_true", help="print what is no message, and bytes that are no UTF-8")
    parser.add_argument("--http", type=int, help="serve streamable HTTP on this port")
    parser.add_argument("--learned", type=Path, help="a file with the names of more tools, one a line")
    parser.add_argument("--ignore-sigterm", action="store_true", help="also ignore the end of stdin")
    options = parser.parse_args()
    if options.fail_at_start is not None:
        sys.stderr.write("no database at localhost:1\n")
        sys.exit(options.fail_at_start)
    time.sleep(options.start_delay)
    if options.noise:
        sys.stdout.buffer.write(b"Welcome!\n\xff\xfe\n\n")
        sys.stdout.flush()
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for name in options.learned.read_text().split() if options.learned is not None else ():
        server.add_tool(echo, name=name)
    if options.http is not None:
        server.run("streamable-http", host="127.0.0.1", port=options.http)
        return
    server.run("stdio")
    if options.ignore_sigterm:
        time.sleep(600)


if __name__ == "__main__":
    main()
