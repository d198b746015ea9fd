"""A client of an MCP server in a few lines of the standard library, over stdio and HTTP, so that it costs nothing."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from bench.measure import now

SERVER = str(Path(__file__).with_name("echo_server.py"))
#: Seconds that a program may take to come up, or to answer.
START, ANSWER = 30.0, 10.0
_HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}

Message = dict[str, Any]


def server_command(starts: Path, *options: str) -> list[str]:
    """Say how the server is started; -I and -S, because what it imports is most of its start."""
    return [sys.executable, "-I", "-S", SERVER, str(starts), *options]


class Link(Protocol):
    """A session with a server, whatever stands between."""

    #: What stands between; None where nothing does.
    pid: int | None

    def ask(self, method: str, params: Message, patience: float) -> Message: ...
    def close(self) -> None: ...


class NoAnswer(Exception):
    """There was none in time, or the connection is gone."""


class StdioLink:
    """A program that is spoken to in lines."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        self.pid: int | None = self._process.pid
        self._number = 0
        self._read = b""

    def ask(self, method: str, params: Message, patience: float) -> Message:
        self._number += 1
        self.send({"id": self._number, "method": method, "params": params})
        until = now() + patience
        while True:
            message = json.loads(self._line(until))
            if message.get("id") == self._number and "method" not in message:
                return message

    def send(self, message: Message) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        except OSError as error:
            raise NoAnswer from error

    def _line(self, until: float) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - now()))
            chunk = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                raise NoAnswer
            self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        _end(self._process)
        self._process.stdout.close()


class HttpLink:
    """A program that serves streamable HTTP on a port of loopback."""

    def __init__(self, command: Callable[[int], Sequence[str]]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._process = subprocess.Popen(
            command(port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.pid: int | None = self._process.pid
        self._number = 0
        self._headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER)
        self._wait_for(port)

    def _wait_for(self, port: int) -> None:
        until = now() + START
        while now() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
            time.sleep(0.01)
        raise NoAnswer

    def ask(self, method: str, params: Message, patience: float) -> Message:
        self._number += 1
        self._connection.timeout = patience
        if self._connection.sock is not None:
            self._connection.sock.settimeout(patience)
        body = self._post({"id": self._number, "method": method, "params": params})
        # An event stream has the answer in a line that begins with "data:".
        for line in body.splitlines():
            text = line.removeprefix(b"data:").strip()
            if text.startswith(b"{") and (message := json.loads(text)).get("id") == self._number:
                if method == "initialize":
                    self._headers["Mcp-Protocol-Version"] = message["result"]["protocolVersion"]
                return message
        raise NoAnswer

    def send(self, message: Message) -> None:
        self._post(message)

    def _post(self, message: Message) -> bytes:
        try:
            self._connection.request("POST", "/mcp", json.dumps({"jsonrpc": "2.0", **message}), self._headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise NoAnswer from error
        if session := response.headers.get("Mcp-Session-Id"):
            self._headers["Mcp-Session-Id"] = session
        return body

    def close(self) -> None:
        self._connection.close()
        self._process.terminate()
        _end(self._process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def greet(link: StdioLink | HttpLink) -> None:
    """Begin the session, as a client does."""
    if "result" not in link.ask("initialize", _HELLO, START):
        raise NoAnswer
    link.send({"method": "notifications/initialized"})
    link.ask("tools/list", {}, START)


def call(link: Link, patience: float = ANSWER) -> int | None:
    """Call the tool, and return the server's process; None where that was no good answer."""
    message = link.ask("tools/call", {"name": "pid", "arguments": {}}, patience)
    result = message.get("result") or {}
    content = result.get("content")
    return int(content[0]["text"]) if content and not result.get("isError") else None


def kill(pid: int) -> None:
    """Kill a process."""
    os.kill(pid, signal.SIGKILL)


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they did (Linux)."""
    children = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            children += map(int, (task / "children").read_text(encoding="ascii").split())
    return [each for child in children for each in (child, *descendants(child))]
