"""Declared and actual configuration side by side."""

from __future__ import annotations

import json

import attrs
import pytest
import trio

from actors._jetstream import ApiError, Ask, StoreBroken, assets
from actors._nats_assets import Assets, compare, differences, unserved
from agentrt.ports import BucketSpec, ConsumerSpec, Difference, Json, StreamSpec, Topology

STREAM, BUCKET, CONSUMER = assets(
    Topology(
        (StreamSpec("TASKS", ("t.a", "t.b"), work_queue=True),),
        (ConsumerSpec("TASKS", "editor", "t.a", ack_wait=60.0),),
        (BucketSpec("outcomes", ttl=3600.0),),
    )
)


@pytest.mark.parametrize("asset", [STREAM, BUCKET, CONSUMER], ids=str)
def test_what_is_as_declared_does_not_differ(asset) -> None:
    """Also where the server leaves out what is nothing, adds what is not declared, and sorts subjects its way."""
    actual = {key: value for key, value in asset.config.items() if value} | {"num_replicas": 3, "description": "ours"}
    if "subjects" in actual:
        actual["subjects"] = list(reversed(actual["subjects"]))
    assert [] == list(differences(asset.config, actual))


@pytest.mark.parametrize(
    ("asset", "field", "actual", "expected"),
    [
        (STREAM, "subjects", ["t.a"], Difference("subjects", ["t.a", "t.b"], ["t.a"], fixable=True)),
        (STREAM, "retention", "limits", Difference("retention", "workqueue", "limits", fixable=False)),
        (STREAM, "storage", "memory", Difference("storage", "file", "memory", fixable=False)),
        (STREAM, "max_age", 5_000_000_000, Difference("max_age", 0.0, 5.0, fixable=True)),
        (STREAM, "max_bytes", 10, Difference("max_bytes", -1, 10, fixable=True)),
        (BUCKET, "max_age", None, Difference("max_age", 3600.0, None, fixable=True)),
        (BUCKET, "deny_delete", False, Difference("deny_delete", True, False, fixable=True)),
        (CONSUMER, "ack_wait", 1_500_000_000, Difference("ack_wait", 60.0, 1.5, fixable=True)),
        (CONSUMER, "max_deliver", 5, Difference("max_deliver", -1, 5, fixable=True)),
        (CONSUMER, "ack_policy", "none", Difference("ack_policy", "explicit", "none", fixable=False)),
    ],
)
def test_each_difference_is_named_with_both_sides(asset, field: str, actual: Json, expected: Difference) -> None:
    """Durations in seconds, and whether running the fleet sets it right."""
    assert [expected] == list(differences(asset.config, {**asset.config, field: actual}))


@attrs.frozen
class Reply:
    """What JetStream answers."""

    body: bytes
    status: str = ""


class Server:
    """Has the streams that it is told of, and says when each was made."""

    def __init__(self) -> None:
        self.created: dict[str, int] = {}
        self.asked: list[str] = []
        self.made = 0
        self.config: dict[str, Json] = {}
        self.declared: dict[str, dict[str, Json]] = {}

    async def ask(self, subject: str, body: bytes) -> Reply:
        await trio.lowlevel.checkpoint()
        method, _, name = subject.removeprefix("$JS.API.").rpartition(".")
        self.asked.append(f"{method} {name}")
        if method == "STREAM.CREATE" and name not in self.created:
            self.made += 1
            self.created[name] = self.made
            self.declared[name] = json.loads(body)
        if method.startswith("STREAM") and name not in self.created:
            return Reply(b'{"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}')
        if method == "STREAM.UPDATE":
            self.declared[name] = json.loads(body)
        created = self.created.get(name, 0)
        config = self.declared.get(name, self.config)
        return Reply(json.dumps({"created": f"t{created}", "state": {"messages": 7}, "config": config}).encode())


async def test_the_probe_goes_round_and_makes_what_is_gone_again() -> None:
    """What is there, and whether it can store; a loss is told with what was held, and all else is looked at too."""
    lost: list[tuple[str, int]] = []
    server, topology = Server(), Topology((StreamSpec("A", ("a",)), StreamSpec("B", ("b",))), (), (BucketSpec("c"),))
    known = Assets(lambda what, messages: lost.append((str(what), messages)))
    await known.ensure(server.ask, topology)
    server.asked.clear()
    for _ in range(4):
        await known.probe(server.ask, topology)
    asked = [f"STREAM.{method} {name}" for name in ("A", "B", "KV_c", "A") for method in ("INFO", "PURGE")]
    assert asked == server.asked
    del server.created["B"], server.created["KV_c"]
    await known.probe(server.ask, topology)
    assert {("stream 'B'", 7), ("bucket 'c'", 7)} == set(lost)
    assert 2 == len(lost)
    assert {"A", "B", "KV_c"} == set(server.created)


async def test_one_that_was_made_again_by_hand_is_told_as_well() -> None:
    """It is there and looks right, and is not what it was."""
    lost: list[tuple[str, int]] = []
    server, topology = Server(), Topology((StreamSpec("A", ("a",)),))
    known = Assets(lambda what, messages: lost.append((str(what), messages)))
    await known.ensure(server.ask, topology)
    server.created["A"] = 99
    await known.probe(server.ask, topology)
    assert [("stream 'A'", 7)] == lost
    await known.probe(server.ask, topology)
    assert 1 == len(lost)


async def test_one_that_came_back_as_something_else_is_set_right_at_once() -> None:
    """Whoever made it again may have made it otherwise, and a consumer that filters otherwise delivers nothing."""
    server, topology = Server(), Topology((StreamSpec("A", ("a",)),))
    known = Assets(lambda _what, _messages: None)
    await known.ensure(server.ask, topology)
    server.created["A"], server.declared["A"] = 99, {**server.declared["A"], "subjects": ["b"]}
    server.asked.clear()
    await known.probe(server.ask, topology)
    assert ["STREAM.INFO A", "STREAM.INFO A", "STREAM.UPDATE A"] == server.asked


async def test_streams_are_asked_whether_they_can_store_however_many_consumers_there_are() -> None:
    """One of them at each probe, so that a broken one is not found later because there is much besides."""
    consumers = tuple(ConsumerSpec("A", f"d{number}", f"a.{number}") for number in range(6))
    topology = Topology((StreamSpec("A", ("a.>",)), StreamSpec("B", ("b",))), consumers)
    configs = {asset.info: asset.config for asset in assets(topology)}
    asked: list[str] = []

    async def ask(subject: str, _body: bytes) -> Reply:
        await trio.lowlevel.checkpoint()
        method = subject.removeprefix("$JS.API.")
        asked.append(method)
        return Reply(json.dumps({"created": "t", "config": configs.get(method, {})}).encode())

    known = Assets(lambda _what, _messages: None)
    await known.ensure(ask, topology)
    for _ in range(4):
        await known.probe(ask, topology)
    assert ["STREAM.PURGE.A", "STREAM.PURGE.B"] * 2 == [method for method in asked if "PURGE" in method]


async def test_a_stream_of_several_servers_is_asked_whether_it_can_store_where_somebody_got_no_answer() -> None:
    """They would all have to agree on the question, so it is not asked for nothing."""
    server, topology = Server(), Topology((StreamSpec("A", ("a.>",), replicas=3), StreamSpec("B", ("b",), replicas=3)))
    known = Assets(lambda _what, _messages: None)
    await known.ensure(server.ask, topology)
    server.asked.clear()
    await known.probe(server.ask, topology)
    known.suspect({"a.x", "elsewhere"})
    await known.probe(server.ask, topology)
    await known.probe(server.ask, topology)
    assert ["STREAM.INFO A", "STREAM.INFO B", "STREAM.PURGE A", "STREAM.INFO A"] == server.asked


async def test_a_stream_that_stores_nothing_is_asked_again_until_it_does() -> None:
    """Also where all that is declared is looked at, so that it does not look right in between."""
    server, topology = Server(), Topology((StreamSpec("A", ("a",)), StreamSpec("B", ("b",))))
    is_broken = True

    async def ask(subject: str, body: bytes) -> Reply:
        if is_broken and subject == "$JS.API.STREAM.PURGE.A":
            return Reply(b'{"error": {"code": 500, "err_code": 10051, "description": "no space left"}}')
        return await server.ask(subject, body)

    known = Assets(lambda _what, _messages: None)
    await known.ensure(ask, topology)
    for look in (known.probe, known.ensure, known.probe, known.ensure):
        with pytest.raises(StoreBroken, match=r"stream 'A' stores nothing: no space left; see to .* start the server"):
            await look(ask, topology)
    is_broken = False
    for look in (known.ensure, known.probe):
        await look(ask, topology)


async def test_where_nothing_is_declared_jetstream_is_asked_for_a_sign_of_life() -> None:
    """It may be used all the same."""
    server = Server()
    await Assets(lambda _what, _messages: None).probe(server.ask, Topology())
    assert [" INFO"] == server.asked


async def test_what_somebody_else_makes_is_only_looked_at_and_asked_for() -> None:
    """Nothing is made here; what is missing is said, and whoever makes it is told, each time that it is missed."""
    asked_for: list[int] = []
    server, topology = Server(), Topology((StreamSpec("A", ("a",)),))
    guest = Assets(lambda _what, _messages: None, lambda: asked_for.append(1))
    for _ in range(2):
        with pytest.raises(ApiError, match="stream 'A': stream not found"):
            await guest.ensure(server.ask, topology)
    assert (["STREAM.INFO A"] * 2, [1, 1]) == (server.asked, asked_for)
    server.created["A"], server.config = 1, {}
    with pytest.raises(ApiError, match="stream 'A': name is None and not A; the fleet's own connection sets it right"):
        await guest.ensure(server.ask, topology)
    assert [1, 1, 1] == asked_for
    server.config = assets(topology)[0].config
    await guest.ensure(server.ask, topology)
    assert [1, 1, 1] == asked_for
    assert {"STREAM.INFO A"} == set(server.asked)


async def test_a_server_without_room_is_not_asked_for_a_stream_that_it_has() -> None:
    """It reserves room and refuses the same stream for lack of it; where there is none, that is what is wrong."""
    server, topology = Server(), Topology((StreamSpec("A", ("a",), max_bytes=10),))
    server.config = assets(topology)[0].config

    async def ask(subject: str, body: bytes) -> Reply:
        if ".CREATE." in subject:
            return Reply(b'{"error": {"code": 500, "err_code": 10047, "description": "insufficient storage"}}')
        return await server.ask(subject, body)

    known = Assets(lambda _what, _messages: None)
    with pytest.raises(ApiError, match="stream 'A': insufficient storage"):
        await known.ensure(ask, topology)
    server.created = {"A": 1}
    await known.ensure(ask, topology)


async def test_what_was_deleted_is_made_again_a_moment_later(autojump_clock: trio.testing.MockClock) -> None:
    """A server that is about to delete a stream would take the files of the next one along; waited for once only."""
    server = Server()
    topology = Topology((StreamSpec("A", ("a",)), StreamSpec("B", ("b",)), StreamSpec("C", ("c",))))
    known = Assets(lambda _what, _messages: None)
    await known.ensure(server.ask, topology)
    assert 0 == trio.current_time()
    del server.created["A"], server.created["B"]
    server.asked.clear()
    await known.ensure(server.ask, topology)
    assert 0.25 == trio.current_time()
    assert sorted(["STREAM.INFO A", "STREAM.CREATE A", "STREAM.INFO B", "STREAM.CREATE B", "STREAM.INFO C"]) == sorted(
        server.asked
    )


async def test_many_that_do_not_answer_take_no_longer_than_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As in a cluster that has just lost a node; the others are found as they are, each in its place."""
    server = Server()
    topology = Topology(tuple(StreamSpec(f"S{number}", (f"s{number}",)) for number in range(40)))
    await Assets(lambda _what, _messages: None).ensure(server.ask, topology)

    async def ask(subject: str, body: bytes) -> Reply:
        if not subject.endswith(".S7"):
            await trio.sleep_forever()
        return await server.ask(subject, body)

    findings = await compare(ask, topology)
    assert 5 == trio.current_time()
    assert [f"S{number}" for number in range(40)] == [finding.name for finding in findings]
    assert ["S7"] == [finding.name for finding in findings if finding.state == "ok"]
    assert {"unknown", "ok"} == {finding.state for finding in findings}


def failing(server: Server, answers: dict[str, Reply | None]) -> Ask:
    """Return what asks *server*, and where a subject ends on a key of *answers* gives that; None is no answer."""

    async def ask(subject: str, body: bytes) -> Reply:
        for end, answer in answers.items():
            if subject.endswith(end):
                if answer is None:
                    raise trio.TooSlowError
                return answer
        return await server.ask(subject, body)

    return ask


REFUSED = Reply(b'{"error": {"code": 400, "err_code": 10025, "description": "bad request"}}')
THREE = Topology((StreamSpec("A", ("a",)), StreamSpec("B", ("b",)), StreamSpec("C", ("c",))))


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"CREATE.A": REFUSED}, "stream 'A': bad request (10025)"),
        ({"CREATE.A": REFUSED, "INFO.B": None}, "stream 'B': JetStream did not answer for it"),
        ({"CREATE.A": REFUSED, "CREATE.B": REFUSED}, "stream 'A': bad request (10025)"),
    ],
)
async def test_what_is_wrong_with_one_keeps_no_other_from_being_made(answers: dict[str, Reply | None], told: str):
    """What another server may do is told first; else the first that is declared."""
    server = Server()
    with pytest.raises(ApiError) as caught:
        await Assets(lambda _what, _messages: None).ensure(failing(server, answers), THREE)
    assert told == str(caught.value)
    assert {"A", "B", "C"} - {end.rpartition(".")[2] for end in answers} == set(server.created)


def heard(*seconds: float, **more: Json) -> dict[str, Json]:
    """Return what is told of a leader that heard so long ago of each other replica."""
    return {"leader": "n1", "replicas": [{"name": "n", "active": int(ago * 1e9), **more} for ago in seconds]}


@pytest.mark.parametrize(
    ("cluster", "trouble"),
    [
        ({"leader": "n1"}, ""),
        ({"leader": "n1", "replicas": None}, ""),
        (heard(0.4, 0.9), ""),
        (heard(4.0, 30.0), ""),
        (heard(0.4, 0.9, 30.0, 30.0), ""),
        ({"replicas": [{"name": "n2", "offline": True}]}, "has no leader; too few of its replicas reach each other"),
        (heard(4.1, 30.0), "its leader n1 hears of 0 of its 2 other replicas only"),
        (heard(0.4, 0.9, offline=True), "its leader n1 hears of 0 of its 2 other replicas only"),
        (heard(0.4, 30.0, 30.0), "its leader n1 hears of 1 of its 3 other replicas only"),
    ],
)
async def test_a_stream_that_cannot_agree_on_anything_is_not_there_however_much_is_said_of_it(
    cluster: dict[str, Json], trouble: str
) -> None:
    """As a node answers that its cluster cannot reach: as its leader for 20 s, then without one (2.15.1)."""
    server, topology = Server(), Topology((StreamSpec("A", ("a",)),))
    there = Reply(json.dumps({"created": "t1", "config": assets(topology)[0].config, "cluster": cluster}).encode())
    ask, known = failing(server, {"INFO.A": there}), Assets(lambda _what, _messages: None)
    assert bool(trouble) == await unserved(ask, topology)
    (finding,) = await compare(ask, topology)
    assert (("unknown" if trouble else "ok"), trouble) == (finding.state, finding.reason.removeprefix("stream 'A': "))
    for look in (known.ensure, known.probe):
        if not trouble:
            await look(ask, topology)
            continue
        with pytest.raises(ApiError) as caught:
            await look(ask, topology)
        assert (f"stream 'A': {trouble}", True) == (str(caught.value), caught.value.is_of_server)


BROKEN = Reply(b'{"error": {"code": 503, "err_code": 10051, "description": "no space left"}}')


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"CREATE.A": REFUSED}, "stream 'B' stores nothing: no space left"),
        ({"INFO.C": None}, "stream 'C': JetStream did not answer for it"),
    ],
)
async def test_a_store_that_is_broken_is_found_whatever_is_refused_besides(
    answers: dict[str, Reply | None], told: str
) -> None:
    """A refusal may last for ever; where another server may do better, that is told first."""
    known = Assets(lambda _what, _messages: None)
    known.suspect({"b"})
    with pytest.raises(ApiError) as caught:
        await known.ensure(failing(Server(), {**answers, "PURGE.B": BROKEN}), THREE)
    assert str(caught.value).startswith(told)


async def test_what_is_not_served_is_counted() -> None:
    """Whatever is said of a stream is an answer; what is silent or has nobody to answer is none."""
    nobody = Reply(b"", "503")
    for answers, count in (({}, 0), ({"INFO.A": None, "INFO.B": nobody, "INFO.C": REFUSED}, 2)):
        assert count == await unserved(failing(Server(), answers), THREE)
    for answers, count in (({}, 0), ({"API.INFO": None}, 1), ({"API.INFO": nobody}, 1)):
        assert count == await unserved(failing(Server(), answers), Topology())
