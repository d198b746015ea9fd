"""`agentrt mcp guard` before a server with all that the protocol has: what passes is what passes without it."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

SERVER = [sys.executable, str(Path(__file__).parents[1] / "mcp_conformance" / "server.py")]
GUARD = [str(Path(sys.executable).with_name("agentrt")), "mcp", "guard", "--"]
CAPABILITIES: dict[str, Any] = {"sampling": {}, "elicitation": {}, "roots": {}}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": CAPABILITIES,
}
#: What the client answers to the server's own requests.
ANSWERS = {
    "sampling/createMessage": {"role": "assistant", "content": {"type": "text", "text": "Paris"}, "model": "none"},
    "elicitation/create": {"action": "accept", "content": {"username": "ada", "email": "ada@example.org"}},
}
#: Arguments of the tools that have any.
ARGUMENTS = {"test_sampling": {"prompt": "Where?"}, "test_elicitation": {"message": "Who?"}}

Request = tuple[str, dict[str, Any]]
READS: list[Request] = [
    ("tools/list", {}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "test_prompt_with_arguments", "arguments": {"arg1": "a", "arg2": "ü"}}),
    ("prompts/get", {"name": "test_prompt_with_image"}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "test://static-binary"}),
    ("resources/read", {"uri": "test://nowhere"}),
    ("completion/complete", {"ref": {"type": "ref/prompt"}, "argument": {"name": "arg1", "value": "par"}}),
    ("no/such/method", {}),
]
HANDSHAKE: list[Request] = [
    ("initialize", {"protocolVersion": "2025-11-25", "capabilities": CAPABILITIES, "clientInfo": {"name": "test"}}),
    ("ping", {}),
    ("logging/setLevel", {"level": "debug"}),
    ("resources/subscribe", {"uri": "test://watched-resource"}),
    ("resources/unsubscribe", {"uri": "test://watched-resource"}),
]


class Client:
    """A client that writes down each line that comes."""

    def __init__(self, process: trio.Process) -> None:
        self.lines: list[bytes] = []
        self._process = process
        self._read = b""

    async def send(self, **message: Any) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._read:
            chunk = await self._process.stdout.receive_some()
            assert chunk, "the server ended"
            self._read += chunk
        line, self._read = self._read.split(b"\n", 1)
        self.lines.append(line)
        message: dict[str, Any] = json.loads(line)
        return message

    async def ask(self, identity: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
        await self.send(id=identity, method=method, params=params)
        while True:
            message = await self.line()
            if "method" not in message:
                return message
            if "id" in message:
                await self.send(id=message["id"], result=ANSWERS[message["method"]])


async def conversation(command: list[str], begin: list[Request], more: dict[str, Any]) -> list[bytes]:
    """Ask for all that there is, and for each tool; return the lines that came."""
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        process = await nursery.start(run)
        client = Client(process)
        numbers = iter(range(1, 1000))
        for method, params in [*begin, *READS]:
            answer = await client.ask(next(numbers), method, {**params, **more})
            if method == "initialize":
                await client.send(method="notifications/initialized")
            if method == "tools/list":
                tools = [tool["name"] for tool in answer["result"]["tools"]]
        for tool in tools:
            meta = {**more.get("_meta", {}), "progressToken": tool}
            params = {"name": tool, "arguments": ARGUMENTS.get(tool, {}), "_meta": meta}
            await client.ask(next(numbers), "tools/call", params)
        await process.stdin.aclose()
    return client.lines


@pytest.mark.parametrize(
    ("begin", "more"), [(HANDSHAKE, {}), ([("server/discover", {})], {"_meta": META})], ids=["2025-11-25", "2026-07-28"]
)
async def test_a_guarded_server_says_what_it_says_without_a_guard(begin, more):
    """Byte for byte, and in the same order: results, errors, progress, logs, and what the server asks the client."""
    with trio.fail_after(60):
        bare = await conversation(SERVER, begin, more)
        guarded = await conversation([*GUARD, *SERVER], begin, more)
    assert len(bare) > len(begin) + len(READS)
    assert [_without_seal(line) for line in bare] == [_without_seal(line) for line in guarded]


def _without_seal(line: bytes) -> object:
    """Return a line; one with a state that each run of the server seals with a key of its own as what is in it."""
    message = json.loads(line)
    state = message.get("result", {}).get("requestState")
    if state is None:
        return line
    message["result"]["requestState"] = state.partition(".")[0]
    return message
