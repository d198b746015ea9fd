"""The generic client around a client of quite another kind: lines over raw TCP, with a library's own tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from websocket_server import free_port, until

from actors.client import ClientActor, ClientSettings, ManagedClient
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.ports import ClientAdapter


class LineClient:
    """What somebody's library may look like: asks in lines, and has a task that reads the answers."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._answers: list[str] = []
        self._answered = trio.Condition()
        self._asking = trio.Lock()
        self.ended = trio.Event()

    async def read(self) -> None:
        buffer = b""
        async for data in self._stream:
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            async with self._answered:
                self._answers += [line.decode() for line in lines]
                self._answered.notify_all()
        self.ended.set()

    async def ask(self, line: str) -> str:
        # One after the other: an answer does not say what it answers.
        async with self._asking:
            await self._stream.send_all(line.encode() + b"\n")
            async with self._answered:
                while not self._answers:
                    await self._answered.wait()
                return self._answers.pop(0)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Lines(ClientAdapter[LineClient]):
    """The whole of what it takes to supervise it."""

    port = 0

    async def connect(self, nursery: trio.Nursery) -> LineClient:
        client = LineClient(await trio.open_tcp_stream("127.0.0.1", self.port))
        nursery.start_soon(client.read)
        return client

    async def probe(self, client: LineClient) -> None:
        assert "pong" == await client.ask("ping")

    async def closed(self, client: LineClient) -> str:
        await client.ended.wait()
        return "the server closed it"

    async def restore(self, client: LineClient) -> None:
        assert "ok" == await client.ask("subscribe news")

    async def close(self, client: LineClient) -> None:
        await client.aclose()


class LineServer:
    """Answers lines, but where it is told to be silent or to break."""

    def __init__(self) -> None:
        self.port = free_port()
        self.lines: list[str] = []
        self.is_silent = False
        self.streams: list[trio.SocketStream] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        self.streams.append(stream)
        try:
            async for data in stream:
                for line in data.decode().split():
                    self.lines.append(line)
                    if not self.is_silent and line != "news":
                        await stream.send_all(b"pong\n" if line == "ping" else b"ok\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[LineServer, ManagedClient[LineClient], list[Event]]]:
    server, adapter, stream, events = LineServer(), Lines(), EventStream(), list[Event]()
    adapter.port = server.port
    stream.listen(events.append)
    settings = ClientSettings(probe_interval=0.05, probe_timeout=0.3, probe_limit=0.6)
    managed: ManagedClient[LineClient] = ManagedClient("lines", adapter, settings)
    root = SupervisorSpec(id="agent", children=(ChildSpec(id="lines", factory=lambda: ClientActor(managed)),))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(server.port, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, server.serve, listeners)
            async with open_runtime(root, seed=1, events=stream):
                await managed.wait_ready()
                yield server, managed, events
            nursery.cancel_scope.cancel()


def reasons(events: list[Event], kind: str) -> list[Any]:
    return [event.fields["reason"] for event in events if event.kind == kind]


async def test_a_client_of_another_kind_is_made_anew_when_its_server_drops_it():
    """And subscribes again before anybody gets it."""
    async with running() as (server, managed, events):
        first = await managed.client()
        await server.streams[0].aclose()
        await until(lambda: managed.counted.rebuilds == 1)
        second = await managed.client()
        assert first is not second
        assert "ok" == await second.ask("hello")
        assert 2 == server.lines.count("subscribe")
        # An end in order or a reset, as the network has it: the library's task, or its end, told of it.
        assert 1 == len(reasons(events, "connection_lost"))


async def test_a_client_of_another_kind_is_made_anew_when_its_server_falls_silent():
    """Its socket is open, so that only the probe can tell."""
    async with running() as (server, managed, events):
        server.is_silent = True
        await until(lambda: managed.counted.losses == 1)
        assert ["no probe was answered for 0.6 s (no answer)"] == reasons(events, "connection_lost")
        server.is_silent = False
        await until(lambda: managed.is_ready)
        assert "ok" == await (await managed.client()).ask("hello")
