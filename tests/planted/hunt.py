"""The hunt: plant each bug in turn, run the tests that must find it, and say what became of it."""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import trio
from planted.checkout import Checkout, Run
from planted.table import Bug

#: Seconds of the processor's time that a run may always take, and how many times what it took without a bug.
LEAST, TIMES = 6.0, 3.0
#: What pytest exits with where it was told to run something that is not there.
_USAGE_ERROR, _NO_TESTS = 4, 5


class Fate(enum.Enum):
    """What became of a bug."""

    CAUGHT = "caught"
    """A test failed."""
    HUNG = "hung"
    """A test did not end, which is a way to be caught."""
    SURVIVED = "SURVIVED"
    """All tests pass with it."""
    MISFIT = "DOES NOT APPLY"
    """The table does not fit the code: its snippet is not there once, or with it nothing can be imported."""


@attrs.frozen
class Finding:
    """What became of one bug.

    Args:
        bug: The bug.
        fate: What became of it.
        by: The test that caught it, or why it does not apply.
        as_told: Whether one of the bug's own tests caught it, and not just any of the suite.
        seconds: How long that took.
    """

    bug: Bug
    fate: Fate
    by: str
    as_told: bool
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether it was caught."""
        return self.fate in {Fate.CAUGHT, Fate.HUNG}


@attrs.frozen
class Healthy:
    """What tests take without a bug.

    Args:
        cpu: Seconds of the processor's time by module.
        least: What any run may take.
    """

    cpu: Mapping[str, float]
    least: float

    def most(self, tests: Iterable[str]) -> float:
        """Return the seconds of the processor's time after which a run of *tests* hangs."""
        folders = tuple(f"{test.partition('::')[0]}/" for test in tests)
        return self.least + TIMES * sum(spent for module, spent in self.cpu.items() if f"{module}/".startswith(folders))


class SuiteFails(Exception):
    """The tests fail without any bug, so they could not tell one; it says what they printed."""


def suite_of(root: Path) -> tuple[str, ...]:
    """List what must not let any bug through: the tests of the kernel and the policies.

    Without the simulation: how much of that is tried depends on the machine, and so would what it finds.
    """
    properties = [*root.glob("tests/property/test_*_policy.py"), *root.glob("tests/property/test_kernel_*.py")]
    folders = ("tests/unit/policy", "tests/unit/kernel", "tests/conformance")
    return (*folders, *sorted(str(path.relative_to(root)) for path in properties))


async def hunt(
    root: Path,
    bugs: Sequence[Bug],
    *,
    suite: Sequence[str],
    jobs: int,
    tell: Callable[[Finding], None],
    least: float = LEAST,
) -> list[Finding]:
    """Run the tests without a bug, and then those of each bug with it; tell of each, and return all in order.

    Args:
        root: The project; it is copied, and not touched.
        bugs: What to plant.
        suite: What is run as well with a bug that its own tests let through.
        jobs: How many runs at a time, each in a copy of its own.
        tell: Called with each finding as soon as there is one.
        least: Seconds of the processor's time after which nothing is said to hang yet.

    Raises:
        SuiteFails: The tests do not pass without a bug.
    """
    findings: dict[str, Finding] = {}
    queue = iter(bugs)
    with TemporaryDirectory(prefix="planted-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        checkouts = [Checkout(root, folder / "1")]
        checkouts += [Checkout(checkouts[0].root, folder / str(number)) for number in range(2, jobs + 1)]
        own = {test for bug in bugs for test in bug.tests if (root / test.partition("::")[0]).exists()}
        run = await checkouts[0].test([*suite, *sorted(own)], math.inf)
        if run.code != 0:
            raise SuiteFails(run.output)
        healthy = Healthy(run.cpu, least)

        async def work(checkout: Checkout) -> None:
            for bug in queue:
                finding = await examine(checkout, bug, suite, healthy)
                findings[bug.name] = finding
                tell(finding)

        async with trio.open_nursery() as nursery:
            for checkout in checkouts:
                nursery.start_soon(work, checkout)
    return [findings[bug.name] for bug in bugs]


async def examine(checkout: Checkout, bug: Bug, suite: Sequence[str], healthy: Healthy) -> Finding:
    """Plant one bug and look for it: first with its own tests, and with *suite* where they let it through."""
    began = time.monotonic()

    def found(fate: Fate, by: str, *, as_told: bool = True) -> Finding:
        return Finding(bug, fate, by, as_told, time.monotonic() - began)

    if (misfit := bug.misfit(checkout.root)) is not None:
        return found(Fate.MISFIT, misfit)
    with checkout.planted(bug):
        for tests in filter(None, (bug.tests, suite)):
            run = await checkout.test(tests, healthy.most(tests))
            if (verdict := _verdict(run)) is not None:
                return found(*verdict, as_told=tests is bug.tests)
    return found(Fate.SURVIVED, "")


def _verdict(run: Run) -> tuple[Fate, str] | None:
    """Say what a run with a bug in it shows; None where it shows nothing."""
    if not run.imported:
        return Fate.MISFIT, f"agentrt cannot be imported with it (exit code {run.code}): {run.output.strip()[-300:]}"
    if run.not_collected:
        return Fate.MISFIT, f"{run.not_collected[0]} cannot be imported with it"
    if run.code in {_USAGE_ERROR, _NO_TESTS}:
        return Fate.MISFIT, f"its tests cannot be run: {run.output.strip()[-300:]}"
    if run.code is None:
        return Fate.HUNG, run.last
    if run.code != 0:
        # Where none failed, the whole run was ended, by the last one.
        return Fate.CAUGHT, run.failed[0] if run.failed else run.last
    return None
