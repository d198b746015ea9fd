"""``resilient`` around what really goes over a wire: a publish to NATS, and a request over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx2
import trio

from agentrt import resilient
from agentrt.policy import Backoff, RetryPolicy
from agentrt.ports import StreamSpec, Topology

SOON = RetryPolicy(retries=20, backoff=Backoff(initial=0.05, maximum=0.5, jitter=(1.0, 1.3)))


async def test_a_stored_publish_survives_a_restart_of_the_server(nats_server, run_bus):
    """Its id tells the stream that it has it already, so it may be repeated: stored once, however often it was sent."""
    with trio.fail_after(60):
        async with run_bus(nats_server) as running:
            running.bus.declare(Topology(streams=(StreamSpec("orders", ("orders.>",)),)))
            await running.bus.wait_ready()
            store = resilient(running.bus.store, idempotent=True, retry=SOON, timeout=50.0)
            nats_server.kill()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_later, nats_server.start)
                assert await store("orders.new", b"one", msg_id="1", timeout=0.5)
            assert not await store("orders.new", b"one", msg_id="1")
            assert [message.body for message in await running.bus.browse("orders", "orders.new")] == [b"one"]


async def _later(start: Callable[[], object]) -> None:
    await trio.sleep(1.0)
    await trio.to_thread.run_sync(start)


class _Answer(BaseHTTPRequestHandler):
    """Refuses with 503 the first time, and answers then."""

    seen = 0

    def do_GET(self) -> None:
        type(self).seen += 1
        self.send_response(503 if self.seen == 1 else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


async def test_a_request_is_repeated_until_there_is_a_server_that_answers():
    """Refused first, then unavailable, and then answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    @resilient(idempotent=True, retry=SOON, timeout=30.0)
    async def fetch(url: str) -> str:
        async with httpx2.AsyncClient() as client:
            return (await client.get(url)).raise_for_status().text

    server: list[HTTPServer] = []

    async def serve() -> None:
        await trio.sleep(0.3)
        server.append(HTTPServer(("127.0.0.1", port), _Answer))
        Thread(target=server[0].serve_forever, daemon=True).start()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        assert await fetch(f"http://127.0.0.1:{port}/") == "ok"
    assert _Answer.seen == 2
    await trio.to_thread.run_sync(server[0].shutdown)
    server[0].server_close()
