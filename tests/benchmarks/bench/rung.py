"""A rung of a ladder: one step of what a thing costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from bench.measure import Pace


@attrs.frozen
class Rung:
    """One step: what it adds, and how it does as many as its pace asks for."""

    title: str
    run: Callable[[Pace], Awaitable[None]]
