"""The harness of the benchmarks: that it pairs, judges and tells right. Nothing here depends on any speed."""

from __future__ import annotations

import ast
import json
from itertools import pairwise
from pathlib import Path

import pytest
import run
from bench import ladder, measure
from bench.environments import PEERS, Peer, contender_of, find_python
from bench.figures import Outcome, Spread, is_ahead, is_met, standing
from bench.report import as_data, figure_text, figures_table, goals_table, peers_table
from bench.rounds import Contender, read_outcome, run_rounds
from bench.shares import owner_of, shares
from bench.worker import MARK, outcome_of
from bench.workloads import WORKLOADS, Figure, Goal, Workload, at_least, at_most, no_more_than

CONTENDERS = Path(run.__file__).parent / "contenders"
SPEED = Figure("per_second", "speed", "msg/s", at_least(2))
DELAY = Figure("p50_us", "delay", "µs", at_most(0.5))


def outcomes(key: str, *values: float | None) -> list[Outcome]:
    """One outcome for each value; None is a round that failed."""
    return [Outcome({key: value}) if value is not None else Outcome(why_not="broke") for value in values]


# What is made of the rounds


def test_a_ratio_is_to_the_control_of_the_same_round():
    """The machine's mood changes between rounds, so the median is taken of ratios, and not the ratio of medians."""
    control = outcomes("per_second", 10.0, 100.0, 1000.0)
    ours = outcomes("per_second", 30.0, 200.0, 5000.0)
    reached = standing("per_second", ours, control)
    assert Spread(3.0, 2.0, 5.0) == reached.ratio
    assert Spread(200.0, 30.0, 5000.0) == reached.value


def test_a_round_that_failed_has_no_ratio():
    """Neither has its partner in the same round."""
    reached = standing("per_second", outcomes("per_second", 20.0, None), outcomes("per_second", None, 10.0))
    assert reached.ratio is None
    assert Spread(20.0, 20.0, 20.0) == reached.value
    assert "broke" == reached.why_not


def test_what_never_worked_says_why():
    """There is never a figure in its place."""
    reached = standing("per_second", outcomes("per_second", None, None), outcomes("per_second", 1.0, 1.0))
    assert (None, None, "broke") == (reached.value, reached.ratio, reached.why_not)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (at_least(7), 7.0, True),
        (at_least(7), 6.99, False),
        (at_most(0.7), 0.7, True),
        (at_most(0.7), 0.71, False),
        (no_more_than(8), 8.0, True),
        (no_more_than(8), 8.1, False),
    ],
)
def test_a_goal_includes_its_bound(goal: Goal, value: float, met: bool):  # noqa: FBT001 - a column of the table.
    """Whichever way it points."""
    assert met is goal.is_met(value)


def test_a_goal_is_judged_by_the_ratio_or_by_the_figure_itself():
    """Speed is relative to the control; memory and fairness are what they are."""
    reached = standing("kib", outcomes("kib", 6.0), outcomes("kib", 0.5))
    assert is_met(Figure("kib", "memory", "KiB", no_more_than(8)), reached) is True
    assert is_met(Figure("kib", "memory", "KiB", at_most(8)), reached) is False
    assert is_met(Figure("kib", "memory", "KiB"), reached) is None


def test_ahead_means_more_messages_or_less_time():
    """What is better depends on the unit."""
    base = outcomes("per_second", 10.0), outcomes("p50_us", 10.0)
    fast, slow = (standing("per_second", outcomes("per_second", rate), base[0]) for rate in (30.0, 20.0))
    long, short = (standing("p50_us", outcomes("p50_us", took), base[1]) for took in (30.0, 20.0))
    assert (True, False) == (is_ahead(SPEED, fast, slow), is_ahead(SPEED, slow, fast))
    assert (True, False) == (is_ahead(DELAY, short, long), is_ahead(DELAY, long, short))
    assert is_ahead(SPEED, fast, standing("per_second", [], base[0])) is None


# What is told


def _results() -> tuple[list[Workload], dict[str, dict[str, list[Outcome]]]]:
    workload = Workload("speed", "speed", (SPEED, DELAY), {})
    rounds = {
        "control": [Outcome({"per_second": 10.0, "p50_us": 10.0})],
        "agentrt": [Outcome({"per_second": 25.0, "p50_us": 6.0})],
        "slow": [Outcome({"per_second": 5.0, "p50_us": 5.0})],
        "absent": [Outcome(why_not="not installed")],
    }
    return [workload], {"speed": rounds}


def test_the_table_says_which_goals_are_met():
    """Each with its figures, its ratio, its spread and its bound."""
    _, _, speed, delay = goals_table(*_results()).splitlines()
    assert "| speed | 10 msg/s | 25 msg/s | **2.5 ×** (2.5–2.5) | ≥ 2 × | met |" == speed
    assert "| delay | 10 µs | 6 µs | **0.6 ×** (0.6–0.6) | ≤ 0.5 × | **not met** |" == delay


def test_the_table_marks_a_peer_that_is_ahead_and_says_why_one_is_missing():
    """Nobody's figure is left out without a reason."""
    workloads, results = _results()
    told = peers_table(workloads, ["slow", "absent"], results)
    assert "| speed | 2.5 | 0.5 (5 msg/s) | – |" in told
    assert "| delay | 0.6 | **0.5 (5 µs)** | – |" in told
    assert "- absent (speed; delay): not installed" in told


def test_a_table_of_figures_has_the_rounds_and_what_never_came():
    """For what has no control: each one's own figures."""
    workload = Workload("speed", "speed", (DELAY,), {})
    rounds = {
        "control": [Outcome({"p50_us": 1.0})],
        "agentrt": [Outcome({"p50_us": took}) for took in (6.0, 8.0, 7.0)],
        "slow": [Outcome({"p50_us": float("inf")})],
        "absent": [Outcome(why_not="not installed")],
    }
    told = figures_table(workload, ["agentrt", "slow", "absent"], {"speed": rounds})
    assert "| delay | **7 µs** (6 µs – 8 µs) | **never** | – |" in told
    assert "- absent: not installed" in told


def test_the_data_has_every_round_and_the_verdict():
    """The same as the table, for a program."""
    workloads, results = _results()
    entries = as_data(workloads, ["control", "agentrt"], results)
    (ours,) = [one for one in entries if one["contender"] == "agentrt" and one["figure"] == "per_second"]
    assert [25.0] == ours["rounds"]
    assert 2.5 == ours["ratio"]
    assert {"bound": 2, "at_least": True, "of": "ratio", "met": True} == ours["goal"]


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (0.0123, "% CPU", "0.0123 % CPU"),
        (5.678, "KiB", "5.68 KiB"),
        (456.7, "µs", "457 µs"),
        (12_345, "µs", "12.3 ms"),
        (2.5e6, "µs", "2.5 s"),
        (12_345, "msg/s", "12.3 k msg/s"),
        (1.5e6, "msg/s", "1.5 M msg/s"),
        (128, "", "128"),
        (float("inf"), "µs", "never"),
    ],
)
def test_a_figure_has_three_digits(value: float, unit: str, told: str):
    """More would be noise."""
    assert told == figure_text(value, unit)


# What runs


def test_an_outcome_is_read_from_whatever_a_worker_prints():
    """Libraries print too."""
    assert Outcome({"a": 1.0}) == read_outcome(f'hello\n{MARK}{{"figures": {{"a": 1.0}}}}\nbye', 0, "")
    assert Outcome(why_not="no") == read_outcome(f'{MARK}{{"cannot": "no"}}', 0, "")
    assert Outcome(why_not="E: x") == read_outcome(f'{MARK}{{"failed": "E: x", "traceback": "…"}}', 0, "")
    assert Outcome(why_not="ended with status -9: killed") == read_outcome("", -9, "oh\nkilled\n")


def test_rounds_are_interleaved_and_a_contender_that_cannot_is_asked_once(monkeypatch):
    """Control, agentrt, control, agentrt: what disturbs the machine disturbs both."""
    asked = []

    def fake(contender, workload, _):
        asked.append(contender.name)
        return Outcome(why_not="cannot") if contender.name == "peer" else Outcome({"per_second": 1.0})

    monkeypatch.setattr("bench.rounds.run_one", fake)
    contenders = [Contender(name, "", "python") for name in ("control", "agentrt", "peer")]
    results = run_rounds([WORKLOADS["tell"]], contenders, lambda _: {}, 2, lambda _: None)
    assert ["control", "agentrt", "peer", "control", "agentrt"] == asked
    assert 2 == len(results["tell"]["agentrt"])


def test_peers_are_not_asked_for_what_is_not_compared(monkeypatch):
    """Nobody else has a watchdog to idle with."""
    monkeypatch.setattr("bench.rounds.run_one", lambda *_: Outcome({"cpu_percent": 1.0}))
    contenders = [Contender(name, "", "python") for name in ("control", "agentrt", "peer")]
    results = run_rounds([WORKLOADS["idle-watched"]], contenders, lambda _: {}, 1, lambda _: None)
    assert [] == results["idle-watched"]["peer"]


def test_peers_take_part_in_what_they_are_for(monkeypatch):
    """An actor library is no guard."""
    monkeypatch.setattr("bench.rounds.run_one", lambda *_: Outcome({"per_second": 1.0}))
    contenders = [Contender(name, "", "python") for name in ("control", "agentrt")]
    contenders += [Contender("actors", "", "python"), Contender("guards", "", "python", group="guards")]
    results = run_rounds([WORKLOADS["tell"], WORKLOADS["guard"]], contenders, lambda _: {}, 1, lambda _: None)
    took_part = {name: {one for one, rounds in by_name.items() if rounds} for name, by_name in results.items()}
    assert {"tell": {"control", "agentrt", "actors"}, "guard": {"control", "agentrt", "guards"}} == took_part


def test_a_pace_does_not_count_its_warm_up(monkeypatch):
    """Chunks grow until one takes long enough; only those after it are measured."""
    clock = [0.0]
    monkeypatch.setattr(measure, "now", lambda: clock[0])
    pace, chunks = measure.Pace(seconds=0.2, first=10), []
    for chunk in pace:
        chunks.append(chunk)
        clock[0] += chunk / 1000
    assert [10, 20, 40, 80, 80, 80, 80] == chunks
    assert 1000.0 == pytest.approx(pace.rate)


def test_latencies_are_told_in_microseconds_without_the_warm_up(monkeypatch):
    """Percentiles are of what is left."""
    clock = [0.0]
    monkeypatch.setattr(measure, "now", lambda: clock[0])
    latencies = measure.Latencies(seconds=10.5, warm_up=2)
    for seconds in [99.0, 99.0, *range(1, 11)]:
        assert latencies
        latencies.add(seconds)
        clock[0] += 1
    assert not latencies
    assert {"p50_us": 5e6, "p99_us": 10e6, "max_us": 10e6} == latencies.figures()


def test_actors_that_did_not_do_their_work_have_no_load():
    """An idle processor says nothing where nobody was served."""
    measure.require_beats(90, 1.5, 100)
    with pytest.raises(RuntimeError, match=r"80 beats in 1\.5 s, where 100 were due"):
        measure.require_beats(80, 1.5, 100)


# The contenders

SMOKE = [(contender, name) for contender in ("control", "agentrt_kernel") for name in WORKLOADS]


@pytest.mark.parametrize(("contender", "name"), SMOKE)
def test_every_workload_gives_every_figure(contender: str, name: str):
    """Of the control and of agentrt; how large they are is not for a test to say."""
    workload = WORKLOADS[name]
    told = outcome_of(contender, workload.method, workload.parameters_for(None, quick=True))
    assert "figures" in told, told
    figures = told["figures"]
    assert {figure.key for figure in workload.figures} <= set(figures)
    # Memory may have been there before, a neighbour may have been quick, and what is not there adds nothing.
    may_be_none = {"each_kib", "between", "added_p50_us", "added_p99_us", "rss_mb", "helpers_mb"}
    assert [] == [key for key, value in figures.items() if key not in may_be_none and not value > 0]


def test_the_command_runs_each_contender_in_a_process_of_its_own(capsys):
    """From the command line to the data."""
    run.main(["--quick", "--json", "--only", "tell"])
    told = json.loads(capsys.readouterr().out)
    assert ["control", "agentrt"] == [one["contender"] for one in told["figures"]]
    assert all(one["median"] > 0 for one in told["figures"])
    assert "load average" in told["machine"]


def test_a_workload_that_does_not_exist_is_named():
    """With those that do."""
    with pytest.raises(SystemExit, match="no workload tel; there are tell, "):
        run.main(["--only", "tel"])


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_a_peer_does_every_workload_that_is_compared_or_says_why_not(peer: Peer):
    """Read and not run: the libraries are not installed here."""
    tree = ast.parse((CONTENDERS / f"{peer.module}.py").read_text(encoding="utf-8"))
    (contender,) = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "Contender"]
    methods = {one.name for one in contender.body if isinstance(one, ast.FunctionDef)}
    methods |= {ast.unparse(one.targets[0]) for one in contender.body if isinstance(one, ast.Assign)}
    reasons = [one.value for one in contender.body if isinstance(one, ast.AnnAssign)]
    cannot = set(ast.literal_eval(reasons[0])) if reasons else set()
    compared = {one.method for one in WORKLOADS.values() if one.is_compared and one.group == peer.group}
    assert set() == compared - methods - cannot
    assert set() == cannot & methods


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_a_peers_requirements_are_pinned(peer: Peer):
    """A figure belongs to a version."""
    wanted = [*peer.requirements, *peer.npm]
    assert wanted != []
    assert [] == [one for one in wanted if "==" not in one and "@" not in one]


def test_a_peer_that_is_not_installed_takes_no_part(tmp_path, monkeypatch):
    """And the table says so."""
    monkeypatch.setattr("bench.environments.ENVIRONMENTS", tmp_path)
    contender = contender_of(PEERS["pykka"])
    assert contender.python is None
    assert "not installed here (--install does it)" == contender.why_not


def test_a_python_is_believed_only_when_it_has_said_its_version(tmp_path, monkeypatch):
    """A name on the PATH may be a shim for a version that is not chosen."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    python = tmp_path / "python3.90"
    python.write_text("#!/bin/sh\necho 3 11\n", encoding="ascii")
    python.chmod(0o755)
    assert find_python((3, 90), (3, 91)) is None
    python.write_text("#!/bin/sh\necho 3 90\n", encoding="ascii")
    assert str(python) == find_python((3, 90), (3, 91))


def test_a_ladder_says_what_each_step_costs(monkeypatch):
    """Each rung has its cost and its step from the one before; the last is agentrt."""
    monkeypatch.setattr(ladder, "SECONDS", 0.005)
    monkeypatch.setattr(ladder, "ROUNDS", 1)
    for name, rungs in ladder.LADDERS.items():
        rows = [line.strip("| ").split(" | ") for line in ladder.climb(name).splitlines()[2:]]
        assert [rung.title for rung in rungs] == [title for title, _, _ in rows]
        assert "agentrt, all of it" == rows[-1][0]
        costs = [0, *(int(cost) for _, cost, _ in rows)]
        steps = [int(step) for _, _, step in rows]
        # Each is rounded for itself.
        assert all(
            abs(later - earlier - step) <= 1 for (earlier, later), step in zip(pairwise(costs), steps, strict=True)
        )


# What a profile is spent on


@pytest.mark.parametrize(
    ("path", "name", "owner"),
    [
        ("~", "<method 'send' of '_socket.socket' objects>", "calls of the system: sockets"),
        ("~", "<method 'poll' of 'select.epoll' objects>", "calls of the system: waiting"),
        ("~", "<built-in method builtins.len>", "built-in functions"),
        ("/here/actors/_nats_link.py", "flow", "actors/_nats_link"),
        ("/here/agentrt/kernel/actor.py", "run", "agentrt/kernel"),
        ("<attrs generated methods actors._nats_outbox.Outgoing>", "__init__", "actors/_nats_outbox"),
        ("<attrs generated methods trio._core._run.Task>", "__init__", "Trio"),
        ("/lib/site-packages/trio/_core/_run.py", "run", "Trio"),
        ("/lib/site-packages/trio_asyncio/_base.py", "run", "asyncio and the bridge"),
        ("/lib/site-packages/nats/aio/client.py", "publish", "nats-py"),
        ("/lib/python3.11/contextlib.py", "helper", "the rest of Python"),
    ],
)
def test_each_function_of_a_profile_is_somebody_s(path: str, name: str, owner: str):
    """This project's by module, others' by library."""
    assert owner == owner_of(path, name)


def test_the_shares_of_a_profile_come_to_the_whole():
    """The largest first, and what is small together."""
    own = {"/a/trio/x.py": 0.6, "/a/actors/bus.py": 0.39, "/a/nats/y.py": 0.01}
    told = shares({(path, 1, "f"): (1, 1, time, time, {}) for path, time in own.items()})
    assert ["| Trio | 60 % |", "| actors/bus | 39 % |", "| all else | 1 % |"] == told.splitlines()[2:]
