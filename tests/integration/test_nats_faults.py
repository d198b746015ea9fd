"""What a server does to those who are connected: it leaves, it forgets, it forbids; nothing of it stays unseen."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
from nats_jwt import Operator
from nats_process import RealServer
from nats_waits import FAST, SUBJECT, TOPOLOGY, in_thread, not_ready, ready, until

from actors import _nats_subscription
from agentrt.ports import (
    BucketSpec,
    BusMessage,
    KeyChange,
    LimitReached,
    PayloadTooLarge,
    PermissionDenied,
    StreamSpec,
    Topology,
    Watch,
)

Run = Callable[..., AbstractAsyncContextManager[Any]]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def two(tmp_path: Path) -> tuple[Member, Member]:
    """Make two servers of one cluster, without JetStream; they are not started."""
    routes = (free_port(), free_port())
    members = []
    for name, own, other in zip("ab", routes, reversed(routes), strict=True):
        folder = tmp_path / name
        folder.mkdir()
        member = Member(folder)
        member.jetstream = False
        cluster = f'{{ name: "c", listen: "127.0.0.1:{own}", routes: ["nats://127.0.0.1:{other}"] }}'
        member.settings = {"server_name": name, "cluster": cluster}
        members.append(member)
    return members[0], members[1]


class Member(RealServer):
    """A server of a cluster."""

    settings: dict[str, str]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RealServer, RealServer]]:
    """Two servers of one cluster that run."""
    members = two(tmp_path)
    for member in members:
        member.start(**member.settings)
    yield members
    for member in members:
        member.kill()


async def knows_both(running: Any) -> None:
    """Wait until a connection was told of the other server; the cluster needs a moment to form."""
    bus = running.bus
    await ready(bus)
    await until(lambda: len(bus.link.client.told) > 0)


async def test_a_server_that_shuts_down_is_left_early_and_nothing_is_missed(
    pair: tuple[RealServer, RealServer], run_bus: Run
):
    """The next connection is made, and subscribed, before the one that will end is let go of."""
    first, second = pair
    with trio.fail_after(30):
        async with run_bus(first, **FAST) as running, run_bus(second, **FAST) as other, trio.open_nursery() as nursery:
            bus = running.bus
            await knows_both(running)
            await ready(other.bus)
            sent, done = 0, False

            async def publish() -> None:
                nonlocal sent
                while not done:
                    await other.bus.publish("t.news", b"%d" % sent)
                    sent += 1
                    await trio.sleep(0.001)

            got: set[int] = set()

            async def read(news: trio.MemoryReceiveChannel[BusMessage]) -> None:
                async for message in news:
                    got.add(int(message.body))

            async with bus.subscribe("t.news") as news:
                nursery.start_soon(publish)
                nursery.start_soon(read, news)
                await until(lambda: len(got) > 50)
                os.kill(first.pid, signal.SIGUSR2)
                await until(lambda: bus.statistics().server == f"127.0.0.1:{second.port}")
                # It would have served for another ten seconds.
                os.kill(first.pid, 0)
                seen = len(got)
                await until(lambda: len(got) > seen + 50)
                done = True
                await until(lambda: max(got) == sent - 1)
            assert set(range(min(got), sent)) == got
    kinds = running.kinds()
    order = [kinds.index(kind) for kind in ("nats_server_leaving", "nats_connection_lost", "nats_connection_rebuilt")]
    assert sorted(order) == order
    lost = next(event for event in running.events if event.kind == "nats_connection_lost")
    assert "moved away" in lost.fields["reason"]


async def test_a_server_that_shuts_down_and_is_the_only_one_serves_to_its_end(nats_server: RealServer, run_bus: Run):
    """There is nowhere to go; an early end would only make the outage longer."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            await ready(bus)
            client = bus.link.client
            os.kill(nats_server.pid, signal.SIGUSR2)
            await until(lambda: "nats_server_leaving" in running.kinds())
            async with bus.subscribe("t.x") as inbox:
                await bus.publish("t.x", b"still here")
                assert b"still here" == (await inbox.receive()).body
            assert client is bus.link.client
            nats_server.kill()
            await in_thread(nats_server.start)
            await until(lambda: "nats_connection_rebuilt" in running.kinds())


async def test_a_server_that_was_only_told_of_takes_over(pair: tuple[RealServer, RealServer], run_bus: Run):
    """What one client object learned of the cluster is not forgotten with it."""
    first, second = pair
    with trio.fail_after(30):
        async with run_bus(first, **FAST) as running:
            await knows_both(running)
            assert f"127.0.0.1:{first.port}" == running.bus.statistics().server
            first.kill()
            await until(lambda: running.bus.statistics().server == f"127.0.0.1:{second.port}")
            await ready(running.bus)


async def test_a_server_that_joined_later_takes_over_as_well(tmp_path: Path, run_bus: Run):
    """What is told on a connection that is long open counts too."""
    with trio.fail_after(30):
        first, second = two(tmp_path)
        try:
            first.start(**first.settings)
            async with run_bus(first, **FAST) as running:
                await ready(running.bus)
                assert () == running.bus.link.client.told
                await in_thread(lambda: second.start(**second.settings))
                await knows_both(running)
                first.kill()
                await until(lambda: running.bus.statistics().server == f"127.0.0.1:{second.port}")
        finally:
            first.kill()
            second.kill()


async def test_a_payload_limit_that_is_lowered_costs_one_rebuild_and_is_told(nats_server: RealServer, run_bus: Run):
    """The library goes on with the old limit, and the server ends the connection of who keeps to it."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            async with bus.subscribe("t.x") as inbox:
                nats_server.reload(max_payload=1024)
                await until(lambda: b"Reloaded: max_payload" in (nats_server.folder / "log").read_bytes())
                await bus.publish("t.x", b"x" * 5000)
                await bus.publish("t.x", b"small")
                assert b"small" == (await inbox.receive()).body
                await until(lambda: bus.statistics().dropped.get("PayloadTooLarge") == 1)
                with pytest.raises(PayloadTooLarge, match="max_payload"):
                    await bus.publish("t.x", b"x" * 1000, {"A": "b" * 100})
                with pytest.raises(PayloadTooLarge):
                    await bus.store(SUBJECT, b"x" * 5000, msg_id="1")
    assert 1 == running.kinds().count("nats_connection_lost")


@pytest.mark.usefixtures("private_only")
async def test_one_subscription_too_many_is_refused_and_the_others_go_on(nats_server: RealServer, run_bus: Run):
    """The library closes the whole connection for it, and would after each reconnect."""
    nats_server.kill()
    nats_server.start(max_subscriptions=3)
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            await ready(bus)
            async with bus.subscribe("t.1") as one, bus.subscribe("t.2") as two:
                with pytest.raises(LimitReached, match="max_subscriptions"):
                    async with bus.subscribe("t.3"):
                        pass
                for subject, inbox in (("t.1", one), ("t.2", two)):
                    await bus.publish(subject, b"here")
                    assert b"here" == (await inbox.receive()).body
            assert bus.is_ready
    assert "nats_connection_lost" not in running.kinds()
    assert {"LimitReached"} == {event.fields["error"] for event in running.events if event.kind == "nats_problem"}


def user(publish: str = ">", deny: str = "t.nothing") -> dict[str, str]:
    permissions = f'publish: {{ allow: "{publish}" }}, subscribe: {{ allow: ">", deny: "{deny}" }}'
    return {"authorization": f'{{ users: [ {{ user: "u", password: "p", permissions: {{ {permissions} }} }} ] }}'}


async def test_a_subscription_that_is_not_allowed_is_refused_and_one_that_is_taken_away_is_seen(
    nats_server: RealServer, run_bus: Run, monkeypatch: pytest.MonkeyPatch
):
    """Where the library has an object that looks alive, there is an error, or a check that fails meanwhile."""
    monkeypatch.setattr(_nats_subscription, "_DENIED_RETRY", 0.2)
    nats_server.reload(**user(deny="t.Secret"))
    with trio.fail_after(30):
        async with run_bus(nats_server, credentials=lambda: {"user": "u", "password": "p"}, **FAST) as running:
            bus = running.bus
            await ready(bus)
            with pytest.raises(PermissionDenied, match=r"t\.Secret.*permissions\.subscribe"):
                async with bus.subscribe("t.Secret"):
                    pass
            async with bus.subscribe("t.open") as inbox:
                assert {"nats_connected", "jetstream"} == set(bus.checks())
                nats_server.reload(**user(deny="t.open"))
                await until(lambda: "nats_subscriptions" in bus.checks())
                ok, why = bus.checks()["nats_subscriptions"]
                assert not ok
                assert "t.open" in why
                nats_server.reload(**user())
                await until(lambda: "nats_subscriptions" not in bus.checks())
                await bus.publish("t.open", b"allowed again")
                assert b"allowed again" == (await inbox.receive()).body


async def test_where_no_answer_can_be_received_that_is_said_and_core_serves(nats_server: RealServer, run_bus: Run):
    """A user who may not subscribe to inboxes would wait for each answer in vain."""
    nats_server.reload(**user(deny="_INBOX.>"))
    with trio.fail_after(30):
        async with run_bus(nats_server, credentials=lambda: {"user": "u", "password": "p"}, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            async with bus.subscribe("t.core") as inbox:
                await bus.publish("t.core", b"hello")
                assert b"hello" == (await inbox.receive()).body
            await until(lambda: "permissions.subscribe" in bus.checks()["jetstream"][1])
            assert bus.checks()["nats_connected"] == (True, "connected")
            assert not bus.is_ready


async def test_what_waits_too_long_is_given_up_and_counted(nats_server: RealServer, run_bus: Run):
    """A buffer is bounded in age too; what is given up has its subject and its number in an event."""
    with trio.fail_after(30):
        async with run_bus(nats_server, publish_age=0.3, **FAST) as running:
            bus = running.bus
            await ready(bus)
            async with bus.subscribe("t.>") as inbox:
                nats_server.kill()
                await not_ready(bus)
                for _ in range(20):
                    await bus.publish("t.old", b"")
                assert 20 == bus.statistics().waiting_messages
                await until(lambda: bus.statistics().dropped.get("MessageDropped") == 20)
                assert 0 == bus.statistics().waiting_messages
                await in_thread(nats_server.start)
                await until(lambda: "nats_connection_rebuilt" in running.kinds())
                await bus.publish("t.new", b"")
                assert "t.new" == (await inbox.receive()).subject
    dropped = [event.fields for event in running.events if event.kind == "bus_message_dropped"]
    assert {("t.old", "MessageDropped")} == {(one["subject"], one["error"]) for one in dropped}
    assert 20 == sum(one["count"] for one in dropped)


async def next_change(watch: Watch) -> KeyChange:
    with trio.fail_after(15):
        return await watch.next()


async def test_a_watch_goes_on_from_its_position_after_a_rebuild(nats_server: RealServer, run_bus: Run):
    """Nothing comes twice and nothing is missing, also where it changed while nobody was connected."""
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running, run_bus(nats_server, **FAST) as other:
            bus = running.bus
            for one in (running, other):
                one.bus.declare(TOPOLOGY)
                await ready(one.bus)
            async with bus.watch("outcomes") as watch:
                await bus.put("outcomes", "a", b"1")
                assert "a" == (await next_change(watch)).key
                bus.link.client.lose("thrown away by the test")
                await other.bus.put("outcomes", "b", b"2")
                assert "b" == (await next_change(watch)).key
                nats_server.kill()
                await not_ready(bus)
                await in_thread(nats_server.start)
                await other.bus.put("outcomes", "c", b"3")
                assert "c" == (await next_change(watch)).key


@pytest.mark.parametrize("how", ["wiped", "deleted"])
async def test_a_watch_is_not_blind_where_its_bucket_was_made_anew(nats_server: RealServer, run_bus: Run, how: str):
    """Revisions begin again, below what was seen; keys that are gone are given as deleted, and all new ones come."""
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            async with bus.watch("outcomes") as watch:
                for _ in range(20):
                    await bus.put("outcomes", "old", b"x")
                await bus.put("outcomes", "gone", b"x")
                assert ["old", "gone"] == [(await next_change(watch)).key for _ in range(2)]
                if how == "wiped":
                    nats_server.kill()
                    nats_server.wipe()
                    await not_ready(bus)
                    await in_thread(nats_server.start)
                else:
                    (await bus.link.ask("deleting", "$JS.API.STREAM.DELETE.KV_outcomes", b"", timeout=5)).accepted()
                assert 1 == await bus.put("outcomes", "new", b"1")
                changes = {change.key: change for change in [await next_change(watch) for _ in range(3)]}
                assert KeyChange("new", b"1", 1) == changes["new"]
                assert (None, None) == (changes["old"].value, changes["gone"].value)
                await bus.put("outcomes", "old", b"again")
                assert KeyChange("old", b"again", 2) == await next_change(watch)


async def test_a_watch_works_slower_where_its_hints_are_not_allowed(nats_server: RealServer, run_bus: Run):
    """Hints only wake it; what it may read it finds by itself."""
    nats_server.reload(**user(deny="$KV.>"))
    with trio.fail_after(30):
        async with run_bus(nats_server, credentials=lambda: {"user": "u", "password": "p"}, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            async with bus.watch("outcomes") as watch:
                for number in range(3):
                    await bus.put("outcomes", f"k{number}", b"")
                    assert f"k{number}" == (await next_change(watch)).key
                assert "nats_subscriptions" not in bus.checks()


async def test_what_is_deleted_and_used_by_nobody_is_seen_made_again_and_told(nats_server: RealServer, run_bus: Run):
    """The probe looks at one declared thing after the other; a loss is an event with what was lost."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(
                Topology((StreamSpec("KEPT", ("t.kept",)), StreamSpec("LOST", ("t.lost",))), (), (BucketSpec("b"),))
            )
            await ready(bus)
            for stream in ("LOST", "KV_b"):
                (await bus.link.ask("deleting", f"$JS.API.STREAM.DELETE.{stream}", b"", timeout=5)).accepted()
            await until(lambda: running.kinds().count("jetstream_asset_lost") == 2)
            assert {"ok"} == {finding.state for finding in await bus.compare(bus.link.topology)}
    lost = {event.fields["what"] for event in running.events if event.kind == "jetstream_asset_lost"}
    assert {"stream 'LOST'", "bucket 'b'"} == lost


async def test_a_wiped_store_is_told_with_what_it_held(nats_server: RealServer, run_bus: Run):
    """It comes back empty and complete; that this happened is never silent."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            nats_server.kill()
            nats_server.wipe()
            await not_ready(bus)
            await in_thread(nats_server.start)
            await ready(bus)
    lost = {event.fields["what"] for event in running.events if event.kind == "jetstream_asset_lost"}
    assert {"stream 'TASKS'", "bucket 'outcomes'", "consumer 'TASKS/editor'"} == lost


async def test_a_rotated_password_is_picked_up_from_where_it_is_stored(
    nats_server: RealServer, run_bus: Run, tmp_path: Path
):
    """The file is read at each attempt; the connection that the old password holds is ended by the server's reload."""
    secret = tmp_path / "password"
    secret.write_text("old")

    def users(password: str) -> dict[str, str]:
        return {"authorization": f'{{ users: [ {{ user: "u", password: "{password}" }} ] }}'}

    nats_server.reload(**users("old"))
    with trio.fail_after(30):
        async with run_bus(
            nats_server, credentials=lambda: {"user": "u", "password": secret.read_text()}, **FAST
        ) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            nats_server.reload(**users("new"))
            await until(lambda: "uthorization" in bus.checks()["nats_connected"][1])
            assert not bus.is_ready
            secret.write_text("new")
            await ready(bus)
            assert await bus.store(SUBJECT, b"x", msg_id="1") is True


async def test_an_expired_jwt_is_replaced_by_what_its_file_has_now(
    nats_server: RealServer, run_bus: Run, tmp_path: Path
):
    """The library closes for good where a JWT expires; here its file is read again until it has one that is good."""
    operator = Operator()
    nats_server.kill()
    # Where the login is decentralised there is no token, and JetStream is a matter of the accounts.
    nats_server.anonymous, nats_server.jetstream = True, False
    nats_server.start(**operator.settings())
    creds = tmp_path / "user.creds"
    creds.write_text(operator.credentials(time.time() + 4))
    with trio.fail_after(30):
        async with run_bus(nats_server, credentials=lambda: {"creds": creds.read_text()}, **FAST) as running:
            bus = running.bus
            await ready(bus)
            async with bus.subscribe("t.x") as inbox:
                await until(lambda: "nats_connection_lost" in running.kinds())
                await until(lambda: "uthorization" in bus.checks()["nats_connected"][1])
                creds.write_text(operator.credentials(time.time() + 3600))
                await ready(bus)
                await bus.publish("t.x", b"back")
                assert b"back" == (await inbox.receive()).body
    lost = next(event for event in running.events if event.kind == "nats_connection_lost")
    assert "expired" in lost.fields["reason"]


async def test_statistics_say_how_it_is_and_what_happened(nats_server: RealServer, run_bus: Run):
    """Counted over all connections of the bus."""
    with trio.fail_after(30):
        async with run_bus(nats_server, **FAST) as running:
            bus = running.bus
            bus.declare(TOPOLOGY)
            await ready(bus)
            async with bus.subscribe("t.x"), bus.consume("TASKS", "editor"), bus.watch("outcomes"):
                await until(lambda: bus.statistics().round_trip is not None)
                before = bus.statistics()
                assert (f"127.0.0.1:{nats_server.port}", 0, 0) == (
                    before.server,
                    before.disconnections,
                    before.reconnections,
                )
                assert (2, 1) == (before.subscriptions, before.consumers)
                nats_server.kill()
                await until(lambda: bus.statistics().attempts_failed > 0)
                assert (None, None, 1) == (
                    bus.statistics().server,
                    bus.statistics().round_trip,
                    bus.statistics().disconnections,
                )
                await in_thread(nats_server.start)
                await ready(bus)
                await until(lambda: bus.statistics().reconnections == 1)
            assert (0, 0) == (bus.statistics().subscriptions, bus.statistics().consumers)


async def test_a_process_that_stood_keeps_its_connection(nats_server: RealServer, run_bus: Run):
    """Nobody listened, so that nothing was heard says nothing of the server; where it stands as well, that is seen."""
    with trio.fail_after(60):
        async with run_bus(nats_server, probe_interval=0.1, probe_limit=2.0) as running:
            bus = running.bus
            await ready(bus)
            time.sleep(3)  # noqa: ASYNC251 - to hold up the loop is what this is about.
            await trio.sleep(0.5)
            assert 0 == bus.statistics().disconnections
            nats_server.pause()
            time.sleep(3)  # noqa: ASYNC251 - as above.
            await until(lambda: bus.statistics().disconnections == 1)
            nats_server.resume()
            await ready(bus)
    lost = next(event for event in running.events if event.kind == "nats_connection_lost")
    assert "no probe was answered for 2 s" == lost.fields["reason"]


async def test_large_messages_that_nobody_reads_are_bounded_by_their_bytes(
    nats_server: RealServer, run_bus: Run, monkeypatch: pytest.MonkeyPatch
):
    """A thousand of the largest would be a GiB; what is dropped is counted, and who reads makes room."""
    monkeypatch.setattr(_nats_subscription, "_LARGE_BYTES", 1_000_000)
    with trio.fail_after(60):
        async with run_bus(nats_server) as running:
            bus = running.bus
            await ready(bus)
            async with bus.subscribe("t.large") as inbox:
                for number in range(30):
                    await bus.publish("t.large", b"%02d" % number + b"x" * 99_998)
                    await bus.publish("t.large", b"small")
                await until(lambda: bus.statistics().waiting_messages == 0)
                await bus.link.client.flush()
                got = [(await inbox.receive()).body for _ in range(40)]
                assert [b"%02d" % number for number in range(10)] == [body[:2] for body in got if body != b"small"]
                with pytest.raises(trio.WouldBlock):
                    inbox.receive_nowait()
                await bus.publish("t.large", b"x" * 900_000)
                assert 900_000 == len((await inbox.receive()).body)
                await until(lambda: bus.statistics().dropped == {"SlowConsumer": 20})


@pytest.mark.usefixtures("private_only")
async def test_a_server_that_has_no_place_is_told_by_its_own_words(nats_server: RealServer, run_bus: Run):
    """It says so and hangs up, of which the library notices the latter only; what to do stands beside it."""
    nats_server.kill()
    nats_server.start(max_connections=1)
    with trio.fail_after(60):
        async with run_bus(nats_server, **FAST) as first, run_bus(nats_server, **FAST) as second:
            await until(lambda: first.bus.statistics().attempts_failed + second.bus.statistics().attempts_failed > 3)
            late = second if first.bus.is_ready else first
            said = "the server says 'maximum connections exceeded': raise max_connections on the server"
            assert said in late.bus.checks()["nats_connected"][1]
            nats_server.reload(max_connections=10)
            await ready(late.bus)
