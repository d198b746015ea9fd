"""The flood gate: each rule, their order, redeliveries, and the bound on memory."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from agentrt.policy import Action, FloodGate, GateReason, GateVerdict, MessageMeta

ids = itertools.count(1)


def message(**changed: Any) -> MessageMeta:
    """Return a harmless message to the editor, except for *changed*."""
    number = str(next(ids))
    given = {
        "id": number,
        "sender": "writer",
        "recipient": "editor",
        "conversation": "c1",
        "hops": 1,
        "path": ("writer",),
        "fingerprint": number,
        "deadline": None,
        "is_redelivery": False,
    }
    return MessageMeta(**{**given, **changed})


def own(**changed: Any) -> MessageMeta:
    """Return a message of the editor to itself."""
    return message(sender="editor", path=("editor",), **changed)


def reasons(gate: FloodGate, *messages: MessageMeta, now: float = 0.0) -> list[GateReason | None]:
    """Let the gate decide about each message; return the reasons."""
    return [gate.decide(meta, now).reason for meta in messages]


def test_a_harmless_message_is_admitted():
    """Without a reason and without a detail."""
    assert GateVerdict(Action.ADMIT, None, "") == FloodGate().decide(message(), 0.0)


@pytest.mark.parametrize(("now", "expected"), [(9.9, None), (10.0, "expired"), (11.5, "expired")])
def test_a_message_whose_deadline_passed_is_refused(now, expected):
    """At the deadline itself nobody waits any more."""
    assert [expected] == reasons(FloodGate(), message(deadline=10.0), now=now)


def test_an_expired_message_is_not_counted():
    """No agent saw it, so its repetition with a later deadline is not a loop."""
    gate = FloodGate()
    assert reasons(gate, *[own(fingerprint="f", deadline=1.0) for _ in range(3)], now=2.0) == ["expired"] * 3
    assert reasons(gate, own(fingerprint="f"), own(fingerprint="f")) == [None, None]
    assert gate.conversations == 1


@pytest.mark.parametrize(("hops", "expected"), [(16, None), (17, "hop_limit")])
def test_a_message_that_made_too_many_hops_is_refused(hops, expected):
    """Sixteen are allowed."""
    assert [expected] == reasons(FloodGate(), message(hops=hops))


def test_three_own_messages_of_the_last_five_are_a_loop():
    """The third is refused, and so is each one after it while three of the last five are its own."""
    assert reasons(FloodGate(), own(), own(), own(), own()) == [None, None, "self_loop", "self_loop"]


def test_own_messages_far_enough_apart_are_admitted():
    """Two of the last five are fine for ever."""
    gate = FloodGate()
    pattern = [own(), message(), message(), own(), message()]
    assert [reason for _ in range(4) for reason in reasons(gate, *[renewed(m) for m in pattern])] == [None] * 20


def renewed(meta: MessageMeta) -> MessageMeta:
    """Return the same kind of message with a new id and a new content."""
    return own() if meta.sender == meta.recipient else message()


def test_the_window_ends_at_the_fifth_message():
    """With two strangers between, the third own message is the fifth of five; with three, the first is out of sight."""
    assert reasons(FloodGate(), own(), own(), message(), message(), own())[-1] == "self_loop"
    assert reasons(FloodGate(), own(), own(), message(), message(), message(), own())[-1] is None


def test_a_message_from_another_agent_is_not_a_self_loop():
    """Others are heard also while the agent talks to itself."""
    assert reasons(FloodGate(), own(), own(), own(), message())[-1] is None


def test_two_agents_that_bounce_messages_are_stopped():
    """The recipient's third earlier visit is too many, whatever they say."""
    path = ("editor", "writer")
    expected = [None, None, "cycle"]
    assert expected == reasons(FloodGate(), *[message(path=path * rounds) for rounds in (1, 2, 3)])


def test_a_longer_cycle_is_stopped():
    """Five agents in a ring, seen through a path of sixteen."""
    path = ("editor", "a", "b", "c", "writer")
    assert reasons(FloodGate(), message(path=path * 2), message(path=path * 3)) == [None, "cycle"]


def test_an_answer_is_never_a_cycle():
    """The recipient asked, so it stands in the path once; a gate that refused that is refused itself."""
    assert reasons(FloodGate(max_visits=2), message(path=("editor", "writer"))) == [None]
    with pytest.raises(ValueError, match="max_visits"):
        FloodGate(max_visits=1)


def test_the_same_content_three_times_in_a_conversation_is_no_progress():
    """The third is refused, and so is the fourth."""
    gate = FloodGate()
    same = [message(fingerprint="thanks!") for _ in range(4)]
    assert reasons(gate, *same) == [None, None, "no_progress", "no_progress"]


@pytest.mark.parametrize("changed", [{"conversation": "c2"}, {"sender": "archivist"}, {"fingerprint": "other"}])
def test_only_the_same_sender_content_and_conversation_are_the_same(changed):
    """Twice here and once there is not three times."""
    gate = FloodGate()
    reasons(gate, message(fingerprint="f"), message(fingerprint="f"))
    assert reasons(gate, message(**{"fingerprint": "f", **changed})) == [None]


def test_refused_messages_count():
    """What was stopped for its hops is still the same content for the third time."""
    gate = FloodGate()
    far = [message(fingerprint="f", hops=17) for _ in range(2)]
    assert reasons(gate, *far, message(fingerprint="f")) == ["hop_limit", "hop_limit", "no_progress"]


def test_the_first_rule_that_holds_names_the_reason():
    """Expired before hops, hops before self-loop, self-loop before cycle, cycle before no progress."""
    gate = FloodGate()
    everything = {"fingerprint": "f", "path": ("editor",) * 3}
    reasons(gate, own(fingerprint="f"), own(fingerprint="f"))
    found = [
        *reasons(gate, message(**everything, sender="editor", hops=17, deadline=1.0), now=1.0),
        *reasons(gate, message(**everything, sender="editor", hops=17)),
        *reasons(gate, message(**everything, sender="editor")),
    ]
    reasons(gate, *[message() for _ in range(5)])
    found += reasons(gate, message(**everything, sender="editor"), own(fingerprint="f"))
    assert found == ["expired", "hop_limit", "self_loop", "cycle", "no_progress"]


def test_a_redelivery_is_not_counted():
    """A message that came four times is one message."""
    gate = FloodGate()
    first = own(id="t", fingerprint="f")
    again = own(id="t", fingerprint="f", is_redelivery=True)
    assert reasons(gate, first, again, again, again) == [None] * 4
    assert reasons(gate, own(fingerprint="f")) == [None]


def test_a_redelivery_gets_the_first_verdict_again():
    """Work that was admitted is not refused after a crash for what came after it, and the other way round."""
    gate = FloodGate()
    assert reasons(gate, *[message(id=i, fingerprint="f") for i in ("a", "b", "c")]) == [None, None, "no_progress"]
    again = [message(id=i, fingerprint="f", is_redelivery=True) for i in ("a", "c")]
    assert reasons(gate, *again) == [None, "no_progress"]


def test_a_redelivery_may_have_expired_meanwhile():
    """The deadline is looked at each time."""
    gate = FloodGate()
    assert reasons(gate, message(id="t", deadline=10.0), now=9.0) == [None]
    assert reasons(gate, message(id="t", deadline=10.0, is_redelivery=True), now=70.0) == ["expired"]


def test_a_redelivery_not_known_here_counts_as_new():
    """Its first delivery was to another replica, or before a crash."""
    gate = FloodGate()
    redelivered = [own(is_redelivery=True) for _ in range(3)]
    assert reasons(gate, *redelivered) == [None, None, "self_loop"]


def test_a_replay_is_a_new_message():
    """The same id that the bus does not call a redelivery was sent again by somebody."""
    gate = FloodGate()
    assert reasons(gate, *[message(id="t", fingerprint="f") for _ in range(3)]) == [None, None, "no_progress"]


@pytest.mark.parametrize(
    ("messages", "detail"),
    [
        ([message(hops=17)], "17 hops, at most 16"),
        ([own(), own(), own()], "3 of the last 3 messages are editor's own"),
        (
            [message(path=("editor", "a") * 3)],
            "editor was visited 3 times: editor > a > editor > a > editor > a > editor",
        ),
        ([message(fingerprint="f") for _ in range(3)], "writer said the same 3 times in conversation c1"),
    ],
)
def test_the_detail_says_why_for_people(messages, detail):
    """With the figures that led to it."""
    gate = FloodGate()
    verdicts = [gate.decide(meta, 0.0) for meta in messages]
    assert (Action.REFUSE, detail) == (verdicts[-1].action, verdicts[-1].detail)


def test_the_detail_of_an_expired_message_says_how_late_it_is():
    """In seconds."""
    verdict = FloodGate().decide(message(deadline=10.0), 12.25)
    assert (verdict.action, verdict.detail) == (Action.REFUSE, "expired 2.250 s ago")


def test_the_conversation_unused_for_longest_is_forgotten():
    """Memory is bounded, and a conversation that goes on is kept."""
    gate = FloodGate(max_conversations=2)
    for conversation in ("old", "busy", "busy", "old", "new"):
        reasons(gate, message(conversation=conversation, fingerprint="f"))
    assert gate.conversations == 2
    assert reasons(gate, message(conversation="old", fingerprint="f")) == ["no_progress"]
    assert reasons(gate, message(conversation="busy", fingerprint="f")) == [None]


def test_the_content_unused_for_longest_is_forgotten():
    """A conversation of endless variety costs no more than a long one."""
    gate = FloodGate(max_fingerprints=2)
    said = ["a", "b", "a", "c", "b", "c", "a", "c"]
    assert reasons(gate, *[message(fingerprint=f) for f in said]) == [None] * 7 + ["no_progress"]


def test_the_id_unused_for_longest_is_forgotten():
    """A redelivery of an id that is forgotten counts as new."""
    gate = FloodGate(max_ids=1)
    reasons(gate, own(id="a"), own(id="b"))
    assert reasons(gate, own(id="a", is_redelivery=True)) == ["self_loop"]


def test_a_replayed_id_is_kept_longest():
    """It came last, so it is not the one that was unused for longest."""
    gate = FloodGate(max_ids=2)
    reasons(gate, own(id="a"), message(id="b"), own(id="a"), message(id="c"))
    assert reasons(gate, own(id="a", is_redelivery=True)) == [None]


def test_a_flood_of_conversations_keeps_memory_bounded():
    """Ten thousand conversations leave 1,024."""
    gate = FloodGate()
    reasons(gate, *[message(conversation=str(number)) for number in range(10_000)])
    assert gate.conversations == 1_024


@pytest.mark.parametrize(
    "figures",
    [
        {"max_hops": 0},
        {"self_messages": 0},
        {"self_messages": 6},
        {"self_window": 0},
        {"repeats": 1},
        {"max_conversations": 0},
        {"max_fingerprints": 0},
        {"max_ids": 0},
    ],
)
def test_impossible_figures_are_refused(figures):
    """Such as more own messages than the window holds."""
    with pytest.raises(ValueError, match=r"must (not )?be"):
        FloodGate(**figures)
