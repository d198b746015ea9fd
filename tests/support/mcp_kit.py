"""A tool server in memory and a session with it in virtual time: the SDK's real client, without a process."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from actors.mcp_session import McpSession, McpToolSession
from agentrt.config import ServerPolicies
from agentrt.config.model import McpServerConfig
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime


@attrs.define
class Plan:
    """How one start of the server goes."""

    tools: tuple[str, ...] = ("echo", "sleep", "work", "die")
    #: Raised instead of a start.
    error: OSError | None = None
    exit_at_start: int | None = None
    #: Nothing is answered for so long after the start.
    start_delay: float = 0.0
    on_discover: str = "refuse"
    #: Dies so many seconds after the start.
    lifetime: float | None = None
    #: What the server says of its tools, by the tool's name.
    annotations: dict[str, dict[str, bool]] = attrs.field(factory=dict)
    schema: dict[str, Any] = attrs.field(factory=lambda: {"type": "object"})


class MemoryServer:
    """A server process in memory: it answers lines, in virtual time, as an SDK server of 2025-11-25 does."""

    def __init__(self, pid: int, plan: Plan) -> None:
        self.pid = pid
        self.plan = plan
        self.exited = self.lost = trio.Event()
        self.started_at = self.last_heard = trio.current_time()
        self.returncode: int | None = None
        self.signal: str | None = None
        self.last_words = "starting\nout of luck"
        self.frozen = False
        self.reading = True
        self.seen: list[str] = []
        #: What the client answered to the server's own requests.
        self.replies: list[dict[str, Any]] = []
        self._sent = self._read = 0
        self._wake = trio.Event()
        self._requests: deque[bytes] = deque()
        self._answers, self._incoming = trio.open_memory_channel[bytes](1000)

    @property
    def ending(self) -> str:
        return f"exited with code {self.returncode}"

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, nursery)
                if self.plan.lifetime is not None:
                    nursery.start_soon(self._die_after, self.plan.lifetime)
                await self.exited.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.die(-15)

    def kill(self) -> None:
        self.die(-9)

    def die(self, code: int) -> None:
        if self.returncode is None:
            self.returncode = code
            self.exited.set()
            self._answers.close()

    async def say(self, method: str) -> None:
        """Send a notification."""
        await self._answers.send(json.dumps({"jsonrpc": "2.0", "method": method}).encode())

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Ask the client something, and return its answer."""
        await self._answers.send(json.dumps({"jsonrpc": "2.0", "id": "q", "method": method, "params": params}).encode())
        await until(lambda: self.replies)
        return self.replies.pop()

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        self.frozen = False
        self._wake.set()

    def send(self, line: bytes) -> int:
        if self.exited.is_set():
            raise trio.BrokenResourceError
        self._requests.append(line)
        self._sent += 1
        self._wake.set()
        return self._sent

    async def receive(self) -> bytes | None:
        try:
            return await self._incoming.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            return None

    def stop_listening(self) -> None:
        self._incoming.close()

    def may_have_read(self, mark: int) -> bool:
        return not self.exited.is_set() or mark <= self._read

    async def _die_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.die(1)

    async def _serve(self, nursery: trio.Nursery) -> None:
        if self.plan.exit_at_start is not None:
            self.die(self.plan.exit_at_start)
        await trio.sleep(self.plan.start_delay)
        while True:
            self._wake = trio.Event()
            while self._requests and self.reading and not self.frozen:
                self._read += 1
                nursery.start_soon(self._handle, json.loads(self._requests.popleft()))
            await self._wake.wait()

    async def _handle(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            self.replies.append({key: message[key] for key in ("result", "error") if key in message})
            return
        self.seen.append(message["method"])
        if "id" not in message:
            return
        try:
            body = await self._result(message["method"], message.get("params") or {})
        except ValueError as error:
            body = {"error": {"code": error.args[0], "message": error.args[1]}}
        if body and not self.frozen and not self.exited.is_set():
            self.last_heard = trio.current_time()
            await self._answers.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], **body}).encode())

    async def _result(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method == "server/discover":
            return self._discover()
        if method == "initialize":
            info = {"name": "memory", "version": "1"}
            return {"result": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}}
        if method == "ping":
            return {"result": {}}
        if method == "tools/list":
            hints = self.plan.annotations
            tools = [
                {"name": name, "inputSchema": self.plan.schema, "annotations": hints.get(name, {})}
                for name in self.plan.tools
            ]
            return {"result": {"tools": tools}}
        assert method == "tools/call", method
        return await self._call(params["name"], params.get("arguments") or {})

    def _discover(self) -> dict[str, Any]:
        if self.plan.on_discover == "exit":
            self.die(70)
        if self.plan.on_discover == "refuse":
            raise ValueError(-32601, "Method not found")
        return {}

    async def _call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if tool == "die":
            self.die(arguments.get("code", 1))
        if tool == "sleep":
            await trio.sleep(arguments["seconds"])
        if tool == "work":
            self.freeze()
            await trio.sleep(arguments["seconds"])
            self.thaw()
        text = arguments.get("text", f"from {self.pid}")
        if code := arguments.get("error"):
            raise ValueError(code, "as you wish")
        return {"result": {"content": [{"type": "text", "text": text}], "isError": arguments.get("is_error", False)}}


class World:
    """One session, its actor in a tree, and the servers that were started, in virtual time."""

    def __init__(
        self, *plans: Plan, then: Plan | None = None, policies: ServerPolicies | None = None, **config: Any
    ) -> None:
        self.plans = deque(plans)
        self.then = then or Plan()
        self.session = McpToolSession("tools", McpServerConfig(command=("tools",), **config), policies=policies)
        self.servers: list[MemoryServer] = []
        self.starts: list[float] = []
        self.events: list[Event] = []

    async def spawn(self, command: object, **_: object) -> MemoryServer:
        self.starts.append(trio.current_time())
        plan = self.plans.popleft() if self.plans else self.then
        if plan.error is not None:
            raise plan.error
        self.servers.append(MemoryServer(100 + len(self.servers), plan))
        return self.servers[-1]

    @asynccontextmanager
    async def run(self) -> AsyncIterator[World]:
        stream = EventStream()
        stream.listen(self.events.append)
        child = ChildSpec(id="mcp-tools", factory=lambda: McpSession(self.session, spawn=self.spawn), shutdown=12.0)
        with trio.fail_after(10_000):
            async with open_runtime(SupervisorSpec(id="agent", children=(child,)), seed=1, events=stream):
                yield self

    def named(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.starts, self.starts[1:], strict=False)]


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - in virtual time polling costs nothing and tells no test how it works.
        await trio.sleep(0.1)
