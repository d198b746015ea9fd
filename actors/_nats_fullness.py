"""Whether the server has room to store more, from what it refuses and from what whoever runs it knows."""

from __future__ import annotations

from collections.abc import Callable

import attrs

# A refusal tells of now only: where nobody tries again, it is not known any more.
_KNOWN_FOR = 5.0


@attrs.define
class Fullness:
    """Remembers a refusal until something was stored, or for a few seconds.

    Args:
        known: Says why nothing can be stored, where that is known without trying; else nothing.
    """

    _known: Callable[[], str]
    _why: str = attrs.field(init=False, default="")
    _at: float = attrs.field(init=False, default=0.0)

    @property
    def trouble(self) -> str:
        """Why nothing can be stored and what to do; empty where it can, as far as is known."""
        return self._known() or self._why

    def refused(self, server: str, error: str, now: float) -> None:
        """The server refused to store something."""
        self._at = now
        self._why = (
            f"the store of the server at {server} is full: {error}; delete what nobody needs there, such as old"
            " outcomes and dead letters, or raise its limit ([bus] max_store, else max_file_store of the server)"
        )

    def stored(self) -> None:
        """The server stored something."""
        self._why = ""

    def expire(self, now: float) -> None:
        """Forget a refusal that is too old."""
        if now - self._at > _KNOWN_FOR:
            self._why = ""
