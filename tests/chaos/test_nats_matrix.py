"""The failure matrix: each fault against real servers, under a steady feed, with the time to recover reported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from rig.faults import FAULTS, Fault
from rig.ledger import SIGNS
from rig.play import play
from rig.stage import Client

AGENTRT = Client("agentrt", "agentrt_bus", sys.executable)

#: Seconds that a recovery may take on a machine that does much else. What it took is reported, and is far less.
GUARD = 20.0

MARKED = [
    pytest.param(fault, id=fault.name, marks=[pytest.mark.soak] if fault.long else []) for fault in FAULTS.values()
]


@pytest.mark.parametrize("fault", MARKED)
async def test_the_connection_comes_back_and_loses_nothing(
    fault: Fault, tmp_path: Path, record_property: Callable[[str, object], None]
):
    """Consumer, subscription and watch live again, stay alive, and each message that was acknowledged is done."""
    with trio.fail_after(200):
        result = await play(fault, AGENTRT, tmp_path, limit=GUARD)
    for sign, seconds in result.back.items():
        record_property(sign, round(seconds, 3))
    record_property("recovered", round(max(result.back.values(), default=-1.0), 3))
    assert set(SIGNS) == set(result.back), result
    assert 0 == result.lost, result
    # The feed went on, so that there was something to lose.
    assert result.stored > 100
