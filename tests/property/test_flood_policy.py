"""The flood gate against a model that keeps every message and looks at all of them each time."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import Action, FloodGate, MessageMeta
from agentrt.policy.flood import _Recent

AGENTS = ("me", "a", "b", "c")

messages = st.builds(
    MessageMeta,
    id=st.sampled_from("0123456789"),
    sender=st.sampled_from(AGENTS[:3]),
    recipient=st.just("me"),
    conversation=st.sampled_from(("c1", "c2")),
    hops=st.integers(0, 5),
    path=st.lists(st.sampled_from(AGENTS), max_size=6).map(tuple),
    fingerprint=st.sampled_from("fg"),
    deadline=st.none() | st.integers(0, 20),
    is_redelivery=st.booleans(),
)
arrivals = st.lists(st.tuples(st.integers(0, 1), messages), max_size=40)


@attrs.define
class Model:
    """All messages that counted, and the first verdict about each id."""

    max_hops: int
    max_visits: int
    self_messages: int
    self_window: int
    repeats: int
    counted: list[MessageMeta] = attrs.field(init=False, factory=list)
    verdicts: dict[str, str | None] = attrs.field(init=False, factory=dict)

    def decide(self, meta: MessageMeta, now: int) -> str | None:
        """Return the reason to refuse it, or None."""
        if meta.deadline is not None and meta.deadline <= now:
            return "expired"
        if meta.is_redelivery and meta.id in self.verdicts:
            return self.verdicts[meta.id]
        self.counted.append(meta)
        self.verdicts[meta.id] = self.judge(meta)
        return self.verdicts[meta.id]

    def judge(self, meta: MessageMeta) -> str | None:
        """Apply the rules to a message that was counted."""
        own = [earlier for earlier in self.counted[-self.self_window :] if earlier.sender == "me"]
        same = [
            earlier
            for earlier in self.counted
            if (earlier.sender, earlier.conversation, earlier.fingerprint)
            == (meta.sender, meta.conversation, meta.fingerprint)
        ]
        rules = {
            "hop_limit": meta.hops > self.max_hops,
            "self_loop": meta.sender == "me" and len(own) >= self.self_messages,
            "cycle": len([agent for agent in meta.path if agent == "me"]) >= self.max_visits,
            "no_progress": len(same) >= self.repeats,
        }
        return next((reason for reason, holds in rules.items() if holds), None)


@st.composite
def figures(draw: st.DrawFn) -> dict[str, int]:
    """Draw settings small enough for every rule to be the one that holds."""
    window = draw(st.integers(1, 6))
    return {
        "max_hops": draw(st.integers(1, 5)),
        "max_visits": draw(st.integers(2, 4)),
        "self_messages": draw(st.integers(1, window)),
        "self_window": window,
        "repeats": draw(st.integers(2, 5)),
    }


@given(figures(), arrivals)
def test_each_message_gets_the_verdict_that_the_whole_history_gives(settings, history):
    """Windows, counts and remembered verdicts are shortcuts, nothing else."""
    gate, model = FloodGate(**settings), Model(**settings)
    now = 0
    for gap, meta in history:
        now += gap
        expected = model.decide(meta, now)
        verdict = gate.decide(meta, now)
        assert expected == verdict.reason
        assert (Action.ADMIT if expected is None else Action.REFUSE) is verdict.action
        assert (expected is None) == (verdict.detail == "")


@given(st.integers(2, 16), st.integers(2, 6), st.integers(2, 40))
def test_a_cycle_of_any_length_ends(agents, max_visits, max_hops):
    """A message handed round a ring, each agent with its own gate, is refused by one of them within the hop limit."""
    ring = [f"agent-{number}" for number in range(agents)]
    gates = {name: FloodGate(max_hops=max_hops, max_visits=max_visits) for name in ring}
    path: tuple[str, ...] = (ring[0],)
    for hop in range(1, 100):
        sender, recipient = path[-1], ring[hop % agents]
        meta = MessageMeta(
            id=str(hop),
            sender=sender,
            recipient=recipient,
            conversation="c",
            hops=hop,
            path=path[-16:],
            fingerprint=str(hop),
            deadline=None,
            is_redelivery=False,
        )
        verdict = gates[recipient].decide(meta, 0.0)
        if verdict.action is Action.REFUSE:
            break
        path = (*path, recipient)
    by_visits = max_visits * agents if max_visits * agents <= 16 else max_hops + 1
    assert min(by_visits, max_hops + 1) == hop


@given(st.lists(st.sampled_from(AGENTS[1:]), min_size=1, max_size=15, unique=True))
def test_a_first_answer_is_always_admitted(between):
    """However many agents a question went through, its answer reaches the one who asked."""
    meta = MessageMeta(
        id="answer",
        sender=between[-1],
        recipient="me",
        conversation="c",
        hops=len(between) + 1,
        path=("me", *between),
        fingerprint="f",
        deadline=None,
        is_redelivery=False,
    )
    assert Action.ADMIT is FloodGate(max_visits=2).decide(meta, 0.0).action


@given(arrivals, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_memory_never_exceeds_its_bounds(history, max_conversations, max_fingerprints, max_ids):
    """Conversations, contents and ids each stay within their number."""
    gate = FloodGate(max_conversations=max_conversations, max_fingerprints=max_fingerprints, max_ids=max_ids)
    for _, meta in history:
        gate.decide(meta, 0.0)
        assert gate.conversations <= max_conversations
        assert all(len(contents) <= max_fingerprints for contents in gate._conversations._entries.values())
        assert len(gate._verdicts) <= max_ids


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 9)), max_size=40))
def test_what_was_not_used_for_longest_is_forgotten(size, steps):
    """The model is a list, the latest use last; None is a look, a number is stored."""
    recent: _Recent[str, int] = _Recent(size)
    model: list[tuple[str, int]] = []
    for key, value in steps:
        found = dict(model).get(key)
        if value is None:
            assert found == recent.get(key)
        else:
            recent.put(key, value)
        kept = found if value is None else value
        if kept is not None:
            model = [*[entry for entry in model if entry[0] != key], (key, kept)][-size:]
        assert model == list(recent._entries.items())
