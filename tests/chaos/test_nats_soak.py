"""A minute of a soak in every run, begun first since it mostly waits; an hour of it by a flag."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from chaos.soak_nats import soak


@pytest.mark.first
@pytest.mark.parametrize("seconds", [60, pytest.param(3600, marks=[pytest.mark.soak, pytest.mark.timeout(5000)])])
async def test_random_faults_lose_no_message_and_leave_nothing_behind(
    seconds: int, tmp_path: Path, record_property: Callable[[str, object], None]
):
    """Whatever happens, in whatever order, each message is accounted for, and memory and descriptors stay flat."""
    seed = int.from_bytes(os.urandom(3), "big")
    with trio.fail_after(seconds + 240):
        found = await soak(seconds, seed, tmp_path)
    record_property("soak", str(found))
    assert [] == found.problems(), found
