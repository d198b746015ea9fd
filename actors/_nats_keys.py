"""Keys and values over NATS: each write names the revision that it takes the place of, where that matters."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from actors import _jetstream as jetstream
from actors._nats_asking import Answer
from actors._nats_link import NatsLink
from actors._nats_settings import NatsSettings
from actors._nats_subscription import Hint, Subscription
from actors._nats_watch import KeyWatch
from actors._subjects import check_key, check_keys, check_revision
from agentrt.ports import Headers, KeyExists, WrongRevision

_WATCH_TIMEOUT = 30.0

_Subscribed = TypeVar("_Subscribed", bound=Subscription)


class Left:
    """What is left of a timeout."""

    def __init__(self, timeout: float) -> None:
        self._deadline = trio.current_time() + timeout

    @property
    def seconds(self) -> float:
        return max(0.0, self._deadline - trio.current_time())


class NatsKeys:
    """The part of a bus that is about keys.

    Args:
        settings: Where to connect, and how.
        link: What asks.
    """

    def __init__(self, settings: NatsSettings, link: NatsLink) -> None:
        self.settings = settings
        self.link = link

    async def create(self, bucket: str, key: str, value: bytes, *, timeout: float = 30.0) -> int:
        """Create a key; see :meth:`agentrt.ports.Bus.create`."""
        check_key(bucket, key)
        what, left = f"creating {key!r} in {bucket!r}", Left(timeout)
        revision = 0
        while True:
            written, there = await self._replace(what, bucket, key, value, revision, left)
            if written:
                return written
            if there is not None and not there.is_deleted:
                msg = f"{key!r} exists in {bucket!r} at revision {there.sequence}"
                raise KeyExists(msg)
            # It was deleted, and the mark of that has a revision too.
            revision = 0 if there is None else there.sequence

    async def update(self, bucket: str, key: str, value: bytes, revision: int, *, timeout: float = 30.0) -> int:
        """Write a key that nobody else has written; see :meth:`agentrt.ports.Bus.update`."""
        check_key(bucket, key)
        check_revision(key, revision)
        what = f"updating {key!r} in {bucket!r}"
        written, there = await self._replace(what, bucket, key, value, revision, Left(timeout))
        if not written:
            actual = "is not there" if there is None else f"is at revision {there.sequence}"
            msg = f"{what}: it {actual}, and not at {revision}; read it again"
            raise WrongRevision(msg)
        return written

    async def _replace(
        self, what: str, bucket: str, key: str, value: bytes, revision: int, left: Left
    ) -> tuple[int, jetstream.Stored | None]:
        """Write a key that is at *revision*; return the new one, or 0 and what is there."""
        own = uuid.uuid4().hex
        headers = {jetstream.EXPECTED_LAST: str(revision), jetstream.MSG_ID: own}
        answer = await self._write(what, bucket, key, value, headers, timeout=left.seconds)
        if answer.error is None or not answer.error.is_wrong_last:
            return int(answer.accepted()["seq"]), None
        there = await self._latest(what, bucket, key, timeout=left.seconds)
        if there is not None and there.message.headers.get(jetstream.MSG_ID) == own:
            # Ours: the connection died after it was written and before that was said.
            return there.sequence, None
        return 0, there

    async def put(self, bucket: str, key: str, value: bytes, *, timeout: float = 30.0) -> int:
        """Write a key, whatever is there; return its revision."""
        check_key(bucket, key)
        headers = {jetstream.MSG_ID: uuid.uuid4().hex}
        answer = await self._write(f"writing {key!r} in {bucket!r}", bucket, key, value, headers, timeout=timeout)
        return int(answer.accepted()["seq"])

    async def get(self, bucket: str, key: str, *, timeout: float = 30.0) -> tuple[bytes, int] | None:
        """Read a key: its value and revision, or None."""
        check_key(bucket, key)
        stored = await self._latest(f"reading {key!r} in {bucket!r}", bucket, key, timeout=timeout)
        return None if stored is None or stored.is_deleted else (stored.message.body, stored.sequence)

    async def delete(self, bucket: str, key: str, *, timeout: float = 30.0) -> None:
        """Delete a key; nothing happens where there is none."""
        check_key(bucket, key)
        left = Left(timeout)
        if await self.get(bucket, key, timeout=timeout) is None:
            return
        headers = {jetstream.MSG_ID: uuid.uuid4().hex, jetstream.KV_OPERATION: "DEL"}
        what = f"deleting {key!r} in {bucket!r}"
        answer = await self._write(what, bucket, key, b"", headers, timeout=left.seconds)
        if answer.error is not None and answer.error.is_not_stored:
            # Keys that are written once take no mark of their end either; who may can take them away.
            method = f"STREAM.PURGE.{jetstream.bucket_stream(bucket)}"
            request = {"filter": jetstream.key_subject(bucket, key)}
            answer = await self._api(what, method, request, timeout=left.seconds)
        answer.accepted()

    @asynccontextmanager
    async def watch(self, bucket: str, pattern: str = ">") -> AsyncIterator[KeyWatch]:
        """Watch keys; see :meth:`agentrt.ports.Bus.watch`."""
        check_keys(bucket, pattern)

        async def api(method: str, request: dict[str, object] | None) -> dict[str, Any] | None:
            answer = await self._api(f"watching {bucket!r}", method, request, timeout=_WATCH_TIMEOUT)
            return None if answer.error is not None and answer.error.is_no_message else answer.accepted()

        async with self._subscribed(Hint(jetstream.key_subject(bucket, pattern))) as hint:
            yield KeyWatch(bucket, pattern, hint.flag, self.settings.probe_interval, api)

    @asynccontextmanager
    async def _subscribed(self, subscription: _Subscribed) -> AsyncIterator[_Subscribed]:
        link = self.link
        link.subscriptions.add(subscription)
        try:
            if link.client is not None:
                subscription.attach(link.client)
                # From here on a message is seen, whoever publishes it.
                await link.client.flush()
            yield subscription
        finally:
            link.unsubscribe(subscription)

    async def _write(
        self, what: str, bucket: str, key: str, value: bytes, headers: Headers, *, timeout: float
    ) -> Answer:
        return await self.link.ask(what, jetstream.key_subject(bucket, key), value, headers, timeout=timeout)

    async def _latest(self, what: str, bucket: str, key: str, *, timeout: float) -> jetstream.Stored | None:
        # Asked of the stream's leader: a direct get may be answered by a replica that is behind.
        request = {"last_by_subj": jetstream.key_subject(bucket, key)}
        return await self._stored(what, jetstream.bucket_stream(bucket), request, timeout=timeout)

    async def _stored(
        self, what: str, stream: str, request: dict[str, Any], *, timeout: float
    ) -> jetstream.Stored | None:
        answer = await self._api(what, jetstream.GET + stream, request, timeout=timeout)
        if answer.error is not None and answer.error.is_no_message:
            return None
        return jetstream.read_stored(answer.accepted())

    async def _api(self, what: str, method: str, request: Mapping[str, Any] | None = None, *, timeout: float) -> Answer:
        return await self.link.ask(what, jetstream.API + method, jetstream.write(request), timeout=timeout)
