"""A watch over keys of a bucket that cannot go blind: it reads from its own position, and hints only wake it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

import attrs
import trio

from actors import _jetstream as jetstream
from actors._flag import Flag
from agentrt.ports import BusUnavailable, KeyChange

# A hint may come before the stream has stored what it hints at.
_AT_ONCE, _SOON = (0.0,), (0.0, 0.01, 0.05, 0.25)
_RETRY = 1.0

#: A method of JetStream's API and a request: the answer. It may raise BusUnavailable.
Api = Callable[[str, dict[str, object] | None], Awaitable[dict[str, object] | None]]


@attrs.frozen
class _Bucket:
    """The stream behind a bucket, as the server says."""

    created: str
    last: int
    ttl: float


@attrs.define
class KeyWatch:
    """A :class:`agentrt.ports.Watch`. There is nothing on the server that could be lost: each change is read by number.

    What wakes it is a subscription to the keys' subjects. A hint may be lost with a connection, or not be allowed, so
    it looks by itself too, every *interval* seconds. Each look asks which stream that is: one that was made anew, or
    went back behind what was read, is read from its beginning, and what it no longer has is given as deleted.

    Args:
        bucket: The bucket's name.
        pattern: Which keys.
        hint: Turned on where something was published to a key.
        interval: Seconds between two looks where no hint comes.
        api: Asks JetStream; None where there is no message.
    """

    bucket: str
    pattern: str
    hint: Flag
    interval: float
    _api: Api
    _position: int = attrs.field(init=False, default=0)
    _known: _Bucket | None = attrs.field(init=False, default=None)
    _keys: OrderedDict[str, float] = attrs.field(init=False, factory=OrderedDict)
    _gone: deque[str] = attrs.field(init=False, factory=deque)
    _is_behind: bool = attrs.field(init=False, default=True)

    async def next(self) -> KeyChange:
        """Wait for the next change; see :class:`agentrt.ports.Watch`."""
        await trio.lowlevel.checkpoint()
        pauses: tuple[float, ...] = _AT_ONCE
        while True:
            for pause in pauses:
                await trio.sleep(pause)
                change = await self._try_look()
                if change is not None:
                    return change
            with trio.move_on_after(self.interval):
                await self.hint.wait()
            pauses = _SOON if self.hint.is_set else _AT_ONCE

    async def _try_look(self) -> KeyChange | None:
        try:
            return await self._look()
        except BusUnavailable:
            # The bus says by itself that it is not ready; what is missed meanwhile is read when it is back.
            await trio.sleep(_RETRY)
            return None

    async def _look(self) -> KeyChange | None:
        if self._gone:
            return KeyChange(self._gone.popleft(), None, 0)
        if self.hint.is_set:
            self.hint.turn(on=False)
            self._is_behind = True
        if self._is_behind and self._known is not None:
            stored = await self._read()
            if stored is not None:
                return self._take(stored)
            self._is_behind = False
        await self._check()
        if self._gone or self._is_behind:
            return await self._look()
        return None

    async def _read(self) -> jetstream.Stored | None:
        request = {"seq": self._position + 1, "next_by_subj": jetstream.key_subject(self.bucket, self.pattern)}
        found = await self._api(jetstream.GET + jetstream.bucket_stream(self.bucket), dict(request))
        return None if found is None else jetstream.read_stored(found)

    def _take(self, stored: jetstream.Stored) -> KeyChange:
        self._position = stored.sequence
        key = stored.message.subject.removeprefix(jetstream.key_subject(self.bucket, ""))
        self._keys.pop(key, None)
        if stored.is_deleted:
            return KeyChange(key, None, stored.sequence)
        now = trio.current_time()
        self._keys[key] = now
        ttl = self._known.ttl if self._known is not None else 0.0
        while ttl and self._keys and now - next(iter(self._keys.values())) > ttl:
            # Gone by its age, which a bucket tells nobody; remembered for ever it would be a leak.
            self._keys.popitem(last=False)
        return KeyChange(key, stored.message.body, stored.sequence)

    async def _check(self) -> None:
        """Look whether the bucket is the same one, and whether it has something new."""
        info = await self._api(f"STREAM.INFO.{jetstream.bucket_stream(self.bucket)}", None)
        bucket = _read_bucket(info or {})
        known, self._known = self._known, bucket
        if known is not None and (bucket.created != known.created or bucket.last < max(known.last, self._position)):
            self._gone.extend(self._keys)
            self._keys.clear()
            self._position = 0
            self._is_behind = True
        elif known is None or bucket.last > known.last:
            self._is_behind = True


def _read_bucket(info: dict[str, object]) -> _Bucket:
    state, config = info.get("state"), info.get("config")
    last = state.get("last_seq", 0) if isinstance(state, dict) else 0
    age = config.get("max_age", 0) if isinstance(config, dict) else 0
    return _Bucket(str(info.get("created", "")), int(last), int(age) / 1e9)
