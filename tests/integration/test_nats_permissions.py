"""The permissions that are exported: a fleet works with them, and no agent can do what is another's."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import nkeys
import pytest
import trio
from nats_process import RealServer
from typer.testing import CliRunner

from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge
from agentrt.agent import Agent, TaskClient, TaskFailed
from agentrt.cli.bus import open_bus
from agentrt.cli.main import app
from agentrt.config import Loaded, load
from agentrt.fleet import Fleet, open_fleet, topology_of
from agentrt.fleet.reroute import reroute
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.ports import BusRefused, Json, PermissionDenied
from agentrt.tasks import Names, Task

#: Seconds that anything may take on a machine with much to do.
PATIENCE = 60.0
#: The seed of a user's nkey.
SEED = bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()
PASSWORDS = {
    "NEWSROOM_PASSWORD": "hush-fleet",
    "EDITOR": "hush-editor",
    "WRITER": SEED,
    "ARTIST": "hush-artist",
}
ADMIN = '{ user: "admin", password: "admin" }'
CONFIG = """
schema = 1
[fleet]
name = "newsroom"
[bus]
url = "{url}"
user = "newsroom"
password = "env:NEWSROOM_PASSWORD"
probe_interval = "200ms"
[inbox]
max_deliveries = 1
[agents.editor]
class = "newsroom:Editor"
[agents.editor.bus]
user = "editor"
password = "env:EDITOR"
[agents.writer]
class = "newsroom:Writer"
[agents.writer.bus]
nkey = "env:WRITER"
[agents.artist]
class = "newsroom:Writer"
[agents.artist.bus]
user = "artist"
password = "env:ARTIST"
"""


class Editor(Agent):
    """Has a writer write."""

    async def handle(self, task: Task) -> Json:
        return await self.ask("writer", task.payload)


class Writer(Agent):
    """Writes, except about nothing."""

    async def handle(self, task: Task) -> Json:
        if task.payload is None:
            raise ValueError("about what?")
        return {"draft": task.payload}


@attrs.frozen
class Rig:
    """A server with the exported permissions, and the configuration that they are from."""

    server: RealServer
    loaded: Loaded
    exported: str

    @asynccontextmanager
    async def fleet(self) -> AsyncIterator[tuple[Fleet, list[Event]]]:
        """Run the fleet, and wait until all of it is ready."""
        events: list[Event] = []
        stream = EventStream()
        stream.listen(events.append)
        classes: dict[str, type[Agent]] = {"editor": Editor, "writer": Writer, "artist": Writer}
        async with open_fleet(self.loaded, events=stream, classes=classes, environ=PASSWORDS) as fleet:
            while not all(status.ready for status in fleet.statuses()):  # noqa: ASYNC110 - nothing tells of it.
                await trio.sleep(0.02)
            yield fleet, events

    @asynccontextmanager
    async def bus(self, user: str, password: str) -> AsyncIterator[NatsBus]:
        """Log in as somebody who does nothing by itself."""
        inbox = Names("newsroom").inbox(None if user == "newsroom" else user)
        login = {"user": user, "password": password}
        bus = NatsBus(NatsSettings(url=self.server.url, credentials=lambda: login, inbox=inbox))
        root = SupervisorSpec(id="rogue", children=(ChildSpec(id="bus", factory=lambda: NatsConnection(bus)),))
        async with bridge(), open_runtime(root, seed=1):
            await bus.wait_ready()
            yield bus


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    for name, value in PASSWORDS.items():
        monkeypatch.setenv(name, value)
    server = RealServer(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(url=server.url))
    exported = CliRunner().invoke(app, ["export", "nats-permissions", "--config", str(config)])
    assert exported.exit_code == 0, exported.output
    (tmp_path / "users.conf").write_text(exported.output.replace("users = [", f"users = [ {ADMIN}", 1))
    server.anonymous, server.includes = True, ["users.conf"]
    server.start()
    yield Rig(server, load(config, PASSWORDS), exported.output)
    server.kill()


async def test_a_fleet_works_with_no_more_than_its_permissions(rig: Rig):
    """On a server that has nothing yet: it makes all that it needs, asks, answers, fails, and is asked from outside.

    The server logs each thing that it does not allow, so that one that is tried in vain shows.
    """
    with trio.fail_after(PATIENCE):
        async with rig.fleet() as (fleet, events):
            assert await fleet.ask("editor", "cats") == {"draft": "cats"}
            with pytest.raises(TaskFailed, match="about what"):
                await fleet.ask("writer", None)
            assert {"ok"} == {found.state for found in await fleet.bus.compare(topology_of(rig.loaded.config))}
            async with open_bus(rig.loaded, url=rig.server.url, token=None, name="cli") as bus:
                client = TaskClient(bus, Names("newsroom"), "cli")
                assert await client.ask(client.new_task("writer", "dogs"), PATIENCE) == {"draft": "dogs"}
        assert [event.fields for event in events if event.kind == "nats_problem"] == []
    assert "Permissions Violation" not in rig.server.said


async def test_what_an_agent_says_of_an_outcome_is_heard_by_all_others(rig: Rig):
    """In their accounts, too; who is not told looks by itself, but only now and then."""
    said = Names("newsroom").outcome_subject("some-task")
    with trio.fail_after(PATIENCE):
        async with (
            rig.bus("newsroom", PASSWORDS["NEWSROOM_PASSWORD"]) as fleet,
            rig.bus("editor", "hush-editor") as editor,
            rig.bus("artist", "hush-artist") as artist,
            fleet.subscribe(said) as first,
            artist.subscribe(said) as second,
        ):
            fleet.declare(topology_of(rig.loaded.config))
            await editor.publish(said, b"done")
            assert [(said, b"done")] * 2 == [
                (message.subject, message.body) for message in (await first.receive(), await second.receive())
            ]


async def test_what_is_deleted_is_made_again_by_the_fleet_for_agents_that_may_not(rig: Rig):
    """Also where an agent is the first to miss it."""
    names = Names("newsroom")
    with trio.fail_after(PATIENCE):
        async with rig.fleet() as (fleet, _), rig.bus("admin", "admin") as admin:
            for stream in (names.tasks, f"KV_{names.outcomes}"):
                await admin.link.ask("deleting", f"$JS.API.STREAM.DELETE.{stream}", b"", timeout=PATIENCE)
                assert await fleet.ask("editor", stream) == {"draft": stream}
    assert "Permissions Violation" not in rig.server.said


async def test_the_fleet_may_send_the_work_of_a_parked_agent_on(rig: Rig):
    """It takes it from that one's queue, and stores it in the other's."""
    names, moved = Names("newsroom"), trio.Event()

    def emit(kind: str, /, **_fields: object) -> None:
        if kind == "task_rerouted":
            moved.set()

    with trio.fail_after(PATIENCE):
        async with rig.bus("newsroom", PASSWORDS["NEWSROOM_PASSWORD"]) as bus:
            bus.declare(topology_of(rig.loaded.config))
            client = TaskClient(bus, names, "cli")
            task = await client.send(client.new_task("writer", "cats"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reroute, bus, names, "writer", "editor", emit)
                await moved.wait()
                nursery.cancel_scope.cancel()
            async with bus.consume(names.tasks, names.consumer("editor", "normal")) as queue:
                delivery = await queue.next()
                assert task == Task.read("editor", delivery.body, delivery.headers).id
                await delivery.ack()
    assert "Permissions Violation" not in rig.server.said


#: Where another's work, or everybody's, could be got at.
FORBIDDEN = (
    "$JS.API.CONSUMER.MSG.NEXT.newsroom-tasks.writer-high",
    "$JS.API.CONSUMER.CREATE.newsroom-tasks.writer-high.newsroom.tasks.writer.high",
    "$JS.API.CONSUMER.CREATE.newsroom-tasks.spy.newsroom.tasks.writer.high",
    "$JS.API.CONSUMER.CREATE.newsroom-tasks",
    "$JS.API.CONSUMER.DURABLE.CREATE.newsroom-tasks.editor-high",
    "$JS.API.CONSUMER.DELETE.newsroom-tasks.writer-high",
    "$JS.API.STREAM.MSG.GET.newsroom-tasks",
    "$JS.API.DIRECT.GET.newsroom-tasks",
    "$JS.API.STREAM.MSG.GET.newsroom-dlq",
    "$JS.API.STREAM.DELETE.newsroom-tasks",
    "$JS.API.STREAM.PURGE.newsroom-tasks",
    "$JS.API.STREAM.UPDATE.newsroom-tasks",
    "$JS.API.STREAM.CREATE.mirror",
    "$JS.API.STREAM.MSG.DELETE.KV_newsroom-outcomes",
    "$JS.ACK.newsroom-tasks.writer-high.1.1.1.1.0",
    "newsroom.dlq.writer",
    "$KV.newsroom-registry.agent.writer.x",
    "$KV.newsroom-registry.agent.editor.x",
    "_INBOX_newsroom_writer.x",
)


async def test_an_agent_cannot_publish_where_another_reads_or_only_the_fleet_may(rig: Rig):
    """Each try ends with an error that names the subject."""
    with trio.fail_after(PATIENCE):
        async with rig.bus("editor", "hush-editor") as bus:
            for subject in FORBIDDEN:
                with pytest.raises(PermissionDenied, match=re.escape(f"does not allow publishing to '{subject}'")):
                    await bus.link.ask("trying", subject, b"{}", timeout=PATIENCE)


async def test_an_agent_cannot_listen_where_another_is_told_something(rig: Rig):
    """Neither to the answers that another gets, nor to tasks on their way into the stream."""
    with trio.fail_after(PATIENCE):
        async with rig.bus("editor", "hush-editor") as bus:
            for subject in (
                "_INBOX_newsroom_writer.>",
                "_INBOX_newsroom.>",
                "_INBOX.>",
                "newsroom.tasks.writer.*",
                "newsroom.dlq.>",
                "$KV.newsroom-outcomes.*",
                "$KV.newsroom-registry.>",
                "$JS.EVENT.ADVISORY.>",
                "newsroom.>",
                ">",
            ):
                with pytest.raises(PermissionDenied, match="does not allow subscribing"):
                    async with bus.subscribe(subject):
                        pytest.fail(subject)


#: What an agent may publish, and where it has the server send the answer to.
MINE = "$JS.API.CONSUMER.MSG.NEXT.newsroom-tasks.editor-normal"
NO_WAIT = b'{"batch":1,"no_wait":true}'
ROUNDABOUT = (
    (MINE, NO_WAIT, "$JS.API.STREAM.DELETE.newsroom-dlq"),
    (MINE, NO_WAIT, "$JS.API.STREAM.PURGE.newsroom-dlq"),
    (MINE, NO_WAIT, "$JS.API.CONSUMER.DELETE.newsroom-tasks.writer-normal"),
    (MINE, NO_WAIT, "$KV.newsroom-registry.agent.writer.x"),
    (MINE, NO_WAIT, "newsroom.dlq.writer"),
    (MINE, NO_WAIT, "_INBOX_newsroom_writer.x"),
    ("newsroom.tasks.editor.normal", b"", "$JS.API.STREAM.PURGE.newsroom-dlq"),
    ("newsroom.tasks.editor.normal", b"forged", "$KV.newsroom-registry.agent.writer.x"),
    ("$JS.API.STREAM.INFO.newsroom-tasks", b"", "$KV.newsroom-registry.agent.writer.x"),
    ("$JS.API.STREAM.MSG.GET.KV_newsroom-outcomes", b'{"seq":1}', "$KV.newsroom-registry.agent.writer.x"),
)


async def published(server: RealServer, user: str, password: str, messages: Iterable[tuple[str, bytes, str]]) -> None:
    """Publish as no client library would let us; return when the server has seen it."""
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        connect = {"user": user, "pass": password, "verbose": False, "headers": True}
        lines = [b"CONNECT " + json.dumps(connect).encode()]
        for subject, body, reply in messages:
            lines += [b"PUB %s %s %d" % (subject.encode(), reply.encode(), len(body)), body]
        await stream.send_all(b"\r\n".join([*lines, b"PING", b""]))
        said = b""
        while b"PONG" not in said:
            received = await stream.receive_some()
            assert received, said
            said += received
    assert b"-ERR" not in said


async def test_an_agent_cannot_have_the_server_do_what_it_may_not_do_itself(rig: Rig):
    """A server checks where a user publishes to, and not where it has the answer sent to."""
    names = Names("newsroom")
    with trio.fail_after(PATIENCE):
        async with rig.bus("newsroom", PASSWORDS["NEWSROOM_PASSWORD"]) as bus, rig.bus("admin", "admin") as admin:
            bus.declare(topology_of(rig.loaded.config))
            await admin.store(names.dead_letter_subject("editor"), b"kept", msg_id="kept")
            async with admin.subscribe("_INBOX_newsroom_writer.>") as inbox:
                await published(rig.server, "editor", "hush-editor", ROUNDABOUT)
                # What the server does of all that, it does beside; a second round would find it done.
                await trio.sleep(1)
                await published(rig.server, "editor", "hush-editor", ROUNDABOUT)
                await trio.sleep(1)
                assert 0 == inbox.statistics().current_buffer_used
            assert {"ok"} == {found.state for found in await admin.compare(topology_of(rig.loaded.config))}
            assert [b"kept"] == [found.body for found in await admin.browse(names.dead_letters, "newsroom.dlq.>")]
            assert [] == await admin.browse("KV_newsroom-registry", "$KV.newsroom-registry.>")


async def test_an_outcome_that_is_stored_is_changed_by_nobody(rig: Rig):
    """The keys are ids of tasks, which tell no agent from another; the bucket takes each once."""
    names = Names("newsroom")
    with trio.fail_after(PATIENCE):
        async with rig.fleet() as (fleet, _), rig.bus("editor", "hush-editor") as rogue:
            task = await fleet.send("writer", "cats")
            outcome = await fleet.client.outcome(task, PATIENCE)
            with pytest.raises(BusRefused, match="maximum messages per subject"):
                await rogue.put(names.outcomes, task, b"{}")
            with pytest.raises(PermissionDenied):
                await rogue.delete(names.outcomes, task)
            for headers in ({"Nats-Rollup": "all"}, {"Nats-Rollup": "sub"}, {"KV-Operation": "PURGE"}):
                with pytest.raises(BusRefused):
                    await rogue.store(f"$KV.{names.outcomes}.{task}", b"", headers, msg_id="x")
                    pytest.fail(str(headers))
            assert await fleet.client.outcome(task, PATIENCE) == outcome


async def test_no_password_is_seen_anywhere(rig: Rig, capfd: pytest.CaptureFixture[str]):
    """Not in what is exported, nor in events, logs and representations; other names are, so that this can fail."""
    with trio.fail_after(PATIENCE):
        async with rig.fleet() as (fleet, events):
            shown = [rig.exported, repr(events), repr(rig.loaded), repr(vars(fleet)), rig.server.said]
    found = "".join([*shown, *capfd.readouterr()])
    assert ["writer"] == [secret for secret in ("hush", SEED, "writer") if secret in found]
