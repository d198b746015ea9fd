"""Significance: whether the end of a child ends its supervisor too."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from agentrt.kernel.spec import AutoShutdown

K = TypeVar("K", bound=Hashable)


class Significance(Generic[K]):
    """The significant children of one incarnation of a supervisor: those that run, or are to run.

    The rules are OTP's. A child's own end counts; an end that somebody asked for, a sibling's restart that took it
    along, and a start that said that it is not needed do not. Those only leave one less to wait for.

    Pure, and each step takes the same time however many there are.

    Args:
        auto_shutdown: When the supervisor shuts down.
    """

    def __init__(self, auto_shutdown: AutoShutdown) -> None:
        self._auto_shutdown = auto_shutdown
        self._awaited: set[K] = set()

    def expect(self, child: K) -> None:
        """Take down that a significant child is to run."""
        self._awaited.add(child)

    def dismiss(self, child: K) -> None:
        """Take down that a child is not to run any more, for a reason that ends nobody else."""
        self._awaited.discard(child)

    def ended(self, child: K) -> bool:
        """Take down that a child ended by itself and is not restarted; say whether its supervisor is to shut down."""
        if child not in self._awaited:
            return False
        self._awaited.remove(child)
        if self._auto_shutdown is AutoShutdown.ALL_SIGNIFICANT:
            return not self._awaited
        return self._auto_shutdown is AutoShutdown.ANY_SIGNIFICANT
