"""Flood gate: which messages are part of a loop and must not reach an agent."""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from typing import Generic, TypeVar

import attrs
from attrs import validators

K = TypeVar("K")
V = TypeVar("V")


class Action(enum.StrEnum):
    """What to do with a message."""

    ADMIT = "admit"
    REFUSE = "refuse"


class GateReason(enum.StrEnum):
    """Why a message is refused."""

    EXPIRED = "expired"
    HOP_LIMIT = "hop_limit"
    SELF_LOOP = "self_loop"
    CYCLE = "cycle"
    NO_PROGRESS = "no_progress"


@attrs.frozen(kw_only=True)
class MessageMeta:
    """What the gate has to know of a message.

    Args:
        id: Its id; a redelivery has the same.
        sender: The agent that sent it.
        recipient: The agent whose inbox it is in.
        conversation: The id of the message that everything began with.
        hops: How many hops it made.
        path: The agents that its cause went through, the sender last; possibly only the last few.
        fingerprint: A digest of its kind and payload: equal where the content is.
        deadline: When nobody waits for it any more, on the clock of *now*; None is never.
        is_redelivery: Whether the bus says that it was delivered before.
    """

    id: str
    sender: str
    recipient: str
    conversation: str
    hops: int
    path: tuple[str, ...]
    fingerprint: str
    deadline: float | None
    is_redelivery: bool


@attrs.frozen
class GateVerdict:
    """What to do with a message: its *reason* is None where it is admitted; *detail* is the reason for people."""

    action: Action
    reason: GateReason | None = None
    detail: str = ""


_ADMITTED = GateVerdict(Action.ADMIT)


@attrs.define
class _Recent(Generic[K, V]):
    """A mapping of fixed size that forgets the entry unused for longest."""

    size: int
    _entries: OrderedDict[K, V] = attrs.field(init=False, factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self.size:
            self._entries.popitem(last=False)


@attrs.define
class FloodGate:
    """Decide for one inbox which messages are part of a loop.

    The rules, in order; the first that holds refuses the message, and none means that it is admitted:

    1. ``expired``: its deadline is now or was before. It is not counted below: no agent saw it.
    2. ``hop_limit``: it made more than *max_hops* hops. Catches any loop that the others miss, such as a cycle too
       long for the path.
    3. ``self_loop``: the agent sent it to itself, and so it did with at least *self_messages* of the last
       *self_window* messages of this inbox, this one included.
    4. ``cycle``: the recipient stands in its path at least *max_visits* times already: two agents that bounce
       messages, or a cycle of more. An answer to a first question has one visit, and so is always admitted.
    5. ``no_progress``: the same sender said the same thing in the same conversation for the *repeats*-th time, as this
       inbox saw it.

    A message is counted when it comes first, refused or not. When it comes again (a redelivery whose id is known here)
    it is not counted, and gets the first verdict again unless it expired meanwhile: work that was admitted is not
    refused after a crash for what came after it. A redelivery whose id is not known here counts as new.

    Memory is bounded: whatever was not used for longest is forgotten.

    Pure: it never reads a clock and refuses nothing itself.

    Args:
        max_hops: Hops allowed.
        max_visits: Visits of the recipient that make a cycle; at least 2, since an answer has one.
        self_messages: Own messages in the window that make a loop; at most *self_window*.
        self_window: How many messages of the inbox are looked at.
        repeats: Equal messages that make no progress; this one included.
        max_conversations: Conversations remembered.
        max_fingerprints: Contents remembered of each conversation.
        max_ids: Messages remembered, to know a redelivery.

    Raises:
        ValueError: A figure is out of its bounds, or *self_messages* is more than *self_window*.
    """

    max_hops: int = attrs.field(default=16, validator=validators.ge(1))
    max_visits: int = attrs.field(default=3, validator=validators.ge(2))
    self_messages: int = attrs.field(default=3, validator=validators.ge(1))
    self_window: int = attrs.field(default=5, validator=validators.ge(1))
    repeats: int = attrs.field(default=3, validator=validators.ge(2))
    max_conversations: int = attrs.field(default=1024, validator=validators.ge(1))
    max_fingerprints: int = attrs.field(default=64, validator=validators.ge(1))
    max_ids: int = attrs.field(default=1024, validator=validators.ge(1))
    _from_itself: deque[bool] = attrs.field(init=False)
    _conversations: _Recent[str, _Recent[tuple[str, str], int]] = attrs.field(init=False)
    _verdicts: _Recent[str, GateVerdict] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Refuse a window in which the loop could never be seen, and make room for what is remembered."""
        if self.self_messages > self.self_window:
            msg = (
                f"self_messages ({self.self_messages}) must not be more than self_window ({self.self_window}), "
                f"or no loop is ever seen"
            )
            raise ValueError(msg)
        self._from_itself = deque(maxlen=self.self_window)
        self._conversations = _Recent(self.max_conversations)
        self._verdicts = _Recent(self.max_ids)

    @property
    def conversations(self) -> int:
        """How many conversations are remembered."""
        return len(self._conversations)

    def decide(self, meta: MessageMeta, now: float) -> GateVerdict:
        """Count a message that arrived and return what to do with it.

        Args:
            meta: The message.
            now: Seconds on the clock of its deadline.
        """
        if meta.deadline is not None and now >= meta.deadline:
            return GateVerdict(Action.REFUSE, GateReason.EXPIRED, f"expired {now - meta.deadline:.3f} s ago")
        known = self._verdicts.get(meta.id) if meta.is_redelivery else None
        if known is not None:
            return known
        verdict = self._judge(meta, seen=self._count(meta))
        self._verdicts.put(meta.id, verdict)
        return verdict

    def _count(self, meta: MessageMeta) -> int:
        """Count a new message; return how often this inbox saw its content in its conversation."""
        self._from_itself.append(meta.sender == meta.recipient)
        contents = self._conversations.get(meta.conversation)
        if contents is None:
            contents = _Recent(self.max_fingerprints)
            self._conversations.put(meta.conversation, contents)
        key = (meta.sender, meta.fingerprint)
        seen = (contents.get(key) or 0) + 1
        contents.put(key, seen)
        return seen

    def _judge(self, meta: MessageMeta, seen: int) -> GateVerdict:
        own = sum(self._from_itself)
        visits = meta.path.count(meta.recipient)
        if meta.hops > self.max_hops:
            return GateVerdict(Action.REFUSE, GateReason.HOP_LIMIT, f"{meta.hops} hops, at most {self.max_hops}")
        if meta.sender == meta.recipient and own >= self.self_messages:
            detail = f"{own} of the last {len(self._from_itself)} messages are {meta.recipient}'s own"
            return GateVerdict(Action.REFUSE, GateReason.SELF_LOOP, detail)
        if visits >= self.max_visits:
            detail = f"{meta.recipient} was visited {visits} times: {' > '.join((*meta.path, meta.recipient))}"
            return GateVerdict(Action.REFUSE, GateReason.CYCLE, detail)
        if seen >= self.repeats:
            detail = f"{meta.sender} said the same {seen} times in conversation {meta.conversation}"
            return GateVerdict(Action.REFUSE, GateReason.NO_PROGRESS, detail)
        return _ADMITTED
