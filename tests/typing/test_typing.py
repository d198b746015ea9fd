"""What type checkers make of users' code: both accept what is right and find what is wrong, line by line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = [ACCEPTED, REFUSED] = [HERE / "accepted.py", HERE / "refused.py"]
MARK = re.compile(r"# E: (?P<mypy>\S+) (?P<pyright>\S+)$")
MYPY_LINE = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$")

#: The codes of what is wrong in a file, by line.
Findings = dict[int, set[str]]


def mypy(files: list[Path], place: Path) -> Iterator[tuple[Path, int, str]]:
    """Check *files* as a user with ``--strict`` and nothing else would."""
    options = ["--strict", "--config-file=", f"--cache-dir={place}", "--no-error-summary", "--no-pretty"]
    command = [sys.executable, "-m", "mypy", *options, *(file.name for file in files)]
    ran = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")
    for line in ran.stdout.splitlines():
        if (match := MYPY_LINE.match(line)) is not None:
            yield HERE / match["file"], int(match["line"]), match["code"]
        else:
            assert ": note: " in line, line


def pyright(files: list[Path], place: Path) -> Iterator[tuple[Path, int, str]]:
    """Check *files* as a user with ``typeCheckingMode = "strict"`` and nothing else would."""
    (place / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    options = ["--outputjson", f"--pythonpath={sys.executable}", f"--project={place}"]
    command = [sys.executable, "-m", "basedpyright", *options, *map(str, files)]
    ran = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stderr
    for finding in json.loads(ran.stdout)["generalDiagnostics"]:
        yield Path(finding["file"]), finding["range"]["start"]["line"] + 1, finding["rule"]


CHECKERS = {"mypy": mypy, "pyright": pyright}


@pytest.fixture(scope="module", params=CHECKERS)
def findings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Findings]:
    """What one of the two finds in both files."""
    found: dict[Path, Findings] = {file: {} for file in FILES}
    for file, line, code in CHECKERS[request.param](FILES, tmp_path_factory.mktemp(request.param)):
        found[file].setdefault(line, set()).add(code)
    return found


def marked(file: Path, checker: str) -> Findings:
    """Read what is expected of *checker*."""
    lines = enumerate(file.read_text().splitlines(), 1)
    return {number: set(match[checker].split(",")) for number, line in lines if (match := MARK.search(line))}


def test_what_is_right_is_accepted(findings) -> None:
    """Nobody who uses the kernel as it is meant finds an error in his own code."""
    assert findings[ACCEPTED] == {}


def test_what_is_wrong_is_refused(findings, request) -> None:
    """Each mistake is found where it was made, and nothing else is."""
    expected = marked(REFUSED, request.node.callspec.params["findings"])
    assert len(expected) > 20
    assert findings[REFUSED] == expected
