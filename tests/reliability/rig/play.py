"""Play one fault with one client, and account for it."""

from __future__ import annotations

from pathlib import Path

import attrs
import trio

from rig.faults import Fault
from rig.ledger import SIGNS
from rig.stage import Client, stage


@attrs.frozen
class Result:
    """What came of it.

    Args:
        back: Seconds to each sign of life, counted from when the server could be used again; one that is not there
            did not come within the limit.
        stored: Messages that the server acknowledged.
        lost: Those of them that the consumer never got.
        destroyed: Those that went with the store.
        again: Deliveries of what had been delivered.
        failures: What the client was told by errors, and how often.
    """

    back: dict[str, float]
    stored: int
    lost: int
    destroyed: int
    again: int
    failures: dict[str, int]


async def play(fault: Fault, client: Client, folder: Path, *, limit: float) -> Result:
    """Set the stage, let it happen under the feed, wait *limit* seconds for the recovery, and count."""
    async with stage(client, folder, clustered=fault.clustered, proxied=fault.proxied, **dict(fault.settings)) as here:
        with trio.fail_after(120):
            since = await fault.do(here)
        back = await here.recovered(since, limit)
        if set(back) == set(SIGNS):
            # Back is who stays.
            await here.flows(limit)
        await here.settle(limit if "tasks" in back else 1)
        ledger = here.ledger
        return Result(
            back, len(ledger.stored), len(ledger.lost()), len(ledger.destroyed()), ledger.again, dict(ledger.failures)
        )
