"""Significant children, as OTP's supervisor suite has them: whose end ends their supervisor, and whose does not.

Its tests of code upgrades (``significant_upgrade_…``) have no counterpart: a spec does not change while it runs.
"""

from __future__ import annotations

import pytest
from conformance_kit import PLENTY, told
from kernel_kit import AT_ONCE, Ends, node, open_runtime, probe, quiet, recorder, states, tree

from agentrt.kernel import (
    AutoShutdown,
    Budget,
    ChildSpec,
    Exit,
    ExitKind,
    Refusal,
    Restart,
    RestartChild,
    Runtime,
    StartChild,
    Strategy,
    SupervisorSpec,
    TerminateChild,
)

ANY, ALL = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT
TEMPORARY, TRANSIENT = Restart.TEMPORARY, Restart.TRANSIENT

#: Whether that end of a significant child counts.
COUNTS = {
    TEMPORARY: {"supervisor": False, "kill": True, "abnormal": True, "normal": True},
    TRANSIENT: {"supervisor": False, "kill": False, "abnormal": False, "normal": True},
}
BY_TYPE_AND_END = [(restart, end, counts) for restart, row in COUNTS.items() for end, counts in row.items()]


class Family:
    """A supervisor below the root with three children, of whom the first two are significant."""

    def __init__(
        self, restart: Restart, policy: AutoShutdown, *, significant: bool = True, own: Restart = TRANSIENT
    ) -> None:
        self.ends = Ends()
        self.exits: list[Exit] = []
        flags = {"restart": restart, "budget": PLENTY, "on_exit": self.exits.append}
        children = [self.ends.child(name, significant=significant, **flags) for name in ("child1", "child2")]
        self.spec = SupervisorSpec(
            id="family",
            children=(*children, self.ends.child("child3", **flags)),
            auto_shutdown=policy,
            restart=own,
            backoff=AT_ONCE,
            budget=PLENTY,
        )

    async def end(self, runtime: Runtime, name: str, how: str) -> None:
        """End a child in one of OTP's ways: ``supervisor`` is that somebody terminates it."""
        if how == "supervisor":
            await runtime.ref("top/family").call(TerminateChild(name))
        elif how == "kill":
            runtime.ref(f"top/family/{name}").incarnation.kill("killed")
        else:
            self.ends.end(name, crash=how == "abnormal")
        await quiet()

    def is_over(self, runtime: Runtime) -> bool:
        """Whether it shut itself down, normally and with all who were left, in reverse order."""
        if node(runtime, "top/family").state == "running":
            return False
        exit_ = node(runtime, "top/family").last_exit
        assert (states(runtime), exit_.kind) == ({"family": "done"}, ExitKind.COMPLETED)
        stopped = [one.path for one in self.exits if one.reason.startswith("significant child")]
        assert stopped == sorted(stopped, reverse=True)
        assert "top/family/child3" in stopped
        return True


@pytest.mark.parametrize(("restart", "end", "counts"), BY_TYPE_AND_END)
async def test_the_first_significant_end_is_enough_where_any_is(autojump_clock, restart, end, counts) -> None:
    """Case 28: supervisor_SUITE: significant_temporary, significant_transient; with any_significant.

    What somebody terminated does not count, nor what is restarted.
    """
    family = Family(restart, ANY)
    async with open_runtime(tree(family.spec)) as runtime:
        await family.end(runtime, "child1", end)
        assert family.is_over(runtime) is counts
        if not counts:
            assert [states(runtime, "top/family")[name] for name in ("child2", "child3")] == ["running"] * 2
            await family.end(runtime, "child2", "normal")
            assert family.is_over(runtime)


@pytest.mark.parametrize(("restart", "end", "counts"), BY_TYPE_AND_END)
async def test_the_last_significant_end_is_needed_where_all_are(autojump_clock, restart, end, counts) -> None:
    """Case 28: supervisor_SUITE: significant_temporary, significant_transient; with all_significant.

    Whichever comes first, one of two is not enough; who is not significant is not waited for.
    """
    family = Family(restart, ALL)
    async with open_runtime(tree(family.spec)) as runtime:
        await family.end(runtime, "child2", "normal")
        assert not family.is_over(runtime)
        await family.end(runtime, "child1", end)
        assert family.is_over(runtime) is counts


@pytest.mark.parametrize(("restart", "end", "counts"), BY_TYPE_AND_END)
async def test_one_who_was_terminated_is_not_waited_for(autojump_clock, restart, end, counts) -> None:
    """Case 28: supervisor_SUITE: significant_temporary, significant_transient; with all_significant, the other way."""
    family = Family(restart, ALL)
    async with open_runtime(tree(family.spec)) as runtime:
        await family.end(runtime, "child1", end)
        assert not family.is_over(runtime)
        await family.end(runtime, "child2", "normal")
        assert family.is_over(runtime) is (counts or end == "supervisor")


@pytest.mark.parametrize("policy", list(AutoShutdown))
@pytest.mark.parametrize(("restart", "end", "counts"), BY_TYPE_AND_END)
async def test_who_is_not_significant_ends_nobody(autojump_clock, restart, end, counts, policy) -> None:
    """Case 28: supervisor_SUITE: nonsignificant_temporary, nonsignificant_transient; in each mode, however they end."""
    family = Family(restart, policy, significant=False)
    async with open_runtime(tree(family.spec)) as runtime:
        for name in ("child1", "child2", "child3"):
            await family.end(runtime, name, end)
            assert not family.is_over(runtime)


@pytest.mark.parametrize("policy", [ANY, ALL])
@pytest.mark.parametrize("restart", [TEMPORARY, TRANSIENT])
@pytest.mark.parametrize(
    ("strategy", "along"),
    [
        (Strategy.ONE_FOR_ONE, []),
        (Strategy.REST_FOR_ONE, ["child2 1 stopped"]),
        (Strategy.ONE_FOR_ALL, ["child2 1 stopped", "child1 1 stopped"]),
    ],
)
async def test_a_bystander_of_a_siblings_restart_ends_nobody(autojump_clock, strategy, along, restart, policy) -> None:
    """Case 28: supervisor_SUITE: significant_bystander; a temporary one goes for good, and still does not count."""
    ends, exits = Ends(), []
    flags = {"restart": restart, "significant": True, "on_exit": exits.append}
    children = (ends.child("child1", **flags), ends.child("plain"), ends.child("child2", **flags))
    spec = SupervisorSpec(id="family", children=children, strategy=strategy, auto_shutdown=policy, backoff=AT_ONCE)
    async with open_runtime(tree(spec)) as runtime:
        ends.end("plain", crash=True)
        await quiet()
        assert told(exits) == along
        assert (states(runtime), node(runtime, "top/family").generation) == ({"family": "running"}, 1)
        gone = {line.split()[0] for line in along} if restart is TEMPORARY else set()
        assert states(runtime, "top/family") == {
            name: "running" for name in ("child1", "plain", "child2") if name not in gone
        }


@pytest.mark.parametrize("significant", [True, False])
async def test_a_shutdown_goes_up_as_far_as_supervisors_are_significant(autojump_clock, significant) -> None:
    """Case 28: supervisor_SUITE: significant_escalation.

    What OTP has no word for is told here: each level says which child ended it, and the events have the whole chain.
    """
    events, seen = recorder()
    ends = Ends()
    low = SupervisorSpec(
        id="low",
        children=(ends.child("worker", restart=TRANSIENT, significant=True),),
        auto_shutdown=ANY,
        restart=TRANSIENT,
        significant=significant,
    )
    high = SupervisorSpec(id="high", children=(low, probe("other")), auto_shutdown=ANY, restart=TRANSIENT)
    async with open_runtime(tree(high), events=events) as runtime:
        ends.end("worker")
        await quiet()
        assert states(runtime) == {"high": "done" if significant else "running"}
        if not significant:
            assert states(runtime, "top/high") == {"low": "done", "other": "running"}
    shutdowns = [event for event in seen if event.kind == "supervisor_auto_shutdown"]
    assert [(event.path, event.fields["reason"]) for event in shutdowns] == [
        ("top/high/low", "significant child top/high/low/worker ended"),
        ("top/high", "significant child top/high/low ended"),
    ][: 1 + significant]
    by_id = {event.id: event for event in seen}
    assert by_id[shutdowns[0].cause].path == "top/high/low/worker"
    if significant:
        assert by_id[by_id[shutdowns[1].cause].cause] is shutdowns[0]


@pytest.mark.parametrize(("restart", "then"), [(Restart.PERMANENT, ("running", 2)), (TRANSIENT, ("done", 1))])
async def test_a_shutdown_is_a_normal_end(autojump_clock, restart, then) -> None:
    """Case 28: supervisor_SUITE: significant_transient; so its own restart type says whether it comes back."""
    family = Family(TEMPORARY, ANY, own=restart)
    async with open_runtime(tree(family.spec)) as runtime:
        await family.end(runtime, "child1", "normal")
        found = node(runtime, "top/family")
        assert (found.state, found.generation) == then
        assert (found.last_exit.kind, found.last_exit.is_abnormal) == (ExitKind.COMPLETED, False)
        assert found.last_exit.result == "significant child top/family/child1 ended"
        if restart is Restart.PERMANENT:
            assert states(runtime, "top/family") == {f"child{n}": "running" for n in (1, 2, 3)}


def test_a_dynamic_supervisor_does_not_shut_itself_down() -> None:
    """Case 28: supervisor_SUITE: significant_simple; it is refused before anything starts."""
    for policy in (ANY, ALL):
        with pytest.raises(ValueError, match="'pool' is dynamic, so its auto_shutdown can only be never"):
            SupervisorSpec(id="pool", dynamic=True, auto_shutdown=policy)
    assert SupervisorSpec(id="pool", dynamic=True).auto_shutdown is AutoShutdown.NEVER


async def test_a_significant_guest_counts_where_significance_does(autojump_clock) -> None:
    """Case 28: supervisor_SUITE: significant_temporary, significant_upgrade_never_any; elsewhere it is refused."""
    ends = Ends()
    guest = ends.child("guest", restart=TEMPORARY, significant=True)
    spec = SupervisorSpec(id="family", auto_shutdown=ANY, restart=TRANSIENT)
    async with open_runtime(tree(spec)) as runtime:
        with pytest.raises(Refusal, match="'guest' is significant, but the auto_shutdown of supervisor 'top' is never"):
            await runtime.ref("top").call(StartChild(guest))
        await runtime.ref("top/family").call(StartChild(guest))
        ends.end("guest")
        await quiet()
        assert states(runtime) == {"family": "done"}


async def test_a_significant_child_that_was_restarted_by_hand_counts_again(autojump_clock) -> None:
    """Case 28: supervisor_SUITE: significant_transient, which goes on with restart_child after terminate_child."""
    family = Family(TRANSIENT, ALL)
    async with open_runtime(tree(family.spec)) as runtime:
        await family.end(runtime, "child1", "supervisor")
        await runtime.ref("top/family").call(RestartChild("child1"))
        await family.end(runtime, "child2", "normal")
        assert not family.is_over(runtime)
        await family.end(runtime, "child1", "normal")
        assert family.is_over(runtime)


async def test_a_significant_child_that_spent_its_own_budget_has_ended(autojump_clock) -> None:
    """Case 28: supervisor_SUITE: significant_transient; in OTP there is no such end, as there is no such budget."""
    ends = Ends()
    spec: ChildSpec = ends.child("child1", restart=TRANSIENT, significant=True, budget=Budget(1, 60))
    family = SupervisorSpec(id="family", children=(spec, probe("b")), auto_shutdown=ANY, restart=TRANSIENT)
    async with open_runtime(tree(family)) as runtime:
        for state in ("running", "done"):
            ends.end("child1", crash=True)
            await quiet()
            assert states(runtime) == {"family": state}
