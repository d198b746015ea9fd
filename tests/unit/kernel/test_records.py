"""Specs refuse what can never run; exits and errors say in one line what happened."""

from __future__ import annotations

import pytest

from agentrt.kernel import (
    Actor,
    ActorDied,
    Cause,
    ChildGaveUp,
    ChildSpec,
    Exit,
    ExitKind,
    Overflow,
    RestartIntensityExceeded,
    StartFailed,
    Strategy,
    SupervisorSpec,
)
from agentrt.kernel.mailbox_spec import MailboxSpec
from agentrt.kernel.spec import Budget


def worker(id_: str = "a", **spec: object) -> ChildSpec:
    return ChildSpec(id=id_, factory=Actor, **spec)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: worker(""), "a name without a slash, not ''"),
        (lambda: worker("a/b"), "a name without a slash, not 'a/b'"),
        (lambda: worker(shutdown=-1), "shutdown"),
        (lambda: worker(start_timeout=0), "start_timeout"),
        (lambda: worker(min_uptime=-1), "min_uptime"),
        (lambda: Budget(-1), "max_restarts"),
        (lambda: Budget(1, 0), "max_seconds"),
        (lambda: MailboxSpec(capacity=0), "capacity"),
        (lambda: SupervisorSpec(id="s", children=(worker(), worker("b"), worker())), "more than one child named a"),
        (lambda: SupervisorSpec(id="s", dynamic=True, strategy=Strategy.ONE_FOR_ALL), "can only be one_for_one"),
        (lambda: SupervisorSpec(id="s", max_children=3), "has max_children but is not dynamic"),
        (
            lambda: SupervisorSpec(id="s", dynamic=True, max_children=1, children=(worker(), worker("b"))),
            "has 2 children but max_children 1",
        ),
    ],
)
def test_a_spec_that_can_never_run_is_refused(make, says) -> None:
    """Before anything starts, naming the field."""
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: worker(restart="always"),
        lambda: worker(when_exhausted="no"),
        lambda: SupervisorSpec(id="s", strategy="one_for_one"),
        lambda: SupervisorSpec(id="s", restart="permanent"),
        lambda: MailboxSpec(overflow="block"),
        lambda: SupervisorSpec(id="s", children=("a",)),
    ],
)
def test_option_values_are_closed_sets(make) -> None:
    """A string that looks like the option is an error, and not an option that never matches."""
    with pytest.raises(TypeError):
        make()


def test_defaults_are_those_of_the_design() -> None:
    one, top = worker(), SupervisorSpec(id="s")
    assert (one.shutdown, one.start_timeout, one.mailbox.capacity, one.mailbox.overflow) == (5, 30, 256, Overflow.BLOCK)
    assert (one.budget, top.own_budget, top.budget) == (Budget(3, 30), Budget(3, 30), Budget(10, 60))
    assert (one.backoff.initial, one.backoff.factor, one.backoff.maximum) == (0.5, 2, 30)


def test_a_report_has_the_chain_of_causes() -> None:
    """Each exit deeper than the one that it led to, the innermost last."""
    leaf = Exit("top/s/a", 4, ExitKind.CRASHED, cause=Cause.of(ValueError("no")))
    mid = Exit("top/s", 1, ExitKind.CRASHED, cause=Cause.of(RestartIntensityExceeded("top/s", 3, 30.0, (leaf,))))
    top = Exit("top", 1, ExitKind.CRASHED, cause=Cause.of(ChildGaveUp("top/s", mid)))
    assert top.report().splitlines()[2] == "    top/s/a crashed (generation 4, up 0 s): ValueError: no"
    assert Cause.of(StartFailed("top/s", mid)).exits == (mid,)
    assert Cause.of(ActorDied("top/s", 1, None)).exits == ()
    assert str(ActorDied("top/s", 0, None)) == "top/s (generation 0) is gone"
    assert str(RestartIntensityExceeded("s", 3, 30.0, ())) == "s: more than 3 restarts in 30 s"


def test_a_cause_survives_an_exception_that_cannot_be_printed() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no comment")

    assert str(Cause.of(Rude())) == "Rude: <its __str__ raised RuntimeError>"
    assert Cause.of(Rude()).traceback != ""


def test_a_cause_without_words_is_its_type() -> None:
    assert str(Cause.of(ExceptionGroup("g", [ExceptionGroup("h", [ValueError()])]))) == "ValueError"
    assert Cause("Boom", "").traceback == ""


def test_a_summary_prefers_the_cause_to_the_reason() -> None:
    stopped = Exit("a", 1, ExitKind.STOPPED, "asked for")
    assert stopped.summary() == "a stopped (generation 1): asked for"
    assert stopped.report() == "a stopped (generation 1, up 0 s): asked for"
