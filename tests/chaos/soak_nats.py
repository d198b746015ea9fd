"""Soak a NATS connection in random faults: ``python tests/chaos/soak_nats.py --hours 1 --seed 7``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("support", "reliability")]

import attrs
import trio
from rig.faults import FAULTS
from rig.ledger import SIGNS
from rig.stage import Client, Stage, stage

#: Seconds that one recovery may take, whatever else the machine does.
GUARD = 30.0
#: Faults before the memory and the descriptors are taken as what they are in rest.
_WARM = 3
_MEGABYTE = 1024 * 1024


@attrs.define
class Soak:
    """What a soak saw.

    Args:
        seed: Repeats the same faults in the same order.
        faults: How often each happened.
        slowest: Seconds of the slowest recovery from each.
        stored, lost, destroyed, again: The account of the messages.
        memory: Bytes resident, warm and in the end.
        descriptors: Files and sockets open, warm and in the end.
    """

    seed: int
    faults: Counter[str] = attrs.field(factory=Counter)
    slowest: dict[str, float] = attrs.field(factory=dict)
    stored: int = 0
    lost: int = 0
    destroyed: int = 0
    again: int = 0
    memory: tuple[int, int] = (0, 0)
    descriptors: tuple[int, int] = (0, 0)

    def problems(self) -> list[str]:
        """Say what is wrong: a message that is missing, or something that grows."""
        found = []
        if self.lost:
            found.append(f"{self.lost} of {self.stored} messages were acknowledged and never came")
        if self.descriptors[1] > self.descriptors[0] + 3:
            found.append("descriptors grew from {} to {}".format(*self.descriptors))
        # An allocator keeps what a flood needed once; a leak of every fault grows beyond that.
        if self.memory[1] > self.memory[0] * 1.5 + 32 * _MEGABYTE:
            found.append("memory grew from {} to {} bytes".format(*self.memory))
        return found

    def __str__(self) -> str:
        rows = [
            f"  {name:16} {self.faults[name]:5} times, {self.slowest[name]:6.2f} s at worst" for name in self.faults
        ]
        memory = " to ".join(f"{size / _MEGABYTE:.0f} MB" for size in self.memory)
        files = " to ".join(map(str, self.descriptors))
        account = f"{self.stored} stored, {self.lost} lost, {self.destroyed} gone with a store, {self.again} again"
        return "\n".join([f"seed {self.seed}: {account}; memory {memory}; descriptors {files}", *rows])


async def soak(seconds: float, seed: int, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Soak:
    """Do random faults to one client under its feed for *seconds*, and account for every message.

    Raises:
        AssertionError: It did not come back from one of them.
    """
    chance, found = random.Random(seed), Soak(seed)
    client = Client("agentrt", "agentrt_bus", sys.executable)
    bag = [fault for fault in FAULTS.values() if fault.soaks]
    end = time.monotonic() + seconds
    async with stage(client, folder, proxied=True, max_pending="1MB") as here:
        while time.monotonic() < end or found.faults.total() <= _WARM:
            fault = chance.choice(bag)
            try:
                slowest = await _once(here, fault.name, chance)
            except Exception as failure:
                failure.add_note(f"seed {seed}, after {found.faults.total()} faults, in {fault.name}")
                raise
            found.faults[fault.name] += 1
            found.slowest[fault.name] = max(slowest, found.slowest.get(fault.name, 0.0))
            tell(f"{fault.name}: back after {slowest:.2f} s")
            if found.faults.total() == _WARM:
                found.memory, found.descriptors = (here.memory(),) * 2, (here.descriptors(),) * 2
        found.memory = (found.memory[0], here.memory())
        found.descriptors = (found.descriptors[0], here.descriptors())
        await here.settle(GUARD)
        ledger = here.ledger
        found.stored, found.lost = len(ledger.stored), len(ledger.lost())
        found.destroyed, found.again = len(ledger.destroyed()), ledger.again
    return found


async def _once(here: Stage, name: str, chance: random.Random) -> float:
    with trio.fail_after(120):
        since = await FAULTS[name].do(here)
    back = await here.recovered(since, GUARD)
    assert set(back) == set(SIGNS), f"after {name}, of {SIGNS} only {sorted(back)} came back in {GUARD:g} s"
    # The next one may come early, while deliveries are still made again.
    await trio.sleep(chance.random())
    return max(back.values())


def main() -> None:
    """Read the command line, soak, and tell; exit 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    sys.stderr.write(f"seed {options.seed}\n")
    with tempfile.TemporaryDirectory() as folder:
        found = trio.run(
            soak,
            options.hours * 3600,
            options.seed,
            Path(folder),
            lambda line: print(line, file=sys.stderr, flush=True),
        )
    print(found)
    if problems := found.problems():
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
