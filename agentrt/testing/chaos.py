"""Faults to order, in a fleet under test: of its tool servers and connections, and of the bus in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from agentrt.fleet import Fleet
from agentrt.testing.connections import InProcessConnection
from agentrt.testing.tools import InProcessSession


class Chaos:
    """Faults to order. One that lasts undoes itself at the end of its ``async with``; one that strikes is a call.

    The faults of a connection are an agent's; those of streams and of JetStream concern everybody on the bus.

    Args:
        fleet: The fleet.
        sessions: Tool servers, by agent and server.
        connections: Other connections, by agent and name.
        broker: The broker in memory.
    """

    def __init__(
        self,
        fleet: Fleet,
        sessions: Mapping[tuple[str, str], InProcessSession],
        connections: Mapping[tuple[str, str], InProcessConnection],
        broker: Any,
    ) -> None:
        self._fleet = fleet
        self._sessions = sessions
        self._connections = connections
        self._broker = broker

    # Tool servers

    @asynccontextmanager
    async def crash(self, path: str, *, restart_after: float = 1.0) -> AsyncIterator[None]:
        """Crash a tool server, named as ``editor/tools/archive``; it is back after *restart_after* seconds, or sooner.

        It is back when the block ends in any case.
        """
        agent, _, server = path.partition("/tools/")
        if (agent, server) not in self._sessions:
            known = ", ".join(f"{agent}/tools/{server}" for agent, server in self._sessions) or "none"
            raise LookupError(f"no tool server at {path!r}; there are: {known}")
        session = self._sessions[agent, server]
        session.crash()
        restart = self._fleet.runtime.timers.at(trio.current_time() + restart_after, session.restore)
        try:
            yield
        finally:
            restart.cancel()
            session.restore()

    # Other connections

    @asynccontextmanager
    async def cut(self, path: str) -> AsyncIterator[None]:
        """Cut a connection, named as ``editor/connections/feed``."""
        agent, _, name = path.partition("/connections/")
        if (agent, name) not in self._connections:
            known = ", ".join(f"{agent}/connections/{name}" for agent, name in self._connections) or "none"
            raise LookupError(f"no connection at {path!r}; there are: {known}")
        connection = self._connections[agent, name]
        connection.cut()
        try:
            yield
        finally:
            connection.restore()

    # An agent's connection to the bus

    @asynccontextmanager
    async def disconnect(self, agent: str) -> AsyncIterator[None]:
        """Cut an agent off from the bus."""
        bus = self._bus(agent)
        bus.disconnect()
        try:
            yield
        finally:
            bus.reconnect()

    @asynccontextmanager
    async def slow(self, agent: str, seconds: float) -> AsyncIterator[None]:
        """Let everything that an agent asks of the bus, and waits for, take *seconds* longer."""
        async with self._faulty(agent, latency=seconds):
            yield

    @asynccontextmanager
    async def delay_deliveries(self, agent: str, seconds: float) -> AsyncIterator[None]:
        """Let each delivery be on its way to an agent for *seconds*, while its ack wait runs."""
        async with self._faulty(agent, delivery_delay=seconds):
            yield

    @asynccontextmanager
    async def deny(
        self, agent: str, *, publish: Sequence[str] = (), subscribe: Sequence[str] = ()
    ) -> AsyncIterator[None]:
        """Do not let an agent publish, or subscribe, to the subjects that these patterns take."""
        async with self._faulty(agent, no_publish=tuple(publish), no_subscribe=tuple(subscribe)):
            yield

    @asynccontextmanager
    async def _faulty(self, agent: str, **faults: object) -> AsyncIterator[None]:
        there = self._bus(agent).faults
        before = {name: getattr(there, name) for name in faults}
        for name, value in faults.items():
            setattr(there, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(there, name, value)

    def lose_ack(self, agent: str, count: int = 1) -> None:
        """Let the next *count* acknowledgements of an agent be lost: it hears nothing, and the message comes again."""
        self._bus(agent).faults.lost_acks += count

    def duplicate(self, agent: str, count: int = 1) -> None:
        """Let each of the next *count* deliveries to an agent come twice, the second while the first is in hand."""
        self._bus(agent).faults.duplicates += count

    def redeliver(self, agent: str) -> None:
        """Let all that an agent has in hand be delivered again now, as by a server that forgot who has it."""
        self._bus(agent).redeliver()

    def _bus(self, agent: str) -> Any:
        if agent not in self._fleet.members:
            raise LookupError(f"no agent {agent!r}; there are: {', '.join(self._fleet.members)}")
        return self._fleet.members[agent].bus

    # JetStream

    @asynccontextmanager
    async def jetstream_away(self) -> AsyncIterator[None]:
        """Serve core messages only: nothing is stored, delivered, read or written meanwhile, and nothing is lost."""
        self._broker.lose_jetstream()
        try:
            yield
        finally:
            self._broker.restore_jetstream()

    @asynccontextmanager
    async def refuse(self, stream: str, reason: str = "maximum bytes exceeded") -> AsyncIterator[None]:
        """Let a stream store nothing, as one that is full."""
        if stream not in self._broker.streams:
            raise LookupError(f"no stream {stream!r}; there are: {', '.join(self._broker.streams)}")
        found = self._broker.streams[stream]
        found.refusal = reason
        try:
            yield
        finally:
            found.refusal = ""

    def delete_stream(self, stream: str) -> None:
        """Delete a stream with all that it holds, and its consumers; who declared it makes it again, a second later."""
        self._broker.delete_stream(stream)

    def delete_consumer(self, stream: str, durable: str) -> None:
        """Delete a durable consumer; the one that is made again delivers what the stream has from its beginning."""
        self._broker.delete_consumer(stream, durable)

    def delete_bucket(self, bucket: str) -> None:
        """Delete a bucket with its keys; who declared it makes it again, a second later."""
        self._broker.delete_bucket(bucket)
