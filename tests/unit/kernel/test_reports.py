"""What a user reads when something failed: reports of exits, and the fields of the events about them."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import AT_ONCE, ONE_SECOND, Boom, Plan, crash, node, open_runtime, probe, probes, quiet, recorder, tree

from agentrt.kernel import (
    Actor,
    ActorDied,
    Budget,
    Cause,
    ChildGaveUp,
    Exit,
    ExitKind,
    RestartIntensityExceeded,
    Sequel,
    Strategy,
    SupervisorSpec,
    TreeFailed,
    WhenExhausted,
)
from agentrt.kernel.reports import CHILDREN_NAMED, LEVELS, BudgetLeft, Outlook, seconds
from agentrt.policy.backoff import Backoff


def died(path: str, error: Exception, **record: object) -> Exit:
    return Exit(path, 2, ExitKind.CRASHED, cause=Cause.of(error), uptime=1.5, **record)


def outlook(sequel: Sequel, delay: float | None = None) -> Outlook:
    attempt = 2 if delay is not None else None
    return Outlook(sequel, "fleet/agents", BudgetLeft(1, 3, 30.0), BudgetLeft(7, 10, 60.0), delay, attempt)


@pytest.mark.parametrize(
    ("sequel", "delay", "text"),
    [
        (Sequel.RESTART, 0.4231, "restarted in 0.42 s, attempt 2; "),
        (Sequel.RESTART, 0.0, "restarted at once, attempt 2; "),
        (Sequel.GIVE_UP, None, "given up; "),
        (Sequel.ESCALATE, None, "fleet/agents gives up; "),
    ],
)
def test_an_outlook_is_a_line_and_fields(sequel, delay, text) -> None:
    """The same figures for people and for programs."""
    told = outlook(sequel, delay)
    assert str(told) == text + "1 of 3 restarts left in 30 s, 7 of 10 for fleet/agents"
    timed = {"delay": round(delay, 3), "attempt": 2} if delay is not None else {}
    assert told.fields() == {"restarts_left": 1, "supervisor_restarts_left": 7, **timed}


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0.0, "0 s"), (0.004, "0 s"), (0.4231, "0.42 s"), (12.0, "12 s"), (999.126, "999.13 s"), (86400.4, "86400 s")],
)
def test_durations_are_short(duration, text) -> None:
    assert seconds(duration) == text


def test_a_report_of_one_exit_is_its_life_its_cause_and_its_outlook() -> None:
    told = died("fleet/agents/a", ValueError("no"), outlook=outlook(Sequel.RESTART, 0.4231))
    assert told.report(2).splitlines() == [
        "  fleet/agents/a crashed (generation 2, up 1.5 s): ValueError: no",
        "    restarted in 0.42 s, attempt 2; 1 of 3 restarts left in 30 s, 7 of 10 for fleet/agents",
    ]


def test_a_report_says_what_an_exception_came_from() -> None:
    """Innermost last."""
    try:
        try:
            raise KeyError("x")
        except KeyError as error:
            raise ValueError("no x") from error
    except ValueError as error:
        try:
            raise Boom("cannot go on")
        except Boom as boom:
            boom.__cause__ = error
            told = died("a", boom)
    assert told.report().splitlines()[1:] == ["  because of ValueError: no x", "  because of KeyError: 'x'"]


@pytest.mark.parametrize(
    ("exit_", "line"),
    [
        (
            Exit("a", 1, ExitKind.CRASHED, started=False, cause=Cause("Boom", "")),
            "a crashed (generation 1, not started): Boom",
        ),
        (Exit("a", 1, ExitKind.STUCK, "no progress"), "a stuck (generation 1, up 0 s): no progress"),
        (
            Exit("a", 1, ExitKind.CRASHED_DURING_STOP, "asked for", Cause("Boom", "no")),
            "a crashed_during_stop (generation 1, up 0 s): Boom: no (asked for)",
        ),
        (Exit("a", 1, ExitKind.CRASHED, "Boom: no", Cause("Boom", "no")), "a crashed (generation 1, up 0 s): Boom: no"),
        (Exit("a", 1, ExitKind.COMPLETED), "a completed (generation 1, up 0 s)"),
        (
            Exit("a", 1, ExitKind.STOPPED, "asked for", suspected_masked=Cause("Boom", "no")),
            "a stopped (generation 1, up 0 s): asked for\n  its cancellation took the place of Boom: no, it seems",
        ),
    ],
)
def test_a_report_says_who_ended_it_and_what_it_died_of(exit_, line) -> None:
    """And nothing twice."""
    assert exit_.report() == line


def test_an_escalation_names_those_before_the_last_in_short() -> None:
    """Each way of each child to end once, however often, and not too many of them; the last one in full."""
    exits = [died(f"s/{number}", ValueError("no")) for number in range(8)]
    exits += [died("s/a", ValueError("no")), died("s/b", Boom("no")), died("s/a", ValueError("no"))]
    last = died("s/c", KeyError("x"))
    top = Exit("s", 1, ExitKind.CRASHED, cause=Cause.of(RestartIntensityExceeded("s", 10, 60.0, (*exits, last))))
    lines = top.report().splitlines()
    assert lines[0] == "s crashed (generation 1, up 0 s): RestartIntensityExceeded: s: more than 10 restarts in 60 s"
    assert len(lines) == 1 + CHILDREN_NAMED + 1
    assert lines[-3:] == [
        "  before: s/b crashed: Boom: no",
        "  before: s/a crashed 2 times: ValueError: no",
        "  s/c crashed (generation 2, up 1.5 s): KeyError: 'x'",
    ]


def test_a_report_is_bounded_however_deep_the_tree_is() -> None:
    told = died("leaf", ValueError("no"))
    for level in range(100):
        told = died(f"s{level}", RestartIntensityExceeded(f"s{level}", 1, 1.0, (told,) * 10))
    lines = told.report().splitlines()
    assert len(lines) == LEVELS * 2
    assert lines[-1].strip() == "..."


def test_an_error_says_all_in_one_line_where_there_is_one_only() -> None:
    """A report says the exits below in lines of their own; an exception's own text has them too."""
    leaf = died("s/a", ValueError("no"))
    gone = Exit("b", 1, ExitKind.CRASHED, cause=Cause.of(ActorDied("s/a", 2, leaf)))
    assert str(gone.cause) == "ActorDied: s/a (generation 2) is gone: s/a crashed (generation 2): ValueError: no"
    assert gone.report().splitlines() == [
        "b crashed (generation 1, up 0 s): ActorDied: s/a (generation 2) is gone",
        "  s/a crashed (generation 2, up 1.5 s): ValueError: no",
    ]
    assert str(ChildGaveUp("s/a", leaf)) == "s/a gave up: s/a crashed (generation 2): ValueError: no"


async def test_events_say_what_is_left_and_what_comes(autojump_clock) -> None:
    """Each of them, so that one line of a log is enough; what nobody decided has none of it."""
    events, seen = recorder()
    backoff = Backoff(initial=1 / 3, factor=2.0, maximum=9.0, jitter=(1.0, 1.0))
    needed = probe("a", backoff=backoff, budget=Budget(2, 60), when_exhausted=WhenExhausted.ESCALATE)
    with pytest.raises(TreeFailed):
        async with open_runtime(tree(needed, probe("b"), budget=Budget(5, 60)), events=events) as runtime:
            for _ in range(3):
                await crash(runtime.ref("top/a"))
                await trio.sleep(2)
            await trio.sleep_forever()
    figures = ("restarts_left", "supervisor_restarts_left", "delay", "attempt")
    told = [(one.kind, *(one.fields.get(name) for name in figures)) for one in seen if one.kind in TOLD]
    assert told == [
        ("actor_crashed", 1, 4, 0.333, 1),
        ("actor_restarting", 1, 4, 0.333, 1),
        ("actor_crashed", 0, 3, 0.667, 2),
        ("actor_restarting", 0, 3, 0.667, 2),
        ("actor_crashed", 0, 3, None, None),
        ("actor_gave_up", 0, 3, None, None),
        ("supervisor_escalated", 0, 3, None, None),
    ]
    stopped = next(one for one in seen if one.kind == "actor_exited" and one.path == "top/b")
    assert not set(figures) & set(stopped.fields)


TOLD = {"actor_crashed", "actor_restarting", "actor_gave_up", "supervisor_escalated"}


async def test_the_record_has_its_outlook_wherever_it_is_read(autojump_clock) -> None:
    """In the tree's picture, in the hook, and among the exits that an escalation names."""
    exits: list[Exit] = []
    inner = SupervisorSpec(
        id="inner", children=(probe("a", on_exit=exits.append),), budget=Budget(1, 60), backoff=ONE_SECOND
    )
    async with open_runtime(tree(inner)) as runtime:
        ref = runtime.ref("top/inner/a")
        await crash(ref)
        assert node(runtime, "top/inner/a").last_exit == exits[0]
        assert (exits[0].outlook.sequel, exits[0].outlook.delay) == (Sequel.RESTART, 0.0)
        await crash(ref)
        assert exits[1].outlook == Outlook(Sequel.ESCALATE, "top/inner", BudgetLeft(1, 3, 30.0), BudgetLeft(0, 1, 60.0))
        failed = node(runtime, "top/inner").last_exit
        assert failed.cause.exits == tuple(exits[:2])
        assert failed.outlook == Outlook(
            Sequel.RESTART, "top", BudgetLeft(2, 3, 30.0), BudgetLeft(9, 10, 60.0), delay=1.0, attempt=1
        )


async def test_an_end_that_somebody_asked_for_has_no_outlook(autojump_clock) -> None:
    """Nor one that is left as it is, or that a sibling's restart brought about."""
    exits: list[Exit] = []
    specs = probes("ab", [], on_exit=exits.append)
    async with open_runtime(tree(*specs, strategy=Strategy.ONE_FOR_ALL)) as runtime:
        await crash(runtime.ref("top/a"))
    assert [exit_.outlook is None for exit_ in exits] == [False, True, True, True]


async def test_the_failure_of_a_tree_reads_from_top_to_bottom(autojump_clock) -> None:
    inner = SupervisorSpec(
        id="agents", children=(probe("a"),), budget=Budget(1, 60), backoff=AT_ONCE, own_budget=Budget(9, 60)
    )
    with pytest.raises(TreeFailed) as failed:
        async with open_runtime(SupervisorSpec(id="fleet", children=(inner,), budget=Budget(0, 60))) as runtime:
            for _ in range(2):
                await trio.sleep(1.5)
                await crash(runtime.ref("fleet/agents/a"))
            await trio.sleep_forever()
    spent = "RestartIntensityExceeded: fleet/agents: more than 1 restarts in 60 s"
    assert str(failed.value).splitlines() == [
        "fleet crashed (generation 1, up 3 s): RestartIntensityExceeded: fleet: more than 0 restarts in 60 s",
        f"  fleet/agents crashed (generation 1, up 3 s): {spent}",
        "    fleet gives up; 8 of 9 restarts left in 60 s, 0 of 0 for fleet",
        "    before: fleet/agents/a crashed: Boom: told to",
        "    fleet/agents/a crashed (generation 2, up 1.5 s): Boom: told to",
        "      fleet/agents gives up; 1 of 3 restarts left in 30 s, 0 of 1 for fleet/agents",
    ]


async def test_a_start_that_failed_says_so(autojump_clock) -> None:
    with pytest.raises(TreeFailed) as failed:
        async with open_runtime(tree(probe("a", Plan(start_fails=1)))):
            pytest.fail("it never started")
    assert str(failed.value).splitlines() == [
        "top crashed (generation 1, not started): StartFailed: top/a did not start",
        "  top/a crashed (generation 1, not started): Boom: a does not start",
    ]


async def test_a_listener_sees_the_traceback_and_nobody_else_pays_for_it(autojump_clock) -> None:
    async def run(actor: Actor) -> None:
        raise Boom("in here")

    events, seen = recorder()
    async with open_runtime(tree(probe("a")), events=events) as runtime:
        await runtime.ref("top/a").cast(run)
        await quiet()
    (crashed,) = [one for one in seen if one.kind == "actor_crashed"]
    assert 'raise Boom("in here")' in crashed.fields["traceback"]
