"""What travels between agents: tasks and their outcomes, and how both look on the bus."""

from __future__ import annotations

import enum
import hashlib
import json
import math
import re
import uuid
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

import attrs

from agentrt.ports import BucketSpec, ConsumerSpec, Json, StreamSpec, Topology

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

#: Agents kept in a message's path; a longer chain is over the hop limit anyway.
PATH_KEPT = 16
_PREFIX = "Agentrt-"
#: An id is a key of a bucket, a token of a subject and the name of an actor.
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class MalformedTask(ValueError):
    """A message in the task stream is no task; says what is wrong with it."""


class Status(enum.StrEnum):
    """How a task ended: exactly one of these."""

    ANSWERED = "answered"
    FAILED = "failed"
    EXPIRED = "expired"
    REFUSED = "refused"
    DEAD_LETTERED = "dead_lettered"


@attrs.frozen(kw_only=True)
class Task:
    """Something that an agent is to do.

    Args:
        id: Names it for ever; an outcome is kept under it.
        agent: Who is to do it.
        payload: JSON; its shape is between the sender and the agent.
        type: A word for the kind of work, for metrics.
        sender: The agent or program that sent it.
        conversation: The id of the task at the root.
        causation: The id of the task that it was sent from.
        hops: How many tasks lead here from the root.
        path: The agents on the way, oldest first, the sender last; the last 16.
        deadline: Unix time after which nobody wants it; None is never.
        priority: Which queue it waits in.
        attempt: How often it was delivered, this time included.
        route: How often it was sent on: rerouted or replayed.
        auto: Whether a machine wrote it by itself.
        traceparent: W3C trace context, handed on as it came.
        sent_at: Unix time at which it was sent.
    """

    id: str = attrs.field(factory=lambda: uuid.uuid4().hex)
    agent: str
    payload: Any = None
    type: str = "task"
    sender: str = ""
    conversation: str = ""
    causation: str = ""
    hops: int = 0
    path: tuple[str, ...] = ()
    deadline: float | None = None
    priority: Priority = "normal"
    attempt: int = 1
    route: int = 0
    auto: bool = False
    traceparent: str = ""
    sent_at: float

    @property
    def msg_id(self) -> str:
        """What the stream recognises a repetition by; a rerouted or replayed task is a new message."""
        return f"{self.id}.{self.route}"

    @property
    def fingerprint(self) -> str:
        """The same for the same payload and type."""
        try:
            canonical = json.dumps([self.type, self.payload], sort_keys=True, separators=(",", ":"))
        except RecursionError:
            canonical = "nested too deeply to be told apart"
        return hashlib.blake2b(canonical.encode(), digest_size=12).hexdigest()

    def body(self) -> bytes:
        """Write the payload as it travels.

        Raises:
            TypeError: It is no JSON.
            ValueError: It is no JSON: a number that JSON does not have, or a circle.
        """
        return _encode(self.payload)

    def headers(self) -> dict[str, str]:
        """Write everything else as it travels."""
        fields: dict[str, str] = {
            "Id": self.id,
            "Type": self.type,
            "Sender": self.sender,
            "Conversation": self.conversation or self.id,
            "Causation": self.causation,
            "Hops": str(self.hops),
            "Path": ",".join(self.path[-PATH_KEPT:]),
            "Deadline": "" if self.deadline is None else f"{self.deadline:.3f}",
            "Priority": self.priority,
            "Route": str(self.route),
            "Auto": "yes" if self.auto else "no",
            "Sent-At": f"{self.sent_at:.3f}",
        }
        headers = {_PREFIX + name: value for name, value in fields.items() if value}
        if self.traceparent:
            headers["traceparent"] = self.traceparent
        return headers

    @classmethod
    def read(cls, agent: str, body: bytes, headers: Mapping[str, str], attempt: int = 1) -> Task:
        """Read a task as it came from the stream.

        Raises:
            MalformedTask: It is not one.
        """
        found = {name.removeprefix(_PREFIX): value for name, value in headers.items() if name.startswith(_PREFIX)}
        if not _ID.fullmatch(found.get("Id", "")):
            raise MalformedTask("it has no Agentrt-Id header of 1 to 128 letters, digits, - and _")
        try:
            payload = json.loads(body, parse_constant=_no_json) if body else None
            priority = found.get("Priority", "normal")
            if priority not in PRIORITIES:
                raise MalformedTask(f"its priority is {priority!r}, not one of {', '.join(PRIORITIES)}")
            return cls(
                id=found["Id"],
                agent=agent,
                payload=payload,
                type=found.get("Type", "task"),
                sender=found.get("Sender", ""),
                conversation=found.get("Conversation") or found["Id"],
                causation=found.get("Causation", ""),
                hops=_count(found.get("Hops", "0")),
                path=tuple(name for name in found.get("Path", "").split(",") if name),
                deadline=_time(found["Deadline"]) if found.get("Deadline") else None,
                priority=priority,
                attempt=attempt,
                route=_count(found.get("Route", "0")),
                auto=found.get("Auto") == "yes",
                traceparent=headers.get("traceparent", ""),
                sent_at=_time(found.get("Sent-At") or "0"),
            )
        except MalformedTask:
            raise
        except (ValueError, RecursionError) as error:
            raise MalformedTask(str(error)) from error


def _encode(value: Any) -> bytes:
    """Write JSON in UTF-8; half of a surrogate pair, which UTF-8 does not have, is written as an escape."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _no_json(constant: str) -> NoReturn:
    raise MalformedTask(f"there is no {constant} in JSON")


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise MalformedTask(f"{text} is no count")
    return count


def _time(text: str) -> float:
    time = float(text)
    if not math.isfinite(time):
        raise MalformedTask(f"{text} is no time")
    return time


@attrs.frozen(kw_only=True)
class Outcome:
    """How a task ended.

    Args:
        task: The task's id.
        agent: Who did it, or did not.
        status: How it ended.
        answer: What ``handle`` returned, where it was answered.
        reason: Why it was not.
        attempts: Deliveries that it took.
        at: Unix time.
    """

    task: str
    agent: str
    status: Status
    answer: Json = None
    reason: str = ""
    attempts: int = 1
    at: float

    def encode(self) -> bytes:
        """Write it as it is stored."""
        return _encode(attrs.asdict(self, recurse=False))

    @classmethod
    def decode(cls, value: bytes) -> Outcome:
        """Read it as it was stored; a field that is not known here is passed over."""
        fields = json.loads(value)
        known = {field.name for field in attrs.fields(cls)}
        return cls(**{**{k: v for k, v in fields.items() if k in known}, "status": Status(fields["status"])})


@attrs.frozen
class Names:
    """The names of one fleet's streams, buckets and subjects."""

    fleet: str

    @property
    def tasks(self) -> str:
        """The stream of tasks."""
        return f"{self.fleet}-tasks"

    @property
    def dead_letters(self) -> str:
        """The stream of dead letters."""
        return f"{self.fleet}-dlq"

    @property
    def outcomes(self) -> str:
        """The bucket of outcomes."""
        return f"{self.fleet}-outcomes"

    @property
    def registry(self) -> str:
        """The bucket of agents and tool servers that are there."""
        return f"{self.fleet}-registry"

    def inbox(self, agent: str | None = None) -> str:
        """What the subjects begin with on which an agent, or the fleet itself, is answered: a token of its own."""
        # No name has an underscore, so none of these begins as another does.
        return f"_INBOX_{self.fleet}" if agent is None else f"_INBOX_{self.fleet}_{agent}"

    def task_subject(self, agent: str, priority: str) -> str:
        """Where tasks for *agent* are stored."""
        return f"{self.fleet}.tasks.{agent}.{priority}"

    def dead_letter_subject(self, agent: str) -> str:
        """Where dead letters of *agent* are stored."""
        return f"{self.fleet}.dlq.{agent}"

    def outcome_subject(self, task: str) -> str:
        """Where it is said that an outcome can be read."""
        return f"{self.fleet}.outcomes.{task}"

    def consumer(self, agent: str, priority: str) -> str:
        """The durable consumer of one agent and priority."""
        return f"{agent}-{priority}"

    def shared_topology(
        self,
        *,
        outcome_ttl: float,
        dead_letter_ttl: float,
        lease: float,
        task_bytes: int = -1,
        replicas: int | None = None,
    ) -> Topology:
        """What the whole fleet needs on the bus.

        Args:
            outcome_ttl: Seconds that an outcome is kept.
            dead_letter_ttl: Seconds that a dead letter is.
            lease: Seconds that an entry of the registry is, without being renewed.
            task_bytes: What tasks that wait may take up; -1 is no bound.
            replicas: Servers that each keep all of it; None leaves that to the operator.
        """
        tasks, dead_letters = (f"{self.fleet}.tasks.>",), (f"{self.fleet}.dlq.>",)
        return Topology(
            streams=(
                StreamSpec(self.tasks, tasks, work_queue=True, max_bytes=task_bytes, replicas=replicas),
                StreamSpec(self.dead_letters, dead_letters, max_age=dead_letter_ttl, replicas=replicas),
            ),
            # The first outcome of a task is its outcome, whoever else may write there.
            buckets=(
                BucketSpec(self.outcomes, outcome_ttl, write_once=True, replicas=replicas),
                BucketSpec(self.registry, lease, replicas=replicas),
            ),
        )

    def agent_topology(self, agent: str, *, ack_wait: float) -> Topology:
        """What one agent needs on the bus: a consumer for each priority, since one consumer cannot prioritise."""
        return Topology(
            consumers=tuple(
                ConsumerSpec(self.tasks, self.consumer(agent, priority), self.task_subject(agent, priority), ack_wait)
                for priority in PRIORITIES
            )
        )
