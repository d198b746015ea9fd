"""What travels between agents: tasks and outcomes survive the wire, and garbage is named as such."""

from __future__ import annotations

import math
import string
from contextlib import suppress
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.agent.base import follow
from agentrt.tasks import PATH_KEPT, PRIORITIES, MalformedTask, Names, Outcome, Status, Task

NAME = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True)
ID = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=128)
ANY_TEXT = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
WORD = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40)
TIME = st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
TASKS = st.builds(
    Task,
    id=ID,
    agent=NAME,
    payload=JSON,
    type=WORD,
    sender=NAME,
    conversation=ID,
    causation=st.just("") | ID,
    hops=st.integers(0, 1000),
    path=st.lists(NAME, max_size=PATH_KEPT).map(tuple),
    deadline=st.none() | TIME,
    priority=st.sampled_from(PRIORITIES),
    attempt=st.integers(1, 9),
    route=st.integers(0, 1000),
    auto=st.booleans(),
    traceparent=st.just("") | WORD,
    sent_at=TIME,
)


@given(TASKS)
def test_a_task_comes_over_the_wire_as_it_was(task: Task):
    """Headers and body together say all of a task, whatever characters are in it."""
    assert Task.read(task.agent, task.body(), task.headers(), task.attempt) == task


@given(TASKS)
def test_a_body_is_json_in_utf8_also_with_half_a_surrogate_pair(task: Task):
    """Language models write such halves; UTF-8 does not have them."""
    task.body().decode("utf-8")


@given(
    task=ID,
    agent=NAME,
    status=st.sampled_from(Status),
    answer=JSON,
    reason=ANY_TEXT,
    attempts=st.integers(1, 9),
    at=TIME,
)
def test_an_outcome_comes_back_from_the_store_as_it_was(**fields: Any):
    """Whatever an agent answers and whatever an exception said."""
    outcome = Outcome(**fields)
    assert Outcome.decode(outcome.encode()) == outcome


def test_an_outcome_of_a_newer_version_can_be_read():
    """A field that is not known here is passed over."""
    outcome = Outcome(task="1", agent="editor", status=Status.ANSWERED, at=1.0)
    newer = outcome.encode().replace(b"{", b'{"news":1,', 1)
    assert Outcome.decode(newer) == outcome


HEADER = st.sampled_from(
    [f"Agentrt-{name}" for name in ("Id", "Hops", "Path", "Deadline", "Priority", "Route", "Sent-At", "Auto", "Type")]
)


BODY = st.binary(max_size=200) | JSON.map(lambda value: repr(value).encode(errors="replace"))


@given(BODY, st.dictionaries(HEADER, ANY_TEXT))
def test_garbage_is_a_malformed_task_and_nothing_else(body: bytes, headers: dict[str, str]):
    """Whatever a stranger puts into the stream, reading it raises one error only."""
    with suppress(MalformedTask):
        task = Task.read("editor", body, headers)
        assert Task.read("editor", task.body() if body else b"", task.headers()) == task


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (b"{}", {}, "Agentrt-Id"),
        (b"{}", {"Agentrt-Id": "a/b"}, "Agentrt-Id"),
        (b"{}", {"Agentrt-Id": "two words"}, "Agentrt-Id"),
        (b"{}", {"Agentrt-Id": "x" * 129}, "Agentrt-Id"),
        (b"{", {}, "Expecting"),
        (b"\xff\xfe\xfd", {}, ""),
        (b"NaN", {}, "NaN"),
        (b"[" * 100_000, {}, "recursion"),
        (b"1", {"Agentrt-Priority": "urgent"}, "urgent"),
        (b"1", {"Agentrt-Hops": "many"}, "many"),
        (b"1", {"Agentrt-Hops": "-5"}, "-5"),
        (b"1", {"Agentrt-Route": "-1"}, "-1"),
        (b"1", {"Agentrt-Deadline": "nan"}, "nan"),
        (b"1", {"Agentrt-Sent-At": "inf"}, "inf"),
    ],
)
def test_what_is_no_task_is_refused_with_the_reason(body: bytes, headers: dict[str, str], why: str):
    """An id that is no key, no subject or no name would break whoever takes the task; so would a time that is none."""
    given_headers = {"Agentrt-Id": "1", **headers} if why != "Agentrt-Id" or headers else headers
    with pytest.raises(MalformedTask, match=f"(?i){why}"):
        Task.read("editor", body, given_headers)


def test_an_empty_body_is_null():
    """A task may have nothing to say."""
    assert Task.read("editor", b"", {"Agentrt-Id": "1"}).payload is None


@pytest.mark.parametrize("payload", [math.nan, math.inf, object(), {1, 2}])
def test_what_is_no_json_cannot_be_sent(payload: Any):
    """The sender hears of it, not the agent that it would have gone to."""
    with pytest.raises((TypeError, ValueError)):
        Task(agent="editor", payload=payload, sent_at=0.0).body()


def test_a_task_that_is_sent_on_is_a_new_message():
    """With the bare id, the stream would drop a task that is rerouted soon after it was sent."""
    task = Task(id="1", agent="editor", sent_at=0.0)
    assert ("1.0", "1.1") == (task.msg_id, attrs.evolve(task, route=1).msg_id)


def test_a_fingerprint_sees_content_and_not_its_order():
    """Equal for equal payloads of one type; different otherwise; and there is one for whatever was read."""

    def fingerprint(payload: Any, type_: str = "task") -> str:
        return Task(agent="editor", payload=payload, type=type_, sent_at=0.0).fingerprint

    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1}, "review")
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert fingerprint(deep)
    while deep:
        # Taken apart by hand, because an older Python frees it by recursion.
        deep = deep[0]


PARENT = Task(
    id="p",
    agent="editor",
    conversation="root",
    hops=3,
    path=("chief", "desk"),
    deadline=100.0,
    priority="high",
    traceparent="00-1-2-01",
    sent_at=0.0,
)


def test_a_task_that_follows_another_carries_on_its_conversation():
    """Conversation, cause, hops, path, deadline, priority and trace come from the task in hand."""
    task = follow(PARENT, Task(id="c", agent="writer", deadline=500.0, sent_at=1.0), "editor", None, expires=True)
    expected = Task(
        id="c",
        agent="writer",
        conversation="root",
        causation="p",
        hops=4,
        path=("chief", "desk", "editor"),
        deadline=100.0,
        priority="high",
        traceparent="00-1-2-01",
        sent_at=1.0,
    )
    assert expected == task


@pytest.mark.parametrize(
    ("own", "expires", "expected"),
    [(50.0, True, 50.0), (None, True, 100.0), (None, False, None)],
    ids=["its own is sooner", "without one of its own", "sent and not waited for"],
)
def test_a_question_is_wanted_no_longer_than_the_task_that_asks_it(own: Any, expires: Any, expected: Any):
    """The sooner deadline holds; what is sent without waiting may be done when the sender's task is over."""
    task = Task(agent="writer", deadline=own, sent_at=0.0)
    assert expected == follow(PARENT, task, "editor", None, expires=expires).deadline


def test_a_path_keeps_the_last_agents():
    """It is bounded, or a long conversation would not fit into the headers."""
    path = tuple(f"agent-{number}" for number in range(PATH_KEPT))
    task = follow(attrs.evolve(PARENT, path=path), Task(agent="b", sent_at=0.0), "editor", "low", expires=True)
    assert (*path[1:], "editor") == task.path
    assert task.priority == "low"


def test_the_topology_has_a_consumer_for_each_priority():
    """One consumer cannot prioritise; the stream of tasks is a work queue, that of dead letters is not."""
    names = Names("newsroom")
    shared = names.shared_topology(outcome_ttl=7.0, dead_letter_ttl=30.0, lease=5.0)
    consumers = names.agent_topology("editor", ack_wait=60.0).consumers
    assert [("newsroom-tasks", True), ("newsroom-dlq", False)] == [(s.name, s.work_queue) for s in shared.streams]
    assert [("newsroom-outcomes", 7.0), ("newsroom-registry", 5.0)] == [(b.name, b.ttl) for b in shared.buckets]
    assert ["editor-high", "editor-normal", "editor-low"] == [consumer.durable for consumer in consumers]
    assert [f"newsroom.tasks.editor.{lane}" for lane in PRIORITIES] == [one.filter_subject for one in consumers]
