"""Servers that are killed again and again under load: each call has an outcome, and none is done twice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from mcp_kills import KEEPERS, kills
from mcp_servers import Counted, Git, Subject, Time

Record = Callable[[str, object], None]


async def run(way: str, make: Callable[[Path], Subject], folder: Path, times: int, record_property: Record) -> None:
    with trio.fail_after(240.0):
        account = await kills(way, make, folder, times)
    record_property("kills", str(account))
    assert account.problems == []
    assert account.kills == times


@pytest.mark.parametrize("way", KEEPERS)
async def test_no_call_is_done_twice_and_none_is_lost_in_twenty_kills(way, tmp_path, record_property):
    """Of calls that are not idempotent, each answered one was done exactly once, whenever the server died."""
    await run(way, Counted, tmp_path, 20, record_property)


@pytest.mark.parametrize(("way", "server"), [("fleet", Git), ("guard", Time)])
async def test_real_servers_are_killed_under_load(way, server, tmp_path, record_property):
    """Twice here; `make mcp-soak` does it two hundred times, with all servers, in both ways."""
    await run(way, partial(server, python=sys.executable), tmp_path, 2, record_property)
