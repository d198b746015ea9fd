"""The list of cases that this folder holds the kernel to, and that none of them went missing.

Each test's docstring begins with ``Case 12:`` and says where the case is from. Cases 1 to 30 are those of OTP's
``supervisor_SUITE``, 31 to 39 of Pekko's ``SupervisionSpec``, 40 to 42 of Elixir's ``DynamicSupervisorTest``.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

#: By number: the tests of the origin that are ported. Left out is what has no counterpart: upgrades of code, formats of
#: log reports, global names, hibernation.
CASES = {
    1: "sup_start_fail, sup_start_error_return",
    2: "faulty_application_shutdown",
    3: "sup_start_ignore_child, sup_start_ignore_temporary_child, simple_one_for_one_restart_ignore",
    4: "sup_start_map, sup_start_map_simple",
    5: "sup_flags, child_specs_map, duplicate_child_name",
    6: "sup_start_child_returns_error",
    7: "sup_stop_timeout, sup_stop_timeout_dynamic",
    8: "sup_stop_brutal_kill, sup_stop_brutal_kill_dynamic",
    9: "sup_stop_infinity",
    10: "sup_stop_race, sup_stop_non_shutdown_exit_dynamic",
    11: "simple_one_for_one_shutdown",
    12: "order_of_children",
    13: "permanent_normal, permanent_shutdown, temporary_abnormal",
    14: "temporary_bystander",
    15: "do_not_save_child_specs_for_temporary_children, do_not_save_start_parameters_for_temporary_children",
    16: "multiple_restarts",
    17: "one_for_one, one_for_all, rest_for_one, simple_one_for_one",
    18: "one_for_one_escalation, one_for_all_escalation, rest_for_one_escalation, simple_one_for_one_escalation",
    19: "one_for_all",
    20: "one_for_all_other_child_fails_restart",
    21: "rest_for_one",
    22: "rest_for_one_other_child_fails_restart",
    23: "hanging_restart_loop, hanging_restart_loop_rest_for_one, hanging_restart_loop_simple",
    24: "child_unlink",
    25: "child_adm, child_adm_simple, extra_return",
    26: "tree",
    27: "count_restarting_children",
    28: "significant_temporary, significant_transient, significant_bystander, significant_escalation, "
    "significant_simple, nonsignificant_temporary, nonsignificant_transient",
    29: "scale_start_stop_many_children, simple_one_for_one_scale_many_temporary_children, count_children",
    30: "already_started_outside_supervisor",
    31: '"restart after exponential backoff"',
    32: '"reset exponential backoff count after reset timeout"',
    33: '"publish dropped messages while backing off and stash is full"',
    34: '"stop children when backoff second time during unstash"',
    35: '"ensure unhandled message retention during unstash exception when restart"',
    36: '"reset fixed limit after timeout"',
    37: '"restart.withLimit when deferred factory throws"',
    38: '"be able to recover from a DeathPactException"',
    39: '"not catch fatal error"',
    40: '"restarting on init children counted in max_children"',
    41: '"child triggers maximum intensity when trying again"',
    42: '"terminates restarting child"',
}
SUITES = {1: "supervisor_SUITE", 31: "SupervisionSpec", 40: "DynamicSupervisorTest"}


def stories() -> dict[str, str]:
    """Read the docstring of each test in this folder but those in here, by the test's name."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path != Path(__file__):
            for item in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(item, ast.AsyncFunctionDef | ast.FunctionDef) and item.name.startswith("test_"):
                    found[item.name] = " ".join((ast.get_docstring(item) or "").split())
    return found


def by_case() -> dict[int, list[str]]:
    """Sort the docstrings by the number of the case that they begin with."""
    told = defaultdict(list)
    for story in stories().values():
        if numbered := re.match(r"Case (\d+): ", story):
            told[int(numbered[1])].append(story)
    return told


def test_every_case_of_the_list_has_a_test() -> None:
    """And there is no test of a case that is not in the list: 42 in all."""
    assert sorted(CASES) == list(range(1, 43))
    assert sorted(by_case()) == sorted(CASES)


@pytest.mark.parametrize("number", CASES)
def test_every_case_names_all_that_it_ports(number) -> None:
    """With the suite that it comes from; a test of the origin that is not named any more has no counterpart left."""
    suite = SUITES[max(first for first in SUITES if first <= number)]
    told = by_case()[number]
    assert [story for story in told if not story.startswith(f"Case {number}: {suite}: ")] == []
    names = re.findall(r"\"[^\"]+\"|[\w.]+", CASES[number])
    said = " ".join(told)
    assert [name for name in names if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said)] == []


def test_every_test_says_which_case_it_is() -> None:
    """So that whoever reads it can look up what the origin asks for."""
    assert [name for name, story in stories().items() if not re.match(r"Case \d+: ", story)] == []
