"""The planted bugs: that each of the table can be planted, and that what became of one is told right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import plant_bugs
import pytest
import trio
from planted.hunt import Fate, Finding, SuiteFails, hunt, suite_of
from planted.table import Bug, load

ROOT = Path(plant_bugs.__file__).parents[1]
TEST = "tests/test_answer.py"


@pytest.mark.parametrize("bug", load(), ids=lambda bug: bug.name)
def test_every_bug_can_be_planted(bug):
    """A snippet stands in its file exactly once, what replaces it compiles, and its tests are there."""
    assert None is bug.misfit(ROOT)
    compile((ROOT / bug.file).read_text().replace(bug.snippet, bug.replacement), bug.file, "exec", dont_inherit=True)


def test_the_suite_is_what_tests_the_kernel_and_the_policies():
    """A bug that its own tests let through is looked for by all of them, but not by what takes as long as it is let."""
    suite = suite_of(ROOT)
    assert {"tests/unit/kernel", "tests/unit/policy", "tests/conformance"} < set(suite)
    assert "tests/property/test_breaker_policy.py" in suite
    assert "tests/property/test_kernel_mailbox.py" in suite
    assert "tests/property/test_simulation.py" not in suite


# A project of one line


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that has an answer, and a test of it."""
    root = tmp_path / "project"
    for folder in ("agentrt", "actors", "tests"):
        (root / folder).mkdir(parents=True)
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (root / "agentrt/__init__.py").write_text("def answer():\n    unused = 0\n    return 42\n")
    (root / TEST).write_text(
        "import agentrt\n\n"
        "def test_it_is_callable():\n    assert callable(agentrt.answer)\n\n"
        "def test_it_is_42():\n    assert 42 == agentrt.answer()\n"
    )
    return root


def bug(snippet: str, replacement: str, *, test: str = TEST) -> Bug:
    """A bug in the answer."""
    return Bug(f"{snippet} is {replacement}", "agentrt/__init__.py", snippet, replacement, (test,))


def hunted(root: Path, bugs: Sequence[Bug], **more: object) -> list[Finding]:
    """What became of *bugs*, as told at once and as returned."""
    told: list[Finding] = []
    # Nothing in there takes any time, so the little that a hanging one may take is short for any machine.
    search = partial(hunt, root, bugs, suite=(), jobs=1, tell=told.append, least=3.0)
    found: list[Finding] = trio.run(partial(search, **more))
    assert told == found
    return found


def test_it_is_told_which_bug_was_caught_and_which_survived(project):
    """A test that fails caught it; what changes nothing survives. The next one meets the healthy code again."""
    bugs = [bug("return 42", "return 41"), bug("unused = 0", "unused = 1"), bug("42", "43")]
    caught, survivor, caught_after = hunted(project, bugs)
    assert (Fate.CAUGHT, f"{TEST}::test_it_is_42") == (caught.fate, caught.by)
    assert (Fate.SURVIVED, "") == (survivor.fate, survivor.by)
    assert Fate.CAUGHT is caught_after.fate
    assert [True, False, True] == [found.is_good for found in (caught, survivor, caught_after)]
    assert "return 42" in (project / "agentrt/__init__.py").read_text()


def test_a_bug_that_hangs_or_ends_the_run_is_caught(project):
    """The test that began last is named: it never ended."""
    bugs = [bug("return 42", "while True: pass"), bug("return 42", "raise KeyboardInterrupt")]
    hung, ended = hunted(project, bugs)
    assert (Fate.HUNG, f"{TEST}::test_it_is_42", True) == (hung.fate, hung.by, hung.is_good)
    assert (Fate.CAUGHT, f"{TEST}::test_it_is_42") == (ended.fate, ended.by)


def test_what_its_own_tests_let_through_the_suite_may_catch(project):
    """That is told, so that the table can name the right tests."""
    (found,) = hunted(project, [bug("42", "41", test=f"{TEST}::test_it_is_callable")], suite=["tests"])
    assert (Fate.CAUGHT, False) == (found.fate, found.as_told)
    assert "(by the suite" in plant_bugs.row(found)


def test_a_table_that_does_not_follow_the_code_is_told_of(project):
    """A snippet that is not there, and code that cannot even be imported, prove nothing about the tests."""
    bugs = [bug("return 44", "return 41"), bug("def answer():", "def answer("), bug("0", "1", test="tests/gone.py")]
    found = hunted(project, bugs)
    assert [Fate.MISFIT] * 3 == [one.fate for one in found]
    assert "stands 0 times" in found[0].by
    assert "cannot be imported" in found[1].by
    assert "there is no tests/gone.py" == found[2].by


def test_tests_that_fail_without_a_bug_end_the_hunt(project):
    """They would catch everything."""
    (project / "agentrt/__init__.py").write_text("def answer():\n    return 7\n")
    with pytest.raises(SuiteFails, match="test_it_is_42"):
        hunted(project, [bug("7", "8")])


# What is told


def finding(fate: Fate, by: str = "") -> Finding:
    return Finding(bug("42", "41"), fate, by, as_told=True, seconds=1.25)


def test_the_summary_counts_what_became_of_them_and_who_caught_them():
    """Of a hunt one wants to know how many survived, and which tests are worth what."""
    findings = [finding(Fate.CAUGHT, "tests/unit/kernel/test_a.py::test"), finding(Fate.HUNG, "tests/unit/kernel/b.py")]
    said = plant_bugs.summary([*findings, finding(Fate.SURVIVED)], 12.0)
    assert "3 bugs: 1 caught, 1 hung, 1 SURVIVED in 12 s\n    2 by tests/unit/kernel" == said


def test_a_row_and_the_data_say_what_became_of_a_bug():
    """Both name the bug, its file, its fate, who caught it and how long that took."""
    found = finding(Fate.CAUGHT, f"{TEST}::test_it_is_42")
    row = plant_bugs.row(found)
    assert row.startswith("caught            1.2 s  agentrt/__init__.py: 42 is 41\n")
    assert row.endswith(f"{TEST}::test_it_is_42")
    expected = {"name": "42 is 41", "file": "agentrt/__init__.py", "fate": "caught", "as_told": True, "seconds": 1.2}
    assert {**expected, "by": found.by} == plant_bugs.as_data(found)


def test_bugs_are_chosen_by_file_and_name():
    """``--only`` takes an expression, whatever the case."""
    one, other = bug("42", "41"), bug("unused", "used")
    assert [one, other] == plant_bugs.chosen("", [one, other])
    assert [other] == plant_bugs.chosen("INIT.*unused", [one, other])


def test_two_bugs_of_one_name_are_refused(tmp_path):
    """A name is what tells them apart in what is told."""
    entry = '[[bug]]\nname = "It is off"\nfile = "a.py"\nsnippet = "1"\nreplacement = "2"\ntests = ["b.py"]\n'
    (tmp_path / "a.toml").write_text(entry + entry)
    with pytest.raises(ValueError, match="It is off"):
        load(tmp_path)
