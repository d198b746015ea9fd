"""Replicas: which of several servers that do the same gets a request."""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class ReplicaLoad:
    """What is known of one replica.

    Args:
        is_usable: Whether it seems to work.
        in_flight: Requests that it has in hand.
    """

    is_usable: bool
    in_flight: int = 0


def order_of(loads: Sequence[ReplicaLoad], jitter: float, home: int | None = None) -> tuple[int, ...]:
    """Return the places of all replicas in the order to try them.

    The one that keeps the session comes first, whatever its state: only it has what the session is about. Then those
    that seem to work, the least loaded first, equals from a place that chance decides; those that do not come last, for
    what failed may be all that comes back.

    Pure.

    Args:
        loads: The replicas.
        jitter: A number from 0 to 1.
        home: Which of them keeps the request's session.

    Raises:
        ValueError: *jitter* is not between 0 and 1.
    """
    if not 0 <= jitter <= 1:
        msg = f"jitter must lie between 0 and 1, not {jitter}"
        raise ValueError(msg)
    count = len(loads)
    start = min(int(jitter * count), max(0, count - 1))
    turned = [*range(start, count), *range(start)]
    rest = [place for place in turned if place != home]
    rest.sort(key=lambda place: (not loads[place].is_usable, loads[place].in_flight))
    return tuple(rest) if home is None else (home, *rest)
