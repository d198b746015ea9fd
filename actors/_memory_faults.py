"""Faults to order on one connection of the memory bus."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from actors._subjects import matches
from agentrt.ports import PermissionDenied


@attrs.define
class Faults:
    """What is wrong with one connection; nothing, by default.

    Args:
        latency: Seconds that each operation which waits for the bus takes.
        delivery_delay: Seconds that a delivery is on its way, while its ack wait runs.
        lost_acks: How many of the next acknowledgements do not reach the bus.
        duplicates: How many of the next deliveries come twice.
        no_publish: Patterns of subjects that it may not publish to.
        no_subscribe: Patterns of subjects that it may not subscribe to.
    """

    latency: float = 0.0
    delivery_delay: float = 0.0
    lost_acks: int = 0
    duplicates: int = 0
    no_publish: Sequence[str] = ()
    no_subscribe: Sequence[str] = ()

    async def pass_through(self) -> None:
        """Take as long as an operation takes."""
        await trio.sleep(self.latency)

    def check_publish(self, subject: str) -> None:
        """Refuse a subject that may not be published to.

        Raises:
            PermissionDenied: It may not.
        """
        if _is_denied(self.no_publish, subject):
            raise PermissionDenied(
                f"the server does not allow publishing to {subject!r}; allow it in permissions.publish of this user"
            )

    def check_subscribe(self, subject: str) -> None:
        """Refuse a subject that may not be subscribed to.

        Raises:
            PermissionDenied: It may not.
        """
        if self.denies_subscribe(subject):
            raise PermissionDenied(
                f"the server does not allow subscribing to {subject!r}; allow it in permissions.subscribe of this user"
            )

    def denies_subscribe(self, subject: str) -> bool:
        """Whether it may not be subscribed to."""
        return _is_denied(self.no_subscribe, subject)

    def loses_ack(self) -> bool:
        """Whether this acknowledgement is lost; counts it."""
        is_lost = self.lost_acks > 0
        self.lost_acks -= is_lost
        return is_lost

    def comes_twice(self) -> bool:
        """Whether this delivery comes twice; counts it."""
        is_double = self.duplicates > 0
        self.duplicates -= is_double
        return is_double


def _is_denied(patterns: Sequence[str], subject: str) -> bool:
    return any(matches(pattern, subject) for pattern in patterns)
