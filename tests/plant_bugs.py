"""Plant bugs in the kernel and the policies, and see that the tests find them: ``python tests/plant_bugs.py --help``.

The bugs are in ``tests/planted/*.toml``. They are planted in a copy, one at a time. It fails where the tests let one
through, and where one does not apply any more: then the table has to follow the code.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio
from planted.hunt import Finding, SuiteFails, hunt, suite_of
from planted.table import Bug, load

ROOT = Path(__file__).resolve().parents[1]
#: Lines of what the tests print that are shown where they fail without a bug.
LINES_SHOWN = 60


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="plant_bugs.py", description="Plant bugs, and see that the tests find them.")
    parser.add_argument("--only", metavar="PATTERN", default="", help="bugs whose file or name has this expression")
    parser.add_argument("--jobs", metavar="N", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--list", action="store_true", help="name the bugs and plant none")
    parser.add_argument("--json", action="store_true", help="plain data instead of a table")
    return parser.parse_args(words)


def chosen(pattern: str, bugs: Sequence[Bug]) -> list[Bug]:
    """Find the bugs that are asked for."""
    return [bug for bug in bugs if re.search(pattern, f"{bug.file} {bug.name}", re.IGNORECASE)]


def row(finding: Finding) -> str:
    """Say in a line or two what became of a bug."""
    lines = [f"{finding.fate.value:<14} {finding.seconds:6.1f} s  {finding.bug.file}: {finding.bug.name}"]
    if finding.by:
        lines.append(f"{'':25}{finding.by}{'' if finding.as_told else ' (by the suite, not by its own tests)'}")
    return "\n".join(lines)


def summary(findings: Sequence[Finding], seconds: float) -> str:
    """Say how many of them were caught, and by which folders of tests."""
    fates = Counter(finding.fate for finding in findings)
    said = ", ".join(f"{count} {fate.value}" for fate, count in sorted(fates.items(), key=lambda one: one[0].name))
    folders = Counter(str(Path(finding.by.partition("::")[0]).parent) for finding in findings if finding.is_good)
    by = "".join(f"\n{count:5} by {folder}" for folder, count in folders.most_common())
    return f"{len(findings)} bugs: {said} in {seconds:.0f} s{by}"


def as_data(finding: Finding) -> dict[str, object]:
    """Make plain data of what became of a bug."""
    return {
        "name": finding.bug.name,
        "file": finding.bug.file,
        "fate": finding.fate.name.lower(),
        "by": finding.by,
        "as_told": finding.as_told,
        "seconds": round(finding.seconds, 1),
    }


def main(words: list[str] | None = None) -> int:
    """Do as the command line says; return 1 where a bug survived or does not apply."""
    asked = arguments(words)
    bugs = chosen(asked.only, load())
    if asked.list:
        print(*(f"{bug.file}: {bug.name}" for bug in bugs), sep="\n")
        return 0
    began = time.monotonic()
    # Where only a few are asked for, their own tests have to do.
    suite = () if asked.only else suite_of(ROOT)
    tell = (lambda _: None) if asked.json else (lambda finding: print(row(finding), flush=True))
    search = partial(hunt, ROOT, bugs, suite=suite, jobs=asked.jobs, tell=tell)
    try:
        findings = trio.run(search)
    except SuiteFails as failure:
        lines = str(failure).splitlines()[-LINES_SHOWN:]
        sys.exit("\n".join(["the tests fail without any bug:", *lines]))
    seconds = time.monotonic() - began
    if asked.json:
        print(json.dumps({"seconds": round(seconds, 1), "bugs": [as_data(finding) for finding in findings]}, indent=2))
    else:
        print(summary(findings, seconds))
    return 0 if all(finding.is_good for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
