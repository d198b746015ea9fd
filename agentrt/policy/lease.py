"""Leases: which entries of a registry have to be written, renewed or removed."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from attrs import validators

#: Renewed this often in a lease, so that two renewals may fail before it runs out.
_RENEWALS = 3


@attrs.frozen
class LeaseWork:
    """What is to be done in a registry now: keys, in the order of what is wanted."""

    write: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@attrs.frozen
class _Written:
    value: str
    at: float


@attrs.define
class Leases:
    """Keep entries with a lease as they are wanted: written when they change, renewed in time, removed when they go.

    Pure: it never reads a clock, and the caller does the work. *now* is monotonic seconds, never less than the last.

    Args:
        seconds: How long an entry stays that is not renewed.
    """

    seconds: float = attrs.field(default=30.0, validator=validators.gt(0))
    _written: dict[str, _Written] = attrs.field(init=False, factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """What was written and not removed since."""
        return tuple(self._written)

    def work(self, wanted: Mapping[str, str], now: float) -> LeaseWork:
        """Say what is to be done now.

        Args:
            wanted: The value of each key; a value that differs from what was written is written at once.
            now: The time.
        """
        write = [key for key, value in wanted.items() if self._is_due(key, value, now)]
        return LeaseWork(tuple(write), tuple(key for key in self._written if key not in wanted))

    def written(self, key: str, value: str, now: float) -> None:
        """Record that an entry was written; *now* is from before that began, so that no lease is overrated."""
        self._written[key] = _Written(value, now)

    def removed(self, key: str) -> None:
        """Record that an entry was removed."""
        self._written.pop(key, None)

    def doubt(self) -> None:
        """Say that what was written may be lost: each entry is written again, and none is removed unseen."""
        self._written = {key: _Written("", one.at) for key, one in self._written.items()}

    def missing(self, wanted: Mapping[str, str], now: float) -> tuple[str, ...]:
        """Return the keys that nobody finds: never written, or their lease ran out."""
        return tuple(key for key in wanted if key not in self._written or now - self._written[key].at >= self.seconds)

    def _is_due(self, key: str, value: str, now: float) -> bool:
        found = self._written.get(key)
        return found is None or found.value != value or now - found.at >= self.seconds / _RENEWALS
