"""A WebSocket that cannot die, against real servers: whatever they do, messages flow again, and nothing is silent."""

from __future__ import annotations

import datetime as dt
import functools
import signal
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from websocket_server import WebProcess, free_port, serving, until

from actors._websocket_buffers import Buffer
from actors.client import ClientSettings
from actors.websocket import Session, WebSocket, WebSocketActor, WebSocketSettings, websocket_settings
from agentrt.config import ConnectionConfig, Secret
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.policy import Backoff, ReconnectPace, judge_close
from agentrt.ports import ConnectionUnavailable, MessageRefused

PATIENCE = 60
# As eager where a person is needed as anywhere else: no test waits for the pace itself.
EAGER = ReconnectPace(rarely=Backoff(initial=0.05, maximum=0.2))


@attrs.define
class Running:
    web: WebSocket
    events: list[Event]
    runtime: Any

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if event.kind.startswith("connection_")]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    async def until(self, kind: str, count: int = 1) -> Event:
        await until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]


@asynccontextmanager
async def connected(settings: WebSocketSettings, resume: Any = None, *, wait: bool = True) -> AsyncIterator[Running]:
    stream, events = EventStream(), list[Event]()
    stream.listen(events.append)
    web = WebSocket("feed", settings, resume)
    child = ChildSpec(id="feed", factory=lambda: WebSocketActor(web))
    with trio.fail_after(PATIENCE):
        async with open_runtime(SupervisorSpec(id="agent", children=(child,)), seed=1, events=stream) as runtime:
            if wait:
                await web.wait_ready()
            yield Running(web, events, runtime)


def at(url: str, *, limit: float = 5.0, interval: float = 0.1, **settings: Any) -> WebSocketSettings:
    client = ClientSettings(probe_interval=interval, probe_timeout=limit, probe_limit=limit, pace=EAGER)
    return WebSocketSettings(url=url, client=client, **settings)


async def echoed(web: WebSocket, text: str) -> None:
    """Send until it comes back: on a slow machine a server that just woke may count as silent once more."""
    while True:
        await web.send(text)
        with trio.move_on_after(1):
            while await web.receive() != text:
                pass
            return


@pytest.fixture
def process() -> Iterator[WebProcess]:
    server = WebProcess()
    yield server
    server.kill()


# Servers that go away


async def test_a_killed_server_that_comes_back_is_found(process: WebProcess, record_property: Any):
    """What was sent while it was down arrives, in its order, and the actor was never restarted."""
    await process.start()
    async with connected(at(process.url)) as running:
        await running.web.send("before")
        assert "before" == await running.web.receive()
        process.kill()
        await running.until("connection_lost")
        for number in range(3):
            await running.web.send(f"while down {number}")
        await running.until("connection_attempt_failed")
        await process.start()
        started = trio.current_time()
        assert [f"while down {number}" for number in range(3)] == [await running.web.receive() for _ in range(3)]
        record_property("recovered", trio.current_time() - started)
        record_property("told by", "connection_rebuilt")
        assert 0 == sum(node.restarts for node in running.runtime.tree().walk())
        rebuilt = await running.until("connection_rebuilt")
        assert running.of("connection_lost")[0].id == rebuilt.cause


async def test_a_server_that_hangs_is_found_by_its_silence(process: WebProcess):
    """The socket is open and takes whatever is sent, so only a pong proves that somebody is there."""
    await process.start()
    async with connected(at(process.url, limit=0.5)) as running:
        process.send_signal(signal.SIGSTOP)
        lost = await running.until("connection_lost")
        assert "no probe was answered for 0.5 s (no answer)" == lost.fields["reason"]
        assert not running.web.is_ready
        process.send_signal(signal.SIGCONT)
        await echoed(running.web, "again")


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 1012, 3000, 4000, 4401])
async def test_whatever_code_a_server_closes_with_it_is_connected_to_again(code: int):
    """The code and the server's words are told."""
    async with serving() as server, connected(at(server.url)) as running:
        server.end(code, "so it is")
        lost = await running.until("connection_lost")
        assert f"it was closed with {code}" in lost.fields["reason"]
        assert lost.fields["reason"].endswith(": so it is")
        await running.until("connection_rebuilt")
        await running.web.send("hello")
        await until(lambda: server.received == ["hello"])


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4404])
async def test_each_code_on_the_wire_means_what_the_policy_says_of_it(process: WebProcess, code: int):
    """From a server in a process of its own, as bytes; it is found again, and nothing was restarted for it."""
    expected = judge_close(code)
    await process.start()
    async with connected(at(process.url)) as running:
        await running.web.send(f"close {code} so it is")
        lost = await running.until("connection_lost")
        assert lost.fields["reason"].startswith(f"it was closed with {code} ")
        assert lost.fields["reason"].endswith(": so it is")
        assert expected.advice == lost.fields["advice"]
        rebuilt = await running.until("connection_rebuilt")
        assert rebuilt.fields["seconds"] >= expected.after
        await echoed(running.web, "again")
        assert 0 == sum(node.restarts for node in running.runtime.tree().walk())


@pytest.mark.parametrize("code", [1005, 1006, 1014, 1015, 2000])
async def test_a_code_that_the_protocol_library_does_not_take_ends_it_as_a_broken_protocol(
    process: WebProcess, code: int
):
    """One that may not be on the wire, or is reserved: it is closed with 1002 from here, and connected to again."""
    await process.start()
    async with connected(at(process.url)) as running:
        await running.web.send(f"close {code} so it is")
        lost = await running.until("connection_lost")
        assert "1002" in lost.fields["reason"]
        assert judge_close(1002).advice == lost.fields["advice"]
        await running.until("connection_rebuilt")
        await echoed(running.web, "again")


async def test_a_server_that_is_busy_is_left_alone_for_a_while():
    """1013 asks for it, and so does a handshake that is answered with Retry-After."""
    async with serving() as server, connected(at(server.url)) as running:
        server.refuse = lambda _: (503, [(b"Retry-After", b"1")])
        server.end(1011)
        refused = await running.until("connection_attempt_failed")
        server.refuse = lambda _: None
        rebuilt = await running.until("connection_rebuilt")
        # From below only: by when the events were made, whatever the machine has to do besides.
        assert rebuilt.time - refused.time >= 1.0


async def test_a_message_that_is_too_big_ends_one_connection_and_says_what_to_do():
    """Ours tells the server with 1009, and the next connection serves on."""
    async with serving() as server, connected(at(server.url, max_message=1000)) as running:
        await server.newest.send_message("x" * 1001)
        lost = await running.until("connection_lost")
        assert "it was closed with 1009" in lost.fields["reason"]
        assert "limit" in lost.fields["advice"]
        await running.until("connection_rebuilt")
        await server.newest.send_message("small")
        assert "small" == await running.web.receive()


# Handshakes that are refused


async def test_a_login_that_is_refused_is_loud_and_the_rotated_secret_is_picked_up(tmp_path: Path, monkeypatch: Any):
    """Both headers are read anew at each attempt, and no secret is told."""
    (tmp_path / "token").write_text("old-secret\n")
    monkeypatch.setenv("FEED_KEY", "key-secret")
    async with serving() as server:
        server.refuse = lambda headers: None if headers.get("authorization") == "Bearer new-secret" else (403, [])
        config = ConnectionConfig(
            kind="websocket", url=server.url, headers={"x-api-key": "env:FEED_KEY"}, token=Secret("file:token")
        )
        made = websocket_settings(config, tmp_path)
        settings = attrs.evolve(made, client=attrs.evolve(made.client, pace=EAGER))
        async with connected(settings, wait=False) as running:
            failing = await running.until("connection_failing")
            assert "the server answered the handshake with HTTP 403" == failing.fields["reason"]
            assert "correct the credentials" in failing.fields["advice"]
            (tmp_path / "token").write_text("new-secret\n")
            await running.web.wait_ready()
        assert "key-secret" == server.requests[-1]["x-api-key"]
        assert "secret" not in repr((running.events, running.web, settings, config))


async def test_a_secret_that_is_not_there_yet_is_waited_for(tmp_path: Path):
    """Loudly, and nothing is sent without it."""
    async with serving() as server:
        config = ConnectionConfig(kind="websocket", url=server.url, token=Secret("file:token"))
        made = websocket_settings(config, tmp_path)
        async with connected(attrs.evolve(made, client=attrs.evolve(made.client, pace=EAGER)), wait=False) as running:
            failing = await running.until("connection_failing")
            assert "no such file" in failing.fields["reason"]
            assert [] == server.requests
            (tmp_path / "token").write_text("first\nsecond\n")
            failing = await running.until("connection_failing", 2)
            await until(lambda: "one line" in running.web.reason)
            (tmp_path / "token").write_text("good\n")
            await running.web.wait_ready()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.0 403 Forbidden\r\nConnection: close\r\n\r\n<html>", "answered the handshake with HTTP 403"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n", "answered the handshake with HTTP 404"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login?k=s3cret\r\n\r\n", "HTTP 302, which leads to /login"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", ""),
        (b"", "closed the connection before it had answered the handshake"),
    ],
)
async def test_an_answer_that_is_no_websocket_is_told_and_never_waited_on(answer: bytes, said: str):
    """Also where it has a body without an end, or is cut off: a library that waits for more would wait for ever."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if answer:
            await stream.send_all(answer)
            # The connection stays open where it has an answer.
            await trio.sleep_forever()
        await stream.aclose()

    port = free_port()
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(trio.serve_tcp, serve, port, host="127.0.0.1"))
        async with connected(at(f"ws://127.0.0.1:{port}"), wait=False) as running:
            await until(lambda: len(running.kinds()) > 1)
            assert said in running.web.reason
            assert "s3cret" not in repr(running.events)
        nursery.cancel_scope.cancel()


# TLS


async def test_it_speaks_tls_and_shows_a_certificate_of_its_own(tmp_path: Path):
    """An authority that is not trusted is loud; the file is read anew, so that the right one helps at once."""
    ca, other = trustme.CA(), trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("feed.internal").configure_cert(server_context)
    ca.configure_trust(server_context)
    server_context.verify_mode = ssl.CERT_REQUIRED
    own = ca.issue_cert("agent@example.org")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    other.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with serving(context=server_context) as server:
        config = ConnectionConfig(
            kind="websocket",
            url=server.url,
            tls_ca=Path("ca.pem"),
            tls_cert=Path("own.pem"),
            tls_key=Path("own.pem"),
            tls_name="feed.internal",
        )
        made = websocket_settings(config, tmp_path)
        async with connected(attrs.evolve(made, client=attrs.evolve(made.client, pace=EAGER)), wait=False) as running:
            failing = await running.until("connection_failing")
            assert "its certificate is not trusted" in failing.fields["reason"]
            assert "tls_ca" in failing.fields["advice"]
            ca.cert_pem.write_to_path(tmp_path / "ca.pem")
            await running.web.send(b"\x00over TLS")
            await until(lambda: server.received == [b"\x00over TLS"])


YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("name", "until_when", "trusted", "said", "advice"),
    [
        ("127.0.0.1", YESTERDAY, True, "certificate has expired", "renewed"),
        ("feed.example", None, True, "mismatch", "tls_name"),
        ("127.0.0.1", None, False, "unable to get local issuer certificate", "tls_ca"),
    ],
)
async def test_each_fault_of_a_certificate_has_an_advice_of_its_own(
    name: str, until_when: dt.datetime | None, *, trusted: bool, said: str, advice: str
):
    """Nobody mends one that has expired by giving an authority."""
    ca = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name, not_after=until_when).configure_cert(server_context)

    def context() -> ssl.SSLContext:
        own = ssl.create_default_context()
        (ca if trusted else trustme.CA()).configure_trust(own)
        return own

    async with serving(context=server_context) as server, connected(at(server.url, tls=context), wait=False) as running:
        failing = await running.until("connection_failing")
        assert said in failing.fields["reason"]
        assert advice in failing.fields["advice"]


async def test_a_server_that_resets_whoever_comes_is_tried_again_at_once():
    """As a proxy does whose server is down; also where the request could not even be sent."""

    async def serve(stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    port = free_port()
    settings = at(f"ws://127.0.0.1:{port}")
    patient = attrs.evolve(settings, client=attrs.evolve(settings.client, connect_timeout=10 * PATIENCE))
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(trio.serve_tcp, serve, port, host="127.0.0.1"))
        async with connected(patient, wait=False) as running:
            await until(lambda: running.web.statistics().client.attempts_failed >= 20)
        nursery.cancel_scope.cancel()


# Messages


async def test_a_slow_reader_slows_the_sender_and_keeps_its_connection():
    """Nothing is read beyond the bound, nothing is lost, and silence of our own making is no silence of the server."""
    count, size = 400, 64 * 1024
    sent: list[int] = []

    async def flood(connection: Any) -> None:
        for number in range(count):
            await connection.send_message(f"{number}:" + "x" * size)
            sent.append(number)

    async with serving() as server:
        server.greet = flood
        async with connected(at(server.url, limit=0.5, receive_buffer=4 * size)) as running:
            # Longer than the limit, and until the server stands still.
            before = -1
            while before != len(sent):
                before = len(sent)
                await trio.sleep(0.7)
            assert 0 < len(sent) < count
            assert running.web.statistics().unread_messages <= 4
            got = [int((await running.web.receive()).partition(":")[0]) for _ in range(count)]
            assert list(range(count)) == got
            assert ["connection_opened"] == running.kinds()


async def test_what_does_not_fit_while_down_is_refused_with_its_bound():
    """A typed error, and what was taken before it arrives."""
    port = free_port()
    async with connected(at(f"ws://127.0.0.1:{port}/", send_buffer=1000), wait=False) as running:
        await running.web.send("a" * 900)
        with pytest.raises(ConnectionUnavailable, match=r"connection 'feed': not connected \(.*964 of 1000 bytes"):
            await running.web.send("b" * 100)
        with pytest.raises(MessageRefused, match="a message is str or bytes, not int"):
            await running.web.send(7)  # type: ignore[arg-type]
        with pytest.raises(MessageRefused, match="the text is no valid Unicode"):
            await running.web.send("\ud800")
        async with serving(port) as server:
            await until(lambda: server.received == ["a" * 900])
            # While connected a full buffer is waited for.
            for _ in range(20):
                await running.web.send("c" * 900)
            await until(lambda: len(server.received) == 21)


async def test_what_waited_too_long_is_dropped_and_told():
    """With how many there were."""
    async with connected(at(f"ws://127.0.0.1:{free_port()}/", send_age=0.1), wait=False) as running:
        await running.web.send("one")
        await running.web.send("two")
        dropped = await running.until("connection_messages_dropped")
        assert 2 == dropped.fields["count"] == running.web.statistics().dropped
        assert 0 == running.web.statistics().waiting_messages


async def test_what_was_not_sent_before_a_stop_is_told():
    """Who sent it went on long ago, and after the last stop there is nobody left to send it."""
    async with connected(at(f"ws://127.0.0.1:{free_port()}"), wait=False) as running:
        for _ in range(2):
            await running.web.send("unsent")
    (told,) = running.of("connection_messages_unsent")
    assert (2, "feed") == (told.fields["count"], told.fields["connection"])


async def test_what_a_dying_connection_had_taken_is_in_doubt_and_told(process: WebProcess):
    """It may have arrived, so it is not sent again."""
    await process.start()
    async with connected(at(process.url, limit=0.5)) as running:
        await running.until("connection_opened")
        process.send_signal(signal.SIGSTOP)
        await running.web.send("did it arrive?")
        told = await running.until("connection_messages_in_doubt")
        assert 1 == told.fields["count"] == running.web.statistics().in_doubt
        process.send_signal(signal.SIGCONT)
        await echoed(running.web, "next")


async def test_each_new_connection_is_resumed_before_it_is_ready():
    """The hook reads and writes alone; what it raises fails the attempt; messages of before go out after it."""
    cursor = 0

    async def greet(connection: Any) -> None:
        server.received.append(await connection.get_message())
        await connection.send_message("resumed" if len(server.requests) != 2 else "not now")

    async def resume(session: Session) -> None:
        assert "v2" == session.subprotocol
        await session.send(f"resume from {cursor}")
        if (answer := await session.receive()) != "resumed":
            raise RuntimeError(f"the server said {answer!r}")

    async with serving() as server:
        server.greet, server.subprotocol = greet, "v2"
        async with connected(at(server.url, subprotocols=("v2", "v1")), resume) as running:
            assert "v2" == running.web.statistics().subprotocol
            cursor = 7
            server.end(1011)
            await running.until("connection_lost")
            await running.web.send("work")
            failed = await running.until("connection_attempt_failed")
            assert "RuntimeError: the server said 'not now'" == failed.fields["reason"]
            await until(lambda: server.received[-1] == "work")
        assert ["resume from 0", "resume from 7", "resume from 7", "work"] == server.received


async def test_a_hook_that_fails_is_not_held_up_by_what_waits_to_be_sent(monkeypatch: pytest.MonkeyPatch):
    """Nothing goes out before it has worked, so that there is nothing to wait for."""
    waited: list[None] = []
    change = Buffer.change

    async def counted(self: Buffer) -> None:
        waited.append(None)
        await change(self)

    monkeypatch.setattr(Buffer, "change", counted)

    async def resume(_: Session) -> None:
        raise OSError("not yet")

    async with serving() as server, connected(at(server.url), resume, wait=False) as running:
        await running.web.send("waits")
        await until(lambda: running.web.statistics().client.attempts_failed >= 3)
        assert [] == waited


async def test_a_hook_that_is_set_later_is_run_on_a_new_connection():
    """So that no connection is ever left without it."""
    resumed: list[str] = []

    async def resume(session: Session) -> None:
        resumed.append("yes")
        await session.send("hello")

    async with serving() as server, connected(at(server.url)) as running:
        running.web.resume_with(resume)
        await running.until("connection_rebuilt")
        assert ["yes"] == resumed


async def test_a_stop_sends_what_waits_and_closes_in_order():
    """The server sees a normal closure, after everything that was sent."""
    async with serving() as server:
        async with connected(at(server.url)) as running:
            connection = server.newest
            for number in range(100):
                await running.web.send(str(number))
        await until(lambda: not server.open)
        assert list(map(str, range(100))) == server.received
        assert 1000 == connection.closed.code
        assert 0 == running.web.statistics().in_doubt


async def test_nothing_is_left_of_connections_that_were_lost():
    """No descriptor and no task, however often."""
    async with serving() as server, connected(at(server.url)) as running:

        def counted() -> Any:
            return running.web.managed.counted

        def held() -> tuple[int, int]:
            return len(list(Path("/proc/self/fd").iterdir())), trio.lowlevel.current_statistics().tasks_living

        async def again(times: int) -> tuple[int, int]:
            for _ in range(times):
                rebuilds = counted().rebuilds
                server.end(1000)
                await until(lambda before=rebuilds: counted().rebuilds > before and len(server.open) == 1)
            return held()

        before = await again(2)
        await again(5)
        # The server's side of the last one may not have ended yet.
        for _ in range(500):
            after = await again(1)
            if after == before:
                break
        assert before == after
