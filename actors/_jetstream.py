"""What is said to JetStream and how its answers are read: JSON over request and answer, whatever carries them."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import attrs
import trio

from actors._nats_frames import read_headers
from agentrt.ports import BucketSpec, BusMessage, ConsumerSpec, StreamSpec, Topology

API = "$JS.API."
ACK = "$JS.ACK."
#: Methods of the API, each with the name of a stream to follow; of a consumer behind it, for the next message.
GET = "STREAM.MSG.GET."
NEXT = "CONSUMER.MSG.NEXT."
MSG_ID = "Nats-Msg-Id"
EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
KV_OPERATION = "KV-Operation"

# The server's error codes (server/errors.json of nats-server).
_CONSUMER_NOT_FOUND = 10014
_NO_MESSAGE = 10037
_PURGE_FAILED = 10051
_STREAM_NOT_FOUND = 10059
_STORE_FAILED = 10077
_IN_PROCESS = 10158
_NO_ROOM = frozenset({10023, 10047})
_WRONG_LAST = frozenset({10071, 10164})

# A subject that no stream takes, and so has nothing of.
_NOWHERE = "agentrt-stores-nothing-here"

_UNAVAILABLE = 503
# Seconds after which the replicas of a leader that is not heard of elect another (nats-server's shortest election
# timeout). It takes itself for the leader for 20 s more (seen in 2.15.1), and gets nothing agreed on.
_NOT_HEARD = 4.0
_NANOSECONDS = 1_000_000_000


class Answered(Protocol):
    """What an answer must offer to be read here."""

    @property
    def status(self) -> str: ...
    @property
    def body(self) -> bytes: ...


Ask = Callable[[str, bytes], Awaitable[Answered]]


@attrs.frozen
class ApiError(Exception):
    """JetStream said no, or there was nobody to say anything.

    Args:
        code: As in HTTP; 503 also where nobody answers.
        number: The server's own number for the error; 0 where nobody answers.
        description: For people.
    """

    code: int
    number: int
    description: str

    def __str__(self) -> str:
        return f"{self.description} ({self.number})" if self.number else self.description

    @property
    def is_missing(self) -> bool:
        """Whether a stream or a consumer is not there: declare it again and repeat."""
        return self.is_gone or self.is_unanswered

    @property
    def is_gone(self) -> bool:
        """Whether the server says that it has no such stream or consumer."""
        return self.number in (_STREAM_NOT_FOUND, _CONSUMER_NOT_FOUND)

    @property
    def is_unanswered(self) -> bool:
        """Whether nobody was there to answer."""
        return self.code == _UNAVAILABLE and not self.number

    @property
    def is_of_server(self) -> bool:
        """Whether JetStream does not serve here, and another server of the cluster may: not enabled, or no leader."""
        return self.code == _UNAVAILABLE and not self.is_full and not self.is_not_stored

    @property
    def is_transient(self) -> bool:
        """Whether the same request may work later."""
        # A cluster that is about to store a message says so of its repetition, which then is a duplicate.
        is_early = self.number == _IN_PROCESS or (self.code == _UNAVAILABLE and not self.is_not_stored)
        return self.is_missing or self.is_full or is_early

    @property
    def is_full(self) -> bool:
        """Whether the server has reached the limit of all that it may store."""
        return self.number in _NO_ROOM

    @property
    def is_not_stored(self) -> bool:
        """Whether the stream takes no more: it is full, or has a message of that subject and takes no other."""
        return self.number == _STORE_FAILED

    @property
    def is_no_message(self) -> bool:
        """Whether the stream has no such message."""
        return self.number == _NO_MESSAGE

    @property
    def is_wrong_last(self) -> bool:
        """Whether the key is not at the revision that was expected."""
        return self.number in _WRONG_LAST


class StoreBroken(ApiError):
    """A stream that is there and stores nothing, until its server is started anew."""


def read(answer: Answered) -> dict[str, Any]:
    """Return what JetStream answered.

    Raises:
        ApiError: It was an error.
    """
    if answer.status == str(_UNAVAILABLE):
        raise ApiError(_UNAVAILABLE, 0, "nobody answers: no such stream or consumer, or JetStream is not enabled")
    found: dict[str, Any] = json.loads(answer.body or b"{}")
    if "error" in found:
        error = found["error"]
        raise ApiError(error.get("code", 0), error.get("err_code", 0), error.get("description", "unknown error"))
    return found


def write(request: Mapping[str, Any] | None) -> bytes:
    """Return the body of a request to the API."""
    return json.dumps(request).encode() if request else b""


async def call(ask: Ask, subject: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask JetStream's API and return its answer."""
    return read(await ask(API + subject, write(request)))


@attrs.frozen
class Asset:
    """Something that is declared: how JetStream's API names it, and its configuration there.

    Args:
        kind: ``stream``, ``bucket`` or ``consumer``.
        name: For people; a consumer's with its stream's before it.
        path: What stands behind a method of the API.
        config: What is declared.
    """

    kind: str
    name: str
    path: str
    config: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"

    @property
    def info(self) -> str:
        """The method of the API that says what is there."""
        return f"{'CONSUMER' if self.kind == 'consumer' else 'STREAM'}.INFO.{self.path}"

    @property
    def create(self) -> str:
        """The method of the API that makes it.

        A consumer's has its filter behind the name, and the server takes no other: so who may make one consumer may
        not have it deliver what is somebody else's.
        """
        if self.kind == "consumer":
            return f"CONSUMER.CREATE.{self.path}.{self.config['filter_subject']}"
        return f"STREAM.CREATE.{self.path}"

    @property
    def purge(self) -> str:
        """The method of the API that purges it, where it is no consumer."""
        return f"STREAM.PURGE.{self.path}"

    @property
    def update(self) -> str:
        """The method of the API that changes it."""
        return self.create if self.kind == "consumer" else f"STREAM.UPDATE.{self.path}"


def assets(topology: Topology) -> tuple[Asset, ...]:
    """Return all that is declared, in the order in which it has to be made."""
    return (
        *(Asset("stream", spec.name, spec.name, _stream_config(spec)) for spec in topology.streams),
        *(Asset("bucket", spec.name, bucket_stream(spec.name), _bucket_config(spec)) for spec in topology.buckets),
        *(
            Asset("consumer", f"{spec.stream}/{spec.durable}", f"{spec.stream}.{spec.durable}", _consumer_config(spec))
            for spec in topology.consumers
        ),
    )


async def look(ask: Ask, asset: Asset) -> dict[str, Any]:
    """Return what the server says about something that is declared.

    Raises:
        ApiError: It is not there, the server does not say, or it has no leader that reaches most of its replicas: a
            node that the others of its cluster cannot reach says all that it knows of it then, and neither stores in
            it nor delivers from it.
    """
    info = await _named(asset, call(ask, asset.info))
    if trouble := _trouble_of_group(info.get("cluster") or {}):
        raise ApiError(_UNAVAILABLE, 0, f"{asset}: {trouble}")
    return info


def _trouble_of_group(cluster: dict[str, Any]) -> str:
    if not cluster:
        return ""
    if not cluster.get("leader"):
        return "has no leader; too few of its replicas reach each other"
    others = cluster.get("replicas") or []
    heard = sum(not one.get("offline") and one.get("active", 0) <= _NOT_HEARD * _NANOSECONDS for one in others)
    if 2 * (1 + heard) > 1 + len(others):
        return ""
    return f"its leader {cluster['leader']} hears of {heard} of its {len(others)} other replicas only"


async def create(ask: Ask, asset: Asset) -> dict[str, Any]:
    """Make something that is declared and not there; return what the server says about it then.

    Raises:
        ApiError: The server refused; says which stream, consumer or bucket.
    """
    return await _named(asset, call(ask, asset.create, _wrapped(asset, asset.config)))


async def update(ask: Ask, asset: Asset, there: dict[str, Any]) -> dict[str, Any]:
    """Change something that is there and not as declared; return what the server says about it then.

    Args:
        ask: Asks the server.
        asset: What is declared.
        there: The configuration that it has; what of it was not declared, such as the replicas, is the operator's and
            stays.

    Raises:
        ApiError: The server refused; says which stream, consumer or bucket.
    """
    return await _named(asset, call(ask, asset.update, _wrapped(asset, {**there, **asset.config})))


async def try_store(ask: Ask, asset: Asset) -> None:
    """Ask whether a stream can write, and change nothing: what is purged is a subject that it does not have.

    A server that once failed to write to a stream's files stores nothing in it any more until it is started anew, also
    when the disk is well again. It answers each publish with silence, and all that one may ask about the stream as if
    nothing were; but it refuses to purge (nats-server 2.15.1; where nothing matches, that takes no time).

    Raises:
        StoreBroken: It cannot; says why, and what to do.
        ApiError: The server refused, or does not say.
    """
    try:
        await call(ask, asset.purge, {"filter": _NOWHERE})
    except ApiError as error:
        if error.number != _PURGE_FAILED:
            raise
        advice = "see to the server's disk, then start the server anew"
        raise StoreBroken(error.code, error.number, f"{asset} stores nothing: {error.description}; {advice}") from error


async def _named(asset: Asset, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await work
    except ApiError as error:
        raise ApiError(error.code, error.number, f"{asset}: {error.description}") from error
    except trio.TooSlowError as error:
        raise ApiError(_UNAVAILABLE, 0, f"{asset}: JetStream did not answer for it") from error


def _wrapped(asset: Asset, config: dict[str, Any]) -> dict[str, Any]:
    return {"stream_name": asset.path.partition(".")[0], "config": config} if asset.kind == "consumer" else config


def _consumer_config(spec: ConsumerSpec) -> dict[str, Any]:
    return {
        "name": spec.durable,
        "durable_name": spec.durable,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": _nanoseconds(spec.ack_wait),
        "max_deliver": spec.max_deliver,
        "filter_subject": spec.filter_subject,
        "replay_policy": "instant",
        "max_ack_pending": spec.max_ack_pending,
    }


def _stream_config(spec: StreamSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "subjects": list(spec.subjects),
        "retention": "workqueue" if spec.work_queue else "limits",
        "max_age": _nanoseconds(spec.max_age),
        "max_bytes": spec.max_bytes,
        "discard": "new",
        "storage": "file",
        "duplicate_window": _window(spec.duplicate_window, spec.max_age),
        **_replicas(spec.replicas),
    }


def _bucket_config(spec: BucketSpec) -> dict[str, Any]:
    return {
        "name": bucket_stream(spec.name),
        "subjects": [f"$KV.{spec.name}.>"],
        "max_msgs_per_subject": 1,
        "max_age": _nanoseconds(spec.ttl),
        "discard": "new",
        "storage": "file",
        "duplicate_window": _window(120.0, spec.ttl),
        # A roll-up takes away what is there, and of a full key the server refuses another value.
        "discard_new_per_subject": spec.write_once,
        "allow_rollup_hdrs": not spec.write_once,
        "deny_delete": True,
        "allow_direct": True,
        **_replicas(spec.replicas),
    }


def _replicas(count: int | None) -> dict[str, int]:
    return {} if count is None else {"num_replicas": count}


def _window(wanted: float, max_age: float) -> int:
    # The server refuses a window longer than the messages live.
    return _nanoseconds(min(wanted, max_age) if max_age else wanted)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)


def bucket_stream(bucket: str) -> str:
    """Return the name of the stream behind a bucket."""
    return f"KV_{bucket}"


def key_subject(bucket: str, key: str) -> str:
    """Return the subject that a key of a bucket is stored under."""
    return f"$KV.{bucket}.{key}"


@attrs.frozen
class Stored:
    """A message as it lies in a stream."""

    sequence: int
    message: BusMessage

    @property
    def is_deleted(self) -> bool:
        """Whether it is the mark of a key that was deleted."""
        return self.message.headers.get(KV_OPERATION) in ("DEL", "PURGE")


def read_stored(found: dict[str, Any]) -> Stored:
    """Read the answer to ``STREAM.MSG.GET``."""
    message = found["message"]
    body = base64.b64decode(message.get("data", ""))
    headers = read_headers(base64.b64decode(message.get("hdrs", "")))
    return Stored(message["seq"], BusMessage(message["subject"], body, headers))
