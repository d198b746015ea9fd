"""A copy of the project: bugs are planted in it, and its tests are run against them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import psutil
import trio
from planted import journal
from planted.table import Bug

#: What is copied: what the tests of the kernel and the policies need.
COPIED = ("agentrt", "actors", "tests", "pyproject.toml")
#: Where ``planted.journal`` is imported from, whatever project is tested.
HERE = Path(__file__).parents[1]
#: Real seconds between two looks at a run.
LOOK_EVERY = 0.2
#: A run that takes less than so much of the processor's time in so many real seconds stands still.
STILL_CPU, STILL_AFTER = 0.05, 20.0


@attrs.frozen
class Run:
    """How a run of pytest went.

    Args:
        code: What it exited with; None where it hung and was killed.
        output: What it printed.
        imported: Whether the project could be imported.
        not_collected: Test modules that could not be.
        failed: Tests that failed.
        last: The test that began last; "" where none did.
        cpu: Seconds of the processor's time by test module.
    """

    code: int | None
    output: str
    imported: bool
    not_collected: tuple[str, ...]
    failed: tuple[str, ...]
    last: str
    cpu: dict[str, float]


class Checkout:
    """The copy in *folder*; one run at a time.

    Args:
        root: The project, or another copy of it.
        folder: Where to put the copy.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        # Python names an imported file by its real path.
        self.root = folder.resolve() / "project"
        self._journal = folder / "journal"
        self._output = folder / "output"
        self.root.mkdir(parents=True)
        # Compiled files are told from stale ones by seconds and size, and a bug may change neither.
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, self.root / name, ignore=ignored)
            else:
                shutil.copy(root / name, self.root / name)

    @contextmanager
    def planted(self, bug: Bug) -> Iterator[None]:
        """Have *bug* in it for a while."""
        path = self.root / bug.file
        healthy = path.read_text()
        path.write_text(healthy.replace(bug.snippet, bug.replacement))
        try:
            yield
        finally:
            path.write_text(healthy)

    async def test(self, tests: Sequence[str], most: float) -> Run:
        """Run *tests* until one fails; give up after *most* seconds of the processor's time, or where it stands still.

        Each run begins afresh: with the same seed, and without the examples that others failed with.
        """
        self._journal.write_text("")
        shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)
        code = await self._run(tests, most)
        entries = [json.loads(line) for line in self._journal.read_text().splitlines()]
        cpu: dict[str, float] = {}
        for entry in entries:
            module = entry["node"].partition("::")[0]
            cpu[module] = cpu.get(module, 0.0) + entry["cpu"]

        def nodes(event: str) -> tuple[str, ...]:
            return tuple(entry["node"] for entry in entries if entry["event"] == event)

        return Run(
            code,
            self._output.read_text(errors="replace"),
            imported=bool(nodes("imported")),
            not_collected=nodes("not collected"),
            failed=nodes("failed"),
            last=nodes("began")[-1] if nodes("began") else "",
            cpu=cpu,
        )

    async def _run(self, tests: Sequence[str], most: float) -> int | None:
        plugins = ("-p", "no:cacheprovider", "-p", "planted.journal")
        command = (sys.executable, "-m", "pytest", "-x", "-q", "--hypothesis-seed=0", *plugins, *tests)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (self.root, HERE))),
            "PYTHONDONTWRITEBYTECODE": "1",
            journal.ROOT: str(self.root),
            journal.FILE: str(self._journal),
        }
        with self._output.open("wb") as output:
            run = partial(
                trio.run_process,
                command,
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                start_new_session=True,
                deliver_cancel=_kill,
            )
            async with trio.open_nursery() as nursery:
                process: trio.Process = await nursery.start(run)
                hangs = await _hangs(process, most)
                nursery.cancel_scope.cancel()
        return None if hangs else process.returncode


async def _kill(process: trio.Process) -> None:
    os.killpg(process.pid, signal.SIGKILL)


async def _hangs(process: trio.Process, most: float) -> bool:
    """Wait until it ends, and return whether it never would.

    It is measured by what it takes of the processor, because on a busy machine a good run may last for any time.
    """
    seen, since = 0.0, trio.current_time()
    while True:
        with trio.move_on_after(LOOK_EVERY):
            await process.wait()
            return False
        try:
            cpu = sum(psutil.Process(process.pid).cpu_times()[:4])
        except psutil.Error:
            # It ended just now.
            continue
        if cpu > most or (cpu < seen + STILL_CPU and trio.current_time() > since + STILL_AFTER):
            return True
        if cpu >= seen + STILL_CPU:
            seen, since = cpu, trio.current_time()
