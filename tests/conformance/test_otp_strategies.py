"""Strategies, as OTP's supervisor suite has them: which siblings a restart takes along, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from conformance_kit import PLENTY, counts, told
from kernel_kit import AT_ONCE, ONE_SECOND, Plan, crash, hello, open_runtime, probe, probes, tree

from agentrt.kernel import ActorRef, Budget, ChildSpec, Exit, Runtime, Strategy
from agentrt.policy.backoff import Backoff


async def generations(runtime: Runtime, names: str = "abc") -> list[str]:
    """Ask each child who it is; refs from before a restart reach who came after it."""
    return [await runtime.ref(f"top/{name}").call(hello) for name in names]


def family(exits: list[Exit], *, second: Plan | None = None, backoff: Backoff = AT_ONCE) -> Iterator[ChildSpec]:
    """Describe three children, of whom the second may do as it is told."""
    for name in "abc":
        yield probe(name, second if name == "b" else None, on_exit=exits.append, budget=PLENTY, backoff=backoff)


async def test_one_for_one_replaces_only_who_died(autojump_clock) -> None:
    """Case 17: supervisor_SUITE: one_for_one; its base case."""
    exits = []
    async with open_runtime(tree(*family(exits))) as runtime:
        before = [runtime.ref(f"top/{name}").incarnation for name in "abc"]
        await crash(runtime.ref("top/b"))
        after = [runtime.ref(f"top/{name}").incarnation for name in "abc"]
        assert [one is other for one, other in zip(before, after, strict=True)] == [True, False, True]
        assert await counts(runtime.ref("top")) == (3, 3, 0, 3)
        assert told(exits) == ["b 1 crashed"]


async def test_one_for_all_replaces_everybody_for_one_unit(autojump_clock) -> None:
    """Case 19: supervisor_SUITE: one_for_all; all that lived before are dead, and their refs reach their successors."""
    exits = []
    spec = tree(*family(exits), strategy=Strategy.ONE_FOR_ALL, budget=Budget(2, 3600))
    async with open_runtime(spec) as runtime:
        refs: list[ActorRef] = [runtime.ref(f"top/{name}") for name in "abc"]
        before = [ref.incarnation for ref in refs]
        await crash(refs[1])
        assert told(exits) == ["b 1 crashed", "c 1 stopped", "a 1 stopped"]
        assert [one.exit is not None for one in before] == [True] * 3
        assert [ref.incarnation in before for ref in refs] == [False] * 3
        assert [await ref.call(hello) for ref in refs] == ["a 2", "b 2", "c 2"]
        assert await counts(runtime.ref("top")) == (3, 3, 0, 3)
        assert (runtime.ref("top").actor.restarts_left, runtime.ref("top").actor.statistics().restarts) == (1, 1)


@pytest.mark.parametrize("backoff", [AT_ONCE, ONE_SECOND], ids=["at-once", "1 s"])
async def test_one_for_all_with_a_sibling_that_fails_to_restart_retries_all(autojump_clock, backoff) -> None:
    """Case 20: supervisor_SUITE: one_for_all_other_child_fails_restart.

    Whoever was up again already is shut down, and all are tried anew: two units, for the crash and for the start.
    """
    log, exits, plan = [], [], Plan()
    plan.log = log
    specs = [probe(name, plan if name == "b" else Plan(log), on_exit=exits.append, backoff=backoff) for name in "abc"]
    async with open_runtime(tree(*specs, strategy=Strategy.ONE_FOR_ALL)) as runtime:
        log.clear()
        plan.start_fails = 1
        await crash(runtime.ref("top/c"))
        await trio.sleep(2.5)
        assert log == ["stop b", "stop a", "start a", "start b", "stop a", "start a", "start b", "start c"]
        assert told(exits) == ["c 1 crashed", "b 1 stopped", "a 1 stopped", "b 2 crashed", "a 2 stopped"]
        assert await generations(runtime) == ["a 3", "b 3", "c 2"]
        assert runtime.ref("top").actor.statistics().restarts == 2


@pytest.mark.parametrize(("dies", "stays"), [("a", ""), ("b", "a"), ("c", "ab")])
async def test_rest_for_one_leaves_those_before_alone(autojump_clock, dies, stays) -> None:
    """Case 21: supervisor_SUITE: rest_for_one; the earlier ones keep their identity, the later ones go along."""
    exits = []
    async with open_runtime(tree(*family(exits), strategy=Strategy.REST_FOR_ONE, budget=Budget(2, 3600))) as runtime:
        before = {name: runtime.ref(f"top/{name}").incarnation for name in "abc"}
        await crash(runtime.ref(f"top/{dies}"))
        assert [name for name in "abc" if runtime.ref(f"top/{name}").incarnation is before[name]] == list(stays)
        later = [f"{name} 1 stopped" for name in "cb" if name > dies]
        assert told(exits) == [f"{dies} 1 crashed", *later]
        assert await counts(runtime.ref("top")) == (3, 3, 0, 3)
        assert runtime.ref("top").actor.restarts_left == 1


@pytest.mark.parametrize("backoff", [AT_ONCE, ONE_SECOND], ids=["at-once", "1 s"])
async def test_rest_for_one_with_a_sibling_that_fails_to_restart_begins_there(autojump_clock, backoff) -> None:
    """Case 22: supervisor_SUITE: rest_for_one_other_child_fails_restart; who is up again already is not touched."""
    log, exits, plan = [], [], Plan()
    plan.log = log
    specs = [probe(name, plan if name == "b" else Plan(log), on_exit=exits.append, backoff=backoff) for name in "abc"]
    async with open_runtime(tree(*specs, strategy=Strategy.REST_FOR_ONE)) as runtime:
        log.clear()
        plan.start_fails = 1
        await crash(runtime.ref("top/a"))
        await trio.sleep(2.5)
        assert log == ["stop c", "stop b", "start a", "start b", "start b", "start c"]
        assert told(exits) == ["a 1 crashed", "c 1 stopped", "b 1 stopped", "b 2 crashed"]
        assert await generations(runtime) == ["a 2", "b 3", "c 2"]
        assert runtime.ref("top").actor.statistics().restarts == 2


@pytest.mark.parametrize(
    ("strategy", "dies", "others"),
    [(Strategy.ONE_FOR_ALL, "a", "cb"), (Strategy.ONE_FOR_ALL, "c", "ba"), (Strategy.REST_FOR_ONE, "a", "cb")],
)
async def test_siblings_wait_for_the_backoff_of_who_died(autojump_clock, strategy, dies, others) -> None:
    """Case 19: supervisor_SUITE: one_for_all; where there is a backoff, which OTP has not, they come back together."""
    log = []
    async with open_runtime(tree(*probes("abc", log, backoff=ONE_SECOND), strategy=strategy)) as runtime:
        log.clear()
        await crash(runtime.ref(f"top/{dies}"))
        assert log == [f"stop {name}" for name in others]
        await trio.sleep(0.9)
        assert log == [f"stop {name}" for name in others]
        await trio.sleep(0.2)
        assert log[2:] == ["start a", "start b", "start c"]
