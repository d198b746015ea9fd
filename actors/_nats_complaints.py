"""What a NATS server complains of on one connection: judged by policy, and told to whom it concerns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from actors._nats_requests import Request
from agentrt.policy import Complaint, ConnectionVerdict, judge_complaint
from agentrt.ports import BusError, BusRefused, LimitReached, PayloadTooLarge, PermissionDenied, SlowConsumer

_DENIED = re.compile(
    r'permissions violation for (publish|subscription) to "([^"]+)"(?: using queue "([^"]+)")?', re.IGNORECASE
)

#: Told that a subscription, or an answer that is waited for, will not come.
Denied = Callable[[BusError], None]


# What ends the connection, and is the doing of who uses it.
_OURS: dict[Complaint, type[BusError]] = {Complaint.PAYLOAD: PayloadTooLarge, Complaint.SLOW_CONSUMER: SlowConsumer}


@attrs.define
class Complaints:
    """Finds out whom an error of the server concerns; it names a subject at most, and that in lower case.

    Args:
        on_problem: Called with the subject, empty where none is named, and the error.
        lose: Called with the reason where the connection cannot go on.
        requests: What waits for an answer.
    """

    _on_problem: Callable[[str, BusError], None]
    _lose: Callable[[str], None]
    _requests: Mapping[str, Request[Any]]
    _subscribed: dict[int, tuple[str, str, Denied]] = attrs.field(init=False, factory=dict)
    # In their order; an empty dict takes a tenth of what an empty deque does.
    _unconfirmed: dict[int, None] = attrs.field(init=False, factory=dict)

    def subscribed(self, sid: int, subject: str, queue: str, denied: Denied) -> None:
        """Record a subscription that was sent; follow it with a PING, and that with :meth:`confirmed`."""
        self._subscribed[sid] = (subject, queue, denied)
        # The server answers in order, so a complaint that names nothing is about the first without a PONG.
        self._unconfirmed[sid] = None

    def confirmed(self, sid: int) -> None:
        """Record that the server answered what was sent behind a subscription."""
        self._unconfirmed.pop(sid, None)

    def unsubscribed(self, sid: int) -> None:
        """Forget a subscription."""
        self._subscribed.pop(sid, None)

    def take(self, text: str) -> None:
        """Take what the server sent behind ``-ERR``."""
        text = text.strip().strip("'")
        judgement = judge_complaint(text)
        reason = explain(text)
        if judgement.verdict is ConnectionVerdict.REBUILD:
            if judgement.complaint in _OURS:
                self._on_problem("", _OURS[judgement.complaint](reason))
            self._lose(reason)
        elif judgement.complaint is Complaint.SUBSCRIPTIONS:
            self._take_limit(LimitReached(reason))
        elif (denied := _DENIED.search(text)) is None:
            self._on_problem("", BusRefused(reason))
        elif denied[1].lower() == "publish":
            self._take_no_publish(denied[2])
        else:
            self._take_no_subscribe(denied[2], denied[3] or "")

    def _take_limit(self, error: LimitReached) -> None:
        sid = next(iter(self._unconfirmed), 0)
        subject, _, denied = self._subscribed.get(sid, ("", "", None))
        if denied is not None:
            denied(error)
        self._on_problem(subject, error)

    def _take_no_publish(self, subject: str) -> None:
        asked = [request for request in self._requests.values() if request.subject.lower() == subject.lower()]
        subject = asked[0].subject if asked else subject
        error = PermissionDenied(
            f"the server does not allow publishing to {subject!r}; allow it in permissions.publish of this user"
        )
        for request in asked:
            request.settle(error)
        self._on_problem(subject, error)

    def _take_no_subscribe(self, subject: str, queue: str) -> None:
        named = (subject.lower(), queue.lower())
        opened = [entry for entry in self._subscribed.values() if (entry[0].lower(), entry[1].lower()) == named]
        subject, queue = opened[0][:2] if opened else (subject, queue)
        group = f" in the queue group {queue!r}" if queue else ""
        error = PermissionDenied(
            f"the server does not allow subscribing to {subject!r}{group}; allow it in permissions.subscribe of this"
            " user"
        )
        for *_, denied in opened:
            denied(error)
        self._on_problem(subject, error)


def explain(text: str) -> str:
    """Return what a server said, and what a person can do about it."""
    return f"the server says {text!r}: {judge_complaint(text).advice}"
