"""The decision after an exit, and the turns in which children start and stop: without any task."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import ONE_SECOND, probe

from agentrt.kernel import (
    Budget,
    Exit,
    ExitKind,
    MailboxSpec,
    Restart,
    Runtime,
    Strategy,
    SupervisorSpec,
    WhenExhausted,
)
from agentrt.kernel.cell import Cell
from agentrt.kernel.children import Child, ChildState
from agentrt.kernel.restarts import Escalate, GiveUp, Leave, RestartIn, Restarts
from agentrt.kernel.turns import Turns

ABNORMAL = frozenset(ExitKind) - {ExitKind.COMPLETED, ExitKind.STOPPED, ExitKind.IGNORED}


def family(names: str = "a", *, supervisor: dict | None = None, **spec: object) -> tuple[Restarts, list[Child]]:
    """Make the records of a supervisor and its children, as they are when all of them run."""
    top = SupervisorSpec(id="top", **(supervisor or {}))
    runtime = Runtime(top)
    root = Cell("top", None, runtime, MailboxSpec())
    children = []
    for index, name in enumerate(names):
        one = probe(name, **{"backoff": ONE_SECOND, **spec})
        child = Child(one, root.place(name, MailboxSpec()), index=index, state=ChildState.RUNNING)
        child.run_clock(trio.current_time())
        children.append(child)
    return Restarts(top, "top"), children


def ended(kind: ExitKind, uptime: float = 10.0) -> Exit:
    return Exit("top/a", 1, kind, uptime=uptime)


@pytest.mark.parametrize("kind", list(ExitKind))
@pytest.mark.parametrize("restart", list(Restart))
async def test_restart_types_say_what_each_exit_means(autojump_clock, restart, kind) -> None:
    """Permanent always, transient where it was abnormal, temporary never."""
    restarts, (child,) = family(restart=restart)
    comes_back = restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and kind in ABNORMAL)
    decision = restarts.decide(child, ended(kind), 0.0, 0.5)
    assert isinstance(decision, RestartIn if comes_back else Leave)
    assert restarts.made == comes_back


@pytest.mark.parametrize(("uptime", "attempt"), [(59.9, 3), (60.0, 1)])
async def test_a_run_of_stable_after_begins_the_backoff_anew(autojump_clock, uptime, attempt) -> None:
    restarts, (child,) = family(stable_after=60.0)
    for _ in range(2):
        restarts.decide(child, ended(ExitKind.CRASHED), 0.0, 0.5)
    restarts.decide(child, ended(ExitKind.CRASHED, uptime), 0.0, 0.5)
    assert child.attempt == attempt


async def test_ending_too_soon_is_a_failure(autojump_clock) -> None:
    restarts, (child,) = family(restart=Restart.TRANSIENT, min_uptime=5.0)
    decisions = [restarts.decide(child, ended(ExitKind.COMPLETED, uptime), 0.0, 0.5) for uptime in (4.9, 5.0)]
    assert [type(decision) for decision in decisions] == [RestartIn, Leave]


async def test_a_spent_child_costs_its_supervisor_nothing(autojump_clock) -> None:
    """One bad child does not take its siblings down: what is not restarted is no restart."""
    restarts, (bad, good) = family("ab", supervisor={"budget": Budget(3, 60)}, budget=Budget(2, 60))
    for _ in range(2):
        assert isinstance(restarts.decide(bad, ended(ExitKind.CRASHED), 0.0, 0.5), RestartIn)
    for _ in range(5):
        decision = restarts.decide(bad, ended(ExitKind.CRASHED), 0.0, 0.5)
        assert isinstance(decision, GiveUp)
        assert decision.failure is None
    assert isinstance(restarts.decide(good, ended(ExitKind.CRASHED), 0.0, 0.5), RestartIn)
    verdict = restarts.decide(good, ended(ExitKind.CRASHED), 0.0, 0.5)
    assert isinstance(verdict, Escalate)
    assert len(verdict.failure.exits) == 9


async def test_a_child_that_is_needed_gives_up_loudly(autojump_clock) -> None:
    restarts, (child,) = family(budget=Budget(0, 1), when_exhausted=WhenExhausted.ESCALATE)
    verdict = restarts.decide(child, ended(ExitKind.STUCK), 0.0, 0.5)
    assert str(verdict.failure) == "top/a gave up: top/a stuck (generation 1)"


async def test_the_window_is_inclusive(autojump_clock) -> None:
    """A restart exactly as old as the window still counts; a moment later it does not."""
    for gap, verdict in ((5.0, Escalate), (5.001, RestartIn)):
        restarts, (child,) = family(supervisor={"budget": Budget(1, 5)}, budget=Budget(9, 1))
        restarts.decide(child, ended(ExitKind.CRASHED), 0.0, 0.5)
        assert isinstance(restarts.decide(child, ended(ExitKind.CRASHED), gap, 0.5), verdict)


@pytest.mark.parametrize(
    ("strategy", "verdict"),
    [(Strategy.ONE_FOR_ONE, RestartIn), (Strategy.REST_FOR_ONE, Escalate), (Strategy.ONE_FOR_ALL, Escalate)],
)
async def test_a_restart_ages_only_while_all_whom_it_took_along_are_well(autojump_clock, strategy, verdict) -> None:
    """Here b is away for long: that is time for the restart of a where they go together, and only there."""
    restarts, (one, two) = family("ab", supervisor={"budget": Budget(1, 5), "strategy": strategy}, budget=Budget(9, 1))
    restarts.decide(one, ended(ExitKind.CRASHED), 0.0, 0.5)
    restarts.begin(one, 0.0)
    restarts.begin(two, 0.0)
    restarts.begin(two, 11.0)
    restarts.over(one, 50.0)
    restarts.over(one, 60.0)
    restarts.over(two, 100.0)
    assert isinstance(restarts.decide(one, ended(ExitKind.CRASHED), 105.0, 0.5), verdict)


@pytest.mark.parametrize(
    ("strategy", "names"), [(Strategy.ONE_FOR_ONE, "b"), (Strategy.REST_FOR_ONE, "bd"), (Strategy.ONE_FOR_ALL, "abd")]
)
async def test_a_restart_takes_along_only_who_is_to_run(autojump_clock, strategy, names) -> None:
    """Here c is done and e was terminated: neither comes back because a sibling does."""
    restarts, children = family("abcde", supervisor={"strategy": strategy})
    children[2].state = ChildState.DONE
    children[4].wanted = False
    taken = restarts.taken_along(children[1], children)
    assert [child.spec.id for child in taken] == list(names)


async def test_turns_go_by_place_and_skip_who_is_not_due(autojump_clock) -> None:
    """However often somebody is added, and in whatever order."""
    _, children = family("abcd")
    for reverse, order in ((False, "abd"), (True, "dba")):
        turns = Turns(lambda child: child.wanted, reverse=reverse)
        for child in children:
            child.wanted = True
        for index in (2, 0, 3, 0, 1, 2):
            turns.add(children[index])
        children[2].wanted = False
        taken = ""
        while (head := turns.head()) is not None:
            taken += head.spec.id
            head.wanted = False
        assert taken == order
