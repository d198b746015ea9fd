"""The registry: actors by key. A plain object that is handed to whoever needs it; it belongs to no tree."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from agentrt.kernel.errors import AlreadyRegistered
from agentrt.kernel.notices import living

if TYPE_CHECKING:
    from agentrt.kernel.actor import Actor
    from agentrt.kernel.exits import Exit
    from agentrt.kernel.incarnation import Incarnation
    from agentrt.kernel.ref import ActorRef


@attrs.frozen(eq=False)
class Entry:
    """One actor under one key.

    Args:
        key: The key.
        ref: The actor.
        value: What it registered with the key.
    """

    key: Hashable
    ref: ActorRef
    value: Any = None


@attrs.frozen
class RegistryStatistics:
    """A registry in figures: keys that are taken, entries under them, and incarnations that made those."""

    keys: int
    entries: int
    owners: int


@attrs.define(eq=False)
class _Owner:
    """What one incarnation registered, by key and in that order, and how to stop listening for its end."""

    leave: Callable[[], None]
    entries: dict[Hashable, list[Entry]] = attrs.field(factory=dict)


class Registry:
    """Finds actors by key instead of by their place in the tree.

    An entry belongs to the incarnation that made it, and is gone when that ended, before its supervisor hears of it: so
    an actor registers in ``on_start``, under the same key each time. Between two incarnations the key is free, and
    others may take it.

    Nothing here waits, and what is returned is a picture that stays as it is while entries come and go.

    Args:
        unique: One entry for each key; else any number, also by the same actor.
    """

    def __init__(self, *, unique: bool = True) -> None:
        self.unique = unique
        self._entries: dict[Hashable, dict[Entry, None]] = {}
        self._owners: dict[Incarnation, _Owner] = {}

    def register(self, actor: Actor, key: Hashable, value: Any = None) -> None:
        """Enter *actor* under *key*.

        Raises:
            AlreadyRegistered: Keys are unique here and this one is taken, be it by *actor* itself; to change its value,
                unregister it first.
            ActorDied: This incarnation of *actor* has ended.
        """
        incarnation = living(actor)
        taken = self._entries.get(key)
        if self.unique and taken is not None:
            raise AlreadyRegistered(key, next(iter(taken)).ref)
        entry = Entry(key, actor.ref, value)
        self._entries.setdefault(key, {})[entry] = None
        if incarnation not in self._owners:
            self._owners[incarnation] = _Owner(incarnation.at_end(partial(self._ended, incarnation)))
        self._owners[incarnation].entries.setdefault(key, []).append(entry)

    def unregister(self, actor: Actor, key: Hashable) -> None:
        """Remove what this incarnation of *actor* has under *key*; nothing happens where that is nothing."""
        incarnation = actor.context.incarnation
        owner = self._owners.get(incarnation)
        if owner is None or key not in owner.entries:
            return
        self._remove(owner.entries.pop(key))
        if not owner.entries:
            del self._owners[incarnation]
            owner.leave()

    def whereis(self, key: Hashable) -> ActorRef | None:
        """Find who has *key*, of several the first; None where nobody has."""
        taken = self._entries.get(key)
        return next(iter(taken)).ref if taken else None

    def lookup(self, key: Hashable) -> tuple[Entry, ...]:
        """List the entries under *key* in the order of registration."""
        return tuple(self._entries.get(key, ()))

    def keys(self, ref: ActorRef) -> tuple[Hashable, ...]:
        """List the keys of the present incarnation behind *ref*, each once, in the order of registration."""
        incarnation = ref.incarnation
        owner = self._owners.get(incarnation) if incarnation is not None else None
        return tuple(owner.entries) if owner is not None else ()

    def statistics(self) -> RegistryStatistics:
        """Say how full it is."""
        return RegistryStatistics(len(self._entries), sum(map(len, self._entries.values())), len(self._owners))

    def _ended(self, incarnation: Incarnation, _: Exit) -> None:
        for entries in self._owners.pop(incarnation).entries.values():
            self._remove(entries)

    def _remove(self, entries: list[Entry]) -> None:
        """Remove entries that have the same key."""
        key = entries[0].key
        under = self._entries[key]
        for entry in entries:
            del under[entry]
        if not under:
            del self._entries[key]

    def __repr__(self) -> str:
        """Kind and figures."""
        kind = "unique" if self.unique else "duplicate"
        return f"<Registry of {kind} keys, {len(self._entries)} taken>"
