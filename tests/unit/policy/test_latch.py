"""The latch keeps a failure visible."""

from __future__ import annotations

import pytest

from agentrt.policy import Latch


def test_a_failure_is_shown_for_a_while_after_it_is_over() -> None:
    """Two seconds by default, counted from the last look that failed; the reason says that it is over."""
    latch = Latch()
    assert latch.look("bus", ok=False, reason="lost", now=10.0) == (False, "lost")
    assert latch.look("bus", ok=True, reason="connected", now=10.5) == (False, "lost (over for 0.5 s)")
    assert latch.look("bus", ok=True, reason="connected", now=12.0) == (True, "connected")


def test_a_failure_that_comes_again_is_held_anew() -> None:
    """And shown with its newest reason."""
    latch = Latch(hold=2.0)
    latch.look("bus", ok=False, reason="lost", now=0.0)
    latch.look("bus", ok=False, reason="refused", now=1.5)
    assert latch.look("bus", ok=True, reason="", now=3.0) == (False, "refused (over for 1.5 s)")


def test_checks_do_not_mind_each_other() -> None:
    """Each name has its own."""
    latch = Latch()
    latch.look("bus", ok=False, reason="lost", now=0.0)
    assert latch.look("tool", ok=True, reason="ready", now=0.1) == (True, "ready")


def test_a_hold_of_nothing_shows_what_is() -> None:
    latch = Latch(hold=0.0)
    latch.look("bus", ok=False, reason="lost", now=0.0)
    assert latch.look("bus", ok=True, reason="", now=0.0) == (True, "")


def test_a_negative_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="hold"):
        Latch(hold=-1.0)
