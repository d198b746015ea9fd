"""One client object against what ends nats-py for good, or leaves it half dead: each is seen, at once and by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio_asyncio
from scripted_nats import INFO, Peer, ScriptedServer, scripted

from actors._nats_client import NatsClient, bridge
from actors._nats_requests import ConnectionLost
from actors._nats_settings import NatsSettings
from agentrt.policy import PoolServer
from agentrt.ports import BusError, LimitReached, PayloadTooLarge, SlowConsumer

FATAL = (
    "Authorization Violation",
    "User Authentication Expired",
    "Account Authentication Expired",
    "User Authentication Revoked",
    "Authentication Timeout",
    "maximum connections exceeded",
    "maximum account active connections exceeded",
    "Maximum Payload Violation",
    "Slow Consumer",
    "Stale Connection",
    "Unknown Protocol Operation",
    "Connection throttling is active",
    "Secure Connection - TLS Required",
    "Failed Account Registration",
    "maximum control line exceeded",
    "message header size exceeds limit",
    "Server Shutdown",
    "nobody has ever seen this",
)

OURS = {
    "Maximum Payload Violation": PayloadTooLarge,
    "maximum control line exceeded": PayloadTooLarge,
    "message header size exceeds limit": PayloadTooLarge,
    "Slow Consumer": SlowConsumer,
}


class Client:
    """A client that is connected to a script, and what it said."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, BusError]] = []
        self.client = NatsClient(lambda subject, error: self.problems.append((subject, error)))

    async def connect(self, server: ScriptedServer, timeout: float = 10.0) -> NatsClient:
        await self.client.connect(PoolServer(server.url), {}, NatsSettings(url=server.url), timeout=timeout)
        return self.client

    async def discard(self) -> None:
        await self.client.discard()
        loop = trio_asyncio.current_loop.get()
        assert loop is not None
        assert [] == [task for task in asyncio.all_tasks(loop) if not task.done()]


def says(error: str) -> Callable[[Peer], Any]:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.say(f"-ERR '{error}'")
        await peer.serve()

    return script


@pytest.mark.parametrize("error", FATAL)
async def test_an_error_of_the_server_ends_the_incarnation_with_its_reason(error: str):
    """The library closes for good on each of these, most without a callback; here it is over, and says what to do."""
    with trio.fail_after(10):
        async with bridge(), scripted(says(error)) as server:
            it = Client()
            try:
                client = await it.connect(server)
            except ConnectionLost as lost:
                # It was there before the handshake was over on this side.
                client = it.client
                client.lose(str(lost))
            await client.lost.wait()
            assert error.lower() in client.reason
            # What the user of the connection did, and can do otherwise, is an error of its own.
            assert [kind for kind in (OURS.get(error),) if kind] == [type(problem) for _, problem in it.problems]
            await it.discard()


@pytest.mark.parametrize("error", ["Invalid Subject", "Invalid Publish Subject", "maximum subscriptions exceeded"])
async def test_an_error_that_leaves_the_socket_open_leaves_the_incarnation_alive(error: str):
    """The server goes on, so what else is subscribed must go on too; the library would throw it all away."""
    with trio.fail_after(10):
        async with bridge(), scripted(says(error)) as server:
            it = Client()
            client = await it.connect(server)
            while not it.problems:
                assert not client.lost.is_set()
                await trio.sleep(0.01)
            await client.flush()
            assert not client.lost.is_set()
            assert error.lower() in str(it.problems[0][1])
            await it.discard()


async def test_a_subscription_too_many_is_told_to_whoever_opened_it():
    """The server names no subject; the order of what it answers says which one it was."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        subjects = 0
        while True:
            line = await peer.hear()
            if line.startswith("SUB"):
                subjects += 1
                # The first is the one for answers.
                if subjects == 3:
                    await peer.say("-ERR 'maximum subscriptions exceeded'")
            elif line == "PING":
                await peer.say("PONG")

    with trio.fail_after(10):
        async with bridge(), scripted(script) as server:
            it = Client()
            client = await it.connect(server)
            denied: dict[str, BusError] = {}
            for subject in ("t.1", "t.2", "t.3"):
                client.subscribe(
                    subject, lambda _: None, lambda error, subject=subject: denied.update({subject: error})
                )
            await client.flush()
            assert {"t.2": LimitReached} == {subject: type(error) for subject, error in denied.items()}
            assert [("t.2", "LimitReached")] == [(subject, type(error).__name__) for subject, error in it.problems]
            await it.discard()


async def test_a_ping_in_the_handshake_does_not_leave_it_connecting_for_ever():
    """A server whose login takes long asks first; the library takes that for the answer to its own PING."""

    async def script(peer: Peer) -> None:
        await peer.say(f"INFO {json.dumps(INFO)}")
        await peer.hear_verb("CONNECT")
        await peer.hear_verb("PING")
        await peer.say("PING")
        await peer.hear_verb("PONG")
        await peer.say("PONG")
        await peer.hear_verb("PING")
        await peer.say("PONG")
        await peer.hear_verb("SUB t.x")
        # Later ones are answered by a task of the library that had ended.
        await peer.say("PING")
        await peer.hear_verb("PONG")
        await peer.say("MSG t.x 2 2\r\nok")
        await peer.serve()

    with trio.fail_after(10):
        async with bridge(), scripted(script) as server:
            it = Client()
            client = await it.connect(server)
            got = trio.Event()
            client.subscribe("t.x", lambda _: got.set())
            await got.wait()
            assert not client.lost.is_set()
            await it.discard()


async def test_a_server_that_dies_between_connect_and_pong_is_a_failed_attempt():
    """The library calls that connected, in a state that it never leaves."""

    async def script(peer: Peer) -> None:
        await peer.say(f"INFO {json.dumps(INFO)}")
        await peer.hear_verb("CONNECT")

    with trio.fail_after(10):
        async with bridge(), scripted(script) as server:
            it = Client()
            with pytest.raises(ConnectionLost):
                await it.connect(server)
            await it.discard()


@pytest.mark.parametrize("first", ["", "HTTP/1.1 400 Bad Request", "INFO {", "INFO " + "x" * 70_000])
async def test_what_is_no_nats_server_is_a_failed_attempt(first: str):
    """Nothing, something else, a broken INFO and one that is too long: each has a reason, and leaves nothing behind."""

    async def script(peer: Peer) -> None:
        if first:
            await peer.say(first)

    with trio.fail_after(10):
        async with bridge(), scripted(script) as server:
            it = Client()
            with pytest.raises(ConnectionLost, match=r"\w"):
                await it.connect(server)
            await it.discard()


async def test_a_peer_that_accepts_and_never_speaks_costs_no_more_than_the_timeout():
    """One attempt is bounded whatever the other side does."""

    async def script(_peer: Peer) -> None:
        await trio.sleep_forever()

    with trio.fail_after(10):
        async with bridge(), scripted(script) as server:
            it = Client()
            with pytest.raises(ConnectionLost, match=r"0\.2 s|imeout"):
                await it.connect(server, timeout=0.2)
            await it.discard()


@pytest.mark.parametrize(
    "poison", ["-ERR ", "HELLO what is this", "MSG t.x one 2\r\nok", "INFO {broken", "HMSG t.x 1 4 2\r\nxx"]
)
async def test_a_read_loop_that_ends_is_the_end_of_the_incarnation(poison: str):
    """The library logs it and stays connected, deaf, until pings of its own are missed minutes later."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.hear_verb("PING")
        await peer.say("PONG")
        await peer.say(poison)
        await peer.serve()

    with trio.fail_after(10):
        async with bridge(), scripted(script) as server:
            it = Client()
            client = await it.connect(server)
            await client.lost.wait()
            assert client.reason
            await it.discard()


async def test_cancelled_flushes_and_requests_do_not_touch_the_read_loop():
    """A PONG or an answer that comes after its waiter was cancelled ends the library's read loop; here, nothing."""
    answer_now = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet()
        pings = 0
        with trio.move_on_after(0.3):
            while True:
                pings += await peer.hear() == "PING"
        for _ in range(pings):
            await peer.say("PONG")
        answer_now.set()
        await peer.serve()

    with trio.fail_after(10):
        async with bridge(), scripted(script) as server:
            it = Client()
            client = await it.connect(server)
            for _ in range(10):
                with trio.move_on_after(0.001):
                    await client.flush()
                with trio.move_on_after(0.001):
                    await client.request("t.nobody", b"")
            await answer_now.wait()
            await client.flush()
            assert not client.lost.is_set()
            assert 0 == client.callback_errors
            await it.discard()


async def test_discarding_never_waits_for_a_peer_that_does_not_read():
    """Its own close waits for unsent bytes to be read; an abort does not."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        await trio.sleep_forever()

    with trio.fail_after(10):
        async with bridge(), scripted(script) as server:
            it = Client()
            client = await it.connect(server)
            for _ in range(100):
                client.write(b"PUB t.x 100000\r\n" + b"x" * 100_000 + b"\r\n")
            await trio.sleep(0.05)
            await it.discard()
