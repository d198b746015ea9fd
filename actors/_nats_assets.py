"""What was seen of the streams, buckets and consumers on a server, so that one that came back different is noticed."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import trio

from actors import _jetstream as jetstream
from actors._nats_requests import ConnectionLost
from actors._subjects import matches
from agentrt.ports import BusRefused, Difference, Finding, Json

if TYPE_CHECKING:
    from agentrt.ports import Topology

# What a server changes in nothing that exists.
_FIXED = frozenset({"name", "durable_name", "retention", "storage", "deliver_policy", "ack_policy", "replay_policy"})
# What the server counts in nanoseconds and people in seconds.
_DURATIONS = frozenset({"ack_wait", "max_age", "duplicate_window"})
_NANOSECONDS = 1_000_000_000
# A stream without a leader does not answer.
_ANSWER = 5.0
# nats-server says that a stream is gone while it still deletes its files, and deletes those of the next one with them:
# that one looks right, and stores nothing until the server is started anew (seen in 2.15.1, within 20 ms).
_UNTIL_DELETED = 0.25

#: Looks at what is declared, over whatever asks.
Look = Callable[[jetstream.Ask, "Topology"], Awaitable[None]]


@attrs.define
class _Seen:
    created: str
    messages: int
    replicas: int


@attrs.define
class Assets:
    """Ensures what is declared, or that somebody else does, and looks at it again, over any number of connections.

    The server knows when a stream or a consumer was created. One that is younger than what was seen before was
    deleted, or lost with the server's store, and has been made again: what it held is gone, and that is told.

    Args:
        on_lost: Called with what was lost, and how many messages it held when it was last looked at.
        on_missing: Called where something is not there as declared, and somebody else has to make it; None where it
            is made here.
    """

    _on_lost: Callable[[jetstream.Asset, int], None]
    _on_missing: Callable[[], None] | None = None
    _seen: dict[str, _Seen] = attrs.field(init=False, factory=dict)
    _suspects: set[str] = attrs.field(init=False, factory=set)
    _broken: set[str] = attrs.field(init=False, factory=set)
    _may_try: bool = attrs.field(init=False, default=True)
    _turn: Iterator[int] = attrs.field(init=False, factory=itertools.count)
    _store_turn: Iterator[int] = attrs.field(init=False, factory=itertools.count)

    def suspect(self, subjects: Collection[str]) -> None:
        """Record subjects on which something was to be stored and no answer came; who stores them is asked about it."""
        self._suspects.update(subjects)

    async def ensure(self, ask: jetstream.Ask, topology: Topology) -> None:
        """Create or update all that is declared, or see that it was; what is there stays.

        What is wrong with one of them keeps no other from being made: only a consumer needs its stream.

        Raises:
            StoreBroken: A stream stores nothing.
            ApiError: The server refused one, or it is for somebody else to make; says what. Of several the one that
                another server may serve, else that a stream stores nothing, else the first that is declared.
        """
        declared = jetstream.assets(topology)
        troubles: dict[str, Exception] = {}

        async def one(asset: jetstream.Asset) -> None:
            try:
                self._note(asset, await self._made(ask, asset))
            except (jetstream.ApiError, BusRefused, ConnectionLost) as trouble:
                troubles[str(asset)] = trouble

        for wanted in (False, True):
            async with trio.open_nursery() as nursery:
                for asset in declared:
                    if (asset.kind == "consumer") is wanted:
                        nursery.start_soon(one, asset)
        found = [troubles[str(asset)] for asset in declared if str(asset) in troubles]
        for one_found in found:
            if isinstance(one_found, jetstream.ApiError) and one_found.is_of_server:
                raise one_found
        await self._try_suspects(ask, topology)
        if found:
            raise found[0]

    async def _made(self, ask: jetstream.Ask, asset: jetstream.Asset) -> dict[str, Any]:
        try:
            info = await jetstream.look(ask, asset)
        except jetstream.ApiError as error:
            if not error.is_gone:
                raise
            if self._on_missing is not None:
                self._on_missing()
                raise
            if str(asset) in self._seen:
                await trio.sleep(_UNTIL_DELETED)
            return await jetstream.create(ask, asset)
        return await self._set_right(ask, asset, info)

    async def _set_right(self, ask: jetstream.Ask, asset: jetstream.Asset, info: dict[str, Any]) -> dict[str, Any]:
        found = next(differences(asset.config, info["config"]), None)
        if found is None:
            return info
        if self._on_missing is None:
            return await jetstream.update(ask, asset, info["config"])
        self._on_missing()
        difference = f"{found.field} is {found.actual} and not {found.declared}"
        raise jetstream.ApiError(0, 0, f"{asset}: {difference}; the fleet's own connection sets it right")

    async def probe(self, ask: jetstream.Ask, topology: Topology) -> None:
        """Ask for a sign of life, by way of the next thing that is declared; where it is gone, make it again.

        Raises:
            StoreBroken: A stream stores nothing.
            ApiError: JetStream is not there, or refused.
        """
        declared = jetstream.assets(topology)
        if not declared:
            await jetstream.call(ask, "INFO")
            return
        asset = declared[next(self._turn) % len(declared)]
        try:
            info = await jetstream.look(ask, asset)
        except jetstream.ApiError as error:
            if not error.is_gone:
                raise
            # Where one thing was deleted, others may be too.
            await self.ensure(ask, topology)
            return
        if self._note(asset, info):
            # Whoever made it again may have made something else.
            await self.ensure(ask, topology)
            return
        # Of several replicas all would have to agree on the question, so that they are asked for a reason only.
        seen = ((one, self._seen.get(str(one))) for one in declared if one.kind != "consumer")
        alone = [one for one, as_seen in seen if as_seen is not None and as_seen.replicas == 1]
        if alone:
            await self._try_store(ask, alone[next(self._store_turn) % len(alone)])
        await self._try_suspects(ask, topology)

    async def _try_suspects(self, ask: jetstream.Ask, topology: Topology) -> None:
        """Ask about each stream in which something was to be stored, and no answer came; and, until it can, again."""
        suspects, self._suspects = self._suspects, set()
        for asset in jetstream.assets(topology):
            takes = asset.config.get("subjects", ())
            if str(asset) in self._broken or any(matches(pattern, one) for one in suspects for pattern in takes):
                await self._try_store(ask, asset)

    async def _try_store(self, ask: jetstream.Ask, asset: jetstream.Asset) -> None:
        """Ask whether a stream can write, where this one may; what the server says to that besides is no trouble."""
        if asset.kind == "consumer" or self._on_missing is not None or not self._may_try:
            return
        self._broken.discard(str(asset))
        try:
            await jetstream.try_store(ask, asset)
        except jetstream.StoreBroken:
            self._broken.add(str(asset))
            raise
        except jetstream.ApiError:
            return
        except BusRefused:
            # Its user may not; to ask again would have the server complain of each time.
            self._may_try = False

    def _note(self, asset: jetstream.Asset, info: dict[str, Any]) -> bool:
        """Remember what was seen; return whether it is another one than before."""
        created = str(info.get("created", ""))
        messages = int(info.get("state", {}).get("messages", info.get("num_pending", 0)))
        seen = self._seen.get(str(asset))
        is_another = seen is not None and created != seen.created
        if seen is not None and is_another:
            self._on_lost(asset, seen.messages)
        self._seen[str(asset)] = _Seen(created, messages, info["config"].get("num_replicas", 1))
        return is_another


async def unserved(ask: jetstream.Ask, topology: Topology) -> int:
    """Count what is declared and JetStream does not answer for, whatever it says; change and note nothing.

    All is asked at once: of many things that are silent, each costs a whole deadline.
    """
    silent = 0

    async def count(asset: jetstream.Asset | None) -> None:
        nonlocal silent
        try:
            await (jetstream.call(ask, "INFO") if asset is None else jetstream.look(ask, asset))
        except jetstream.ApiError as error:
            silent += error.is_of_server
        except (ConnectionLost, trio.TooSlowError):
            silent += 1
        except BusRefused:
            # The account may not ask for this one, with any server.
            pass

    async with trio.open_nursery() as nursery:
        for asset in jetstream.assets(topology) or (None,):
            nursery.start_soon(count, asset)
    return silent


async def compare(ask: jetstream.Ask, topology: Topology) -> tuple[Finding, ...]:
    """Compare what is declared with what is there, and change nothing.

    All at once, so that where many have no leader, it takes no longer than where one has none.
    """
    declared = jetstream.assets(topology)
    found: dict[str, Finding] = {}
    troubles: list[ConnectionLost | BusRefused] = []

    async def look(asset: jetstream.Asset) -> None:
        try:
            found[str(asset)] = await _compare(ask, asset)
        except (ConnectionLost, BusRefused) as trouble:
            troubles.append(trouble)

    async with trio.open_nursery() as nursery:
        for asset in declared:
            nursery.start_soon(look, asset)
    if troubles:
        raise troubles[0]
    return tuple(found[str(asset)] for asset in declared)


async def _compare(ask: jetstream.Ask, asset: jetstream.Asset) -> Finding:
    info = None
    try:
        with trio.move_on_after(_ANSWER):
            info = await jetstream.look(ask, asset)
    except jetstream.ApiError as error:
        if error.is_gone:
            return Finding(asset.kind, asset.name, "missing")
        return Finding(asset.kind, asset.name, "unknown", reason=str(error))
    if info is None:
        reason = f"no answer for {_ANSWER:g} s: it may have no leader at the moment"
        return Finding(asset.kind, asset.name, "unknown", reason=reason)
    found = tuple(differences(asset.config, info["config"]))
    return Finding(asset.kind, asset.name, "differs" if found else "ok", found)


def differences(declared: dict[str, Json], actual: dict[str, Json]) -> Iterator[Difference]:
    """Give each declared setting that is not so; what is not declared is the operator's."""
    for field, value in declared.items():
        there = actual.get(field)
        # The server leaves out what is nothing.
        if (value or None) != (there or None) and not _same_list(value, there):
            yield Difference(field, _readable(field, value), _readable(field, there), field not in _FIXED)


def _readable(field: str, value: Json) -> Json:
    return value / _NANOSECONDS if field in _DURATIONS and isinstance(value, int) else value


def _same_list(one: Json, other: Json) -> bool:
    return isinstance(one, list) and isinstance(other, list) and sorted(map(str, one)) == sorted(map(str, other))
